import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketface.sdk.errors import BadInputError
from pocketface.sdk.geometry import Box, Crop

coordinates = st.floats(-1000, 1000)


def test_box_of_image_spans_the_pixels_edges() -> None:
    assert Box.of_image(4, 3) == (-0.5, -0.5, 3.5, 2.5)
    assert (Box.of_image(4, 3).width, Box.of_image(4, 3).height) == (4, 3)


def test_box_around_is_a_square_of_1_25_times_the_longer_side() -> None:
    # bounding box 10..30 x 20..60: centre (20, 40), longer side 40, side 50
    assert Box.around([[10, 20], [30, 60], [15, 30]]) == (-5, 15, 45, 65)
    assert Box.around([[10, 20], [30, 60]], scale=1) == (0, 20, 40, 60)


@pytest.mark.parametrize(
    ("box", "message"),
    [
        (Box(0, 0, math.nan, 1), "not a number"),
        (Box(0, -math.inf, 1, 1), "not a number"),
        (Box(5, 0, 5, 9), "no area, expected x0 < x1 and y0 < y1"),
        (Box(5, 9, 7, 2), "no area"),
        (Box(10, 0, 20, 9), "outside the image of 8 x 6 pixels"),
        (Box(-9, 0, -0.5, 5), "outside"),
        (Box(0, 5.5, 5, 9), "outside"),
    ],
)
def test_checked_refuses(box: Box, message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        box.checked((8, 6))


def test_checked_takes_a_box_that_only_touches_the_image() -> None:
    box = Box(7.4, -100, 500, -0.4)
    assert box.checked((8, 6)) is box
    assert Box(100, 100, 101, 101).checked() == (100, 100, 101, 101)


def test_box_text_is_what_the_command_line_takes() -> None:
    assert Box(1, 2.5, 30, 1e6).text() == "1,2.5,30,1e+06"


def test_crop_from_box_is_the_square_around_its_centre() -> None:
    assert Crop.from_box(Box(10, 20, 50, 40), scale=1.5, angle=30) == Crop(30, 30, 60, 30)


def test_upright_crop_by_hand() -> None:
    crop = Crop(100, 50, 40)
    assert crop.to_image([[0, 0], [-0.5, -0.5], [0.5, 0.25]]).tolist() == [[100, 50], [80, 30], [120, 60]]
    # DESIGN 3: crop pixel = (u + 0.5) S - 0.5. With S = 40 pixel (0, 0) of the crop is the image pixel 80.5, 30.5.
    u = (0 + 0.5) / 40 - 0.5
    assert crop.to_image([[u, u]]).tolist() == [[80.5, 30.5]]


def test_a_quarter_turn_takes_the_crops_right_to_the_images_bottom() -> None:
    crop = Crop(0, 0, 2, angle=90)
    np.testing.assert_allclose(crop.to_image([[0.5, 0], [0, 0.5]]), [[0, 1], [-1, 0]], atol=1e-7)


@given(coordinates, coordinates, st.floats(0.5, 2000), st.floats(-720, 720), coordinates, coordinates)
def test_to_normalised_undoes_to_image_and_matches_complex_numbers(
    cx: float, cy: float, side: float, angle: float, x: float, y: float
) -> None:
    crop = Crop(cx, cy, side, angle)
    normalised = crop.to_normalised([[x, y]])
    # In the image, y points down, so a turn that is clockwise as seen is multiplication by exp(+i angle).
    by_hand = complex(x - cx, y - cy) * complex(math.cos(math.radians(angle)), -math.sin(math.radians(angle))) / side
    np.testing.assert_allclose(normalised, [[by_hand.real, by_hand.imag]], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(crop.to_image(normalised.astype(np.float64)), [[x, y]], rtol=1e-4, atol=2e-3)


def test_types() -> None:
    crop = Crop(0, 0, 2)
    assert crop.to_image(np.zeros((3, 2), np.float16)).dtype == np.float32
    assert crop.to_normalised([[1, 2]]).dtype == np.float32
