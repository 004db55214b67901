"""The video protocol of RULe (section IV-E): every frame's box comes from the landmarks of the frame before, while
pictures are coarse (spatial down-sampling) and most of them are left out (temporal down-sampling).

The first box is the true one, as from a detector. A box that misses its frame is not used: the one before it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pocketface.benchmarks.accuracy import check_markup
from pocketface.benchmarks.data.degrade import degrade_image
from pocketface.benchmarks.data.face import Face
from pocketface.benchmarks.data.motion import MotionSpec, frames
from pocketface.benchmarks.metrics import THRESHOLD, Accuracy, landmark_errors, summarise_errors
from pocketface.sdk.errors import BadInputError
from pocketface.sdk.geometry import Box
from pocketface.sdk.predictor import Predictor

ROWS = {"none": (1, 1), "spatial x8": (8, 1), "temporal x10": (1, 10), "spatial x8, temporal x10": (8, 10)}
"""Name -> (spatial factor, every how many-th frame is kept)."""


@dataclass(frozen=True)
class VideoResult:
    """What a predictor did on moving faces.

    Attributes:
        accuracy: over all frames of all faces but each face's first, whose box was given.
        faces, frames: how many, and how many of these frames were looked at in each.
        lost: share of the frames whose box missed the frame, percent.
    """

    accuracy: Accuracy
    faces: int
    frames: int
    lost: float

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            "accuracy": self.accuracy.to_dict(),
            "faces": self.faces,
            "frames": self.frames,
            "lost_percent": self.lost,
        }


def evaluate_video(
    predictor: Predictor,
    faces: Sequence[Face],
    *,
    spatial: int = 1,
    temporal: int = 1,
    motion: MotionSpec | None = None,
    seed: int = 0,
    threshold: float = THRESHOLD,
    progress: Callable[[int], None] | None = None,
) -> VideoResult:
    """Follow faces through their frames.

    Args:
        predictor: a variant or a chain, loaded.
        faces: annotated in its scheme.
        spatial: each frame is reduced by this whole factor and enlarged again.
        temporal: keep one frame of so many.
        motion: how the camera moves.
        seed: of the movement.
        threshold: of FR and AUC.
        progress: told the number of faces done.

    Raises:
        BadInputError: no faces, faces of another mark-up, a factor below 1, or fewer than two frames are left.
    """
    spec = motion or MotionSpec()
    kept = range(0, spec.frames, temporal) if temporal >= 1 else ()
    if not faces or spatial < 1 or len(kept) < 2:
        raise BadInputError(
            f"{len(faces)} faces, spatial {spatial}, one of {temporal} of {spec.frames} frames",
            expected="faces, a spatial factor of 1 or more, and two frames or more",
        )
    check_markup(faces, predictor.stage.marks)
    normaliser = predictor.stage.marks.normaliser
    errors, lost = [], 0
    for done, face in enumerate(faces, 1):
        given, found = None, None
        for frame in frames(face, spec, normaliser=normaliser, seed=seed, every=temporal):
            image = degrade_image(frame.image, {"downsample": spatial}, name=face.name, seed=seed)
            first = found is None
            if found is None:
                given = Box.around(frame.points)
            else:
                box = Box.around(found.points)
                try:
                    given = box.checked((spec.size, spec.size))
                except BadInputError:
                    lost += 1
            (found,) = predictor(image, [given])  # type: ignore[list-item]
            if not first:
                errors.append(landmark_errors(found.points[None], frame.points[None], normaliser)[0])
        if progress is not None:
            progress(done)
    return VideoResult(
        summarise_errors(np.stack(errors), threshold), len(faces), len(kept) - 1, 100 * lost / len(errors)
    )
