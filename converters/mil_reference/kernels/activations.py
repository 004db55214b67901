"""Activation functions. ``x`` is of any shape unless said otherwise."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from pocketface.converters.mil_reference.kernels.common import Array, one_of, per_channel

_erf = np.frompyfunc(math.erf, 1, 1)


def relu(x: Array) -> Array:
    """max(x, 0)."""
    return np.maximum(x, 0)


def relu6(x: Array) -> Array:
    """x within [0, 6]."""
    return np.minimum(np.maximum(x, 0), 6)


def clip(x: Array, alpha: Any, beta: Any) -> Array:
    """x within [alpha, beta]."""
    return np.minimum(np.maximum(x, alpha), beta)


def clamped_relu(x: Array, alpha: Any, beta: Any) -> Array:
    """min(beta, x) from 0 on, min(beta, alpha x) below."""
    return np.minimum(np.where(x >= 0, x, alpha * x), beta)


def leaky_relu(x: Array, alpha: Any) -> Array:
    """x from 0 on, alpha x below."""
    return np.where(x >= 0, x, alpha * x)


def prelu(x: Array, alpha: Any) -> Array:
    """x above 0, alpha of the channel (axis 1) times x below."""
    return np.where(x > 0, x, per_channel(alpha, x.ndim) * x)


def thresholded_relu(x: Array, alpha: Any) -> Array:
    """x from alpha on, 0 below."""
    return np.where(x >= alpha, x, np.zeros_like(x))


def elu(x: Array, alpha: Any) -> Array:
    """x above 0, alpha (e^x - 1) below."""
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


def sigmoid(x: Array) -> Array:
    """1 / (1 + e^-x), without overflow."""
    small = np.exp(-np.abs(x))
    result: Array = np.where(x >= 0, 1, small) / (1 + small)
    return result


def sigmoid_hard(x: Array, alpha: Any, beta: Any) -> Array:
    """alpha x + beta within [0, 1]."""
    return np.minimum(np.maximum(alpha * x + beta, 0), 1)


def silu(x: Array) -> Array:
    """x sigmoid(x)."""
    result: Array = x * sigmoid(x)
    return result


def softplus(x: Array) -> Array:
    """log(1 + e^x), without overflow."""
    result: Array = np.log1p(np.exp(-np.abs(x))) + np.maximum(x, 0)
    return result


def softplus_parametric(x: Array, alpha: Any, beta: Any) -> Array:
    """alpha log(1 + e^(beta x)), alpha and beta of the channel (axis 1)."""
    result: Array = per_channel(alpha, x.ndim) * softplus(per_channel(beta, x.ndim) * x)
    return result


def softsign(x: Array) -> Array:
    """x / (1 + |x|)."""
    result: Array = x / (1 + np.abs(x))
    return result


def linear_activation(x: Array, alpha: Any, beta: Any) -> Array:
    """alpha x + beta."""
    result: Array = alpha * x + beta
    return result


def scaled_tanh(x: Array, alpha: Any, beta: Any) -> Array:
    """alpha tanh(beta x)."""
    result: Array = alpha * np.tanh(beta * x)
    return result


def erf(x: Array) -> Array:
    """The error function, each value in double precision."""
    return np.asarray(_erf(x)).astype(x.dtype)


def gelu(x: Array, mode: str = "EXACT") -> Array:
    """x times the normal distribution's cumulative function, or one of its two approximations."""
    mode = one_of(mode, ("EXACT", "TANH_APPROXIMATION", "SIGMOID_APPROXIMATION"), "mode")
    if mode == "SIGMOID_APPROXIMATION":
        return np.asarray(x * sigmoid(np.float32(1.702) * x))
    if mode == "TANH_APPROXIMATION":
        inner = np.float32(math.sqrt(2 / math.pi)) * (x + np.float32(0.044715) * x**3)
        return np.asarray(np.float32(0.5) * x * (1 + np.tanh(inner)))
    return np.asarray(np.float32(0.5) * x * (1 + erf(x / np.float32(math.sqrt(2)))))


def softmax(x: Array, axis: Any = -1) -> Array:
    """e^x over its sum along one axis."""
    powers = np.exp(x - x.max(axis=int(axis), keepdims=True))
    result: Array = powers / powers.sum(axis=int(axis), keepdims=True)
    return result
