"""What a tracker asks of a network, whatever the network gives: where the face is in a box, and how sure that is.

picture, box --finder--> Found: landmarks or mask, the face's extent, the score
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pocketface.sdk.face_extent import face_extent
from pocketface.sdk.geometry import Box
from pocketface.sdk.mask_predictor import MaskPredictor
from pocketface.sdk.results import Landmarks, Mask

LandmarksPredictor: TypeAlias = Callable[[NDArray[np.uint8], Sequence[Box]], list[Landmarks]]
"""What a `Predictor` is called with and gives."""


@dataclass(frozen=True, eq=False)
class Found:
    """What a network says about one box.

    Attributes:
        result: landmarks or mask.
        extent: tight box around the face; None where there is none to be seen.
        score: how probable a face is, in [0, 1]; None where the network does not say.
    """

    result: Landmarks | Mask
    extent: Box | None
    score: float | None


class Finder(Protocol):
    """Looks for one face, frame after frame."""

    def __call__(self, image: NDArray[np.uint8], box: Box) -> Found:
        """(H, W, 3) uint8 RGB and a box that overlaps it -> what is there."""
        ...

    def reset(self) -> None:
        """What comes next does not follow what came before."""
        ...


class LandmarksFinder:
    """Finds landmarks; remembers nothing."""

    def __init__(self, predictor: LandmarksPredictor) -> None:
        self._predictor = predictor

    def __call__(self, image: NDArray[np.uint8], box: Box) -> Found:
        """See `Finder`."""
        (face,) = self._predictor(image, [box])
        (x0, y0), (x1, y1) = face.points.min(axis=0).tolist(), face.points.max(axis=0).tolist()
        return Found(face, Box(x0, y0, x1, y1), face.score)

    def reset(self) -> None:
        """Nothing to forget."""


class MaskFinder:
    """Finds masks, with a previous mask of its own where the network takes one.

    Of classes with skin the face is where its parts are. Of others (hair) there is no telling: the box stays where it
    is.
    """

    def __init__(self, predictor: MaskPredictor) -> None:
        self._predictor = predictor.another()

    def __call__(self, image: NDArray[np.uint8], box: Box) -> Found:
        """See `Finder`."""
        (mask,) = self._predictor(image, [box])
        return Found(mask, face_extent(mask.labels, mask.classes) if "skin" in mask.classes.names else box, None)

    def reset(self) -> None:
        """Forget the previous mask."""
        self._predictor.reset()


def finder_of(predictor: LandmarksPredictor | MaskPredictor) -> Finder:
    """A finder for one face more, by a network that is loaded already."""
    return MaskFinder(predictor) if isinstance(predictor, MaskPredictor) else LandmarksFinder(predictor)
