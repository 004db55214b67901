"""Four-tap bilinear samples of a picture, arranged for speed: what `preprocess.resample` says, in long arrays.

numpy is fast over long rows of one kind and slow over three channels at a time. So nothing here is (H, W, 3) float:

image --row sums of blocks, then column sums--> planes of whole numbers --one index array, 12 takes--> (3, S, S) float32

- Means of 2 x 2 halvings are sums over blocks over a power of 4. Sums of whole numbers are exact, and a power of 2 can
  wait until the weights: the result is the same to the last bit.
- A crop that is not halved and lies in the image is read from the image's own bytes: nothing is copied.
- Weights and index are worked out once for all channels, a few rows of the crop at a time, in memory that is kept.

OpenCV was measured as an optional faster path and left out (400 px to 128 and 224 px, 20 degrees, one thread, against
this): warpAffine of 4.12 is off by up to 6.6 grey levels, as its positions have five fractional bits; that of 5.0 by
0.51, as it rounds to uint8, and takes 0.3 ms instead of 1.2 ms where nothing is halved, but 1.8 ms instead of 0.8 ms
where its float means of 2 x 2 come first. A crop should not depend on which of the two is installed.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pocketface.sdk.geometry import Crop
from pocketface.sdk.scratch import Scratch

_SUMMED = 4
"""Halvings that are done at once: 16 x 16 values of 255 are the most that 16 bits hold."""

_SAMPLES, _SUMS = 16384, 131072
"""How many samples, and sums of rows, are worked on at once: their arrays fit into a core's cache."""

_SCRATCH = Scratch()


class Picture(NamedTuple):
    """Pixels to sample.

    Attributes:
        values: one flat array of all numbers, uint8, uint16 or float32.
        channel, row, pixel: how far it is in there to the next channel, row and pixel.
        reach: positions are kept within [0, reach], (x, y): the picture has a border of zeros, one pixel before and two
            behind; None where no position lies outside.
        scale: what a value is worth, a power of 2.
    """

    values: NDArray[Any]
    channel: int
    row: int
    pixel: int
    reach: tuple[int, int] | None
    scale: float


_Sums: TypeAlias = tuple[NDArray[np.float64], NDArray[np.float64]]


class Grid(NamedTuple):
    """Where samples are taken: x of sample (i, j) is ``x[0][i] + x[1][j]``, and y likewise; float64."""

    x: _Sums
    y: _Sums

    @classmethod
    def of(cls, crop: Crop, size: int) -> Grid:
        """Centres of the crop's pixels, ``size`` a side."""
        centres = (np.arange(size, dtype=np.float64) + 0.5) / size - 0.5
        (ax, ay), (bx, by) = crop._axes()
        return cls((centres * bx + crop.cx, centres * ax), (centres * by + crop.cy, centres * ay))

    def within(self, width: int, height: int) -> bool:
        """Whether all four taps of every sample are pixels of a picture of this size."""
        return all(
            min(one[0], one[-1]) + min(two[0], two[-1]) >= 0 and max(one[0], one[-1]) + max(two[0], two[-1]) < most - 1
            for (one, two), most in ((self.x, width), (self.y, height))
        )


def sampled(image: NDArray[np.uint8], crop: Crop, size: int, count: int) -> NDArray[np.float32]:
    """Halve an image and cut a rotated square out of it.

    Args:
        image: (H, W, 3) uint8.
        crop: where to cut, in pixels of the image.
        size: side of the output, in pixels.
        count: of halvings; beyond an odd edge the image counts as 0.

    Returns:
        (3, size, size) float32 in [0, 255]; taps outside the image count as 0.
    """
    if count == 0 and image.flags.c_contiguous:
        grid = Grid.of(crop, size)
        if grid.within(image.shape[1], image.shape[0]):
            return _bilinear(Picture(image.reshape(-1), 1, 3 * image.shape[1], 3, None, 1.0), grid)
    part, crop = _window(image, crop, count)
    if part.size == 0:
        return np.zeros((3, size, size), np.float32)
    for _ in range(count):
        crop = Crop((crop.cx + 0.5) / 2 - 0.5, (crop.cy + 0.5) / 2 - 0.5, crop.side / 2, crop.angle)
    # In the frame of the picture with its border.
    crop = Crop(crop.cx + 1, crop.cy + 1, crop.side, crop.angle)
    return _bilinear(_bordered(part, count), Grid.of(crop, size))


