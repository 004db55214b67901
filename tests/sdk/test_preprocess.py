"""The reference of everything that resamples, against a slow loop that follows DESIGN 3 word by word."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pocketface.sdk.errors import BadInputError
from pocketface.sdk.geometry import Box, Crop
from pocketface.sdk.manifest import Preprocess
from pocketface.sdk.preprocess import halve, halvings, network_input, normalise, resample, to_pixels


def photo(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def slow_halve(image: NDArray[np.float64]) -> NDArray[np.float64]:
    height, width = image.shape[:2]

    def pixel(x: int, y: int) -> NDArray[np.float64]:
        return image[y, x] if x < width and y < height else np.zeros(3)

    rows = []
    for y in range(math.ceil(height / 2)):
        rows.append(
            [
                (pixel(2 * x, 2 * y) + pixel(2 * x + 1, 2 * y) + pixel(2 * x, 2 * y + 1) + pixel(2 * x + 1, 2 * y + 1))
                / 4
                for x in range(math.ceil(width / 2))
            ]
        )
    return np.array(rows)


def slow_resample(image: NDArray[np.uint8], crop: Crop, size: int) -> NDArray[np.float64]:
    """Whole image, pixel by pixel, in float64."""
    source, cx, cy, side = image.astype(np.float64), crop.cx, crop.cy, crop.side
    while side / size >= 2:
        source, cx, cy, side = slow_halve(source), (cx + 0.5) / 2 - 0.5, (cy + 0.5) / 2 - 0.5, side / 2
    height, width = source.shape[:2]
    cos, sin = math.cos(math.radians(crop.angle)), math.sin(math.radians(crop.angle))
    out = np.zeros((size, size, 3))
    for j in range(size):
        for i in range(size):
            u, v = ((i + 0.5) / size - 0.5) * side, ((j + 0.5) / size - 0.5) * side
            x, y = cx + u * cos - v * sin, cy + u * sin + v * cos
            for tap_x in (math.floor(x), math.floor(x) + 1):
                for tap_y in (math.floor(y), math.floor(y) + 1):
                    if 0 <= tap_x < width and 0 <= tap_y < height:
                        out[j, i] += source[tap_y, tap_x] * (1 - abs(x - tap_x)) * (1 - abs(y - tap_y))
    return out


CROPS = [
    Crop(20, 15, 12),
    Crop(20.3, 15.7, 18.5, 33),
    Crop(0, 0, 20, -45),  # a corner
    Crop(40, 12, 30, 200),
    Crop(19.5, 14.5, 64, 10),  # all of it, halved twice at size 12
    Crop(25.25, 8.5, 110, 75),  # mostly outside, halved three times
    Crop(18, 14, 24),  # exactly half: one halving
    Crop(18, 14, 23.999),  # just not
    Crop(11, 9, 3.7, 5),  # enlarged
    Crop(-50, 300, 20),  # nothing of the image
]


@pytest.mark.parametrize("crop", CROPS, ids=str)
@pytest.mark.parametrize("shape", [(30, 40), (31, 41)])
def test_resample_is_the_slow_loop(crop: Crop, shape: tuple[int, int]) -> None:
    image = photo(*shape)
    result = resample(image, crop, 12)
    assert result.dtype == np.float32
    assert result.shape == (12, 12, 3)
    np.testing.assert_allclose(result, slow_resample(image, crop, 12), atol=2e-3)


@settings(max_examples=40, deadline=None)
@given(
    st.tuples(st.integers(1, 17), st.integers(1, 17)),
    st.floats(-20, 40),
    st.floats(-20, 40),
    st.floats(0.3, 90),
    st.floats(-400, 400),
    st.integers(1, 7),
)
def test_resample_is_the_slow_loop_anywhere(
    shape: tuple[int, int], cx: float, cy: float, side: float, angle: float, size: int
) -> None:
    image, crop = photo(*shape, seed=3), Crop(cx, cy, side, angle)
    np.testing.assert_allclose(resample(image, crop, size), slow_resample(image, crop, size), atol=5e-3)


def test_the_whole_image_at_its_own_size_is_the_image_exactly() -> None:
    image = photo(24, 24)
    assert np.array_equal(resample(image, Crop.from_box(Box.of_image(24, 24)), 24), image)


@pytest.mark.parametrize("quarter", [1, 2, 3])
def test_quarter_turns_are_those_of_numpy(quarter: int) -> None:
    # The crop's x axis turned clockwise by 90 degrees: the picture in the crop turns the other way.
    image = photo(24, 24)
    crop = Crop(11.5, 11.5, 24, 90 * quarter)
    np.testing.assert_allclose(resample(image, crop, 24), np.rot90(image, quarter), atol=1e-3)


def test_halving_is_the_mean_of_2_x_2_and_odd_edges_count_as_0() -> None:
    image = np.array([[8, 16, 4], [0, 8, 12], [20, 40, 80]], np.float32)[:, :, None]
    assert halve(image)[:, :, 0].tolist() == [[8, 4], [15, 20]]
    big = photo(6, 8).astype(np.float32)
    np.testing.assert_allclose(halve(big), big.reshape(3, 2, 4, 2, 3).mean(axis=(1, 3)), rtol=1e-6)


def test_a_down_scale_of_exactly_2_is_the_block_mean() -> None:
    image = photo(16, 16)
    result = resample(image, Crop.from_box(Box.of_image(16, 16)), 8)
    np.testing.assert_allclose(result, image.reshape(8, 2, 8, 2, 3).astype(float).mean(axis=(1, 3)), atol=1e-4)


@pytest.mark.parametrize(
    ("side", "size", "count"), [(64, 64, 0), (127.9, 64, 0), (128, 64, 1), (255, 64, 1), (256, 64, 2)]
)
def test_halvings(side: float, size: int, count: int) -> None:
    assert halvings(side, size) == count


def test_outside_is_0_and_the_border_fades_linearly() -> None:
    white = np.full((4, 4, 3), 255, np.uint8)
    result = resample(white, Crop(1.5, 1.5, 8), 8)
    assert (result[2:6, 2:6] == 255).all()
    assert result.sum() == 16 * 3 * 255
    shifted = resample(white, Crop(1.25, 1.5, 8), 8)  # a quarter pixel to the left: 1/4 of the tap beyond the edge
    assert shifted[3, 1].tolist() == [0, 0, 0]
    assert shifted[3, 2].tolist() == [0.75 * 255] * 3
    assert shifted[3, 6].tolist() == [0.25 * 255] * 3


def test_a_crop_far_outside_is_black() -> None:
    assert not resample(photo(9, 9), Crop(1e6, -1e6, 30), 8).any()


def test_mapping_agrees_with_the_crops_own() -> None:
    # A single bright pixel is found where Crop.to_normalised says it is.
    image = np.zeros((60, 60, 3), np.uint8)
    image[33, 21] = 255
    crop, size = Crop(28, 30, 40, 25), 400
    u = crop.to_normalised([[21, 33]])[0]
    y, x = np.unravel_index(resample(image, crop, size)[:, :, 0].argmax(), (size, size))
    assert np.abs((u + 0.5) * size - 0.5 - (x, y)).max() <= 0.51


@pytest.mark.parametrize(
    "image",
    [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)],
)
def test_refuses_what_is_no_image(image: NDArray[np.uint8]) -> None:
    with pytest.raises(BadInputError, match=r"expected \(height, width, 3\) uint8"):
        resample(image, Crop(1, 1, 2), 2)


@pytest.mark.parametrize(
    "crop",
    [
        Crop(1, 1, 0),
        Crop(1, 1, -3),
        Crop(1, 1, math.nan),
        Crop(1, 1, math.inf),
        Crop(math.nan, 1, 3),
        Crop(1, 1, 3, math.inf),
    ],
)
def test_refuses_a_crop_that_is_none(crop: Crop) -> None:
    with pytest.raises(BadInputError, match="finite numbers and a side above 0"):
        resample(photo(4, 4), crop, 2)


def test_normalise_by_hand() -> None:
    pixels = np.zeros((2, 2, 3), np.float32)
    pixels[0, 1] = (255, 100, 50)
    tensor = normalise(pixels, (127.5, 100, 0), (127.5, 50, 25))
    assert tensor.dtype == np.float32
    assert tensor.shape == (1, 3, 2, 2)
    assert tensor.flags.c_contiguous
    assert tensor[0, :, 0, 1].tolist() == [1, 0, 2]
    assert tensor[0, :, 1, 0].tolist() == [-1, -2, 0]
    nhwc = normalise(pixels, (127.5, 100, 0), (127.5, 50, 25), "NHWC")
    assert nhwc.shape == (1, 2, 2, 3)
    assert nhwc[0, 0, 1].tolist() == [1, 0, 2]


def test_pixels_are_rounded_half_to_even_and_clipped() -> None:
    values = [0.49, 0.5, 1.5, 2.5, 254.5, 255.0, -0.5, -3.0, 255.4, 300.0, 7.500001, 126.51]
    tensor = to_pixels(np.array(values, np.float32).reshape(2, 2, 3))
    assert (tensor.dtype, tensor.shape, tensor.flags.c_contiguous) == (np.uint8, (1, 3, 2, 2), True)
    assert tensor.transpose(0, 2, 3, 1).ravel().tolist() == [0, 0, 2, 2, 254, 255, 0, 0, 255, 255, 8, 127]
    assert to_pixels(np.array(values, np.float32).reshape(2, 2, 3), "NHWC").ravel().tolist()[:3] == [0, 0, 2]


@pytest.mark.parametrize("channels", ["RGB", "BGR"])
def test_pixels_are_what_normalising_starts_from(channels: str) -> None:
    mean, std = (10.0, 20.0, 30.0), (2.0, 4.0, 8.0)
    plain = Preprocess(size=8, mean=mean, std=std, channels=channels)  # type: ignore[arg-type]
    inside = Preprocess(size=8, mean=mean, std=std, channels=channels, inside="folded")  # type: ignore[arg-type]
    image, crop = photo(20, 24), Crop(11.5, 9.5, 8, 0)  # of whole pixels: nothing is rounded
    fed, normalised = network_input(image, crop, inside), network_input(image, crop, plain)
    assert (fed.dtype, normalised.dtype) == (np.uint8, np.float32)
    order = [0, 1, 2] if channels == "RGB" else [2, 1, 0]
    for channel in range(3):
        np.testing.assert_array_equal(normalised[0, channel], (fed[0, channel] - mean[channel]) / std[channel])
        assert resample(image, crop, 8)[3, 5, order[channel]] == fed[0, channel, 3, 5]
