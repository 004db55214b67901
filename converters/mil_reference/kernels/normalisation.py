"""Normalisations. The channels are axis 1."""

from __future__ import annotations

from typing import Any

import numpy as np

from pocketface.converters.mil_reference.kernels.common import Array, ints, per_channel


def batch_norm(
    x: Array,
    mean: Array,
    variance: Array,
    gamma: Array | None = None,
    beta: Array | None = None,
    epsilon: Any = 1e-5,
) -> Array:
    """gamma (x - mean) / sqrt(variance + epsilon) + beta, all per channel."""
    scale = 1 / np.sqrt(variance + np.asarray(epsilon, variance.dtype))
    return _affine((x - per_channel(mean, x.ndim)) * per_channel(scale, x.ndim), gamma, beta)


def instance_norm(x: Array, gamma: Array | None = None, beta: Array | None = None, epsilon: Any = 1e-5) -> Array:
    """Each channel of each picture to mean 0 and variance 1, then gamma and beta."""
    return _affine(_standardised(x, tuple(range(2, x.ndim)), epsilon), gamma, beta)


def layer_norm(
    x: Array, axes: Any = None, gamma: Array | None = None, beta: Array | None = None, epsilon: Any = 1e-5
) -> Array:
    """Mean 0 and variance 1 over some axes (default: all), then gamma and beta of these axes' shape."""
    over = tuple(axis % x.ndim for axis in ints(axes)) if axes is not None else tuple(range(x.ndim))
    shape = [side if axis in over else 1 for axis, side in enumerate(x.shape)]
    result = _standardised(x, over, epsilon)
    if gamma is not None:
        result = result * gamma.reshape(shape)
    if beta is not None:
        result = result + beta.reshape(shape)
    return result


def l2_norm(x: Array, epsilon: Any = 1e-6) -> Array:
    """x over the root of (the sum of squares over its last three axes, plus epsilon)."""
    if x.ndim < 3:
        raise ValueError(f"x has {x.ndim} axes, at least 3 are needed")
    total = np.sum(np.square(x), axis=(-3, -2, -1), keepdims=True)
    result: Array = x / np.sqrt(total + np.asarray(epsilon, x.dtype))
    return result


def local_response_norm(x: Array, size: Any, alpha: Any = 1e-4, beta: Any = 0.75, k: Any = 1.0) -> Array:
    """x over (k + alpha / size * the sum of squares of ``size`` neighbouring channels)^beta."""
    count = int(size)
    edges = [(0, 0)] * x.ndim
    edges[1] = (count // 2, (count - 1) // 2)
    squares = np.pad(np.square(x), edges)
    total = sum(squares[:, number : number + x.shape[1]] for number in range(count))
    result: Array = x / (float(k) + float(alpha) / count * total) ** float(beta)
    return result


def _standardised(x: Array, axes: tuple[int, ...], epsilon: Any) -> Array:
    centred = x - x.mean(axis=axes, keepdims=True)
    variance = np.square(centred).mean(axis=axes, keepdims=True)
    result: Array = centred / np.sqrt(variance + np.asarray(epsilon, x.dtype))
    return result


def _affine(x: Array, gamma: Array | None, beta: Array | None) -> Array:
    if gamma is not None:
        x = x * per_channel(gamma, x.ndim)
    if beta is not None:
        x = x + per_channel(beta, x.ndim)
    return x
