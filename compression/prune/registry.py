"""Every way of pruning, by name. To add one: write its file, add its line. Listing imports nothing."""

from __future__ import annotations

from pocketface.sdk.registry import Registry

PRUNERS = Registry(
    "pruner",
    extra="compress",
    table={
        "channels": "pocketface.compression.prune.channels:PRUNER",
    },
)
