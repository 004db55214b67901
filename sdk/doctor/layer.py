"""The one layer that every check exports and runs: a convolution, "image" (1, 3, 4, 4) -> "value" (1, 2, 3, 3)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

INPUT, OUTPUT = "image", "value"
INPUT_SHAPE, WEIGHT_SHAPE, OUTPUT_SHAPE = (1, 3, 4, 4), (2, 3, 2, 2), (1, 2, 3, 3)


def weights() -> NDArray[np.float32]:
    """(2, 3, 2, 2) float32 in [-0.5, 0.5], all different."""
    count = int(np.prod(WEIGHT_SHAPE))
    return (np.arange(count, dtype=np.float32) * 7 % count / (count - 1) - 0.5).astype(np.float32).reshape(WEIGHT_SHAPE)


def image() -> NDArray[np.float32]:
    """(1, 3, 4, 4) float32 in [-1, 1]: a fixed picture."""
    return np.sin(np.arange(np.prod(INPUT_SHAPE), dtype=np.float32)).reshape(INPUT_SHAPE)


def expected(picture: NDArray[np.float32]) -> NDArray[np.float32]:
    """The convolution in numpy, in double precision: (1, 3, 4, 4) -> (1, 2, 3, 3)."""
    windows = np.lib.stride_tricks.sliding_window_view(picture[0].astype(np.float64), (2, 2), axis=(1, 2))
    return np.einsum("cyxij,ocij->oyx", windows, weights().astype(np.float64))[None].astype(np.float32)


def relative_error(found: NDArray[np.float32], truth: NDArray[np.float32]) -> float:
    """Largest error over the largest value; infinite where the result is not finite or has another shape."""
    if found.shape != truth.shape or not np.isfinite(found).all():
        return float("inf")
    return float(np.abs(found - truth).max() / np.abs(truth).max())
