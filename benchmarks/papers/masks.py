"""The figures of a run of masks, from which its page (masks_page.py) and its report are made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from pocketface.benchmarks.mask_accuracy import MaskAccuracy
from pocketface.benchmarks.mask_video import MaskVideo
from pocketface.benchmarks.papers import common
from pocketface.benchmarks.papers.common import RunFigures
from pocketface.sdk.manifest import Latency

KIND = "masks"


class MaskNetworkRow(msgspec.Struct, frozen=True, kw_only=True):
    """One trained network, on the test pictures.

    Attributes:
        name: ``teacher``, ``student``, ``row-NAME``, or one of these with another seed: ``NAME seed SEED``.
        row: ``teacher``, ``student`` or the recipe's row that it trains, also with another seed.
        options: ``model.options`` of the recipe.
        previous: whether it is shown the mask of the frame before.
        hints: weight of each hint of the teacher; empty for a network that learns from the labels alone.
        minutes: of training.
        accuracy: of its fp32 file through the runtime; each picture as the first frame of a video.
        bytes: of that file.
        last: figures of its last epoch.
        settings: the recipe's whole entry of it: model, training, views, losses, hints.
    """

    name: str
    row: str
    seed: int
    model: str
    width: float
    input_size: int
    output_size: int
    options: dict[str, Any] = msgspec.field(default_factory=dict)
    previous: bool = False
    hints: dict[str, float] = msgspec.field(default_factory=dict)
    parameters: int
    flops: int
    epochs: int
    minutes: float
    accuracy: MaskAccuracy
    bytes: int
    last: dict[str, float] = msgspec.field(default_factory=dict)
    settings: dict[str, Any] = msgspec.field(default_factory=dict)


class MaskVariantRow(msgspec.Struct, frozen=True, kw_only=True):
    """One file of the student.

    Attributes:
        id: e.g. ``"w8a8.tflite"``.
        executor: what ran it for these figures.
        passed: whether it kept all gates, and ships.
        error: largest error of a class probability against torch, over golden cases and validation pictures.
        latency: in one interleaved run of all variants that run here.
    """

    id: str
    bytes: int
    executor: str
    passed: bool
    error: float | None
    accuracy: MaskAccuracy
    latency: tuple[Latency, ...] = ()


class Steps(msgspec.Struct, frozen=True, kw_only=True):
    """The steps of one frame, medians in milliseconds, as in the thesis' Table 7.2.

    Attributes:
        name: network and variant.
        width, height: of the photo, pixels.
        threads: of the runtime.
        transform: cropping, resampling and normalising.
        inference: the network.
        decode: softmax, and the labels at the photo's size.
        colour: of the effect, see ``effect``.
        effect: what was coloured: ``"hair dye"`` or ``"lipstick"``.
    """

    name: str
    width: int
    height: int
    threads: int
    transform: float
    inference: float
    decode: float
    colour: float
    effect: str

    @property
    def total(self) -> float:
        return self.transform + self.inference + self.decode + self.colour


class MaskSpeed(msgspec.Struct, frozen=True, kw_only=True):
    """Networks against each other and against one that everyone knows, all timed in one interleaved run.

    Attributes:
        latency: network's name, ``student VARIANT``, or the reference -> one entry a thread count.
        reference: what ratios refer to: a key of ``latency``.
        peak_mb: network's name -> peak memory of a process that runs its fp32 file, one thread.
    """

    latency: dict[str, tuple[Latency, ...]] = msgspec.field(default_factory=dict)
    reference: str = ""
    peak_mb: dict[str, float] = msgspec.field(default_factory=dict)
    warning: str = ""


class MaskResults(RunFigures, frozen=True, kw_only=True, tag=KIND):
    """A run of masks, as RUN/results.json keeps it.

    Attributes:
        classes: name of the class set: ``"hair2"``, ``"face11"``.
        default: id of the bundle's default variant.
        variants: of the student.
        left_out: variant that was asked for and has no figures -> why.
        settled: network, or ``student VARIANT`` -> with its own mask shown back to it, on a still picture; of networks
            with a previous mask.
        video: the same -> row of the protocol (``mask_video.ROWS``) -> what it makes of it.
    """

    classes: str
    networks: tuple[MaskNetworkRow, ...]
    default: str
    variants: tuple[MaskVariantRow, ...]
    left_out: dict[str, str] = msgspec.field(default_factory=dict)
    settled: dict[str, MaskAccuracy] = msgspec.field(default_factory=dict)
    video: dict[str, dict[str, MaskVideo]] = msgspec.field(default_factory=dict)
    speed: MaskSpeed = MaskSpeed()
    steps: tuple[Steps, ...] = ()
    warning: str = ""


def read(path: Path) -> MaskResults:
    """Read RUN/results.json of a run of masks.

    Raises:
        BadInputError: it is missing, or none of masks.
    """
    return common.read(path, MaskResults, what="a run of masks", made_by="pocketface compress with a recipe of masks")
