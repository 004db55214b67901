"""Matrix products."""

from __future__ import annotations

from typing import Any

import numpy as np

from pocketface.converters.mil_reference.kernels.activations import softmax
from pocketface.converters.mil_reference.kernels.common import Array


def linear(x: Array, weight: Array, bias: Array | None = None) -> Array:
    """(*D, C) with weights (O, C) -> (*D, O)."""
    result: Array = x @ weight.T
    return result if bias is None else result + bias


def matmul(x: Array, y: Array, transpose_x: Any = False, transpose_y: Any = False) -> Array:
    """numpy's matmul, with either factor's last two axes swapped first; that does nothing to a vector."""
    left = np.swapaxes(x, -1, -2) if transpose_x and x.ndim > 1 else x
    right = np.swapaxes(y, -1, -2) if transpose_y and y.ndim > 1 else y
    result: Array = left @ right
    return result


def einsum(values: tuple[Array, ...], equation: str) -> Array:
    """numpy's einsum; sides of 1 broadcast."""
    result: Array = np.einsum(equation, *values, optimize=True)
    return result


def scaled_dot_product_attention(query: Array, key: Array, value: Array, attn_mask: Array | None = None) -> Array:
    """softmax(query key^T / sqrt(E) + mask) value; a boolean mask is True where an element takes part."""
    scores = query @ np.swapaxes(key, -1, -2) / np.sqrt(np.float32(query.shape[-1]))
    if attn_mask is not None:
        scores = np.where(attn_mask, scores, -np.inf) if attn_mask.dtype == bool else scores + attn_mask
    result: Array = softmax(scores, -1) @ value
    return result
