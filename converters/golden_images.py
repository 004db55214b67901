"""The pictures of golden cases: drawn faces, far from any seed that trains, and never from a data set. For a network
with a state they are frames of a drawn video.
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

from pocketface.benchmarks.data.synthetic import render_face, render_sequence
from pocketface.sdk.geometry import Box

GOLDEN_SEED, GOLDEN_SIZE = 900_000, 256


def golden_images(count: int) -> list[tuple[NDArray[np.uint8], Box]]:
    """(256, 256, 3) uint8 pictures, read-only, and the box of the face in each."""
    return [_drawn(GOLDEN_SEED + number) for number in range(count)]


def golden_frames(count: int, *, whole: bool = False) -> list[tuple[NDArray[np.uint8], Box]]:
    """As ``golden_images``, of one drawn face that moves: frames of a video, in order.

    Args:
        count: how many.
        whole: the whole picture is the box, as of a network that is shown photos and not faces.
    """
    return [(image, Box.of_image(GOLDEN_SIZE, GOLDEN_SIZE) if whole else box) for image, box in _clip(count)]


@functools.cache
def _clip(count: int) -> tuple[tuple[NDArray[np.uint8], Box], ...]:
    # Every third of about 30 frames a second: the face moves enough for a crop that is not the one before.
    faces = render_sequence(GOLDEN_SEED, 3 * count - 2, GOLDEN_SIZE)[::3]
    for face in faces:
        face.image.setflags(write=False)
    return tuple((face.image, Box.around(face.points)) for face in faces)


@functools.cache
def _drawn(seed: int) -> tuple[NDArray[np.uint8], Box]:
    face = render_face(seed, GOLDEN_SIZE)
    face.image.setflags(write=False)
    return face.image, Box.around(face.points)
