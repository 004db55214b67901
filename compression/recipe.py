"""A recipe: everything that decides what a run does, as frozen, versioned data; recipe_file.py reads and writes it.

Read it top down from `Recipe`, at the end.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import msgspec

from pocketface.compression.augment.spec import AugmentSpec
from pocketface.compression.losses.registry import LossSpec
from pocketface.compression.models.registry import ModelSpec
from pocketface.sdk.errors import ConfigError, UnknownNameError
from pocketface.sdk.manifest import FORMATS, PRECISIONS

SCHEMA = 1


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Common settings of every part of a recipe."""


def check_split(train: tuple[str, ...], test: tuple[str, ...], val_share: float) -> None:
    """Refuse folders and a share that leave nothing to train, validate or test on.

    Raises:
        ConfigError: naming the key.
    """
    for key, folders in (("train", train), ("test", test)):
        # A reader takes no folders for all of them, which would test on what was trained on.
        if not folders:
            raise ConfigError(f"data.{key} is empty", expected="one folder below --data or more")
    if not 0 < val_share < 1:
        raise ConfigError(f"data.val_share: {val_share:g}", expected="a share between 0 and 1")


def check_repeats(repeats: Mapping[str, tuple[int, ...]], rows: Iterable[str], seed: int) -> None:
    """Refuse repeats of rows that do not exist, or with the seed of the run or of another repeat.

    Raises:
        UnknownNameError, ConfigError: naming the row.
    """
    known = list(rows)
    for name, seeds in repeats.items():
        if name not in known:
            raise UnknownNameError("row", name, known)
        if len({seed, *seeds}) <= len(seeds):
            raise ConfigError(
                f"repeats.{name}: seeds {', '.join(map(str, seeds))}",
                expected=f"each once, without {seed}, the run's own",
            )


def check_row_names(names: Iterable[str]) -> None:
    """Refuse names of rows that cannot be folders, or that two networks would share.

    Raises:
        ConfigError: naming the row.
    """
    names = list(names)
    check_folder_names("rows", names)
    for name in names:
        if re.search(r" seed \d+$", name):
            raise ConfigError(f"rows: {name!r}", expected="another name than NAME seed NUMBER, as repeats are called")


def check_folder_names(key: str, names: Iterable[str]) -> None:
    """Refuse names that cannot be folders, or that are the same but for capital letters.

    Raises:
        ConfigError: naming the first one.
    """
    seen: dict[str, str] = {}
    for name in names:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9 .-]*", name):
            raise ConfigError(f"{key}: {name!r}", expected="letters, digits, blanks, dots and hyphens")
        if name.lower() in seen:
            raise ConfigError(f"{key}: {name!r} beside {seen[name.lower()]!r}", expected="names that differ in letters")
        seen[name.lower()] = name


class DataSpec(Config, frozen=True, kw_only=True):
    """Which faces.

    Attributes:
        name: what pages and manifests call the data.
        format: a reader of ``benchmarks/data/registry.py``.
        scheme: landmark scheme.
        train, test: folders below ``--data``; the test folders are read only after every choice is made.
        val_share: share of the training faces kept for validation, chosen by a hash of their photo's name.
        limit: take only so many training faces (0: all); for trials.
        backgrounds: synthetic pictures without faces among the negatives of the face score.
    """

    name: str
    format: str = "300w"
    scheme: str = "ibug68"
    train: tuple[str, ...]
    test: tuple[str, ...]
    val_share: float = 0.1
    limit: int = 0
    backgrounds: int = 128

    def __post_init__(self) -> None:
        check_split(self.train, self.test, self.val_share)


class TrainSpec(Config, frozen=True, kw_only=True):
    """How a network is trained.

    Attributes:
        epochs, batch_size: of faces; negatives come on top.
        lr: peak learning rate of AdamW, after a linear warm-up of ``warmup`` epochs.
        schedule: ``"cosine"`` decays to 0 over the training, ``"poly"`` does so with power 0.9 (RULe paper, IV-B),
            ``"constant"`` stays at the peak.
        weight_decay: AdamW's, not on biases and batch norm.
        ema: decay of the exponential moving average of the weights; 0 turns it off.
        views: size of the pool of views an image has; 0 draws a new one every epoch. A pool lets teachers be cached.
        negatives: crops without a face per face in the batch, for the face score.
        score_weight: weight of the face score's cross-entropy beside the landmark loss.
        score_detached: train the score head alone on the landmark network's features, which then do not see its
            gradient.
        precision, devices: handed to Lightning's Trainer.
    """

    epochs: int
    batch_size: int = 64
    lr: float = 1e-3
    weight_decay: float = 1e-4
    warmup: float = 1.0
    schedule: Literal["cosine", "poly", "constant"] = "cosine"
    ema: float = 0.0
    views: int = 0
    negatives: float = 0.125
    score_weight: float = 0.01
    score_detached: bool = False
    precision: str = "32-true"
    devices: str = "auto"


