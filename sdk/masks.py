"""From class probabilities on a network's grid to masks of the original image, and to the crop of the next frame.

probabilities (C, M, M), crop --mask_on_image--> (C, H, W) soft mask, 0 (background 1) outside of the crop
                              --labels_on_image--> (H, W) uint8, the most probable class
                              --warped--> (C, M, M) on another crop's grid, 0 outside of the old one

Cell j of a grid has its centre at crop coordinate u = (j + 0.5) / M - 0.5. Between the centres values are bilinear;
from the outermost centres to the crop's edge they stay as they are. The probability itself is the soft edge.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pocketface.sdk.errors import BadInputError
from pocketface.sdk.geometry import Crop

BLOCK_VALUES = 500_000
"""How many values of a mask are worked on at once: bounds the memory of a big photo with many classes."""


class Window(NamedTuple):
    """Columns x0 to x1 and rows y0 to y1 of an image, the ends not included; empty where x0 >= x1 or y0 >= y1."""

    x0: int
    y0: int
    x1: int
    y1: int

    @property
    def area(self) -> int:
        return max(0, self.x1 - self.x0) * max(0, self.y1 - self.y0)

    @property
    def slices(self) -> tuple[slice, slice]:
        """Rows, columns."""
        return slice(self.y0, max(self.y0, self.y1)), slice(self.x0, max(self.x0, self.x1))


def window(crop: Crop, image_size: tuple[int, int]) -> Window:
    """The pixels of an image of (width, height) whose centres a crop may cover."""
    corners = np.array([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]]) @ crop._axes() + (crop.cx, crop.cy)
    width, height = image_size
    # A hair wider, or rounding could leave out a pixel whose centre lies on the crop's edge.
    x0, y0 = np.ceil(corners.min(axis=0) - 1e-6).clip(0, (width, height))
    x1, y1 = (np.floor(corners.max(axis=0) + 1e-6) + 1).clip(0, (width, height))
    return Window(int(x0), int(y0), int(x1), int(y1))


def mask_on_image(
    probabilities: NDArray[np.float32], crop: Crop, image_size: tuple[int, int], classes: Sequence[int] | None = None
) -> NDArray[np.float32]:
    """Soft masks at the original image's resolution.

    Args:
        probabilities: (C, M, M) float32, over the crop.
        crop: where the network looked.
        image_size: (width, height) of the image.
        classes: which of the C classes; None takes all.

    Returns:
        (classes, H, W) float32. Outside of the crop the background, class 0, is 1 and every other class 0.

    Raises:
        BadInputError: the probabilities are no such array, or a class is none of theirs.
    """
    chosen = _chosen(probabilities, classes)
    width, height = image_size
    out = np.zeros((len(chosen), height, width), np.float32)
    for row, number in enumerate(chosen):
        out[row] = number == 0
    view = window(crop, image_size)
    for part, values in _blocks(probabilities[chosen], crop, view):
        rows, columns = part.slices
        inside = _inside(part, crop)
        out[:, rows, columns] = values if inside is None else np.where(inside, values, out[:, rows, columns])
    return out


def mask_in_window(
    probabilities: NDArray[np.float32], crop: Crop, image_size: tuple[int, int], classes: Sequence[int]
) -> tuple[Window, NDArray[np.float32]]:
    """The part of ``mask_on_image`` that the crop covers, for some classes together: all that recolouring needs.

    Args:
        probabilities, crop, image_size: see ``mask_on_image``.
        classes: whose probabilities are added up; none of them the background.

    Returns:
        The window, and its (h, w) float32 soft mask. Outside of the window the mask is 0.

    Raises:
        BadInputError: see ``mask_on_image``.
    """
    chosen = _chosen(probabilities, classes)
    if 0 in chosen:
        raise BadInputError("the background in a window", expected="a class that is 0 outside of the crop")
    view = window(crop, image_size)
    together = probabilities[chosen].sum(axis=0, keepdims=True)
    out = np.zeros((max(0, view.y1 - view.y0), max(0, view.x1 - view.x0)), np.float32)
    for part, values in _blocks(together, crop, view):
        inside = _inside(part, crop)
        out[part.y0 - view.y0 : part.y1 - view.y0] = values[0] if inside is None else values[0] * inside
    return view, out


def labels_on_image(probabilities: NDArray[np.float32], crop: Crop, image_size: tuple[int, int]) -> NDArray[np.uint8]:
    """(H, W) uint8: the most probable class of every pixel of ``mask_on_image``, the lower one of two equal ones; 0
    outside of the crop. Arguments and errors as there.
    """
    _chosen(probabilities, None)
    width, height = image_size
    out = np.zeros((height, width), np.uint8)
    for part, values in _blocks(probabilities, crop, window(crop, image_size)):
        # Of two classes by one comparison: argmax would take ten times as long.
        best = values[1] > values[0] if len(values) == 2 else _argmax(values)
        inside = _inside(part, crop)
        out[part.slices] = best if inside is None else best * inside
    return out


def warped(probabilities: NDArray[np.float32], old: Crop, new: Crop) -> NDArray[np.float32]:
    """Class probabilities of one crop on the grid of another: what a network is shown as its previous mask.

    Args:
        probabilities: (C, M, M) float32, over the old crop.
        old, new: where the network looked, and where it looks now.

    Returns:
        (C, M, M) float32; all classes are 0 where the old crop did not reach, as at the beginning: nothing is known.
    """
    _chosen(probabilities, None)
    if old == new:
        return probabilities
    size = probabilities.shape[1]
    centres = (np.arange(size) + 0.5) / size - 0.5
    if old.angle % 360 == new.angle % 360 == 0:
        x, y = (centres * new.side + shift for shift in (new.cx - old.cx, new.cy - old.cy))
        # The reach is that of _within, so that a crop turned by nothing gives the same.
        known = [(np.abs(at / old.side) <= 0.5 + 1e-9).astype(np.float32) for at in (x, y)]
        moved = _lerp(probabilities, (x / old.side + 0.5) * size - 0.5, 2)
        moved *= known[0]
        moved = _lerp(moved, (y / old.side + 0.5) * size - 0.5, 1)
        moved *= known[1][:, None]
        return moved
    u = np.stack(np.meshgrid(centres, centres), axis=-1).reshape(-1, 2)
    u = _normalised(u @ new._axes() + (new.cx, new.cy), old)
    values = _sampled(probabilities, u)
    values *= _within(u)
    return values.reshape(probabilities.shape)


def _argmax(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """(C, h, w) -> (h, w): as ``argmax(axis=0)``, class by class, which is several times as fast."""
    best, most = np.zeros(values.shape[1:], np.uint8), values[0].copy()
    for number in range(1, len(values)):
        higher = values[number] > most
        best[higher] = number
        np.maximum(most, values[number], out=most)
    return best


def _chosen(probabilities: NDArray[np.float32], classes: Sequence[int] | None) -> list[int]:
    shape = probabilities.shape
    if len(shape) != 3 or shape[1] != shape[2] or 0 in shape:
        raise BadInputError(f"class probabilities of shape {shape}", expected="(classes, M, M)")
    chosen = list(range(shape[0])) if classes is None else list(classes)
    for number in chosen:
        if not 0 <= number < shape[0]:
            raise BadInputError(f"class {number}", expected=f"0 to {shape[0] - 1}")
    return chosen


def _blocks(values: NDArray[np.float32], crop: Crop, view: Window) -> Iterator[tuple[Window, NDArray[np.float32]]]:
    """Blocks of whole rows of the window, each with the values at its pixels' centres, (C, rows, columns)."""
    if not view.area:
        return
    columns = view.x1 - view.x0
    rows = max(1, BLOCK_VALUES // (columns * len(values)))
    straight = crop.angle % 360 == 0
    across = (
        _lerp(values, _cells(np.arange(view.x0, view.x1), crop.cx, crop.side, values.shape[2]), 2) if straight else None
    )
    for y0 in range(view.y0, view.y1, rows):
        part = Window(view.x0, y0, view.x1, min(y0 + rows, view.y1))
        if across is not None:
            # The axes are the image's: first along the rows, once, then along the columns.
            yield part, _lerp(across, _cells(np.arange(part.y0, part.y1), crop.cy, crop.side, values.shape[1]), 1)
        else:
            yield part, _sampled(values, _normalised(_centres(part), crop)).reshape(len(values), -1, columns)


def _cells(pixels: NDArray[np.intp], centre: float, side: float, size: int) -> NDArray[np.float64]:
    """Positions along one image axis, in cells of the grid."""
    return ((pixels.astype(np.float64) - centre) / side + 0.5) * size - 0.5


def _lerp(values: NDArray[np.float32], at: NDArray[np.float64], axis: int) -> NDArray[np.float32]:
    """Linear between cells along one axis; beyond the outermost centres, their values."""
    low, high, share = _taps(at, values.shape[axis])
    share = share.reshape([-1 if number == axis else 1 for number in range(3)])
    first = values.take(low, axis=axis)
    step = values.take(high, axis=axis)
    step -= first
    step *= share
    first += step
    return first


def _taps(at: NDArray[np.float64], size: int) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]:
    """The two cells around each position, and the second one's share."""
    at = at.clip(0, size - 1)
    low = np.floor(at + 1e-9)  # at a centre but for rounding: that cell alone, so that its value stays exactly
    share = np.maximum(at - low, 0).astype(np.float32)
    cell = low.astype(np.intp)
    return cell, np.minimum(cell + 1, size - 1), share


