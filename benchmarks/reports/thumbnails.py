"""Small pictures of faces with true and predicted landmarks, for the report."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from pocketface.sdk.errors import BadInputError
from pocketface.sdk.geometry import Box, Crop
from pocketface.sdk.images import check_array
from pocketface.sdk.manifest import Scheme
from pocketface.sdk.overlay import ContoursOverlay, PointsOverlay
from pocketface.sdk.preprocess import resample
from pocketface.sdk.results import Landmarks

TRUTH, PREDICTED, OFFSET = (80, 220, 100), (255, 64, 129), (255, 255, 255)
_MARGIN = 1.15
"""Side of the picture over the longer side of the box around all points, true and predicted."""
_SPREAD = 1.6
"""Side of the picture over the true face's, at most: a wild prediction must not shrink the face to a dot."""
_FINE = 2
"""Drawn this many times as large, so that it stays sharp on a dense screen."""


def face_thumbnail(
    image: NDArray[np.uint8], points_pred: ArrayLike, points_true: ArrayLike | None = None, *, size: int = 160
) -> bytes:
    """A face with its predicted landmarks, the true ones, and a line from each to each.

    Args:
        image: (H, W, 3) uint8 RGB.
        points_pred, points_true: (n, 2) pixels of the image. Predicted ones that are not finite are not drawn.
        size: side of the picture on the page, pixels; the file has twice as many.

    Returns:
        The bytes of a square PNG.

    Raises:
        BadInputError: shapes that do not fit, true points that are not finite, a size below 16.
    """
    check_array(image)
    predicted = np.asarray(points_pred, np.float64)
    truth = None if points_true is None else np.asarray(points_true, np.float64)
    _check(predicted, truth, size)
    drawn = np.isfinite(predicted).all(axis=1)
    crop = _crop(predicted[drawn], truth)
    side = size * _FINE
    picture = np.rint(resample(image, crop, side)).astype(np.uint8)

    def placed(points: NDArray[np.float64]) -> NDArray[np.float32]:
        # Far outside, a point would only make the drawing's mask huge; at twice the picture's side it is out of sight.
        return np.clip((crop.to_normalised(points) + 0.5) * side - 0.5, -side, 2 * side).astype(np.float32)

    if truth is not None:
        picture = _offsets(picture, placed(truth[drawn]), placed(predicted[drawn]))
        picture = PointsOverlay(TRUTH, 1.6 * _FINE * size / 160)(picture, [_face(placed(truth))])
    if drawn.any():
        picture = PointsOverlay(PREDICTED, 1.3 * _FINE * size / 160)(picture, [_face(placed(predicted[drawn]))])
    buffer = io.BytesIO()
    # A palette of 256 colours is a third of the size, and is not seen at this one.
    Image.fromarray(picture).quantize(256, dither=Image.Dither.FLOYDSTEINBERG).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _check(predicted: NDArray[np.float64], truth: NDArray[np.float64] | None, size: int) -> None:
    if predicted.ndim != 2 or predicted.shape[1] != 2 or not len(predicted):
        raise BadInputError(f"predicted points of shape {predicted.shape}", expected="(n, 2)")
    if truth is not None and truth.shape != predicted.shape:
        raise BadInputError(f"true points of shape {truth.shape}", expected=f"{predicted.shape}, as the predicted ones")
    if truth is not None and not np.isfinite(truth).all():
        raise BadInputError("true points with a coordinate that is not a number", next="Leave this face out")
    if truth is None and not np.isfinite(predicted).all(axis=1).any():
        raise BadInputError("no point to draw: every prediction is NaN or infinite", next="Leave this face out")
    if size < 16:
        raise BadInputError(f"thumbnail of {size} pixels", expected="at least 16")


def _crop(predicted: NDArray[np.float64], truth: NDArray[np.float64] | None) -> Crop:
    if truth is None:
        return Crop.from_box(Box.around(predicted, _MARGIN))
    whole = Crop.from_box(Box.around(np.concatenate([truth, predicted]), _MARGIN))
    face = Crop.from_box(Box.around(truth, _MARGIN * _SPREAD))
    return whole if whole.side <= face.side else face


def _offsets(
    picture: NDArray[np.uint8], truth: NDArray[np.float32], predicted: NDArray[np.float32]
) -> NDArray[np.uint8]:
    """A line from each true point to its prediction: parts of two points each, as a scheme would have them."""
    count = len(truth)
    if not count:
        return picture
    pairs: dict[str, tuple[int, ...]] = {str(i): (i, count + i) for i in range(count)}
    scheme = Scheme(name="offsets", points=2 * count, parts=pairs)
    return ContoursOverlay(scheme, OFFSET, 1.0)(picture, [_face(np.concatenate([truth, predicted]))])


def _face(points: NDArray[np.float32]) -> Landmarks:
    return Landmarks(points, 1.0, Box(0, 0, 1, 1), "")
