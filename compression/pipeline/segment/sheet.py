"""Test pictures with their labels and the student's masks, for a run's report. They stay in the run's folder."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pocketface.benchmarks.data.labelled import labelled_box
from pocketface.benchmarks.reports.sheet import contact_sheet
from pocketface.compression.pipeline.segment.context import SegmentContext
from pocketface.compression.pipeline.segment.table import OnDisk
from pocketface.compression.training.faces import thin
from pocketface.sdk.bundle import open_bundle
from pocketface.sdk.geometry import Box, Crop
from pocketface.sdk.manifest import ClassSet
from pocketface.sdk.mask_predictor import MaskPredictor
from pocketface.sdk.overlay import MaskOverlay
from pocketface.sdk.preprocess import resample
from pocketface.sdk.results import Mask

SHOWN = 8
"""Test pictures."""

TILE = 192
"""Side of each on the sheet, pixels."""


def mask_sheet(context: SegmentContext, one: OnDisk) -> bytes:
    """A PNG: each picture, its labels and what the network makes of it."""
    with open_bundle(one.path) as bundle:
        predictor = MaskPredictor(bundle, variant=one.id)
    columns: dict[str, list[NDArray[np.float32]]] = {"picture": [], "labels": [], "student": []}
    for picture in thin(context.split.test, SHOWN):
        image, labels = picture.read()
        box = labelled_box(labels, predictor.classes, picture.name)
        whole = Crop.from_box(Box.of_image(labels.shape[1], labels.shape[0]))
        masks = predictor(image, [box], cut=True)
        tiles = (
            image,
            MaskOverlay()(image, [labels_mask(labels, box, predictor.classes)]),
            MaskOverlay()(image, masks),
        )
        for column, shown in zip(columns.values(), tiles, strict=True):
            column.append(resample(shown, whole, TILE) / np.float32(255))
    return contact_sheet({name: np.stack(tiles) for name, tiles in columns.items()}, size=TILE)


def labels_mask(labels: NDArray[np.uint8], box: Box, classes: ClassSet) -> Mask:
    """True labels as a mask, to be drawn as masks are; what is ignored is no class."""
    height, width = labels.shape
    side = max(labels.shape)
    square = np.full((side, side), 255, np.uint8)
    square[:height, :width] = labels
    certain = (square == np.arange(len(classes.names), dtype=np.uint8)[:, None, None]).astype(np.float32)
    return Mask.of(certain, Crop((side - 1) / 2, (side - 1) / 2, side), (width, height), box, classes)
