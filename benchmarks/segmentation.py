"""How right label maps are: confusion of classes, and every figure that follows from it. Plain numpy.

truth, prediction (H, W) uint8 --Confusion.add, picture by picture--> (images, C, C) counts --> figures

Pixels whose true label is 255 are not counted. Each picture counts at the size it is stored in. With T pixels of a
class in the truth, P in the prediction and both in TP: precision TP / P, recall TP / T, F1 2 TP / (P + T), IoU TP / (P
+ T - TP). A class that occurs in neither has no figures (NaN in arrays, null in JSON, - in tables); one that occurs in
only one of them has 0 everywhere, also where the quotient is 0 / 0, as scikit-learn does it.

Pooled figures come from the counts of all pictures together, so that large pictures and long hair count more; figures
per image are the mean over the pictures of each picture's own figure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pocketface.sdk.classes.registry import IGNORED as IGNORE
from pocketface.sdk.errors import BadInputError, UnknownNameError

if TYPE_CHECKING:
    from rich.table import Table

Groups = tuple[tuple[str, ...], ...]
"""Classes that count as one, several times: an "overall" F1 sums TP, P and T over the groups."""

_PARTS: Groups = (
    ("left brow", "right brow"), ("left eye", "right eye"), ("nose",), ("upper lip",), ("lower lip",), ("inner mouth",),
)  # fmt: skip

OVERALL: dict[str, Groups] = {
    "parts": _PARTS,
    "parts as one": (tuple(name for group in _PARTS for name in group),),
    "parts and skin": (*_PARTS, ("skin",)),
    "parts, skin and hair": (*_PARTS, ("skin",), ("hair",)),
}
"""What HELEN's literature calls the overall F-score, by name. Smith et al. 2013 and those after them (Liu et al. 2017,
thesis Table 7.1) take it over the merged brows, eyes, nose and mouth, without skin and hair; they do not print whether
a brow taken for an eye is then right. In ``parts``, ours unless said otherwise, it is wrong (left taken for right is
not); in ``parts as one`` it is right. The other two add the large classes, which lift the figure."""

DEFAULT_OVERALL = "parts"


def check_labels(
    prediction: ArrayLike, truth: ArrayLike, classes: int, name: str = ""
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The two label maps of a picture as arrays, if they belong together.

    Args:
        prediction, truth: (H, W) integers below ``classes``; 255 in the truth is ignored, and so is what is predicted
            there.
        classes: how many.
        name: of the picture, for messages.

    Raises:
        BadInputError: sizes differ, no pixel, no integers, or a class outside the map.
    """
    said, true = np.asarray(prediction), np.asarray(truth)
    where = f"{name}: " if name else ""
    if said.shape != true.shape or true.ndim != 2 or not true.size:
        raise BadInputError(
            f"{where}predicted mask of shape {said.shape} against true mask of shape {true.shape}",
            expected="(height, width) twice, the same",
            next="Decode the mask to the size of the stored one",
        )
    for what, values, counted in (("true", true, true != IGNORE), ("predicted", said, true != IGNORE)):
        if values.dtype.kind not in "iub":
            raise BadInputError(f"{where}{what} mask of {values.dtype}", expected="class values, integers")
        wrong = counted & ((values < 0) | (values >= classes))
        if wrong.any():
            y, x = np.argwhere(wrong)[0]
            raise BadInputError(
                f"{where}{what} class {values[y, x]} at x {x}, y {y}",
                expected=f"0 to {classes - 1}" + (f", or {IGNORE} to ignore the pixel" if what == "true" else ""),
            )
    # What is predicted under an ignored pixel may be no class at all.
    return np.where(true == IGNORE, IGNORE, said).astype(np.uint8), true.astype(np.uint8)


