"""Weights that are stored in fewer bits, and tensors that pass through integers.

Everything is computed in float32 and rounded once to the declared type.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from pocketface.converters.mil_reference.dtypes import unpack_bits
from pocketface.converters.mil_reference.kernels.common import Array, ints, per_channel


def constexpr_affine_dequantize(quantized_data: Array, zero_point: Any, scale: Any, axis: Any) -> Array:
    """scale (data - zero point), a number or a vector over one axis."""
    return dequantize(quantized_data, scale, zero_point, axis)


def constexpr_blockwise_shift_scale(data: Array, scale: Array, offset: Array | None = None) -> Array:
    """scale (data - offset), both constant over blocks of data.shape / scale.shape."""
    values = data.astype(np.float32)
    if offset is not None:
        values = values - _blocks(offset.astype(np.float32), data.shape)
    result: Array = _blocks(scale.astype(np.float32), data.shape) * values
    return result


def constexpr_lut_to_dense(indices: Array, lut: Array, shape: Any = None, vector_axis: Any = None) -> Array:
    """Numbers from a palette.

    iOS 16 has one palette, (N,), and indices of log2(N) bits packed into bytes, for a result of ``shape``. iOS 18 has
    palettes for blocks, (*blocks, N, V), and one index an element, each giving V values along ``vector_axis``.
    """
    if shape is not None:
        sides = ints(shape)
        return lut[unpack_bits(indices, int(lut.size).bit_length() - 1, math.prod(sides))].reshape(sides)
    size = lut.shape[-1]
    palettes = lut
    for axis, side in enumerate(indices.shape):
        if side % lut.shape[axis]:
            raise ValueError(f"indices {indices.shape} and palettes {lut.shape}")
        palettes = np.repeat(palettes, side // lut.shape[axis], axis=axis)
    places = indices.astype(np.int64)[..., None, None]
    vectors = np.take_along_axis(palettes, np.broadcast_to(places, (*indices.shape, 1, size)), axis=-2)[..., 0, :]
    if size == 1:
        return vectors[..., 0]
    along = int(vector_axis) % indices.ndim
    sides = tuple(side * size if axis == along else side for axis, side in enumerate(indices.shape))
    return np.moveaxis(vectors, -1, along + 1).reshape(sides)


def constexpr_sparse_to_dense(nonzero_data: Array, mask: Array, shape: Any = None) -> Array:
    """Zeros but where the mask has a one; iOS 16 packs the mask of a result of ``shape`` into bytes."""
    if shape is not None:
        sides = ints(shape)
        mask = unpack_bits(mask, 1, math.prod(sides)).reshape(sides)
    result = np.zeros(mask.shape, nonzero_data.dtype)
    result[mask != 0] = nonzero_data
    return result


def constexpr_lut_to_sparse(
    indices_mask: Array, indices_nonzero_data: Array, lut: Array, vector_axis: Any = None
) -> tuple[Array, Array]:
    """(mask, numbers from the palette where it has a one)."""
    dense = constexpr_sparse_to_dense(indices_nonzero_data, indices_mask)
    values = constexpr_lut_to_dense(dense, lut, None, vector_axis)
    mask = indices_mask
    if lut.shape[-1] > 1:
        mask = np.repeat(mask, lut.shape[-1], axis=int(vector_axis))
    return mask, values[mask != 0]


def constexpr_sparse_blockwise_shift_scale(
    data_mask: Array, nonzero_data: Array, scale: Array, offset: Array | None = None
) -> tuple[Array, Array]:
    """(mask, scale (data - offset) where it has a one)."""
    dense = constexpr_sparse_to_dense(nonzero_data, data_mask)
    return data_mask, constexpr_blockwise_shift_scale(dense, scale, offset)[data_mask != 0]


def constexpr_cast(source_val: Array, output_dtype: str) -> Array:
    """float16 -> float32."""
    if output_dtype != "fp32":
        raise ValueError(f"output_dtype is {output_dtype!r}, known is fp32")
    return source_val.astype(np.float32)


def quantize(input: Array, scale: Any, output_dtype: str, zero_point: Any = None, axis: Any = None) -> Array:
    """clip(round(input / scale) + zero point); half to even."""
    limits = np.iinfo(output_dtype)
    along = int(axis) if axis is not None else 0
    values = np.rint(input / per_channel(scale, input.ndim, along))
    if zero_point is not None:
        values = values + per_channel(np.asarray(zero_point, np.float32), input.ndim, along)
    return values.clip(limits.min, limits.max).astype(output_dtype)


def dequantize(input: Array, scale: Any, zero_point: Any = None, axis: Any = None) -> Array:
    """scale (input - zero point)."""
    along = int(axis) if axis is not None else 0
    values = input.astype(np.float32)
    if zero_point is not None:
        values = values - per_channel(np.asarray(zero_point, np.float32), input.ndim, along)
    result: Array = values * per_channel(np.asarray(scale, np.float32), input.ndim, along)
    return result


def _blocks(values: Array, shape: tuple[int, ...]) -> Array:
    if values.ndim != len(shape) or any(side % count for side, count in zip(shape, values.shape, strict=True)):
        raise ValueError(f"blocks {values.shape} of {shape}")
    for axis, side in enumerate(shape):
        if values.shape[axis] not in (1, side):
            values = np.repeat(values, side // values.shape[axis], axis=axis)
    return values
