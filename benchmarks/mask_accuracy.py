"""A segmentation bundle on labelled pictures, through the runtime that ships: every picture at its stored size.

pictures --MaskPredictor--> labels (H, W) --Confusion, Borders--> figures, pooled and of each picture
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pocketface.benchmarks.data.labelled import BoxOf, Labelled, labelled_box
from pocketface.benchmarks.hair_accuracy import HairAccuracy, hair_figures
from pocketface.benchmarks.mask_borders import BorderAccuracy, Borders
from pocketface.benchmarks.segmentation import (
    OVERALL,
    Confusion,
    SegmentationAccuracy,
    class_figures,
    figures,
)
from pocketface.sdk.manifest import Part
from pocketface.sdk.mask_predictor import MaskPredictor


class MaskAccuracy(Part, frozen=True, kw_only=True):
    """How right the masks of a set of pictures are; percent.

    Attributes:
        whole: of every class, pooled and per image.
        borders: the same along the borders; None where that was not measured.
        hair: the columns of the thesis' Table 6.1; None of classes without hair.
        each: mIoU of each picture over the classes that occur in it, in the pictures' order; for paired comparisons.
    """

    whole: SegmentationAccuracy
    borders: BorderAccuracy | None = None
    hair: HairAccuracy | None = None
    each: tuple[float, ...] = ()


def evaluate_masks(
    predictor: MaskPredictor,
    pictures: Sequence[Labelled],
    *,
    box_of: BoxOf = labelled_box,
    borders: bool = True,
    settle: int = 0,
    progress: Callable[[int], None] | None = None,
) -> MaskAccuracy:
    """Measure a bundle.

    Args:
        predictor: what is measured.
        pictures: labelled in its classes; at least one.
        box_of: where it looks.
        borders: measure along the borders too, which takes longer than small networks do.
        settle: for a network with a previous mask, how often the picture is shown before the time that counts: 0 gives
            the first frame of a video, 2 a still one.
        progress: called after each picture.

    Raises:
        AnnotationError, ImageError: a picture cannot be used.
        BadInputError: no picture, or labels that are not its classes.
    """
    names = predictor.classes.names
    confusion, along = Confusion(names), Borders(names)
    for number, picture in enumerate(pictures, start=1):
        image, labels = picture.read()
        box = box_of(labels, predictor.classes, picture.name)
        (mask,) = predictor(image, [box], cut=True)
        for _ in range(settle):
            (mask,) = predictor(image, [box])
        confusion.add(mask.labels, labels, name=picture.name)
        if borders:
            along.add(mask.labels, labels, name=picture.name)
        if progress is not None:
            progress(number)
    return summarised(confusion, along if borders else None)


def summarised(confusion: Confusion, borders: Borders | None = None) -> MaskAccuracy:
    """All figures of pictures that were counted.

    Raises:
        BadInputError: nothing was counted.
    """
    each: NDArray[Any] = 100 * np.nanmean(class_figures(confusion.counts)["iou"], axis=-1)
    return MaskAccuracy(
        whole=figures(confusion, overall=tuple(OVERALL)),
        borders=None if borders is None else borders.figures(),
        hair=hair_figures(confusion) if "hair" in confusion.classes else None,
        each=tuple(each.tolist()),
    )
