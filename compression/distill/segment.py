"""A two-stage teacher of label maps told to a single-stage student: what to say, what to look at, and where it is hard.

    logits   KL between both networks' softened class probabilities, every pixel (Hinton et al. 2015)
    feature  L2 between the teacher's features and the student's after a 1 x 1 regressor (Romero et al. 2015, eq 3)
    border   the logits' KL once more, in a band around borders only; or L1 between both networks' border maps (ours)

Nothing here is in the thesis, which ships its two-stage network; the names follow the literature. No gradient ever goes
into the teacher. Pixels whose label is 255 (padding) give no hint: the teacher was not trained there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pocketface.compression.losses.segmentation import Parts
from pocketface.sdk.classes.registry import IGNORED as IGNORE
from pocketface.sdk.errors import BadInputError, ConfigError
from pocketface.sdk.manifest import Part


class SegmentHintSpec(Part, frozen=True, kw_only=True):
    """Weights of the hints; a hint of weight 0 is neither computed nor needs its maps.

    Attributes:
        logits: weight of ``logit_hint``.
        temperature: of its softmax, above 0; 1 leaves the probabilities as they are.
        feature: weight of ``FeatureHint``.
        border: weight of ``border_hint``.
        border_kind: ``logits`` (KL in the band) or ``map`` (L1 of border maps, everywhere).
        border_of: whose borders the band lies around: ``truth``, ``teacher`` or ``both``.
        band: half width of the band in cells of the output, at least 1: a cell is in it if a cell of another class lies
            at most so many rows and columns away.

    Raises:
        ConfigError: a value out of range.
    """

    logits: float = 1.0
    temperature: float = 2.0
    feature: float = 0.0
    border: float = 0.0
    border_kind: Literal["logits", "map"] = "logits"
    border_of: Literal["truth", "teacher", "both"] = "both"
    band: int = 3

    def __post_init__(self) -> None:
        for key in ("logits", "feature", "border"):
            value = getattr(self, key)
            if not (math.isfinite(value) and value >= 0):
                raise ConfigError(f"{key}: {value}", expected="0 or more")
        if not (math.isfinite(self.temperature) and self.temperature > 0):
            raise ConfigError(f"temperature: {self.temperature}", expected="above 0")
        if self.band < 1:
            raise ConfigError(f"band: {self.band}", expected="at least 1 cell")


def logit_hint(student: Tensor, teacher: Tensor, *, temperature: float = 2.0, where: Tensor | None = None) -> Tensor:
    """T^2 times the mean over pixels of KL(softmax(teacher / T) || softmax(student / T)) (Hinton et al. 2015, section
    2).

    The factor keeps the gradient's size as T grows.

    Args:
        student, teacher: logits (B, C, M, M) of the same size.
        temperature: T.
        where: (B, M, M) bool or weights of 0 or more; the mean is weighted by it. None for everywhere; 0 where nothing
            is.

    Raises:
        BadInputError: sizes that differ.
    """
    _same(student, teacher, "logits")
    told = (teacher.detach() / temperature).log_softmax(dim=1)
    own = (student / temperature).log_softmax(dim=1)
    each = (told.exp() * (told - own)).sum(dim=1) * temperature**2
    return each.mean() if where is None else _mean(each, where)


class FeatureHint(nn.Module):
    """1 x 1 regressor from the student's features to the teacher's, and the L2 to them (FitNets, eq 3).

    Trained with the student, thrown away after it.

    Args:
        student_channels, teacher_channels: of the two feature maps.
    """

    def __init__(self, student_channels: int, teacher_channels: int) -> None:
        super().__init__()
        self.regressor = nn.Conv2d(student_channels, teacher_channels, 1)

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Half the mean squared difference, over batch, channels and cells.

        The finer map is averaged over blocks, one for each cell of the coarser, which share cells where it is no whole
        multiple: before the regressor or after makes no difference, for both are linear.

        Args:
            student: (B, student_channels, h, w).
            teacher: (B, teacher_channels, H, W).

        Raises:
            BadInputError: other channels.
        """
        wanted = (self.regressor.in_channels, self.regressor.out_channels)
        if student.ndim != 4 or teacher.ndim != 4 or (student.shape[1], teacher.shape[1]) != wanted:
            raise BadInputError(
                f"features of shapes {tuple(student.shape)} and {tuple(teacher.shape)}",
                expected=f"{wanted[0]} channels of the student and {wanted[1]} of the teacher",
            )
        own, told = _to_one_size(student, teacher.detach())
        return 0.5 * F.mse_loss(self.regressor(own), told)


