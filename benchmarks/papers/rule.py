"""The figures of a chain's run, from which its page (rule_page.py) and its report are made."""

from __future__ import annotations

from pathlib import Path

import msgspec

from pocketface.benchmarks.head_pose import PoseAccuracy
from pocketface.benchmarks.metrics import Accuracy
from pocketface.benchmarks.papers import common
from pocketface.benchmarks.papers.common import RunFigures
from pocketface.benchmarks.video import VideoResult
from pocketface.sdk.manifest import ChainRun, Latency

KIND = "chain"


class NetworkRow(msgspec.Struct, frozen=True, kw_only=True):
    """One trained network.

    Attributes:
        row: of the recipe that it trains or, with another seed, repeats; else its own name.
        hints: lambda_kd of a landmark network; None of another.
        accuracy, pose: of a landmark network, on clean test faces.
        last: figures of its last epoch.
    """

    name: str
    row: str = ""
    seed: int = 0
    model: str
    width: float
    input_size: int
    parameters: int
    flops: int
    epochs: int
    minutes: float
    hints: float | None = None
    accuracy: Accuracy | None = None
    pose: PoseAccuracy | None = None
    last: dict[str, float] = msgspec.field(default_factory=dict)


class PictureAccuracy(msgspec.Struct, frozen=True, kw_only=True):
    """How alike pictures and the clean ones are, means over faces.

    Attributes:
        psnr: dB.
        ssim: at most 1, for equal pictures.
        distance: of features, like LPIPS but not LPIPS (losses/perceptual.py); 0 for equal pictures.
    """

    psnr: float
    ssim: float
    distance: float


class FileRow(msgspec.Struct, frozen=True, kw_only=True):
    """One file of a landmark network, through the runtime that ships, on clean test faces."""

    variant: str
    bytes: int
    accuracy: Accuracy


class Speed(msgspec.Struct, frozen=True, kw_only=True):
    """Files of each landmark network, and everything timed in one interleaved run.

    Attributes:
        rows: network -> its files.
        latency: ``NETWORK VARIANT``, ``chain VARIANT`` or the reference -> one entry a thread count.
        reference: what ratios refer to.
    """

    rows: dict[str, list[FileRow]] = msgspec.field(default_factory=dict)
    latency: dict[str, tuple[Latency, ...]] = msgspec.field(default_factory=dict)
    reference: str = ""
    warning: str = ""


class RuleResults(RunFigures, frozen=True, kw_only=True, tag=KIND):
    """A chain's run, as RUN/results.json keeps it.

    Attributes:
        restored: ``"input"`` or a generator's name -> degradation -> how good the pictures are.
    """

    networks: tuple[NetworkRow, ...]
    default: str
    chains: dict[str, Accuracy]
    degraded: dict[str, dict[str, Accuracy]]
    video: dict[str, dict[str, VideoResult]]
    runs: tuple[ChainRun, ...]
    box_error: dict[str, dict[str, Accuracy]] = msgspec.field(default_factory=dict)
    restored: dict[str, dict[str, PictureAccuracy]] = msgspec.field(default_factory=dict)
    speed: Speed = Speed()
    warning: str = ""


def read(path: Path) -> RuleResults:
    """Read RUN/results.json of a chain's run.

    Raises:
        BadInputError: it is missing, or none of a chain.
    """
    return common.read(path, RuleResults, what="a chain's run", made_by="pocketface compress with a chain's recipe")
