"""The columns of the face-AR thesis' Table 6.1 (hair on Figaro1k), pooled and per image."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pocketface.benchmarks.segmentation import Confusion, class_figures, counted, pixel_accuracy
from pocketface.sdk.errors import BadInputError, UnknownNameError


@dataclass(frozen=True)
class HairRow:
    """The columns of thesis Table 6.1, percent: hair's precision and F1, mean of hair's and background's IoU,
    accuracy.

    ``hair_iou`` is not in the table.
    """

    precision: float
    f1: float
    miou: float
    accuracy: float
    hair_iou: float

    def __str__(self) -> str:
        return (
            f"precision {self.precision:.2f} %  F1 {self.f1:.2f} %  mIoU {self.miou:.2f} %  "
            f"accuracy {self.accuracy:.2f} %"
        )


@dataclass(frozen=True)
class HairAccuracy:
    """Table 6.1 twice: the thesis does not say which of the two it prints."""

    images: int
    pooled: HairRow
    per_image: HairRow

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self)

    def __str__(self) -> str:
        return f"pooled: {self.pooled}  per image: {self.per_image}  ({self.images} images)"


def hair_figures(confusion: Confusion, *, hair: str = "hair") -> HairAccuracy:
    """The columns of Table 6.1: every class but ``hair`` counts as background.

    A class that is in neither the truth nor the prediction of an image is left out of that image's mIoU, and the image
    out of the mean of hair's own figures. Pooled, hair that occurs nowhere is an error.

    Raises:
        UnknownNameError: no class of that name.
        BadInputError: nothing was counted, or no hair anywhere.
    """
    if hair not in confusion.classes:
        raise UnknownNameError("class", hair, confusion.classes)
    every = counted(confusion)
    index = confusion.classes.index(hair)
    tp = every[:, index, index]
    fn, fp = every[:, index].sum(axis=1) - tp, every[:, :, index].sum(axis=1) - tp
    tn = every.sum(axis=(1, 2)) - tp - fn - fp
    counts = np.stack([np.stack([tn, fp], -1), np.stack([fn, tp], -1)], -2)
    if not (tp + fn + fp).any():
        raise BadInputError("no hair in any truth or prediction", expected="at least one picture with hair")
    return HairAccuracy(len(confusion), _hair_row(counts.sum(axis=0)[None]), _hair_row(counts))


def _hair_row(counts: NDArray[np.int64]) -> HairRow:
    """(N, 2, 2), the second class is hair -> mean over N."""
    each = class_figures(counts)
    return HairRow(
        precision=float(np.nanmean(each["precision"][:, 1])) * 100,
        f1=float(np.nanmean(each["f1"][:, 1])) * 100,
        miou=float(np.nanmean(each["iou"], axis=1).mean()) * 100,
        accuracy=float(pixel_accuracy(counts).mean()) * 100,
        hair_iou=float(np.nanmean(each["iou"][:, 1])) * 100,
    )
