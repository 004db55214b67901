"""Labelled pictures as references of a segmentation: what the network is shown, and the true class of each cell."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pocketface.benchmarks.data.labelled import BoxOf, Labelled, labelled_box
from pocketface.benchmarks.segmentation import IGNORE
from pocketface.converters.parity import References, Run
from pocketface.converters.reference import references
from pocketface.sdk.errors import BadInputError
from pocketface.sdk.geometry import Crop
from pocketface.sdk.manifest import Stage
from pocketface.sdk.preprocess import network_input


def labelled_references(
    run: Run, pictures: Sequence[Labelled], stage: Stage, box_of: BoxOf | None = None
) -> References:
    """Labelled pictures as the reference sees them, each as the first frame of a video.

    Args:
        run: what ``comparable`` makes of the reference's outputs.
        pictures: at least one, labelled in the stage's classes; what shows no class at all to the network is left out.
        stage: a segmentation stage.
        box_of: where the network looks; default: ``labelled_box``.

    Raises:
        AnnotationError, ImageError: a file of a picture cannot be used.
        BadInputError: no picture is left.
    """
    classes, size = stage.class_set, stage.outputs[0].shape[-1]
    inputs: list[NDArray[Any]] = []
    truth: list[NDArray[np.uint8]] = []
    for picture in pictures:
        image, labels = picture.read()
        box = (box_of or labelled_box)(labels, classes, picture.name)
        crop = Crop.from_box(box, stage.preprocess.box_scale)
        true = labels_on_grid(labels, crop, size)
        if (true != IGNORE).any():
            inputs.append(network_input(image, crop, stage.preprocess))
            truth.append(true)
    if not inputs:
        raise BadInputError("no labelled picture to compare on", expected="at least one with a pixel that counts")
    return references(run, np.concatenate(inputs), np.stack(truth), stage=stage)


def labels_on_grid(labels: NDArray[np.uint8], crop: Crop, size: int) -> NDArray[np.uint8]:
    """The labels at the centres of a grid's cells, that of the nearest pixel; 255 outside of the picture.

    Args:
        labels: (H, W).
        crop: what the grid spans.
        size: M.

    Returns:
        (M, M) uint8.
    """
    height, width = labels.shape
    u = (np.arange(size) + 0.5) / size - 0.5
    x, y = np.floor(crop.to_image(np.stack(np.meshgrid(u, u), axis=-1).reshape(-1, 2)) + 0.5).astype(np.int64).T
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    found = np.full(size * size, IGNORE, np.uint8)
    found[inside] = labels[y[inside], x[inside]]
    return found.reshape(size, size)
