"""Find faces in a picture with a detector's bundle.

image --whole picture as one square crop, and smaller squares if asked--> network --decode_faces--> [Detection]
"""

from __future__ import annotations

import os

import numpy as np
from numpy.typing import NDArray

from pocketface.sdk.bundle import Bundle, open_bundle
from pocketface.sdk.chain import Executors, StageRunner
from pocketface.sdk.decode_faces import decode_faces
from pocketface.sdk.detection import Detection
from pocketface.sdk.errors import BadInputError, BundleError
from pocketface.sdk.geometry import Box, Crop
from pocketface.sdk.images import check_array

DEFAULT = "face-detector"
"""The bundle that comes with the package."""

MAX_LEVELS = 4
_COVERED = 0.6
"""Share of the smaller of two boxes that lies in the other from which they are one face, seen in two squares."""


class FaceDetector:
    """A detector's bundle, ready to run.

    The network sees the whole picture at its own input size, so a face has to fill a good part of it: about an eighth
    of the longer side. Smaller ones are found by looking at squares of half that side and so on as well, each level at
    four to nine times the work.

    Args:
        bundle: an opened bundle; it may be closed afterwards.
        variant: id of the variant (default: the bundle's own choice).
        threads: threads the runtime may use, at least 1.
        levels: 1 looks at the whole picture; 2 also at squares of half its longer side, which overlap by half; 3 also
            at a quarter of it; at most 4.
        min_score: probability from which something counts as a face; None takes the bundle's own.
        executor: what runs the variant, instead of its format's runtime.

    Attributes:
        manifest: the contract it follows.
        runner: what runs.

    Raises:
        BundleError: no such variant, or the runtime refuses its file; or the bundle finds no faces.
        BadInputError: levels or a score out of range.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        variant: str | None = None,
        threads: int = 1,
        levels: int = 1,
        min_score: float | None = None,
        executor: Executors | None = None,
    ) -> None:
        self.manifest = bundle.manifest
        task = bundle.manifest.stages[-1].task
        if task != "detection":
            raise BundleError(
                f"bundle {self.manifest.name!r} gives {task}",
                expected="detection",
                next="Load it with pocketface.sdk.load",
            )
        if isinstance(levels, bool) or not isinstance(levels, int) or not 1 <= levels <= MAX_LEVELS:
            raise BadInputError(f"levels {levels!r}", expected=f"a whole number from 1 to {MAX_LEVELS}")
        if min_score is not None and not 0 < min_score < 1:
            raise BadInputError(f"min_score {min_score!r}", expected="a number inside of 0 and 1")
        self.runner = StageRunner(bundle, variant or bundle.manifest.default, threads=threads, executor=executor)
        self.levels, self.min_score = levels, min_score

    @property
    def id(self) -> str:
        """Of the variant that runs."""
        return self.runner.variant.id

    def __call__(self, image: NDArray[np.uint8]) -> list[Detection]:
        """Find the faces.

        Args:
            image: (H, W, 3) uint8 RGB.

        Returns:
            The surest first; none where there is none. Boxes follow the contract's convention.

        Raises:
            BadInputError: no such image.
            BundleError: the network gives NaN or infinity.
        """
        check_array(image)
        height, width = image.shape[:2]
        rows = np.concatenate([self._look(image, crop) for crop in squares(width, height, self.levels)])
        found: list[Detection] = []
        for row in rows[np.argsort(-rows[:, 4], kind="stable")]:
            box = Box(*(float(value) for value in row[:4]))
            inside = box.x1 > -0.5 and box.y1 > -0.5 and box.x0 < width - 0.5 and box.y0 < height - 0.5
            if inside and not any(_same(box, other.box) for other in found):
                found.append(Detection(box, float(row[4]), float(row[5])))
        return found

    def _look(self, image: NDArray[np.uint8], crop: Crop) -> NDArray[np.float64]:
        tensor = self.runner.preprocess(image, crop)
        return decode_faces(self.runner.predict_tensor(tensor), self.runner.stage, crop, min_score=self.min_score)


class Later:
    """A detector that is opened when it is needed first: whoever gives boxes never waits for it.

    Args:
        path, threads: see ``load_detector``.
    """

    def __init__(self, path: str | os.PathLike[str] = DEFAULT, *, threads: int = 1) -> None:
        self._path, self._threads = path, threads
        self._opened: FaceDetector | None = None

    def __call__(self, image: NDArray[np.uint8]) -> list[Detection]:
        """See `FaceDetector`."""
        if self._opened is None:
            self._opened = load_detector(self._path, threads=self._threads)
        return self._opened(image)


def squares(width: int, height: int, levels: int) -> list[Crop]:
    """Where to look: the whole picture as one square, then squares of half the side and so on, each half over the next.

    Args:
        width, height: of the picture, pixels.
        levels: how many sizes.
    """
    longer = max(width, height)
    whole = Crop((width - 1) / 2, (height - 1) / 2, float(longer))
    found = [whole]
    for level in range(1, levels):
        side = longer / 2**level
        for cy in _centres(height, side):
            found += [Crop(cx, cy, side) for cx in _centres(width, side)]
    return found


def _centres(length: int, side: float) -> list[float]:
    """Along one axis of ``length`` pixels, steps of at most half a side; one in the middle where a side is enough."""
    if length <= side:
        return [(length - 1) / 2]
    count = int(np.ceil(2 * (length - side) / side)) + 1
    return [float(value) for value in np.linspace(side / 2 - 0.5, length - side / 2 - 0.5, count)]


def _same(one: Box, other: Box) -> bool:
    """Whether two boxes are one face: most of the smaller lies in the other."""
    wide = min(one.x1, other.x1) - max(one.x0, other.x0)
    high = min(one.y1, other.y1) - max(one.y0, other.y0)
    if wide <= 0 or high <= 0:
        return False
    return wide * high > _COVERED * min(one.width * one.height, other.width * other.height)


def load_detector(
    path: str | os.PathLike[str] = DEFAULT,
    *,
    variant: str | None = None,
    threads: int = 1,
    levels: int = 1,
    min_score: float | None = None,
) -> FaceDetector:
    """Open a detector's bundle, check it, and make it ready.

    Args:
        path: a bundle folder, a ``.pface`` file, or the name of a bundle that comes with the package.
        variant, threads, levels, min_score: see `FaceDetector`.

    Example:
        >>> load_detector()(read_image("photo.jpg"))[0].box
    """
    with open_bundle(path) as bundle:
        return FaceDetector(bundle, variant=variant, threads=threads, levels=levels, min_score=min_score)
