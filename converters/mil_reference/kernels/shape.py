"""Rearranging, joining and making tensors: nothing here computes with their values."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from pocketface.converters.mil_reference.kernels.common import Array, ints, one_of


def reshape(x: Array, shape: Any) -> Array:
    """To a shape in which -1 is what is left over and 0 the side of ``x``, counted from the last one."""
    sides = list(ints(shape))
    for back in range(1, len(sides) + 1):
        if sides[-back] == 0 and x.size:
            sides[-back] = x.shape[-back] if back <= x.ndim else 1
    return x.reshape(sides)


def reshape_like(x: Array, ref_tensors: tuple[Array, ...], begins: Any, ends: Any, end_masks: Any) -> Array:
    """To a shape put together from pieces of other tensors' shapes."""
    sides: list[int] = []
    for tensor, begin, end, to_end in zip(ref_tensors, begins, ends, end_masks, strict=True):
        sides.extend(tensor.shape[int(begin) : None if to_end else int(end)])
    return x.reshape(sides)


def flatten2d(x: Array, axis: Any = 1) -> Array:
    """(product of the sides before an axis, product of the others)."""
    return x.reshape(math.prod(x.shape[: int(axis)]), math.prod(x.shape[int(axis) :]))


def expand_dims(x: Array, axes: Any) -> Array:
    """New sides of 1, at these axes of the result."""
    return np.expand_dims(x, ints(axes))


def squeeze(x: Array, axes: Any = None) -> Array:
    """Without the sides of 1 (among these axes); other sides stay."""
    among = {axis % x.ndim for axis in ints(axes)} if axes is not None else set(range(x.ndim))
    return x.reshape([side for axis, side in enumerate(x.shape) if side != 1 or axis not in among])


def transpose(x: Array, perm: Any) -> Array:
    """Axes in another order."""
    return x.transpose(ints(perm))


def shape(x: Array) -> Array:
    """The shape, int32."""
    return np.array(x.shape, np.int32)


def concat(values: tuple[Array, ...], axis: Any, interleave: Any = False) -> Array:
    """Joined along one axis; interleaved, first of each, then second of each, and so on."""
    if values[0].ndim == 0:
        return np.stack(values)
    if not interleave:
        return np.concatenate(values, axis=int(axis))
    along = int(axis) % values[0].ndim
    sides = list(values[0].shape)
    sides[along] *= len(values)
    return np.stack(values, axis=along + 1).reshape(sides)


def stack(values: tuple[Array, ...], axis: Any) -> Array:
    """Joined along a new axis."""
    return np.stack(values, axis=int(axis))


def split(x: Array, axis: Any, num_splits: Any = None, split_sizes: Any = None) -> tuple[Array, ...]:
    """Cut along one axis, into equal pieces or into pieces of given sizes."""
    if split_sizes is None:
        return tuple(np.split(x, int(num_splits), axis=int(axis)))
    sizes = ints(split_sizes)
    if sum(sizes) != x.shape[int(axis)]:
        raise ValueError(f"pieces {sizes} of a side of {x.shape[int(axis)]}")
    return tuple(np.split(x, np.cumsum(sizes)[:-1], axis=int(axis)))


def tile(x: Array, reps: Any) -> Array:
    """Repeated as a whole along each axis."""
    return np.tile(x, ints(reps))


def pad(x: Array, pad: Any, mode: str = "constant", constant_val: Any = 0.0) -> Array:
    """The last len(pad) / 2 sides, longer by pad[2 i] before and pad[2 i + 1] after."""
    kind = one_of(mode, ("constant", "reflect", "replicate"), "mode")
    flat = ints(pad)
    widths = [(0, 0)] * (x.ndim - len(flat) // 2) + list(zip(flat[::2], flat[1::2], strict=True))
    if kind == "constant":
        return np.pad(x, widths, constant_values=constant_val)
    return np.pad(x, widths, "edge" if kind == "replicate" else "reflect")


def reverse(x: Array, axes: Any = None) -> Array:
    """Back to front along some axes (default: all)."""
    return np.flip(x, ints(axes) if axes is not None else None)


def pixel_shuffle(x: Array, upscale_factor: Any) -> Array:
    """(n, C f f, H, W) -> (n, C, H f, W f): torch's PixelShuffle."""
    f = int(upscale_factor)
    n, c, h, w = x.shape
    return x.reshape(n, c // (f * f), f, f, h, w).transpose(0, 1, 4, 2, 5, 3).reshape(n, c // (f * f), h * f, w * f)


def pixel_unshuffle(x: Array, downscale_factor: Any) -> Array:
    """(n, C, H f, W f) -> (n, C f f, H, W): torch's PixelUnshuffle."""
    f = int(downscale_factor)
    n, c, h, w = x.shape
    return x.reshape(n, c, h // f, f, w // f, f).transpose(0, 1, 3, 5, 2, 4).reshape(n, c * f * f, h // f, w // f)


def depth_to_space(x: Array, block_size: Any) -> Array:
    """(n, b b C, H, W) -> (n, C, H b, W b): TensorFlow's order, the block before the channel."""
    b = int(block_size)
    n, c, h, w = x.shape
    return x.reshape(n, b, b, c // (b * b), h, w).transpose(0, 3, 4, 1, 5, 2).reshape(n, c // (b * b), h * b, w * b)


def space_to_depth(x: Array, block_size: Any) -> Array:
    """(n, C, H b, W b) -> (n, b b C, H, W), the inverse of `depth_to_space`."""
    b = int(block_size)
    n, c, h, w = x.shape
    return x.reshape(n, c, h // b, b, w // b, b).transpose(0, 3, 5, 1, 2, 4).reshape(n, c * b * b, h // b, w // b)


def sliding_windows(x: Array, axis: Any, size: Any, stride: Any = 1) -> Array:
    """Every window of ``size`` along one axis; its elements are on the axis behind it."""
    along = int(axis) % x.ndim
    every = np.lib.stride_tricks.sliding_window_view(x, int(size), axis=along)
    kept = every[(slice(None),) * along + (slice(None, None, int(stride)),)]
    return np.moveaxis(kept, -1, along + 1)


def band_part(x: Array, lower: Any = -1, upper: Any = -1) -> Array:
    """Zero beyond ``lower`` diagonals below and ``upper`` above the main one; negative keeps all."""
    distance = np.subtract.outer(np.arange(x.shape[-2]), np.arange(x.shape[-1]))
    kept = (int(lower) < 0) | (distance <= int(lower))
    kept &= (int(upper) < 0) | (-distance <= int(upper))
    return np.where(kept, x, np.zeros_like(x))


def fill(shape: Any, value: Any = 0.0) -> Array:
    """One value in every place."""
    return np.full(ints(shape), value)


def fill_like(ref_tensor: Array, value: Any = 0.0) -> Array:
    """One value in every place, in another tensor's shape."""
    return np.full(ref_tensor.shape, value)


def range_1d(start: Any, end: Any, step: Any) -> Array:
    """start, start + step, … below end."""
    return np.arange(start, end, step)


def one_hot(indices: Array, one_hot_vector_size: Any, axis: Any = -1, on_value: Any = 1, off_value: Any = 0) -> Array:
    """A new axis with ``on_value`` at the index, ``off_value`` elsewhere."""
    places = np.arange(int(one_hot_vector_size)) == indices[..., None]
    return np.moveaxis(np.where(places, on_value, off_value), -1, int(axis))


def non_zero(x: Array) -> Array:
    """(count, axes) int32: the places of all elements that are not 0."""
    return np.argwhere(x).astype(np.int32)
