"""The figures of a sweep, from which its page (sweep_page.py) and its report are made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from pocketface.benchmarks.metrics import Accuracy
from pocketface.benchmarks.papers import common
from pocketface.benchmarks.papers.common import RunFigures
from pocketface.sdk.manifest import Latency

KIND = "sweep"


class SearchedLayer(msgspec.Struct, frozen=True, kw_only=True):
    """What a group of layers costs in 8 bits (compression/quantize/sensitivity.py).

    Attributes:
        module: path in the network.
        relief: percentage points of the task error that its 8 bits cost in the company of all others.
        kept: whether it stays in float.
    """

    module: str
    parameters: int
    relief: float
    kept: bool


class SearchedVariant(msgspec.Struct, frozen=True, kw_only=True):
    """How a variant ``mixed`` was found, on validation faces.

    Attributes:
        bound, whole, increase: of the task error over torch, percentage points: what was asked for, with everything in
            8 bits, and with the kept layers in float.
        layers: the costliest first.
    """

    bound: float
    whole: float
    increase: float
    layers: tuple[SearchedLayer, ...]


class TriedSettings(msgspec.Struct, frozen=True, kw_only=True):
    """One combination of a quantizer's settings (compression/pipeline/tune.py).

    Attributes:
        increase: of the task error over torch on validation faces, percentage points; None where no file came of it.
        taken: whether the variant was made so.
    """

    settings: dict[str, Any]
    increase: float | None
    taken: bool


class SweepStudent(msgspec.Struct, frozen=True, kw_only=True):
    """One student, in torch, on the test faces.

    Attributes:
        changes: what its recipe changes in the base's.
        later: what was made of it after its training, in words: ``"pruned"``, ``"qat"``.
        before: accuracy of each network on the way, the first called ``"student"``; empty if it ships as trained.
        key: of its first training; students that share it began as the same network.
        curve: NME on the validation faces after each epoch of quantization-aware training, rounding, percent.
        tuned: quantizer -> settings that were tried.
        minutes: of its training, fine-tuning included, without its teachers'.
        failed: gates that it or its variants did not keep, in words.
        mixed: format -> how its variant ``mixed`` was found.
    """

    name: str
    changes: dict[str, Any]
    model: str
    width: float
    input_size: int
    parameters: int
    flops: int
    epochs: int
    minutes: float
    accuracy: Accuracy
    later: dict[str, str] = msgspec.field(default_factory=dict)
    before: dict[str, Accuracy] = msgspec.field(default_factory=dict)
    key: str = ""
    curve: tuple[float, ...] = ()
    failed: str = ""
    tuned: dict[str, tuple[TriedSettings, ...]] = msgspec.field(default_factory=dict)
    mixed: dict[str, SearchedVariant] = msgspec.field(default_factory=dict)

    @property
    def first(self) -> Accuracy:
        """Of the network as first trained, before anything was made of it."""
        return self.before.get("student", self.accuracy)


class SweepVariant(msgspec.Struct, frozen=True, kw_only=True):
    """One file of a student that kept its gates, through the runtime that ships.

    Attributes:
        accuracy: on the test faces; nothing was chosen by it.
        validation: on the validation faces, by which the front and the bundle were chosen.
        id: e.g. ``"w8a8.tflite"``.
        parent: the fp32 variant of the same format and student, which it is held against.
        latency: of the one interleaved run; empty where no runtime is here.
        beaten_by: ``STUDENT ID`` of a variant that is no worse in error, milliseconds and bytes, and better in one;
            empty on the front, and for what was not timed.
    """

    student: str
    id: str
    parent: str
    bytes: int
    accuracy: Accuracy
    validation: Accuracy
    latency: tuple[Latency, ...] = ()
    beaten_by: str = ""

    @property
    def name(self) -> str:
        return f"{self.student} {self.id}"

    def ms(self, threads: int) -> float | None:
        """Median milliseconds of one face, all steps, at a number of threads."""
        return next((found.p50_ms for found in self.latency if found.threads == threads), None)


class SweepResults(RunFigures, frozen=True, kw_only=True, tag=KIND):
    """A sweep, as RUN/results.json keeps it.

    Attributes:
        threads: of the front's milliseconds.
        chosen: name of the bundle's default variant; empty if none kept the bounds.
        shipped: ids of the bundle's variants.
    """

    students: tuple[SweepStudent, ...]
    variants: tuple[SweepVariant, ...]
    threads: int
    chosen: str = ""
    shipped: tuple[str, ...] = ()
    warning: str = ""


def read(path: Path) -> SweepResults:
    """Read RUN/results.json of a sweep.

    Raises:
        BadInputError: it is missing, or none of a sweep.
    """
    return common.read(path, SweepResults, what="a sweep", made_by="pocketface sweep")
