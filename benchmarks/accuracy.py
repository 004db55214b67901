"""How right a variant, or chain, is on annotated faces: each face once, in its ground-truth box, nothing averaged."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pocketface.benchmarks.data.face import Face
from pocketface.benchmarks.metrics import THRESHOLD, Accuracy, landmark_errors, summarise_errors
from pocketface.sdk.errors import AnnotationError, BadInputError, ImageError
from pocketface.sdk.geometry import Box
from pocketface.sdk.images import read_image
from pocketface.sdk.manifest import Scheme
from pocketface.sdk.predictor import Predictor
from pocketface.sdk.terminal import write_json

Progress = Callable[[int, int], None]
"""Called with (faces done, faces in all)."""

View = Callable[[Face, NDArray[np.uint8]], tuple[NDArray[np.uint8], Box]]
"""What a predictor gets to see of a face in its image: an image of the same coordinates, and the box to look in."""


# Compared by identity: arrays have no single truth value.
@dataclass(frozen=True, eq=False)
class AccuracyResult:
    """What one variant did on a set of faces.

    Attributes:
        variant, executor, scheme: what ran, in what, marking up what.
        accuracy: over all faces.
        names: (N) of the faces, in the order of the arrays.
        landmark_errors: (N, n) float64 fractions of the outer-eye-corner distance.
        scores: (N,) float64 face scores in [0, 1]; every box holds a face, so 1 is right. NaN from a network without.
        predictions: (N, n, 2) float32 pixels of each face's image.
    """

    variant: str
    executor: str
    scheme: str
    accuracy: Accuracy
    names: tuple[str, ...]
    landmark_errors: NDArray[np.float64] = field(repr=False)
    scores: NDArray[np.float64] = field(repr=False)
    predictions: NDArray[np.float32] = field(repr=False)

    @property
    def errors(self) -> NDArray[np.float64]:
        """(N,) error of each face, a fraction."""
        return self.landmark_errors.mean(axis=1)

    @property
    def has_score(self) -> bool:
        """Whether the network gives one."""
        return not bool(np.isnan(self.scores).any())

    @property
    def mean_score(self) -> float:
        """Mean face score over these faces, in [0, 1]."""
        return float(self.scores.mean())

    @property
    def missed(self) -> float:
        """Share of these faces with a score below 0.5, percent."""
        return float((self.scores < 0.5).mean()) * 100

    def by_folder(self) -> dict[str, Accuracy]:
        """The figures of each folder, e.g. of ``"helen/testset"``."""
        folders = np.array([name.rpartition("/")[0] for name in self.names])
        threshold = self.accuracy.threshold
        return {
            str(folder): summarise_errors(self.landmark_errors[folders == folder], threshold)
            for folder in np.unique(folders)
        }

    def worst(self, count: int = 5) -> list[tuple[str, float]]:
        """The faces with the largest errors: (name, fraction), worst first."""
        errors = self.errors
        return [(self.names[i], float(errors[i])) for i in np.argsort(-errors, kind="stable")[:count]]

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; errors as fractions, figures in the units of ``Accuracy``."""
        return {
            "variant": self.variant,
            "executor": self.executor,
            "scheme": self.scheme,
            "accuracy": self.accuracy.to_dict(),
            "by_folder": {folder: figures.to_dict() for folder, figures in self.by_folder().items()},
            "face_score": {"mean": self.mean_score, "below_half_percent": self.missed} if self.has_score else None,
            "per_landmark": self.landmark_errors.mean(axis=0).tolist(),
            "faces": [
                {"name": name, "error": error, "score": score if self.has_score else None}
                for name, error, score in zip(self.names, self.errors.tolist(), self.scores.tolist(), strict=True)
            ],
        }

    def save(self, path: str | Path, *, force: bool = False) -> None:
        """Write ``to_dict`` as JSON.

        Raises:
            BadInputError: the file exists and ``force`` is not set.
        """
        write_json(self.to_dict(), str(path), force=force)

    def __str__(self) -> str:
        score = f"face score {self.mean_score:.3f}" if self.has_score else "no face score"
        return f"{self.variant} by {self.executor}: {self.accuracy}  {score}"


def evaluate(
    predictor: Predictor,
    faces: Sequence[Face],
    *,
    threshold: float = THRESHOLD,
    progress: Progress | None = None,
    on_skip: Callable[[BadInputError], None] | None = None,
    view: View | None = None,
) -> AccuracyResult:
    """Run a variant over annotated faces, each in its ground-truth box unless ``view`` gives another.

    Args:
        predictor: one variant, loaded.
        faces: annotated in the predictor's scheme.
        threshold: of FR and AUC.
        progress: told after each face.
        on_skip: told about each face that cannot be used, which is then left out; without it the error is raised.
        view: what the predictor sees instead of the image and the ground-truth box, for example degraded.

    Raises:
        BadInputError: there is no face to measure, or a face has another number of points than the predictor's scheme.
        ImageError: an image is missing or broken.
        AnnotationError: a face's box lies outside its image.
        BundleError: the network's output is not usable, for example NaN.
    """
    scheme = predictor.stage.marks
    check_markup(faces, scheme)
    kept: list[Face] = []
    points: list[NDArray[np.float32]] = []
    scores: list[float] = []
    photo: tuple[Path, NDArray[np.uint8]] | None = None
    for done, face in enumerate(faces, 1):
        try:
            if photo is None or photo[0] != face.image:  # neighbours in a sorted list may share a photo
                photo = (face.image, read_image(face.image))
            _overlaps(face.name, face.box, photo[1])
            image, box = (photo[1], face.box) if view is None else view(face, photo[1])
            if view is not None:
                _overlaps(face.name, box, image)
        except (ImageError, AnnotationError) as error:
            if on_skip is None:
                raise
            on_skip(error)
        else:
            (found,) = predictor(image, [box])
            kept.append(face)
            points.append(found.points)
            scores.append(math.nan if found.score is None else found.score)
        if progress is not None:
            progress(done, len(faces))
    if not kept:
        raise BadInputError(f"none of {len(faces)} faces could be measured", next="Check --data")
    predictions = np.stack(points)
    errors = landmark_errors(predictions, np.stack([face.points for face in kept]), scheme.normaliser)
    return AccuracyResult(
        variant=predictor.id,
        executor=predictor.executor,
        scheme=scheme.name,
        accuracy=summarise_errors(errors, threshold),
        names=tuple(face.name for face in kept),
        landmark_errors=errors,
        scores=np.array(scores, np.float64),
        predictions=predictions,
    )


def check_markup(faces: Sequence[Face], scheme: Scheme) -> None:
    """Refuse faces with other landmarks than a scheme's.

    Raises:
        BadInputError: naming the first one.
    """
    for face in faces:
        if len(face.points) != scheme.points:
            raise BadInputError(
                f"{face.name}: {len(face.points)} points",
                expected=f"{scheme.points}, as the bundle's scheme {scheme.name}",
                next="Evaluate on data annotated in that scheme",
            )


def _overlaps(name: str, box: Box, image: NDArray[np.uint8]) -> None:
    height, width = image.shape[:2]
    try:
        box.checked((width, height))
    except BadInputError as error:
        raise AnnotationError(
            f"{name}: {error.what}",
            expected="landmarks in pixels of this image",
            next="Fix the annotation or leave it out with --skip-bad",
        ) from error
