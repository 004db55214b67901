"""How right label maps are where it shows: along the borders of the classes. Plain numpy.

trimap   of each class, F1 of the pixels in a band around its true border (Kohli et al. 2009 give accuracy there)
contour  of each class, the BF score: how much of the predicted contour lies near the true one, and the other way round
         (Csurka et al. 2013, section 3)

A pixel is in the band of a class if a pixel of the true label map lies within the radius that is of the class where it
is not, or the other way round. Distances are Euclidean, from pixel centre to pixel centre. The picture's edge is no
border, and ignored pixels (255) make none: what lies beyond is unknown.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pocketface.benchmarks.segmentation import check_labels
from pocketface.sdk.classes.registry import IGNORED as IGNORE
from pocketface.sdk.errors import BadInputError, ConfigError
from pocketface.sdk.manifest import Part

if TYPE_CHECKING:
    from rich.table import Table

Mask = NDArray[np.bool_]


class BandSpec(Part, frozen=True, kw_only=True):
    """The radius of what counts as near.

    Attributes:
        diagonal: share of the picture's diagonal, above 0; 0.0075 is what the BF score is usually given with (3.75
            pixels at 400 x 300).
        pixels: the radius itself, at least 1; where given, ``diagonal`` does not count.

    Raises:
        ConfigError: out of range.
    """

    diagonal: float = 0.0075
    pixels: float | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.diagonal) and self.diagonal > 0):
            raise ConfigError(f"diagonal: {self.diagonal}", expected="a share of the diagonal above 0")
        if self.pixels is not None and not (math.isfinite(self.pixels) and self.pixels >= 1):
            raise ConfigError(f"pixels: {self.pixels}", expected="at least 1")

    def radius(self, shape: tuple[int, ...]) -> float:
        """In pixels of a (height, width) picture; never below 1, so that a border's own pixels are in the band."""
        return self.pixels if self.pixels is not None else max(1.0, self.diagonal * math.hypot(*shape[:2]))

    def __str__(self) -> str:
        return f"{self.pixels:g} px" if self.pixels is not None else f"{self.diagonal * 100:g} % of the diagonal"


DEFAULT_BAND = BandSpec()


def near(mask: Mask, radius: float) -> Mask:
    """Which pixels lie at most ``radius`` pixels from a pixel of the mask: a dilation by a disc, (H, W) -> (H, W)."""
    height, width = mask.shape
    reached = np.zeros_like(mask)
    if not mask.any():
        return reached
    sums = np.zeros((height, width + 1), np.int32)
    np.cumsum(mask, axis=1, out=sums[:, 1:])
    columns = np.arange(width)
    for dy in range(-math.floor(radius), math.floor(radius) + 1):
        # Of a row dy away the disc holds 2 reach + 1 pixels.
        reach = math.floor(math.sqrt(max(radius * radius - dy * dy, 0.0)))
        low, high = np.maximum(columns - reach, 0), np.minimum(columns + reach + 1, width)
        rows = slice(max(dy, 0), height + min(dy, 0))
        target = slice(max(-dy, 0), height + min(-dy, 0))
        reached[target] |= sums[rows][:, high] > sums[rows][:, low]
    return reached


def band(mask: Mask, valid: Mask, radius: float) -> Mask:
    """The trimap's band around a mask's border: valid pixels within the radius of a valid pixel on the other side."""
    inside, outside = mask & valid, ~mask & valid
    return (inside & near(outside, radius)) | (outside & near(inside, radius))


def contour(mask: Mask, valid: Mask) -> Mask:
    """The mask's outermost valid pixels: those beside (left, right, above, below) a valid pixel that is not in the
    mask.
    """
    outside = np.pad(~mask & valid, 1)
    beside = outside[:-2, 1:-1] | outside[2:, 1:-1] | outside[1:-1, :-2] | outside[1:-1, 2:]
    edge: Mask = mask & valid & beside
    return edge


