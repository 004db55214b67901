"""Small runs of masks, made by hand."""

from __future__ import annotations

from typing import Any

import numpy as np

from pocketface.benchmarks.hair_accuracy import HairAccuracy, HairRow
from pocketface.benchmarks.mask_accuracy import MaskAccuracy
from pocketface.benchmarks.mask_borders import BorderAccuracy, BorderFigures
from pocketface.benchmarks.mask_video import FlickerFigures, MaskVideo
from pocketface.benchmarks.papers import masks_page
from pocketface.benchmarks.papers.masks import (
    MaskNetworkRow,
    MaskResults,
    MaskVariantRow,
)
from pocketface.benchmarks.reports.sections import Section
from pocketface.benchmarks.segmentation import ClassFigures, SegmentationAccuracy
from pocketface.sdk.manifest import DataSource, Latency

GAINS = np.linspace(-1, 3, 40)
"""Points of mIoU, picture by picture: 1 in the mean, surely above 0."""


def whole(miou: float, f1: float | None = None) -> SegmentationAccuracy:
    """Hair without an F1 of the parts, a face with one."""
    names = ("background", "hair") if f1 is None else ("background", "skin", "nose")
    return SegmentationAccuracy(
        images=40,
        classes=tuple(ClassFigures(name, 100, 90.0, 80.0, miou - place, 70.0) for place, name in enumerate(names)),
        accuracy=miou + 5,
        accuracy_per_image=miou + 4,
        miou=miou,
        miou_per_image=miou - 1,
        mean_f1=miou + 1,
        overall={} if f1 is None else {"parts": f1, "parts and skin": f1 + 2},
    )


def accuracy(miou: float, *, f1: float | None = None, each: Any = (), borders: float | None = None) -> MaskAccuracy:
    pooled = HairRow(precision=miou + 7, f1=miou + 3, miou=miou, accuracy=miou + 5, hair_iou=miou - 3)
    per_image = HairRow(precision=miou + 6, f1=miou + 2, miou=miou - 1, accuracy=miou + 4, hair_iou=miou - 4)
    return MaskAccuracy(
        whole=whole(miou, f1),
        borders=None
        if borders is None
        else BorderAccuracy(40, "2 px", (BorderFigures("hair", 40, borders, borders - 1),), borders, borders - 1),
        hair=None if f1 is not None else HairAccuracy(40, pooled, per_image),
        each=tuple(float(value) for value in each),
    )


def network(name: str, found: MaskAccuracy, **changes: Any) -> MaskNetworkRow:
    row = name.split(" seed ")[0].removeprefix("row-")
    given: dict[str, Any] = {
        "row": row,
        "seed": 0,
        "model": "hair_two_stage",
        "width": 1.0,
        "input_size": 128,
        "output_size": 256,
        "parameters": 2_500_000,
        "flops": 310_000_000,
        "epochs": 20,
        "minutes": 12.0,
        "bytes": 10_000_000,
    }
    return MaskNetworkRow(name=name, accuracy=found, **{**given, **changes})


def latency(inference: float, ratio: float, threads: int = 2) -> Latency:
    return Latency(
        executor="tflite", cpu="cpu", cpu_features=(), threads=threads, runs=5, p50_ms=inference + 2, p90_ms=9.0,
        p99_ms=9.0, pre_ms=1.0, inference_ms=inference, post_ms=1.0, peak_rss_mb=90.0, ratio=ratio,
    )  # fmt: skip


def run(*networks: MaskNetworkRow, classes: str = "hair2", **changes: Any) -> MaskResults:
    source = {"sha256": "ab" * 32, "licence": "research"}
    return MaskResults(
        name="hair",
        classes=classes,
        seed=0,
        recipe="name: hair\n",
        recipe_sha256="cd" * 32,
        commit="c0ffee",
        data=(
            DataSource(name="Figaro1k", split="train", faces=756, **source),
            DataSource(name="Figaro1k", split="test", faces=210, **source),
        ),
        machine="a machine",
        networks=networks,
        default="fp32.tflite",
        **{"variants": (), **changes},
    )


BASE = np.full(40, 84.0)


def stages(refined: Any, unrefined: Any, alone: Any, **changes: Any) -> list[MaskNetworkRow]:
    """The three rows of Table 6.1, by mIoU of each picture."""
    return [
        network("row-segmentation only", accuracy(84.0, each=alone), options={"prior": False, "refine": False}),
        network("row-without refinement", accuracy(85.0, each=unrefined), options={"refine": False}),
        network("teacher", accuracy(86.0, each=refined), **changes),
    ]


def section(results: MaskResults, title: str) -> Section:
    (found,) = [item for item in masks_page.sections(results) if item.title.startswith(title)]
    return found


def titles(results: MaskResults) -> list[str]:
    return [item.title for item in masks_page.sections(results)]


FACE: dict[str, Any] = {"model": "hourglass", "options": {"features": 16, "expansion": 3, "stem": 2, "dense": True}}


def faces(**changes: Any) -> MaskResults:
    rows = [
        network("teacher", accuracy(80.0, f1=90.0), model="unet"),
        network("student", accuracy(78.0, f1=88.0), **FACE),
        network("row-slow", accuracy(77.0, f1=87.0), **FACE),
        network("row-equal", accuracy(77.0, f1=88.0), **FACE),
    ]
    return run(*rows, classes="face11", **changes)


def video(flicker: float, f1: float | None, miou: float = 70.0) -> MaskVideo:
    figures = FlickerFigures(pairs=29, overall=flicker, changed=flicker / 2, classes={"hair": flicker})
    floor = FlickerFigures(pairs=29, overall=1.5, changed=0.5, classes={"hair": 1.5})
    return MaskVideo(accuracy=whole(miou, f1), flicker=figures, floor=floor)


def variant(name: str, miou: float, *, passed: bool = True, error: float | None = 0.25) -> MaskVariantRow:
    return MaskVariantRow(
        id=name,
        bytes=2_500_000,
        executor="tflite",
        passed=passed,
        error=error,
        accuracy=accuracy(miou),
        latency=(latency(7.0, 1.0, 1), latency(5.0, 1.0)),
    )
