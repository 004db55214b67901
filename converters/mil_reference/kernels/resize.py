"""Changing the size of the last two sides, and sampling at given places.

Linear interpolation goes one axis after the other: out[i] = x[floor(g)] (1 - f) + x[floor(g) + 1] f at g = grid[i].
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from pocketface.converters.mil_reference.kernels.common import Array, ints, one_of

SAMPLING = ("DEFAULT", "STRICT_ALIGN_CORNERS", "ALIGN_CORNERS", "OFFSET_CORNERS", "UNALIGN_CORNERS")


def grid(inputs: int, outputs: int, mode: str) -> Array:
    """Where each output element is sampled, in [0, inputs - 1] (MIL's ``sampling_mode``, see ``resize_bilinear``)."""
    mode = one_of(mode, SAMPLING, "sampling_mode")
    places = np.arange(outputs, dtype=np.float64)
    if mode in ("STRICT_ALIGN_CORNERS", "ALIGN_CORNERS"):
        if outputs == 1:
            return np.array([(inputs - 1) / 2 if mode == "ALIGN_CORNERS" else 0.0])
        result = places * ((inputs - 1) / (outputs - 1))
    elif mode == "DEFAULT":
        result = places * (inputs / outputs)  # (inputs - inputs / outputs) / (outputs - 1) is the same
    elif mode == "OFFSET_CORNERS":
        delta = max(1, inputs - 1) / outputs
        result = places * delta + delta / 2
    else:
        result = (places + 0.5) * (inputs / outputs) - 0.5
    return result.clip(0, inputs - 1)


def upsample_bilinear(
    x: Array,
    scale_factor_height: Any = 1,
    scale_factor_width: Any = 1,
    align_corners: Any = True,
    half_pixel_centers: Any = None,
) -> Array:
    """By factors; the spacing follows from the sizes, not from the factors."""
    corners = bool(align_corners)
    halves = not corners if half_pixel_centers is None else bool(half_pixel_centers)
    if corners and halves:
        raise ValueError("align_corners and half_pixel_centers exclude each other")
    mode = "STRICT_ALIGN_CORNERS" if corners else "UNALIGN_CORNERS" if halves else "DEFAULT"
    return _bilinear(x, *_scaled(x, scale_factor_height, scale_factor_width), mode)


def upsample_nearest_neighbor(x: Array, scale_factor_height: Any = 1, scale_factor_width: Any = 1) -> Array:
    """By factors; output i is input floor(i inputs / outputs)."""
    return _nearest(x, *_scaled(x, scale_factor_height, scale_factor_width))


def resize_bilinear(
    x: Array, target_size_height: Any = 1, target_size_width: Any = 1, sampling_mode: str = "DEFAULT"
) -> Array:
    """To a size."""
    return _bilinear(x, int(target_size_height), int(target_size_width), sampling_mode)


def resize_nearest_neighbor(x: Array, target_size_height: Any, target_size_width: Any) -> Array:
    """To a size; output i is input floor(i inputs / outputs)."""
    return _nearest(x, int(target_size_height), int(target_size_width))


def resize(
    x: Array,
    shape: Any,
    resized_dims: Any,
    interpolation_mode: str = "LINEAR",
    sampling_mode: str = "DEFAULT",
) -> Array:
    """The last ``resized_dims`` sides to those of ``shape``; 0 leaves a side as it is."""
    kind = one_of(interpolation_mode, ("LINEAR", "NEAREST_NEIGHBOR"), "interpolation_mode")
    if kind == "NEAREST_NEIGHBOR":
        # How the places of the other modes are rounded is written nowhere.
        one_of(sampling_mode, ("DEFAULT",), "sampling_mode of NEAREST_NEIGHBOR")
    count = int(resized_dims)
    for axis, size in zip(range(x.ndim - count, x.ndim), ints(shape)[len(ints(shape)) - count :], strict=True):
        if size != 0:
            x = _linear_axis(x, axis, size, sampling_mode) if kind == "LINEAR" else _nearest_axis(x, axis, size)
    return x


def crop(x: Array, crop_height: Any, crop_width: Any) -> Array:
    """Cut off rows at top and bottom, columns at left and right."""
    (top, bottom), (left, right) = ints(crop_height), ints(crop_width)
    return x[..., top : x.shape[-2] - bottom, left : x.shape[-1] - right]


def resample(
    x: Array,
    coordinates: Array,
    sampling_mode: str,
    padding_mode: str,
    padding_value: Any,
    coordinates_mode: str,
    align_corners: Any,
) -> Array:
    """(n, C, H, W) at (n, H', W', 2) places (x, y) -> (n, C, H', W'): torch's grid_sample.

    Only the padding modes ``constant`` and ``border``.
    """
    kind = one_of(sampling_mode, ("bilinear", "nearest"), "sampling_mode")
    border = one_of(padding_mode, ("constant", "border"), "padding_mode") == "border"
    columns = _places(coordinates[..., 0], x.shape[3], coordinates_mode, align_corners)
    rows = _places(coordinates[..., 1], x.shape[2], coordinates_mode, align_corners)
    if border:
        columns, rows = columns.clip(0, x.shape[3] - 1), rows.clip(0, x.shape[2] - 1)
    fill = np.float32(padding_value)
    if kind == "nearest":
        return _picked(x, np.rint(rows).astype(np.int64), np.rint(columns).astype(np.int64), fill)
    top, left = np.floor(rows), np.floor(columns)
    down, right = (rows - top)[:, None], (columns - left)[:, None]
    y, z = top.astype(np.int64), left.astype(np.int64)
    upper = _picked(x, y, z, fill) * (1 - right) + _picked(x, y, z + 1, fill) * right
    lower = _picked(x, y + 1, z, fill) * (1 - right) + _picked(x, y + 1, z + 1, fill) * right
    result: Array = upper * (1 - down) + lower * down
    return result


def _places(values: Array, side: int, mode: str, align_corners: Any) -> Array:
    mode = one_of(mode, ("unnormalized", "normalized_minus_one_to_one", "normalized_zero_to_one"), "coordinates_mode")
    if mode == "unnormalized":
        return values
    share = (values + 1) / 2 if mode == "normalized_minus_one_to_one" else values
    return share * (side - 1) if align_corners else share * side - np.float32(0.5)


def _picked(x: Array, rows: Array, columns: Array, fill: np.float32) -> Array:
    """(n, C, H', W') of the pixels at these rows and columns; ``fill`` outside."""
    inside = (rows >= 0) & (rows < x.shape[2]) & (columns >= 0) & (columns < x.shape[3])
    picture = np.arange(x.shape[0])[:, None, None]
    found = x[picture, :, rows.clip(0, x.shape[2] - 1), columns.clip(0, x.shape[3] - 1)]
    return np.where(inside[:, None], np.moveaxis(found, -1, 1), fill)


def _scaled(x: Array, height: Any, width: Any) -> tuple[int, int]:
    # A factor that is no integer is stored in single precision: 5/3 * 3 must still be 5.
    return tuple(  # type: ignore[return-value]
        math.floor(float(np.float32(factor) * np.float32(side)))
        for factor, side in ((height, x.shape[-2]), (width, x.shape[-1]))
    )


def _bilinear(x: Array, height: int, width: int, mode: str) -> Array:
    return _linear_axis(_linear_axis(x, x.ndim - 2, height, mode), x.ndim - 1, width, mode)


def _nearest(x: Array, height: int, width: int) -> Array:
    return _nearest_axis(_nearest_axis(x, x.ndim - 2, height), x.ndim - 1, width)


def _linear_axis(x: Array, axis: int, size: int, mode: str) -> Array:
    places = grid(x.shape[axis], size, mode)
    first = np.floor(places).astype(np.int64)
    second = np.minimum(first + 1, x.shape[axis] - 1)
    shape = [1] * x.ndim
    shape[axis] = size
    share = (places - first).astype(x.dtype if x.dtype.kind == "f" else np.float32).reshape(shape)
    lower, upper = np.take(x, first, axis=axis), np.take(x, second, axis=axis)
    return np.asarray(lower * (1 - share) + upper * share)


def _nearest_axis(x: Array, axis: int, size: int) -> Array:
    return np.take(x, np.arange(size) * x.shape[axis] // size, axis=axis)