def bf_score(said: Mask, true: Mask, valid: Mask, radius: float) -> float:
    """Contour matching of one class in one picture (Csurka et al. 2013, section 3): F1, a fraction.

    Precision is the share of the predicted contour within the radius of the true contour, recall the share of the true
    one within the radius of the predicted one.

    Returns:
        NaN where neither has a contour; 0 where only one has.
    """
    predicted, wanted = contour(said, valid), contour(true, valid)
    if not predicted.any() and not wanted.any():
        return math.nan
    if not predicted.any() or not wanted.any():
        return 0.0
    precision = float(near(wanted, radius)[predicted].mean())
    recall = float(near(predicted, radius)[wanted].mean())
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


@dataclass(frozen=True)
class BorderFigures:
    """One class, percent; None where no picture says anything about it.

    Attributes:
        name: of the class.
        images: with a true border of it.
        trimap_f1: in the band around its true border, pooled over the pictures.
        bf: mean BF score over the pictures in which truth or prediction has a contour of it.
    """

    name: str
    images: int
    trimap_f1: float | None
    bf: float | None


@dataclass(frozen=True)
class BorderAccuracy:
    """Borders against the truth, percent.

    Attributes:
        images: how many.
        band: the radius, in words.
        classes: in the order of their values.
        trimap_f1, bf: mean over the classes but the background that have the figure.
    """

    images: int
    band: str
    classes: tuple[BorderFigures, ...]
    trimap_f1: float | None
    bf: float | None

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {**asdict(self), "classes": [asdict(item) for item in self.classes]}

    def table(self) -> Table:
        """One row a class."""
        from rich.table import Table

        table = Table(title=str(self), title_justify="left")
        table.add_column("class", no_wrap=True)
        for column in ("images", "trimap F1\n%", "BF\n%"):
            table.add_column(column, justify="right", no_wrap=True)
        for item in self.classes:
            table.add_row(item.name, str(item.images), _text(item.trimap_f1), _text(item.bf))
        return table

    def __rich__(self) -> Table:
        return self.table()

    def __str__(self) -> str:
        return (
            f"within {self.band} of borders: trimap F1 {_text(self.trimap_f1)} %  BF {_text(self.bf)} %  "
            f"({self.images} images)"
        )


class Borders:
    """Border figures of one picture after another.

    Args:
        classes: names, by class value.
        spec: the radius.
    """

    def __init__(self, classes: Sequence[str], spec: BandSpec = DEFAULT_BAND) -> None:
        self.classes, self.spec = tuple(classes), spec
        self._counts: list[NDArray[np.int64]] = []  # (C, 3) each: right, true, said in the band
        self._scores: list[NDArray[np.float64]] = []

    def add(self, prediction: ArrayLike, truth: ArrayLike, *, name: str = "") -> None:
        """Measure one picture. Arguments and errors as ``segmentation.check_labels``."""
        said, true = check_labels(prediction, truth, len(self.classes), name)
        valid, radius = true != IGNORE, self.spec.radius(true.shape)
        counts, scores = np.zeros((len(self.classes), 3), np.int64), np.full(len(self.classes), np.nan)
        for value in range(len(self.classes)):
            want, got = true == value, said == value
            around = band(want, valid, radius)
            counts[value] = [int((mask & around).sum()) for mask in (want & got, want, got)]
            scores[value] = bf_score(got, want, valid, radius)
        self._counts.append(counts)
        self._scores.append(scores)

    def figures(self) -> BorderAccuracy:
        """All figures of the pictures measured.

        Raises:
            BadInputError: nothing was measured.
        """
        if not self._counts:
            raise BadInputError("no picture to measure", expected="at least one", next="Check --data")
        counts, scores = np.stack(self._counts), np.stack(self._scores)
        rows = []
        for value, name in enumerate(self.classes):
            right, true, said = counts[:, value].sum(axis=0)
            known = scores[:, value][~np.isnan(scores[:, value])]
            rows.append(
                BorderFigures(
                    name=name,
                    images=int((counts[:, value, 1] > 0).sum()),
                    trimap_f1=float(200 * right / (true + said)) if true else None,
                    bf=float(known.mean()) * 100 if len(known) else None,
                )
            )
        return BorderAccuracy(
            images=len(self._counts),
            band=str(self.spec),
            classes=tuple(rows),
            trimap_f1=_mean([row.trimap_f1 for row in rows[1:]]),
            bf=_mean([row.bf for row in rows[1:]]),
        )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
