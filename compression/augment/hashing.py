"""Randomness as a function, not a stream: uniform(seed, image, view, slot) is the same in any batch, order, process
or resumed run."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def mix(value: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """SplitMix64's finaliser (Steele, Lea & Flood 2014): a bijection of 64-bit integers whose output looks random."""
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


def uniform(seed: int, items: ArrayLike, views: ArrayLike, slots: int) -> NDArray[np.float64]:
    """Uniform numbers in [0, 1) for every item of a batch.

    Args:
        seed: the recipe's seed.
        items, views: (B,) integers, which image and which view of it.
        slots: how many numbers each needs.

    Returns:
        (B, slots) float64.
    """
    item, view = np.asarray(items, np.uint64).reshape(-1, 1), np.asarray(views, np.uint64).reshape(-1, 1)
    with np.errstate(over="ignore"):
        key = mix(np.full((1, 1), seed, np.uint64) * _GOLDEN + np.uint64(1))
        key = mix(key ^ (item + np.uint64(1)) * _GOLDEN)
        key = mix(key ^ (view + np.uint64(1)) * _GOLDEN)
        key = mix(key + (np.arange(slots, dtype=np.uint64)[None] + np.uint64(1)) * _GOLDEN)
    return (key >> np.uint64(11)).astype(np.float64) * 2.0**-53


def permutation(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    """The order of one epoch's items."""
    return np.argsort(uniform(seed, np.arange(count), np.full(count, epoch), 1)[:, 0], kind="stable")
