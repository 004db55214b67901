"""Dots and lines against pixels counted at many points each, and pictures side by side."""

from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from pocketface.sdk.errors import BadInputError, UnknownNameError
from pocketface.sdk.geometry import Box
from pocketface.sdk.manifest import Scheme
from pocketface.sdk.overlay import ContoursOverlay, PointsOverlay, SideBySide
from pocketface.sdk.results import Landmarks
from pocketface.sdk.strokes import dots, draw, lines

WHITE, SUB = (255, 255, 255), 8


def drawn(points: list[list[tuple[float, float]]], width: float, size: tuple[int, int] = (50, 60)) -> NDArray[np.uint8]:
    image = np.zeros((*size, 3), np.uint8)
    draw(image, lines(np.array(line, float) for line in points), width, WHITE)
    return image[:, :, 0]


def counted(
    points: list[list[tuple[float, float]]], width: float, size: tuple[int, int] = (50, 60)
) -> NDArray[np.float64]:
    """Share of each pixel's 8 x 8 sub-pixels that lie within half a width of a line."""
    y, x = ((np.mgrid[: size[0] * SUB, : size[1] * SUB] + 0.5) / SUB) - 0.5
    inside = np.zeros(x.shape, bool)
    for line in points:
        for (ax, ay), (bx, by) in pairwise(line):
            dx, dy = bx - ax, by - ay
            along = (((x - ax) * dx + (y - ay) * dy) / max(dx * dx + dy * dy, 1e-12)).clip(0, 1)
            inside |= np.hypot(x - ax - along * dx, y - ay - along * dy) <= width / 2
    return inside.reshape(size[0], SUB, size[1], SUB).mean(axis=(1, 3)) * 255


SHAPES = [
    [[(10, 10), (50, 40)]],
    [[(5.5, 30.25), (55, 30.25), (55, 8)], [(20, 2), (20, 48)]],  # a corner, and a crossing
    [[(-400, -300), (700, 500)]],  # both ends far outside
    [[(30, 20), (30, 20)]],
    [[(-30, 20), (-5, 90)]],  # nothing of it inside
]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("width", [1.5, 3, 9, 40])
def test_a_pixel_is_covered_as_its_sub_pixels_are(shape: list[list[tuple[float, float]]], width: float) -> None:
    found, right = drawn(shape, width), counted(shape, width)
    # A slanting edge through a pixel is taken as if it were upright, and round ends as straight.
    assert np.abs(found - right).max() < 0.3 * 255
    assert np.abs(found - right).mean() < 2.5
    # The disc of 1.8 pixels is a quarter of a pixel too large.
    assert found.sum() == pytest.approx(right.sum(), rel=0.05, abs=80)


def test_a_crossing_is_not_laid_on_twice_and_pieces_leave_no_seam() -> None:
    found = drawn([[(2, 25), (57, 25)], [(2, 25), (57, 25)]], 1.5)
    assert (found[25, 4:55] == 255).all()
    assert set(found[24, 4:55].tolist()) == set(found[26, 4:55].tolist()) == {64}
    image = np.full((20, 20, 3), 100, np.uint8)
    draw(image, dots(np.array([[10.0, 10.0], [11.0, 10.0]])), 6, (200, 0, 100))
    assert image[10, 10].tolist() == [200, 0, 100]


def face(*points: tuple[float, float]) -> Landmarks:
    return Landmarks(np.array(points, np.float32), 0.9, Box(0, 0, 50, 50), "two")


TWO = Scheme(name="two", points=4, parts={"left": (0, 1), "right": (2, 3)}, normaliser=(0, 1))


def test_contours_in_a_colour_of_their_own_by_part() -> None:
    marks = face((10, 5), (10, 45), (30, 5), (30, 45))
    image = ContoursOverlay(TWO, (0, 255, 0), 2, {"right": (255, 0, 0)})(np.zeros((50, 50, 3), np.uint8), [marks])
    assert image[20, 10].tolist() == [0, 255, 0]
    assert image[20, 30].tolist() == [255, 0, 0]
    with pytest.raises(UnknownNameError, match=r"unknown part of two 'rigth' \(did you mean 'right'\?\)"):
        ContoursOverlay(TWO, colours={"rigth": (1, 2, 3)})(image, [marks])


def test_out_draws_in_place_or_into_another_image() -> None:
    image = np.random.default_rng(0).integers(0, 256, (50, 60, 3), np.uint8)
    before, marks, overlay = image.copy(), [face((10, 5), (10, 45), (30, 5), (30, 45))], PointsOverlay(radius=3)
    wanted, other = overlay(image, marks), np.zeros_like(image)
    assert overlay(image, marks, out=other) is other
    np.testing.assert_array_equal(other, wanted)
    np.testing.assert_array_equal(image, before)
    assert overlay(image, marks, out=image) is image
    np.testing.assert_array_equal(image, wanted)
    locked = before.copy()
    locked.flags.writeable = False
    for bad, text in ((other[:, ::-1], "not contiguous"), (other[:-1], r"\(49, 60, 3\)"), (locked, "not writeable")):
        with pytest.raises(BadInputError, match=text):
            overlay(before, marks, out=bad)
    # A picture that is a view is drawn on as its copy is.
    np.testing.assert_array_equal(overlay(before[:, ::-1], marks), overlay(before[:, ::-1].copy(), marks))


def test_side_by_side() -> None:
    left, right = np.full((90, 120, 3), 10, np.uint8), np.full((90, 100, 3), 20, np.uint8)
    found = SideBySide(("a", ""), gap=6)([left, right])
    assert found.shape == (90, 120 + 6 + 100, 3)
    assert (found[:, 120:126] == 255).all()
    assert (found[:, 126:] == 20).all()
    label = (found[:, :120] != 10).any(axis=2)
    assert label[:20, :20].any()
    assert not label[40:].any()
    assert (left == 10).all()
    for labels, pictures in ((("a",), [left, right]), ((), []), (("a", "b"), [left, right[:50]])):
        with pytest.raises(BadInputError, match="expected"):
            SideBySide(labels)(pictures)
