"""Arithmetic, comparison and logic, element by element, with numpy's broadcasting."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from pocketface.converters.mil_reference.dtypes import SPELLED
from pocketface.converters.mil_reference.kernels.common import Array


def unary(function: Callable[..., Any]) -> Callable[..., Array]:
    """The operation that applies a numpy function to ``x``."""

    def kernel(x: Array) -> Array:
        return np.asarray(function(x))

    return kernel


def binary(function: Callable[..., Any]) -> Callable[..., Array]:
    """The operation that applies a numpy function to ``x`` and ``y``."""

    def kernel(x: Array, y: Array) -> Array:
        return np.asarray(function(x, y))

    return kernel


def inverse(x: Array, epsilon: Any = 1e-4) -> Array:
    """1 / (x + epsilon)."""
    result: Array = 1 / (x + np.asarray(epsilon, x.dtype))
    return result


def log(x: Array, epsilon: Any = 1e-45) -> Array:
    """Natural logarithm of x + epsilon."""
    return np.asarray(np.log(x + np.asarray(epsilon, x.dtype)))


def rsqrt(x: Array, epsilon: Any = 1e-12) -> Array:
    """1 / sqrt(x + epsilon)."""
    return np.asarray(1 / np.sqrt(x + np.asarray(epsilon, x.dtype)))


def threshold(x: Array, alpha: Any) -> Array:
    """x, but at least alpha."""
    return np.maximum(x, alpha)


def select(cond: Array, a: Array, b: Array) -> Array:
    """a where cond holds, else b."""
    return np.where(cond, a, b)


def cast(x: Array, dtype: str) -> Array:
    """x in another type; to an integer, towards zero.

    Values that the type cannot hold are not defined in MIL; here they saturate.
    """
    target = np.dtype(SPELLED.get(dtype, dtype))
    if target.kind in "iu" and x.dtype.kind == "f":
        limits = np.iinfo(target)
        whole = np.trunc(x.astype(np.float64))
        return np.nan_to_num(whole, nan=0.0).clip(limits.min, limits.max).astype(target)
    if target.kind == "b":
        return np.asarray(x != 0)
    return x.astype(target)


def identity(x: Array) -> Array:
    """x."""
    return x
