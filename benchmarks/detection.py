"""How well faces are found, and what landmarks lose by boxes that a detector gave instead of the true ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pocketface.benchmarks.data.face import Face
from pocketface.benchmarks.metrics import landmark_errors, summarise_errors
from pocketface.sdk.detection import Detection, Detector
from pocketface.sdk.errors import BadInputError
from pocketface.sdk.geometry import Box, iou
from pocketface.sdk.images import read_image
from pocketface.sdk.predictor import Predictor

MATCH = 0.4
"""Intersection over union with the true box from which a detection is that face. Boxes are loose, so less than the
usual 0.5 of tight ones."""


@dataclass(frozen=True)
class DetectionResult:
    """What a detector did on pictures with one annotated face each.

    Attributes:
        faces: how many.
        missed: share that no detection matches, percent.
        others: detections that are not the annotated face, per picture. They may be people in the background, whom
            nobody annotated.
        false_alarms: detections per picture once the annotated face is painted over.
        box_error: of the faces that were found, mean distance of the box's corners from the true box's, in percent of
            its side.
    """

    faces: int
    missed: float
    others: float
    false_alarms: float
    box_error: float

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self)

    def __str__(self) -> str:
        return (
            f"{self.faces} faces: {self.missed:.2f} % missed, {self.false_alarms:.3f} false alarms a picture, "
            f"boxes off by {self.box_error:.1f} % of a side"
        )


def evaluate_detector(
    detector: Detector, faces: Sequence[Face], *, progress: Callable[[int, int], None] | None = None
) -> tuple[DetectionResult, list[Detection | None]]:
    """Run a detector over annotated faces.

    Args:
        detector: what finds them.
        faces: one a picture.
        progress: told after each.

    Returns:
        The figures, and for each face the detection that matches it best, None where none does.

    Raises:
        BadInputError: no faces.
    """
    if not faces:
        raise BadInputError("no faces to find", next="Check --data")
    matched: list[Detection | None] = []
    others = alarms = 0
    errors: list[float] = []
    for done, face in enumerate(faces, 1):
        image = read_image(face.image)
        found = detector(image)
        best = max(found, key=lambda one: float(iou(one.box, face.box)), default=None)
        if best is not None and iou(best.box, face.box) < MATCH:
            best = None
        matched.append(best)
        others += len(found) - (best is not None)
        alarms += len(detector(painted_over(image, face.box)))
        if best is not None:
            errors.append(box_error(best.box, face.box))
        if progress is not None:
            progress(done, len(faces))
    result = DetectionResult(
        faces=len(faces),
        missed=100 * sum(one is None for one in matched) / len(faces),
        others=others / len(faces),
        false_alarms=alarms / len(faces),
        box_error=float(np.mean(errors)) if errors else float("nan"),
    )
    return result, matched


def nme_by_boxes(
    predictor: Predictor, faces: Sequence[Face], detections: Sequence[Detection | None]
) -> dict[str, dict[str, Any]]:
    """Accuracy of the landmarks in the true boxes and in the detected ones, on the same faces: those that were found.

    Args:
        predictor: finds landmarks.
        faces, detections: as ``evaluate_detector`` takes and gives them.

    Returns:
        ``"true"``, ``"detected"`` and ``"image"`` (the whole picture as the box) -> figures as `Accuracy` has them.
    """
    boxes: dict[str, list[NDArray[np.float32]]] = {"true": [], "detected": [], "image": []}
    kept = [(face, one) for face, one in zip(faces, detections, strict=True) if one is not None]
    if not kept:
        raise BadInputError("no face was found, so there is nothing to compare", next="Check the detector")
    for face, one in kept:
        image = read_image(face.image)
        whole = Box.of_image(image.shape[1], image.shape[0])
        for name, found in zip(boxes, predictor(image, [face.box, one.box, whole]), strict=True):
            boxes[name].append(found.points)
    truth = np.stack([face.points for face, _ in kept])
    normaliser = predictor.stage.marks.normaliser
    return {
        name: summarise_errors(landmark_errors(np.stack(points), truth, normaliser)).to_dict()
        for name, points in boxes.items()
    }


def box_error(found: Box, truth: Box) -> float:
    """Mean distance of the four corners, in percent of the true box's longer side."""
    away = [np.hypot(getattr(found, x) - getattr(truth, x), getattr(found, y) - getattr(truth, y)) for x, y in _CORNERS]
    return 100 * float(np.mean(away)) / max(truth.width, truth.height)


_CORNERS = (("x0", "y0"), ("x1", "y0"), ("x1", "y1"), ("x0", "y1"))


def painted_over(image: NDArray[np.uint8], box: Box) -> NDArray[np.uint8]:
    """The picture without its face: the box, a fifth larger, in the mean colour of what is around it."""
    height, width = image.shape[:2]
    more = 0.1 * max(box.width, box.height)
    x0, y0 = max(0, int(box.x0 - more)), max(0, int(box.y0 - more))
    x1, y1 = min(width, int(box.x1 + more) + 1), min(height, int(box.y1 + more) + 1)
    outside = np.ones((height, width), bool)
    outside[y0:y1, x0:x1] = False
    result = image.copy()
    result[y0:y1, x0:x1] = np.rint(image[outside].mean(axis=0)) if outside.any() else 128
    return result