class NetworkSpec(Config, frozen=True, kw_only=True):
    """One network of the recipe.

    Attributes:
        target: ``"hard"`` for the annotated landmarks, ``"soft"`` for those that the shape model smoothed.
        augment: instead of the recipe's. A small network on a short budget fits mild views better than wild ones.
    """

    model: ModelSpec
    loss: LossSpec
    train: TrainSpec
    target: str = "hard"
    augment: AugmentSpec | None = None

    def __post_init__(self) -> None:
        if self.target not in ("hard", "soft"):
            raise ConfigError(f"target {self.target!r}", choices=["hard", "soft"], next="Name one of these")


class PruneSpec(Config, frozen=True, kw_only=True):
    """What the trained student is made to do without; what is left is fine-tuned with the student's loss and teachers.

    Attributes:
        method: of compression/prune/registry.py.
        options: its settings, e.g. ``{"keep_flops": 0.5}``.
        train: of the fine-tuning.
    """

    method: str = "channels"
    options: dict[str, Any] = msgspec.field(default_factory=dict)
    train: TrainSpec


class QatSpec(Config, frozen=True, kw_only=True):
    """How the student is trained to bear 8 bits, with its own loss and teachers (quantize/qat.py).

    Attributes:
        options: what rounds, e.g. ``{"keep_float": ["features.0"]}``.
        train: a short training at a small learning rate.
    """

    options: dict[str, Any] = msgspec.field(default_factory=dict)
    train: TrainSpec


class MixedSpec(Config, frozen=True, kw_only=True):
    """A variant ``mixed`` beside ``w8a8``: the layers that 8 bits hurt most stay in float (quantize/sensitivity.py).

    Attributes:
        max_increase: bound on the task error's increase on validation inputs, percentage points; layers stay in float,
            the costliest first, until it is kept. It is also the variant's bound in parity, unless
            ``gates.max_nme_increase`` has one.
        faces: validation faces that every trial is measured on; 0 takes all.
        depth: parts of a module's path that name a group of layers.
        most: groups that may stay in float; 0 sets no limit.
    """

    max_increase: float = 0.05
    faces: int = 0
    depth: int = 2
    most: int = 0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.max_increase) and self.max_increase > 0):
            raise ConfigError(f"mixed.max_increase: {self.max_increase:g}", expected="a finite number above 0")
        for name, least in (("faces", 0), ("depth", 1), ("most", 0)):
            if getattr(self, name) < least:
                raise ConfigError(f"mixed.{name}: {getattr(self, name)}", expected=f"{least} or more")


class ExportSpec(Config, frozen=True, kw_only=True):
    """Which variants to make.

    Attributes:
        formats: format -> precisions; fp32 of the first format is the bundle's default and the reference of latency
            ratios.
        input: what the application feeds: ``"normalised"`` float32, or ``"pixels"``, uint8 values that the network
            normalises itself (converters/pixels.py).
        options: settings of an exporter, by its format, e.g. ``{"coreml": {"target": "iOS16"}}``.
        quantize: settings of a quantizer, by its name, e.g. ``{"onnx.w8a8": {"method": "entropy"}}``.
        tune: quantizer's name -> its settings -> values: every combination is tried on validation faces, and the one
            that costs least is taken, e.g. ``{"onnx.w8a8": {"calibration": ["minmax", "percentile"]}}``.
        mixed: format -> how its variant ``mixed`` is made; none by default.
        calibration_faces: training faces that static quantization looks at.
        calibration_by: what they are spread evenly over: ``pose``, ``light`` (pipeline/calibration.py); the list's
            order by default.
        golden_faces: drawn faces whose tensors go into the bundle.
        parity_faces: validation faces on which every variant is compared with torch.
    """

    formats: dict[str, tuple[str, ...]]
    input: Literal["normalised", "pixels"] = "normalised"
    options: dict[str, dict[str, Any]] = msgspec.field(default_factory=dict)
    quantize: dict[str, dict[str, Any]] = msgspec.field(default_factory=dict)
    tune: dict[str, dict[str, tuple[Any, ...]]] = msgspec.field(default_factory=dict)
    mixed: dict[str, MixedSpec] = msgspec.field(default_factory=dict)
    calibration_faces: int = 128
    calibration_by: tuple[str, ...] = ()
    golden_faces: int = 4
    parity_faces: int = 64

    def __post_init__(self) -> None:
        for name in ("calibration_faces", "golden_faces", "parity_faces"):
            if getattr(self, name) < 1:
                raise ConfigError(f"export.{name}: {getattr(self, name)}", expected="1 or more")
        for name, settings in self.tune.items():
            for key, values in settings.items():
                if not values:
                    raise ConfigError(f"export.tune.{name}.{key} is empty", expected="one value or more")
        for format in self.mixed:
            if format not in self.formats:
                raise ConfigError(f"export.mixed: {format!r}", choices=list(self.formats), next="Name one of these")


