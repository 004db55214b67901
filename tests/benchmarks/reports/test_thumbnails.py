"""Thumbnails: where the dots lie, how much of the image is shown, and predictions that went wild."""

from __future__ import annotations

import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pocketface.benchmarks.reports.thumbnails import PREDICTED, TRUTH, face_thumbnail
from pocketface.sdk.errors import BadInputError

GREY = np.full((200, 300, 3), 128, np.uint8)
SQUARE = np.array([[100, 50], [200, 50], [200, 150], [100, 150]], np.float64)


def decoded(png: bytes) -> NDArray[np.int64]:
    image = Image.open(io.BytesIO(png))
    assert image.format == "PNG"
    return np.asarray(image.convert("RGB"), np.int64)


def spots(picture: NDArray[np.int64], colour: tuple[int, int, int]) -> NDArray[np.float64]:
    """Centres of the spots of a colour, as (x, y), by flooding."""
    mask = np.abs(picture - colour).sum(axis=2) < 60
    centres = []
    while mask.any():
        stack, found = [tuple(np.argwhere(mask)[0])], []
        while stack:
            y, x = stack.pop()
            if 0 <= y < mask.shape[0] and 0 <= x < mask.shape[1] and mask[y, x]:
                mask[y, x] = False
                found.append((x, y))
                stack += [(y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)]
        centres.append(np.mean(found, axis=0))
    return np.array(sorted(centres, key=lambda c: (round(c[1] / 20), c[0])))


def test_dots_lie_where_the_points_are():
    picture = decoded(face_thumbnail(GREY, SQUARE, size=80))
    assert picture.shape == (160, 160, 3)
    # 1.15 x 100 pixels of the image on 160: a scale of 160 / 115 around the square's centre in the picture's middle.
    scale = 160 / 115
    corners = 79.5 + np.array([[-50, -50], [50, -50], [-50, 50], [50, 50]]) * scale
    assert spots(picture, PREDICTED) == pytest.approx(corners, abs=1)


def test_truth_and_prediction_are_both_drawn_and_joined():
    picture = decoded(face_thumbnail(GREY, SQUARE + np.array([12, 0]), SQUARE, size=80))
    truth, predicted = spots(picture, TRUTH), spots(picture, PREDICTED)
    assert len(truth) == len(predicted) == 4
    shift = predicted - truth
    assert shift[:, 1] == pytest.approx(0, abs=1)
    assert (shift[:, 0] > 10).all()
    middle = (truth + predicted).astype(int)[0] // 2
    assert picture[middle[1], middle[0]].min() > 170  # the line between them, on grey


def test_a_wild_prediction_does_not_shrink_the_face():
    wild = SQUARE + 14
    wild[0] = (-9000, 40000)
    truth = spots(decoded(face_thumbnail(GREY, wild, SQUARE, size=80)), TRUTH)
    assert np.ptp(truth[:, 0]) == pytest.approx(160 / 1.15 / 1.6, abs=2)


def test_predictions_that_are_no_numbers_are_left_out():
    broken = SQUARE.copy()
    broken[:2] = np.nan
    picture = decoded(face_thumbnail(GREY, broken, SQUARE + 5, size=80))
    assert len(spots(picture, PREDICTED)) == 2
    assert len(spots(picture, TRUTH)) == 4
    assert len(spots(decoded(face_thumbnail(GREY, broken * np.nan, SQUARE, size=80)), TRUTH)) == 4


def test_a_face_at_the_image_border_is_shown_with_black_beside_it():
    picture = decoded(face_thumbnail(GREY, SQUARE - np.array([150, 0]), size=80))
    assert picture[80, 5].max() < 20
    assert picture[80, 150].min() > 100


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((GREY[:, :, 0], SQUARE), "image"),
        ((GREY, SQUARE[:, :1]), "predicted points"),
        ((GREY, SQUARE[:0]), "predicted points"),
        ((GREY, SQUARE, SQUARE[:3]), "true points"),
        ((GREY, SQUARE, SQUARE * np.nan), "not a number"),
        ((GREY, SQUARE * np.nan), "no point to draw"),
    ],
)
def test_bad_input_is_refused(arguments: tuple, message: str):
    with pytest.raises(BadInputError, match=message):
        face_thumbnail(*arguments)


def test_a_tiny_size_is_refused():
    with pytest.raises(BadInputError, match="8 pixels"):
        face_thumbnail(GREY, SQUARE, size=8)