def class_borders(labels: Tensor, band: int) -> Tensor:
    """Which cells have a cell of another class at most ``band`` rows and columns away; ignored cells are of no class.

    Args:
        labels: (B, M, M) integers, 255 is ignored.
        band: at least 1.

    Returns:
        (B, M, M) bool; never at ignored cells.
    """
    classes = labels[:, None].float()
    ignored = labels[:, None] == IGNORE
    highest = F.max_pool2d(classes.masked_fill(ignored, -1), 2 * band + 1, 1, band)
    lowest = -F.max_pool2d((-classes).masked_fill(ignored, -IGNORE), 2 * band + 1, 1, band)
    return ((highest > lowest) & ~ignored)[:, 0]


def border_map(logits: Tensor) -> Tensor:
    """How much of a border each cell is, for each class: the spread of the class's probability over 3 x 3 cells.

    The morphological gradient max - min: 1 where a sure region meets another, 0 inside, and something between where the
    network is unsure; differentiable.

    Args:
        logits: (B, C, M, M).

    Returns:
        (B, C, M, M) in [0, 1].
    """
    likely = logits.softmax(dim=1)
    return F.max_pool2d(likely, 3, 1, 1) + F.max_pool2d(-likely, 3, 1, 1)


def border_hint(spec: SegmentHintSpec, student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
    """The hint near borders, where the pixels are few and the drawing depends on them.

    Args:
        spec: its kind, band and temperature.
        student, teacher: logits (B, C, M, M).
        labels: (B, M, M), the truth; 255 gives no hint.

    Raises:
        BadInputError: sizes that differ.
    """
    _same(student, teacher, "logits")
    _fits(student, labels)
    kept = labels != IGNORE
    if spec.border_kind == "map":
        each = (border_map(student) - border_map(teacher.detach())).abs().mean(dim=1)
        return _mean(each, kept)
    near = torch.zeros_like(kept)
    if spec.border_of in ("truth", "both"):
        near = near | class_borders(labels, spec.band)
    if spec.border_of in ("teacher", "both"):
        near = near | class_borders(teacher.detach().argmax(dim=1), spec.band)
    return logit_hint(student, teacher, temperature=spec.temperature, where=near & kept)


def segment_hints(
    spec: SegmentHintSpec,
    student: Mapping[str, Tensor],
    teacher: Mapping[str, Tensor],
    labels: Tensor,
    *,
    feature: FeatureHint | None = None,
) -> Parts:
    """All hints of a batch: terms ``logits``, ``feature`` and ``border``, each only where it has a weight.

    Args:
        spec: weights.
        student, teacher: maps by name: ``logits`` (B, C, M, M) and, where ``spec.feature``, ``features`` (B, c, h, w).
        labels: (B, M, M), the truth; 255 gives no hint.
        feature: the regressor, whose parameters are trained with the student's; needed where ``spec.feature``.

    Raises:
        BadInputError: a map is missing, or sizes differ.
        ConfigError: ``spec.feature`` without a regressor.
    """
    terms: dict[str, Tensor] = {}
    if spec.logits:
        own, told = _map(student, "logits", "student"), _map(teacher, "logits", "teacher")
        _fits(own, labels)
        terms["logits"] = logit_hint(own, told, temperature=spec.temperature, where=labels != IGNORE)
    if spec.feature:
        if feature is None:
            raise ConfigError("a weight of the feature hint without its regressor", expected="a FeatureHint")
        terms["feature"] = feature(_map(student, "features", "student"), _map(teacher, "features", "teacher"))
    if spec.border:
        own, told = _map(student, "logits", "student"), _map(teacher, "logits", "teacher")
        terms["border"] = border_hint(spec, own, told, labels)
    return Parts(terms, {name: getattr(spec, name) for name in terms})


def _mean(each: Tensor, where: Tensor) -> Tensor:
    """Weighted mean over (B, M, M); 0, with a gradient of 0, where there is no weight."""
    if where.shape != each.shape:
        raise BadInputError(f"weights of shape {tuple(where.shape)}", expected=f"{tuple(each.shape)}")
    weights = where.to(each.dtype)
    size = weights.sum()
    return (each * weights).sum() / torch.where(size > 0, size, 1)


def _to_one_size(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    size = (min(first.shape[2], second.shape[2]), min(first.shape[3], second.shape[3]))
    return F.adaptive_avg_pool2d(first, size), F.adaptive_avg_pool2d(second, size)


def _same(student: Tensor, teacher: Tensor, what: str) -> None:
    if student.shape != teacher.shape or student.ndim != 4:
        raise BadInputError(
            f"{what} of shapes {tuple(student.shape)} and {tuple(teacher.shape)}",
            expected="(B, C, M, M) twice, the same",
        )


def _fits(logits: Tensor, labels: Tensor) -> None:
    if labels.shape != (logits.shape[0], *logits.shape[2:]):
        raise BadInputError(
            f"labels of shape {tuple(labels.shape)}", expected=f"(B, M, M), as the logits of {tuple(logits.shape)}"
        )


def _map(maps: Mapping[str, Tensor], name: str, who: str) -> Tensor:
    if name not in maps:
        raise BadInputError(f"the {who} gives no map {name!r}", choices=maps)
    return maps[name]
