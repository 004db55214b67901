"""Annotated video out of annotated stills: a camera that wanders over a face, with the landmarks known in every frame.

face --path(name, seed)--> where the camera looks in each frame --frame--> picture, landmarks

Stands in for 300VW (RULe, section IV-E), which no one may pass on: movement, and the box error that comes of it, are
real; expression and light stay as they are. Beyond the still's edge everything is black.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pocketface.benchmarks.data.degrade import inter_ocular
from pocketface.benchmarks.data.face import Face
from pocketface.sdk.errors import AnnotationError, BadInputError
from pocketface.sdk.geometry import Box, Crop
from pocketface.sdk.images import read_image
from pocketface.sdk.manifest import Part
from pocketface.sdk.preprocess import resample

WAVES = 3


class MotionSpec(Part, frozen=True, kw_only=True):
    """How the camera moves: each of x, y, zoom and roll is a sum of three sine waves with phases and periods drawn.

    Attributes:
        frames: how many.
        fps: frames a second.
        reach: bound of the shift in x and in y, in inter-ocular distances.
        zoom: bound of the change of scale, e.g. 0.3 for a factor of e^-0.3 .. e^0.3.
        roll: bound of the turn, degrees. Waves seldom meet: most stay below half of these.
        periods: shortest and longest period of a wave, seconds.
        size: side of a frame, pixels; it shows twice the face's box.
    """

    frames: int = 90
    fps: float = 30.0
    reach: float = 1.0
    zoom: float = 0.3
    roll: float = 20.0
    periods: tuple[float, float] = (1.0, 3.0)
    size: int = 256


# Compared by identity: an array has no single truth value.
@dataclass(frozen=True, eq=False)
class Frame:
    """One frame: ``image`` (S, S, 3) uint8, and the face's landmarks (n, 2) float32 in its pixels."""

    image: NDArray[np.uint8]
    points: NDArray[np.float32]


def path(spec: MotionSpec, *, name: str, seed: int = 0) -> NDArray[np.float64]:
    """(frames, 4): x, y, zoom and roll, each in [-1, 1]: a function of the face's name and the seed alone."""
    digest = hashlib.sha256(f"pocketface motion 1\n{int(seed)}\n{name}".encode()).digest()
    random = np.random.RandomState(np.frombuffer(digest, "<u4"))
    shares = random.random_sample((4, WAVES, 2))
    shortest, longest = spec.periods
    periods = shortest + (longest - shortest) * shares[:, :, 0]
    times = np.arange(spec.frames)[:, None, None] / spec.fps
    waves = np.sin(2 * math.pi * (times / periods + shares[:, :, 1]))
    # It starts where the face is, as a video does that a detector has just looked at.
    moved: NDArray[np.float64] = (waves - waves[:1]).mean(axis=2) / 2
    return moved


def still_crops(spec: MotionSpec, box: Box, unit: float, *, name: str, seed: int = 0) -> list[Crop]:
    """Where the camera looks in each frame, as ``frames`` moves it.

    Args:
        spec: how it moves.
        box: what is filmed, in pixels of the still; a frame shows twice this box before it moves.
        unit: pixels of the still that ``spec.reach`` counts in; a face's inter-ocular distance, or a share of its box.
        name: of the still; with the seed it decides the path.
        seed: of the movement.
    """
    still = Crop.from_box(box.checked(), 2.0)
    return [
        Crop(
            still.cx + x * spec.reach * unit,
            still.cy + y * spec.reach * unit,
            still.side * math.exp(zoom * spec.zoom),
            roll * spec.roll,
        )
        for x, y, zoom, roll in path(spec, name=name, seed=seed)
    ]


def framed(box: Box, crop: Crop, size: int) -> Box:
    """A box of the still as it lies in a frame: its square, upright.

    Args:
        box: in pixels of the still.
        crop: where the camera looks.
        size: side of the frame, pixels.
    """
    square = Crop.from_box(box)
    x, y = ((crop.to_normalised([(square.cx, square.cy)])[0].astype(np.float64) + 0.5) * size - 0.5).tolist()
    return Crop(x, y, square.side / crop.side * size).box


def frames(
    face: Face, spec: MotionSpec, *, normaliser: tuple[int, int] = (36, 45), seed: int = 0, every: int = 1
) -> Iterator[Frame]:
    """The frames of one face.

    Args:
        face: annotated.
        spec: how the camera moves.
        normaliser: the two landmarks whose distance is the inter-ocular distance.
        seed: of the movement.
        every: one frame of so many, from the first on.

    Raises:
        AnnotationError: the landmarks all lie in one place.
    """
    try:
        face.box.checked()
    except BadInputError as error:
        raise AnnotationError(f"{face.name}: {error.what}", next="Fix the annotation or leave it out") from error
    image, iod = read_image(face.image), inter_ocular(face.points, normaliser)
    for crop in still_crops(spec, face.box, iod, name=face.name, seed=seed)[::every]:
        picture = np.rint(resample(image, crop, spec.size)).astype(np.uint8)
        points = (crop.to_normalised(face.points) + 0.5) * spec.size - 0.5
        yield Frame(picture, points.astype(np.float32))