class Confusion:
    """Which class was taken for which, of each picture.

    Args:
        classes: names, by class value; ``load_classes("face11").names``.

    Attributes:
        names: of the pictures added.
    """

    def __init__(self, classes: Sequence[str]) -> None:
        if not 2 <= len(classes) < IGNORE or len(set(classes)) != len(classes):
            raise BadInputError(f"classes {', '.join(classes) or 'none'}", expected="2 to 254 different names")
        self.classes = tuple(classes)
        self.names: list[str] = []
        self._counts: list[NDArray[np.int64]] = []

    def add(self, prediction: ArrayLike, truth: ArrayLike, *, name: str = "") -> NDArray[np.int64]:
        """Count one picture. Arguments and errors as ``check_labels``; returns its (C, C) counts."""
        count = len(self.classes)
        said, true = check_labels(prediction, truth, count, name)
        kept = true != IGNORE
        pairs = true[kept].astype(np.int64) * count + said[kept]
        counts = np.bincount(pairs, minlength=count * count).reshape(count, count)
        self._counts.append(counts)
        self.names.append(name)
        return counts

    def __len__(self) -> int:
        return len(self._counts)

    @property
    def counts(self) -> NDArray[np.int64]:
        """(images, C, C): pixels of true class (row) that were said to be of class (column).

        Raises:
            BadInputError: nothing was added.
        """
        if not self._counts:
            raise BadInputError("no picture to measure", expected="at least one", next="Check --data")
        return np.stack(self._counts)


