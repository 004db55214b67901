"""Every data set, by name. To add one: write its file, add its line. Listing imports nothing."""

from __future__ import annotations

from pocketface.sdk.registry import Registry

DATASETS = Registry(
    "dataset",
    {
        "300w": "pocketface.benchmarks.data.w300:READER",
        "pts": "pocketface.benchmarks.data.pts:READER",
        "wflw": "pocketface.benchmarks.data.wflw:READER",
    },
)

LABELLED = Registry(
    "labelled dataset",
    {
        "celebamask": "pocketface.benchmarks.data.celebamask:READER",
        "drawn": "pocketface.benchmarks.data.drawn_labels:READER",
        "figaro1k": "pocketface.benchmarks.data.figaro1k:READER",
    },
)