class GateSpec(Config, frozen=True, kw_only=True):
    """Bounds that a shipped variant must keep. They stand outside the training keys: changing one retrains nothing.

    Attributes:
        max_tensor_error: precision -> bound on normalised coordinates.
        max_nme_increase: precision -> percentage points.
        max_relative_error: precision -> bound on max|a - b| / max|a| of each raw output.
        max_size_mb: precision, or one variant (``"w8a8.tflite"``, which counts first) -> bound on its files, in
            millions of bytes.
        max_latency_ratio: precision -> bound on the median inference time over the reference variant's.
        max_nme: bound on the student's own NME on the test set, in percent; 0 sets none.
        max_pruned_increase: bound on the NME that pruning and fine-tuning cost, percentage points; 0 sets none.
        max_qat_increase: bound on what quantization-aware training costs the network itself, as above.
        allow_unverified: variants that may ship without having run here.
    """

    max_tensor_error: dict[str, float] = msgspec.field(default_factory=lambda: {"fp32": 1e-4, "fp16": 2e-3})
    max_nme_increase: dict[str, float] = msgspec.field(
        default_factory=lambda: {
            "w8": 0.02,
            "w8a8": 0.60,
            "w8a16": 0.05,
            "dynamic": 0.05,
            "w4": 0.30,
            "pal6": 0.10,
            "pal4": 0.20,
        }
    )
    max_relative_error: dict[str, float] = msgspec.field(default_factory=lambda: {"fp32": 1e-5})
    max_size_mb: dict[str, float] = {}
    max_latency_ratio: dict[str, float] = {}
    max_nme: float = 0.0
    max_pruned_increase: float = 0.0
    max_qat_increase: float = 0.0
    allow_unverified: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("max_nme", "max_pruned_increase", "max_qat_increase"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) >= 0):
                raise ConfigError(f"gates.{name}: {getattr(self, name):g}", expected="a finite number, 0 or more")
        for gate in ("max_tensor_error", "max_nme_increase", "max_relative_error", "max_latency_ratio", "max_size_mb"):
            for name, bound in getattr(self, gate).items():
                precision, _, format = name.partition(".")
                whole = gate == "max_size_mb" and (not format or format in FORMATS)
                if precision not in PRECISIONS or (format and not whole):
                    more = ", or one variant such as w8a8.tflite" if gate == "max_size_mb" else ""
                    raise ConfigError(f"gates.{gate}: {name!r}", expected=f"a precision{more}", choices=PRECISIONS)
                if not (math.isfinite(bound) and bound >= 0):
                    raise ConfigError(f"gates.{gate}.{name}: {bound:g}", expected="a finite number, 0 or more")


class BenchSpec(Config, frozen=True, kw_only=True):
    """How latency is measured."""

    threads: tuple[int, ...] = (1, 2)
    runs: int = 100
    warmup: int = 10

    def __post_init__(self) -> None:
        if not self.threads or min(self.threads) < 1 or len(set(self.threads)) != len(self.threads):
            raise ConfigError(f"bench.threads: {list(self.threads)}", expected="thread counts from 1 on, each once")
        for name, least in (("runs", 1), ("warmup", 0)):
            if getattr(self, name) < least:
                raise ConfigError(f"bench.{name}: {getattr(self, name)}", expected=f"{least} or more")


class Row(Config, frozen=True, kw_only=True):
    """One row of the ablation: the student trained with another loss, by each of the seeds."""

    name: str
    loss: LossSpec
    seeds: tuple[int, ...] = (0,)


class AblationSpec(Config, frozen=True, kw_only=True):
    """Students that differ in their loss alone, at one shared budget, with the augmentation of the recipe's student."""

    model: ModelSpec
    train: TrainSpec
    rows: tuple[Row, ...]


class Recipe(Config, frozen=True, kw_only=True):
    """The whole run.

    Attributes:
        seed: of everything: split, initial weights, order, views.
        soft_share: share of the shape model's eigenvectors that soft landmarks keep (KD paper, eqs 1-3).
        teachers: ``tough`` and ``tolerant``, those that the student's loss needs.
        prune: what the student is made to do without before it is exported; None leaves it whole.
        qat: how it, or what pruning left of it, is then trained for 8 bits; None leaves that to the quantizers.
        weights_licence: what the data's terms mean for the weights; on the card and in the manifest.
    """

    schema: int = SCHEMA
    name: str
    seed: int = 0
    data: DataSpec
    augment: AugmentSpec = AugmentSpec()
    soft_share: float = 0.9
    teachers: dict[str, NetworkSpec] = {}
    student: NetworkSpec
    prune: PruneSpec | None = None
    qat: QatSpec | None = None
    export: ExportSpec
    gates: GateSpec = GateSpec()
    bench: BenchSpec = BenchSpec()
    ablation: AblationSpec | None = None
    weights_licence: str
