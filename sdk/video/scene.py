"""Scene cuts: when a frame has nothing to do with the one before.

Each frame is reduced to a grid of mean grey levels; a cut is a large mean difference between two grids. A face that
moves changes a few cells, a pan shifts all of them a little; a cut changes most of them a lot.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

CELLS = 16
_TAPS = 4


class Scene:
    """Remembers the last frame's grid, and nothing else."""

    def __init__(self) -> None:
        self._last: NDArray[np.float32] | None = None

    def reset(self) -> None:
        """Forget the frame before."""
        self._last = None

    def change(self, image: NDArray[np.uint8]) -> float:
        """How much (H, W, 3) uint8 differs from the frame before: mean absolute difference of the grids as a share of
        the grey levels, in [0, 1]; 0 for the first frame."""
        grid = thumbnail(image)
        last, self._last = self._last, grid
        return 0.0 if last is None else float(np.abs(grid - last).mean() / 255)


def thumbnail(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(H, W, 3) uint8 -> (16, 16) float32 mean grey levels, each of 4 x 4 pixels evenly spread over its cell."""
    steps = CELLS * _TAPS
    rows, columns = (((np.arange(steps) + 0.5) * side / steps).astype(np.intp) for side in image.shape[:2])
    grey = image[rows[:, None], columns].mean(axis=2, dtype=np.float32)
    return np.asarray(grey.reshape(CELLS, _TAPS, CELLS, _TAPS).mean(axis=(1, 3)), np.float32)