def class_figures(counts: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
    """(..., C, C) counts -> precision, recall, f1 and iou, each (..., C) fractions; NaN where a class does not
    occur.
    """
    tp = np.diagonal(counts, axis1=-2, axis2=-1).astype(np.float64)
    t, p = counts.sum(axis=-1), counts.sum(axis=-2)
    quotients = {"precision": (tp, p), "recall": (tp, t), "f1": (2 * tp, p + t), "iou": (tp, p + t - tp)}
    return {
        name: np.where(t + p > 0, np.divide(over, under, out=np.zeros_like(tp), where=under > 0), np.nan)
        for name, (over, under) in quotients.items()
    }


def group_f1(counts: NDArray[np.int64], classes: Sequence[str], groups: Groups) -> NDArray[np.float64]:
    """F1 over groups of classes: 2 sum TP / (sum P + sum T), where TP of a group are the pixels that both say belong to
    it.

    Args:
        counts: (..., C, C).
        classes: C names.
        groups: names that are not among the classes are left out.

    Returns:
        (...,) fractions; NaN where none of the classes occurs.
    """
    tp = np.zeros(counts.shape[:-2], np.int64)
    both = np.zeros_like(tp)
    for group in groups:
        index = [classes.index(name) for name in group if name in classes]
        tp += counts[..., index, :][..., :, index].sum(axis=(-2, -1))
        both += counts[..., index, :].sum(axis=(-2, -1)) + counts[..., :, index].sum(axis=(-2, -1))
    return np.where(both > 0, np.divide(2 * tp, both, out=np.zeros(tp.shape), where=both > 0), np.nan)


@dataclass(frozen=True)
class ClassFigures:
    """One class over all pictures, percent; None where it occurs in no truth and no prediction.

    Attributes:
        name: of the class.
        pixels: of it in the truth.
        precision, recall, f1, iou: pooled.
    """

    name: str
    pixels: int
    precision: float | None
    recall: float | None
    f1: float | None
    iou: float | None


@dataclass(frozen=True)
class SegmentationAccuracy:
    """Label maps against the truth, percent.

    Attributes:
        images: how many.
        classes: in the order of their values.
        accuracy: share of the pixels with the right class, pooled.
        miou, mean_f1: pooled, mean over the classes that occur in any truth or prediction, background included.
        miou_per_image: mean over images of the mean IoU over the classes that occur in that image's truth or
            prediction.
        accuracy_per_image: mean over images.
        overall: convention of ``OVERALL`` -> pooled F1; empty where no class is named so.
    """

    images: int
    classes: tuple[ClassFigures, ...]
    accuracy: float
    accuracy_per_image: float
    miou: float
    miou_per_image: float
    mean_f1: float
    overall: Mapping[str, float]

    def of(self, name: str) -> ClassFigures:
        """The figures of a class, by name."""
        for figures in self.classes:
            if figures.name == name:
                return figures
        raise UnknownNameError("class", name, [figures.name for figures in self.classes])

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {**asdict(self), "classes": [asdict(figures) for figures in self.classes], "overall": dict(self.overall)}

    def table(self) -> Table:
        """One row a class."""
        from rich.table import Table

        table = Table(title=str(self), title_justify="left")
        table.add_column("class", no_wrap=True)
        for column in ("pixels", "precision\n%", "recall\n%", "F1\n%", "IoU\n%"):
            table.add_column(column, justify="right", no_wrap=True)
        for item in self.classes:
            values = (item.precision, item.recall, item.f1, item.iou)
            table.add_row(item.name, str(item.pixels), *("-" if value is None else f"{value:.2f}" for value in values))
        return table

    def __rich__(self) -> Table:
        return self.table()

    def __str__(self) -> str:
        overall = "".join(f"  overall F1 ({name}) {value:.2f} %" for name, value in self.overall.items())
        return (
            f"mIoU {self.miou:.2f} % (per image {self.miou_per_image:.2f} %)  mean F1 {self.mean_f1:.2f} %  "
            f"accuracy {self.accuracy:.2f} %{overall}  ({self.images} images)"
        )


def figures(confusion: Confusion, *, overall: Sequence[str] = (DEFAULT_OVERALL,)) -> SegmentationAccuracy:
    """All figures of the pictures counted.

    Args:
        confusion: counted.
        overall: names of ``OVERALL``; those of which no class is among the confusion's, or occurs, are left out.

    Raises:
        UnknownNameError: no such convention.
        BadInputError: nothing was counted, or every pixel is ignored.
    """
    for name in overall:
        if name not in OVERALL:
            raise UnknownNameError("overall F-score", name, OVERALL)
    counts = counted(confusion)
    pooled = counts.sum(axis=0)
    each, every = class_figures(pooled), class_figures(counts)
    rows = tuple(
        ClassFigures(name, int(pooled[i].sum()), **{key: _percent(values[i]) for key, values in each.items()})
        for i, name in enumerate(confusion.classes)
    )
    f1s = {name: _percent(float(group_f1(pooled, confusion.classes, OVERALL[name]))) for name in overall}
    return SegmentationAccuracy(
        images=len(confusion),
        classes=rows,
        accuracy=float(pixel_accuracy(pooled)) * 100,
        accuracy_per_image=float(pixel_accuracy(counts).mean()) * 100,
        miou=float(np.nanmean(each["iou"])) * 100,
        miou_per_image=float(np.nanmean(every["iou"], axis=-1).mean()) * 100,
        mean_f1=float(np.nanmean(each["f1"])) * 100,
        overall={name: value for name, value in f1s.items() if value is not None},
    )


def counted(confusion: Confusion) -> NDArray[np.int64]:
    """The counts, if every picture has a pixel that counts.

    Raises:
        BadInputError: nothing was counted, or every pixel of a picture is ignored.
    """
    counts = confusion.counts
    empty = ~counts.any(axis=(1, 2))
    if empty.any():
        index = int(np.argmax(empty))
        raise BadInputError(
            f"{confusion.names[index] or f'picture {index}'}: every pixel is ignored", expected="labels"
        )
    return counts


def pixel_accuracy(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """(..., C, C) counts -> (...,) share of the pixels with the right class."""
    right: NDArray[np.float64] = np.trace(counts, axis1=-2, axis2=-1) / counts.sum(axis=(-2, -1))
    return right


def _percent(value: float) -> float | None:
    return None if np.isnan(value) else float(value) * 100
