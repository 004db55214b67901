"""Reductions over axes (default: all), sorting and the largest elements."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from pocketface.converters.mil_reference.dtypes import SPELLED
from pocketface.converters.mil_reference.kernels.common import Array, ints


def reduction(function: Callable[..., Any]) -> Callable[..., Array]:
    """The operation that reduces with ``function(x, axis=..., keepdims=...)``."""

    def kernel(x: Array, axes: Any = None, keep_dims: Any = False) -> Array:
        over = ints(axes) if axes is not None else None
        return np.asarray(function(x, axis=over, keepdims=bool(keep_dims)))

    return kernel


def arg_reduction(function: Callable[..., Any]) -> Callable[..., Array]:
    """The operation that gives the index of the first extreme along one axis."""

    def kernel(x: Array, axis: Any = -1, keep_dims: Any = False, output_dtype: str = "int32") -> Array:
        return np.asarray(function(x, axis=int(axis), keepdims=bool(keep_dims))).astype(output_dtype)

    return kernel


def l1_norm(x: Array, **options: Any) -> Any:
    """Sum of absolute values."""
    return np.sum(np.abs(x), **options)


def l2_norm(x: Array, **options: Any) -> Any:
    """Root of the sum of squares."""
    return np.sqrt(np.sum(np.square(x), **options))


def sum_square(x: Array, **options: Any) -> Any:
    """Sum of squares."""
    return np.sum(np.square(x), **options)


def log_sum(x: Array, **options: Any) -> Any:
    """Logarithm of the sum."""
    return np.log(np.sum(x, **options))


def log_sum_exp(x: Array, axis: Any, keepdims: bool) -> Any:
    """Logarithm of the sum of powers of e, without overflow."""
    largest = np.max(x, axis=axis, keepdims=True)
    total = np.sum(np.exp(x - largest), axis=axis, keepdims=True)
    result = np.log(total) + largest
    return result if keepdims else np.squeeze(result, axis=axis)


def argsort(x: Array, axis: Any = -1, ascending: Any = False) -> Array:
    """Indices that sort along one axis; equal values keep their order."""
    values = x if ascending else -x.astype(np.float64)
    return np.argsort(values, axis=int(axis), kind="stable").astype(np.int32)


def topk(
    x: Array,
    k: Any = 1,
    axis: Any = -1,
    ascending: Any = False,
    sort: Any = True,
    return_indices: Any = True,
    output_indices_dtype: str = "int32",
) -> Array | tuple[Array, Array]:
    """The k largest (or smallest) values along one axis, and where they are; k = -1 takes all. Always sorted."""
    order = argsort(x, axis, ascending)
    count = int(k) if int(k) >= 0 else x.shape[int(axis)]
    indices = np.take(order, np.arange(count), axis=int(axis))
    values = np.take_along_axis(x, indices, axis=int(axis))
    if not return_indices:
        return values
    return values, indices.astype(SPELLED.get(output_indices_dtype, output_indices_dtype))


def cumsum(x: Array, axis: Any = 0, exclusive: Any = False, reverse: Any = False) -> Array:
    """Running sum along one axis; ``exclusive`` leaves each element itself out, ``reverse`` begins at the end."""
    along = int(axis)
    values = np.flip(x, along) if reverse else x
    result = np.cumsum(values, axis=along, dtype=x.dtype)
    if exclusive:
        result = result - values
    return np.flip(result, along) if reverse else result
