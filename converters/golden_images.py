"""The pictures of golden cases: drawn faces, far from any seed that trains, and never from a data set."""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

from pocketface.benchmarks.data.synthetic import render_face
from pocketface.sdk.geometry import Box

GOLDEN_SEED, GOLDEN_SIZE = 900_000, 256


def golden_images(count: int) -> list[tuple[NDArray[np.uint8], Box]]:
    """(256, 256, 3) uint8 pictures, read-only, and the box of the face in each."""
    return [_drawn(GOLDEN_SEED + number) for number in range(count)]


@functools.cache
def _drawn(seed: int) -> tuple[NDArray[np.uint8], Box]:
    face = render_face(seed, GOLDEN_SIZE)
    face.image.setflags(write=False)
    return face.image, Box.around(face.points)
