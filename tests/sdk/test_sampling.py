"""What makes the sampling fast is not seen in what it gives: views, deep halvings, threads, memory that is kept."""

import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from numpy.typing import NDArray

from pocketface.sdk.geometry import Crop
from pocketface.sdk.manifest import Preprocess
from pocketface.sdk.preprocess import halve, halvings, network_input, normalise, resample
from pocketface.sdk.scratch import LARGEST, Scratch


def photo(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def four_taps(image: NDArray[np.uint8], crop: Crop, size: int) -> NDArray[np.float32]:
    """As the contract says it, the whole image at once: halve, then four weighted taps in float32 from zeros around."""
    source, cx, cy, side = image.astype(np.float32), crop.cx, crop.cy, crop.side
    for _ in range(halvings(crop.side, size)):
        source, cx, cy, side = halve(source), (cx + 0.5) / 2 - 0.5, (cy + 0.5) / 2 - 0.5, side / 2
    height, width = source.shape[:2]
    u, v = np.meshgrid(*[((np.arange(size) + 0.5) / size - 0.5) * side] * 2)
    cos, sin = math.cos(math.radians(crop.angle)), math.sin(math.radians(crop.angle))
    at = np.stack([cx + u * cos - v * sin, cy + u * sin + v * cos])
    low = np.floor(at)
    (fx, fy), out = (at - low).astype(np.float32), np.zeros((size, size, 3), np.float32)
    for dx in (0, 1):
        for dy in (0, 1):
            x, y = low[0] + dx, low[1] + dy
            inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
            taps = source[y.clip(0, height - 1).astype(int), x.clip(0, width - 1).astype(int)] * inside[:, :, None]
            out += taps * ((fx if dx else 1 - fx) * (fy if dy else 1 - fy))[:, :, None]
    return out


CROPS = [
    Crop(300.3, 171.7, 150, 20),  # not halved, from the image's own bytes
    Crop(20.3, 171.7, 150, 20),  # over the border
    Crop(300, 170, 290, -77),
    Crop(299.5, 180.5, 600, 123),
    Crop(250.25, 140.5, 2600, 5),  # blocks of 32: beyond what is summed at once
    Crop(251.25, 147.5, 12000, 45),
]


@pytest.mark.parametrize("crop", CROPS, ids=str)
@pytest.mark.parametrize("size", [64, 130])
def test_the_contract_to_float_rounding(crop: Crop, size: int) -> None:
    image = photo(361, 641)
    # A few units in the last place of 255.
    np.testing.assert_allclose(resample(image, crop, size), four_taps(image, crop, size), rtol=0, atol=1e-4)


VIEWS = {
    "mirrored": lambda image: image[:, ::-1],
    "channels": lambda image: image[:, :, ::-1],
    "part": lambda image: image[40:300, 31:500],
    "every other row": lambda image: image[::2],
    "turned": lambda image: image.transpose(1, 0, 2),
    "fortran": np.asfortranarray,
}


@pytest.mark.parametrize("name", VIEWS)
@pytest.mark.parametrize("crop", [Crop(120, 100, 90, 20), Crop(5, 100, 90, 20), Crop(120, 100, 333, 20)], ids=str)
def test_a_view_is_its_copy(name: str, crop: Crop) -> None:
    view = VIEWS[name](photo(360, 640))
    assert name == "part" or not view.flags.c_contiguous
    before = view.copy()
    np.testing.assert_array_equal(resample(view, crop, 48), resample(np.ascontiguousarray(view), crop, 48))
    np.testing.assert_array_equal(view, before)


def test_results_stay_when_the_working_memory_is_used_again() -> None:
    image, settings = photo(200, 300), Preprocess(size=32, mean=(1.0, 2.0, 3.0), std=(4.0, 5.0, 6.0))
    first = network_input(image, CROPS[0], settings)
    kept = first.copy()
    network_input(photo(200, 300, seed=1), Crop(100, 100, 140, 3), settings)
    np.testing.assert_array_equal(first, kept)


@pytest.mark.parametrize("channels", ["RGB", "BGR"])
def test_the_tensor_is_the_normalised_crop_and_contiguous(channels: str) -> None:
    image, mean, std = photo(200, 300), (120.5, 110.0, 100.0), (58.0, 57.0, 50.0)
    settings = Preprocess(size=40, mean=mean, std=std, channels=channels)  # type: ignore[arg-type]
    tensor = network_input(image, Crop(150, 90, 133, -20), settings)
    pixels = resample(image, Crop(150, 90, 133, -20), 40)
    np.testing.assert_array_equal(tensor, normalise(pixels[:, :, ::-1] if channels == "BGR" else pixels, mean, std))
    assert tensor.flags.c_contiguous
    assert tensor.shape == (1, 3, 40, 40)


def test_threads_do_not_share_working_memory() -> None:
    image = photo(360, 640)
    crops = [Crop(200 + 3 * k, 180 - k, 100 + 40 * (k % 7), 9 * k) for k in range(40)]
    wanted = [resample(image, crop, 70) for crop in crops]
    with ThreadPoolExecutor(4) as pool:
        for found, right in zip(pool.map(lambda crop: resample(image, crop, 70), crops), wanted, strict=True):
            np.testing.assert_array_equal(found, right)


def test_scratch_keeps_what_it_gave_by_name_and_not_what_is_large() -> None:
    scratch = Scratch()
    one = scratch.array("one", (3, 4), np.float32)
    one[:] = 7
    again = scratch.array("one", (2, 2), np.float64)
    assert np.shares_memory(one, again)
    assert not np.shares_memory(one, scratch.array("two", (3, 4), np.float32))
    assert (again.shape, again.dtype, again.flags.c_contiguous) == ((2, 2), np.float64, True)
    large = scratch.array("large", (LARGEST + 1,), np.uint8)
    assert not np.shares_memory(large, scratch.array("large", (LARGEST + 1,), np.uint8))
