"""Working memory that a thread keeps between calls.

A call that allocates a few megabytes and frees them at its end hands pages back to the system and asks for them again
the next time: cutting a crop of 224 pixels took 1200 page faults and six times as long as with memory that is kept.
"""

from __future__ import annotations

import math
import threading
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

LARGEST = 4 << 20
"""Bytes of one array up to which it is kept; a larger one is allocated anew each time."""


class Scratch(threading.local):
    """Arrays by name. What is in them is whatever was left there; two uses at a time need two names."""

    def __init__(self) -> None:
        self._held: dict[str, NDArray[np.uint8]] = {}

    def array(self, name: str, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """An array of this thread's, contiguous, not cleared."""
        kind = np.dtype(dtype)
        size = math.prod(shape) * kind.itemsize
        if size > LARGEST:
            return np.empty(shape, kind)
        held = self._held.get(name)
        if held is None or held.size < size:
            held = self._held[name] = np.empty(size, np.uint8)
        return held[:size].view(kind).reshape(shape)