def _sampled(values: NDArray[np.float32], u: NDArray[np.float64]) -> NDArray[np.float32]:
    """(C, M, M) at (n, 2) crop coordinates -> (C, n)."""
    size = values.shape[1]
    (x0, x1, fx), (y0, y1, fy) = (_taps((u[:, axis] + 0.5) * size - 0.5, size) for axis in (0, 1))
    flat = values.reshape(len(values), -1)
    top = flat[:, y0 * size + x0] * (1 - fx) + flat[:, y0 * size + x1] * fx
    bottom = flat[:, y1 * size + x0] * (1 - fx) + flat[:, y1 * size + x1] * fx
    return (top * (1 - fy) + bottom * fy).astype(np.float32, copy=False)


def _centres(part: Window) -> NDArray[np.float64]:
    """(n, 2) x, y of a window's pixels, row by row."""
    x, y = np.meshgrid(np.arange(part.x0, part.x1), np.arange(part.y0, part.y1))
    return np.stack([x, y], axis=-1).reshape(-1, 2).astype(np.float64)


def _normalised(points: NDArray[np.float64], crop: Crop) -> NDArray[np.float64]:
    """As ``Crop.to_normalised``, not rounded to float32."""
    return (points - (crop.cx, crop.cy)) @ np.linalg.inv(crop._axes())


def _within(u: NDArray[np.float64]) -> NDArray[np.bool_]:
    return np.asarray((np.abs(u) <= 0.5 + 1e-9).all(axis=1))


def _inside(part: Window, crop: Crop) -> NDArray[np.bool_] | None:
    """Which pixels of a block lie in the crop; None where all do, since the window of an upright crop is the crop."""
    if crop.angle % 360 == 0:
        return None
    return _within(_normalised(_centres(part), crop)).reshape(part.y1 - part.y0, -1)