def halve(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Halve by 2 x 2 means; beyond an odd edge the image counts as 0. (H, W, C) -> (ceil(H/2), ceil(W/2), C)."""
    height, width = image.shape[:2]
    if height % 2 or width % 2:
        image = np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)))
    return (image[0::2, 0::2] + image[1::2, 0::2] + image[0::2, 1::2] + image[1::2, 1::2]) * np.float32(0.25)


def _window(image: NDArray[np.uint8], crop: Crop, count: int) -> tuple[NDArray[np.uint8], Crop]:
    """The part that the crop can touch, cut on a grid that halving keeps, and the crop in its frame."""
    step, radians = 2**count, math.radians(crop.angle)
    reach = crop.side / 2 * (abs(math.cos(radians)) + abs(math.sin(radians))) + 2 * step
    x0, y0 = (max(0, math.floor((centre - reach) / step) * step) for centre in (crop.cx, crop.cy))
    x1, y1 = (max(0, math.ceil((centre + reach) / step) * step) for centre in (crop.cx, crop.cy))
    return image[y0:y1, x0:x1], Crop(crop.cx - x0, crop.cy - y0, crop.side, crop.angle)


def _bordered(part: NDArray[np.uint8], count: int) -> Picture:
    """(h, w, 3) after so many halvings, with a border of zeros."""
    if count == 0:
        height, width = part.shape[:2]
        pixels = _SCRATCH.array("planes", (height + 3, width + 3, 3), np.uint8)
        _clear_border(pixels)
        pixels[1:-2, 1:-2] = part
        return Picture(pixels.reshape(-1), 1, 3 * (width + 3), 3, (width + 1, height + 1), 1.0)
    planes, scale = _block_sums(part, min(count, _SUMMED)), 0.25 ** min(count, _SUMMED)
    if count > _SUMMED:
        rest = planes[:, 1:-2, 1:-2].transpose(1, 2, 0) * np.float32(scale)
        for _ in range(count - _SUMMED):
            rest = halve(rest)
        planes, scale = np.zeros((3, rest.shape[0] + 3, rest.shape[1] + 3), np.float32), 1.0
        planes[:, 1:-2, 1:-2] = rest.transpose(2, 0, 1)
    height, width = planes.shape[1:]
    return Picture(planes.reshape(-1), height * width, width, 1, (width - 2, height - 2), scale)


def _block_sums(part: NDArray[np.uint8], count: int) -> NDArray[Any]:
    """(h, w, 3) uint8 -> (3, ceil(h / s) + 3, ceil(w / s) + 3) uint16: sums over blocks of s = 2**count, in a border of
    zeros."""
    step, (height, width, _) = 2**count, part.shape
    rows, columns = -(-height // step), -(-width // step)
    if (rows * step, columns * step) != (height, width):
        whole = np.zeros((rows * step, columns * step, 3), np.uint8)
        whole[:height, :width] = part
        part = whole
    lines = part.reshape(rows * step, -1)  # a view, of an ordinary image
    planes = _SCRATCH.array("planes", (3, rows + 3, columns + 3), np.uint16)
    _clear_border(planes.transpose(1, 2, 0))
    many = max(1, _SUMS // lines.shape[1])
    for first in range(0, rows, many):
        last = min(first + many, rows)
        block = lines[first * step : last * step]
        total = _SCRATCH.array("sums", (last - first, lines.shape[1]), np.uint16)
        np.add(block[0::step], block[1::step], dtype=np.uint16, out=total)
        for number in range(2, step):
            total += block[number::step]
        # Along a row, sums of 2, 4, 8 .. neighbours at every place, most of them for nothing: still faster than
        # adding up the few that are needed, which do not lie side by side.
        other, apart = _SCRATCH.array("other", total.shape, np.uint16), 3
        for _ in range(count):
            np.add(total[:, :-apart], total[:, apart:], out=other[:, :-apart])
            total, other, apart = other, total, 2 * apart
        for channel in range(3):
            planes[channel, first + 1 : last + 1, 1:-2] = total[:, channel :: 3 * step]
    return planes


def _clear_border(picture: NDArray[Any]) -> None:
    """Zeros around an (h, w, 3) picture: one pixel before, two behind."""
    picture[:1] = picture[-2:] = 0
    picture[1:-2, :1] = picture[1:-2, -2:] = 0


def _bilinear(picture: Picture, grid: Grid) -> NDArray[np.float32]:
    """(3, rows, columns) float32 samples."""
    columns, total = len(grid.x[1]), len(grid.x[0])
    out = np.empty((3, total, columns), np.float32)
    rows = max(1, _SAMPLES // columns)
    for first in range(0, total, rows):
        part = slice(first, min(first + rows, total))
        _bilinear_rows(picture, (grid.x[0][part], grid.x[1]), (grid.y[0][part], grid.y[1]), out[:, part])
    return out


def _bilinear_rows(picture: Picture, across: _Sums, down: _Sums, out: NDArray[np.float32]) -> None:
    """Some rows of ``_bilinear``, all in working memory."""
    shape = out.shape[1:]
    at = _SCRATCH.array("at", (2, *shape), np.float64)
    for axis, (one, two) in enumerate((across, down)):
        np.add(one[:, None], two[None], out=at[axis])
        if picture.reach is not None:
            # What lies further out sees nothing but the border, as the border itself does.
            np.maximum(at[axis], 0, out=at[axis])
            np.minimum(at[axis], picture.reach[axis], out=at[axis])
    low = np.floor(at, out=_SCRATCH.array("low", at.shape, np.float64))
    share = _SCRATCH.array("share", (2, 2, *shape), np.float32)  # axis, first or second tap
    np.subtract(at, low, out=share[:, 1], casting="same_kind")
    np.subtract(1, share[:, 1], out=share[:, 0])
    if picture.scale != 1:
        share[0] *= np.float32(picture.scale)
    low[0] *= picture.pixel
    low[1] *= picture.row
    low[1] += low[0]
    first = _SCRATCH.array("first", shape, np.intp)
    first[:] = low[1]
    weights = _SCRATCH.array("weights", (2, 2, *shape), np.float32)
    np.multiply(share[0, :, None], share[1, None], out=weights)
    value = _SCRATCH.array("value", shape, picture.values.dtype)
    part = _SCRATCH.array("part", shape, np.float32)
    for channel, plane in enumerate(out):
        for dx, dy in ((0, 0), (0, 1), (1, 0), (1, 1)):
            step = channel * picture.channel + dx * picture.pixel + dy * picture.row
            # No index is ever out of range; any other mode would copy the result once more.
            np.take(picture.values[step:], first, out=value, mode="clip")
            np.multiply(value, weights[dx, dy], out=part if dx or dy else plane)
            if dx or dy:
                plane += part
