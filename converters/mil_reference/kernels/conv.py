"""Convolutions in one, two or three dimensions.

Each tap of the kernel is one matrix product over all positions (a depthwise one, one multiply-add), so that a 1 x 1
convolution is one product and nothing is ever unrolled.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np

from pocketface.converters.mil_reference.kernels.common import Array, ints, padding, windows


def conv(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    strides: Any = None,
    pad_type: str = "valid",
    pad: Any = None,
    dilations: Any = None,
    groups: Any = 1,
) -> Array:
    """(n, C, *D) with weights (O, C / groups, *K) -> (n, O, *D'); zero padding."""
    spatial, g = x.ndim - 2, int(groups)
    kernel = weight.shape[2:]
    step = ints(strides) if strides is not None else (1,) * spatial
    dilate = ints(dilations) if dilations is not None else (1,) * spatial
    if x.shape[1] != weight.shape[1] * g or weight.shape[0] % g:
        raise ValueError(f"{x.shape[1]} channels and weights {weight.shape} in {g} groups")
    edges = padding(pad_type, pad, x.shape[2:], kernel, step, dilate)
    if any(before or after for before, after in edges):
        x = np.pad(x, [(0, 0), (0, 0), *edges])
    outputs = tuple(
        (side - (size - 1) * d - 1) // s + 1 for side, size, s, d in zip(x.shape[2:], kernel, step, dilate, strict=True)
    )
    if min(outputs) < 1:
        raise ValueError(f"a kernel {kernel} does not fit into {x.shape[2:]}")
    taps = list(itertools.product(*(range(size) for size in kernel)))
    places = [windows(tap, outputs, step, dilate) for tap in taps]
    flat = weight.reshape(*weight.shape[:2], -1)
    if weight.shape[1] == 1 and g > 1:
        result = _depthwise(x, flat, places, outputs)
    else:
        result = _dense(x, flat, places, outputs, g)
    if bias is not None:
        result += bias.reshape(-1, *(1,) * spatial)
    return result


def _dense(x: Array, weight: Array, places: list[Any], outputs: tuple[int, ...], groups: int) -> Array:
    n, channels = x.shape[:2]
    filters = weight.shape[0]
    matrices = np.ascontiguousarray(
        weight.reshape(groups, filters // groups, channels // groups, -1).transpose(3, 0, 1, 2)
    )
    result: Array | None = None
    for matrix, place in zip(matrices, places, strict=True):
        part = matrix @ x[place].reshape(n, groups, channels // groups, -1)
        if result is None:
            result = part
        else:
            result += part
    if result is None:
        raise ValueError("a kernel without taps")
    return result.reshape(n, filters, *outputs)


def _depthwise(x: Array, weight: Array, places: list[Any], outputs: tuple[int, ...]) -> Array:
    n, channels = x.shape[:2]
    times = weight.shape[0] // channels
    factors = weight.reshape(channels, times, *(1,) * len(outputs), -1)
    result = np.zeros((n, channels, times, *outputs), np.result_type(x, weight))
    product = np.empty_like(result)
    for tap, place in enumerate(places):
        np.multiply(x[place][:, :, None], factors[..., tap], out=product)
        result += product
    return result.reshape(n, channels * times, *outputs)


def conv_transpose(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    pad: Any = None,
    output_shape: Any = None,
    pad_type: str = "valid",
    strides: Any = None,
    dilations: Any = None,
    groups: Any = 1,
) -> Array:
    """(n, C, *D) with weights (C, O / groups, *K) -> (n, O, *D'); ``pad`` is cut off the full result.

    With ``output_shape``, the result begins after the padding before and is filled up with zeros to that shape.
    """
    spatial, g = x.ndim - 2, int(groups)
    n, channels = x.shape[:2]
    kernel, filters = weight.shape[2:], weight.shape[1] * g
    step = ints(strides) if strides is not None else (1,) * spatial
    dilate = ints(dilations) if dilations is not None else (1,) * spatial
    if channels != weight.shape[0] or channels % g:
        raise ValueError(f"{channels} channels and weights {weight.shape} in {g} groups")
    full = tuple(
        (side - 1) * s + (size - 1) * d + 1 for side, size, s, d in zip(x.shape[2:], kernel, step, dilate, strict=True)
    )
    result = np.zeros((n, filters, *full), np.result_type(x, weight))
    columns = x.reshape(n, g, channels // g, -1)
    flat = weight.reshape(g, channels // g, filters // g, -1)
    for number, tap in enumerate(itertools.product(*(range(size) for size in kernel))):
        part = flat[..., number].transpose(0, 2, 1) @ columns
        result[windows(tap, x.shape[2:], step, dilate)] += part.reshape(n, filters, *x.shape[2:])
    if pad_type == "same":
        sizes = [side * s for side, s in zip(x.shape[2:], step, strict=True)]
        starts = [max(0, have - want) // 2 for have, want in zip(full, sizes, strict=True)]
    else:
        edges = padding(pad_type, pad, x.shape[2:], kernel, step, dilate)
        starts = [before for before, _ in edges]
        sizes = [have - sum(edge) for have, edge in zip(full, edges, strict=True)]
    if output_shape is not None:
        sizes = list(ints(output_shape)[2:])
    result = _cut(result, starts, sizes)
    if bias is not None:
        result += bias.reshape(-1, *(1,) * spatial)
    return result


def _cut(full: Array, starts: list[int], sizes: list[int]) -> Array:
    if min(sizes) < 1:
        raise ValueError(f"nothing is left of {full.shape[2:]}")
    window: tuple[Any, ...] = tuple(slice(start, start + size) for start, size in zip(starts, sizes, strict=True))
    kept = full[(Ellipsis, *window)]
    if kept.shape[2:] == tuple(sizes):
        return kept.copy() if math.prod(kept.shape) != math.prod(full.shape) else kept
    missing = [(0, size - side) for size, side in zip(sizes, kept.shape[2:], strict=True)]
    return np.pad(kept, [(0, 0), (0, 0), *missing])
