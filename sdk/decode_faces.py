"""From a detector's raw output to faces in pixels: what is sure enough, each once, in the contract's boxes.

(1, N, 5 + 2K) --sigmoid, min_score--> boxes --overlap--> one a face, averaged by score --face_box--> contract's squares
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from pocketface.sdk.errors import BundleError
from pocketface.sdk.geometry import Crop, iou
from pocketface.sdk.manifest import DetectorSpec, Stage
from pocketface.sdk.postprocess import checked_output

Faces = NDArray[np.float64]
"""(n, 6): x0, y0, x1, y1 of the contract's box in pixels of the image, score, angle in degrees; the surest first."""


def decode_faces(
    outputs: Mapping[str, NDArray[np.float32]], stage: Stage, crop: Crop, *, min_score: float | None = None
) -> Faces:
    """Decode the output of a detection stage.

    Args:
        outputs: contract name -> array of the contract's shape.
        stage: the stage that gave it.
        crop: where in the image it looked.
        min_score: probability from which an anchor counts; default: the bundle's own.

    Returns:
        See `Faces`; (0, 6) where there is none.

    Raises:
        BundleError: the output is missing, has another shape, or holds NaN or infinity; or the stage finds no faces.
    """
    if stage.detector is None:
        raise BundleError(
            f"stage {stage.name!r} has the task {stage.task}", expected="detection", next="Take a detector's bundle"
        )
    spec = stage.outputs[0]
    values = checked_output(outputs, spec.name, spec.shape)[0].astype(np.float64)
    scores = 0.5 * (1 + np.tanh(0.5 * values[:, 0]))
    kept = np.flatnonzero(scores >= (stage.detector.min_score if min_score is None else min_score))
    kept = kept[np.argsort(-scores[kept], kind="stable")]
    merged = _merged(values[kept, 1:], scores[kept], stage.detector.max_overlap)
    return np.array([_face(row, score, stage.detector, crop) for row, score in merged], np.float64).reshape(-1, 6)


def _merged(
    rows: NDArray[np.float64], scores: NDArray[np.float64], max_overlap: float
) -> list[tuple[NDArray[np.float64], float]]:
    """One row a face: the mean, weighted by score, of all that overlap the surest; its score is the surest's.

    Averaging keeps a box steady from frame to frame, where taking the surest anchor would jump between neighbours
    (Bazarevsky et al. 2019, section 5).
    """
    boxes = rows[:, :4]
    found, left = [], np.arange(len(rows))
    while len(left):
        near = iou(boxes[left[0]], boxes[left]) > max_overlap
        near[0] = True  # a box without area overlaps nothing, not even itself
        group = left[near]
        found.append((np.average(rows[group], axis=0, weights=scores[group]), float(scores[left[0]])))
        left = left[~near]
    return found


def _face(row: NDArray[np.float64], score: float, spec: DetectorSpec, crop: Crop) -> list[float]:
    """A row in crop coordinates -> the contract's box in pixels, score, angle."""
    eyes = row[4:].reshape(-1, 2)[list(spec.eyes)]
    across = eyes[1] - eyes[0]
    turn = np.arctan2(across[1], across[0])
    side = float(max(row[2] - row[0], row[3] - row[1], 1e-6))
    cos, sin = np.cos(turn), np.sin(turn)
    move = np.array([cos * spec.face_box.dx - sin * spec.face_box.dy, sin * spec.face_box.dx + cos * spec.face_box.dy])
    # From pixel to pixel in float64: to_image would round.
    cx, cy = ((row[:2] + row[2:4]) / 2 + side * move) @ crop._axes() + (crop.cx, crop.cy)
    half = side * crop.side * spec.face_box.scale / 2
    angle = (np.degrees(turn) + crop.angle + 180) % 360 - 180
    return [float(cx - half), float(cy - half), float(cx + half), float(cy + half), score, float(angle)]
