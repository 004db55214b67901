"""Pooling over windows, in one, two or three dimensions."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from pocketface.converters.mil_reference.kernels.common import Array, ints, padding, windows


def max_pool(
    x: Array, kernel_sizes: Any, strides: Any = None, pad_type: str = "valid", pad: Any = None, ceil_mode: Any = False
) -> Array:
    """The largest value of each window; padding never counts."""
    kernel, step, edges, outputs = _geometry(x, kernel_sizes, strides, pad_type, pad, ceil_mode)
    padded = _padded(x, -np.inf, kernel, step, edges, outputs)
    result: Array | None = None
    for place in _places(kernel, step, outputs):
        result = padded[place].copy() if result is None else np.maximum(result, padded[place], out=result)
    if result is None:
        raise ValueError("a window without elements")
    return result


def avg_pool(
    x: Array,
    kernel_sizes: Any,
    strides: Any = None,
    pad_type: str = "valid",
    pad: Any = None,
    exclude_padding_from_average: Any = False,
    ceil_mode: Any = False,
) -> Array:
    """The mean of each window.

    Padding counts as zeros unless excluded. What ``ceil_mode`` adds behind the padding never counts, as in torch.
    """
    kernel, step, edges, outputs = _geometry(x, kernel_sizes, strides, pad_type, pad, ceil_mode)
    total = _sums(_padded(x, 0, kernel, step, edges, outputs), kernel, step, outputs)
    ones = np.ones((1, 1, *x.shape[2:]), x.dtype)
    if not exclude_padding_from_average:
        ones = np.pad(ones, [(0, 0), (0, 0), *edges], constant_values=1)
        edges = [(0, 0)] * len(kernel)
    counts = _sums(_padded(ones, 0, kernel, step, edges, outputs), kernel, step, outputs)
    result: Array = total / counts
    return result


def l2_pool(
    x: Array, kernel_sizes: Any, strides: Any = None, pad_type: str = "valid", pad: Any = None, ceil_mode: Any = False
) -> Array:
    """The root of the sum of squares of each window."""
    kernel, step, edges, outputs = _geometry(x, kernel_sizes, strides, pad_type, pad, ceil_mode)
    padded = _padded(np.square(x), 0, kernel, step, edges, outputs)
    result: Array = np.sqrt(_sums(padded, kernel, step, outputs))
    return result


def _geometry(
    x: Array, kernel_sizes: Any, strides: Any, pad_type: str, pad: Any, ceil_mode: Any
) -> tuple[tuple[int, ...], tuple[int, ...], list[tuple[int, int]], tuple[int, ...]]:
    kernel = ints(kernel_sizes)
    step = ints(strides) if strides is not None else (1,) * len(kernel)
    edges = padding(pad_type, pad, x.shape[2:], kernel, step, (1,) * len(kernel))
    outputs = []
    for side, size, stride, (before, after) in zip(x.shape[2:], kernel, step, edges, strict=True):
        room = side + before + after - size
        count = room // stride + 1
        # A last window that is not full counts if it begins in the input or in the padding before it.
        if ceil_mode and room % stride and count * stride < side + before:
            count += 1
        outputs.append(count)
    if min(outputs) < 1:
        raise ValueError(f"a window {kernel} does not fit into {x.shape[2:]}")
    return kernel, step, edges, tuple(outputs)


def _padded(
    x: Array,
    value: float,
    kernel: Sequence[int],
    strides: Sequence[int],
    edges: Sequence[tuple[int, int]],
    outputs: Sequence[int],
) -> Array:
    """With its padding, and as much more behind it as the last window reaches."""
    widths = []
    for side, size, stride, (before, after), count in zip(x.shape[2:], kernel, strides, edges, outputs, strict=True):
        widths.append((before, max(after, (count - 1) * stride + size - side - before)))
    if not any(before or after for before, after in widths):
        return x
    return np.pad(x, [(0, 0), (0, 0), *widths], constant_values=value)


def _places(kernel: Sequence[int], strides: Sequence[int], outputs: Sequence[int]) -> list[Any]:
    taps = itertools.product(*(range(size) for size in kernel))
    return [windows(tap, outputs, strides, (1,) * len(kernel)) for tap in taps]


def _sums(padded: Array, kernel: Sequence[int], strides: Sequence[int], outputs: Sequence[int]) -> Array:
    result = np.zeros((*padded.shape[:2], *outputs), padded.dtype)
    for place in _places(kernel, strides, outputs):
        result += padded[place]
    return result
