"""Figures of a detector, by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from bundle_factory import make_bundle
from PIL import Image

from pocketface.benchmarks.data.face import Face
from pocketface.benchmarks.detection import (
    box_error,
    evaluate_detector,
    nme_by_boxes,
    painted_over,
)
from pocketface.sdk.detection import Detection
from pocketface.sdk.errors import BadInputError
from pocketface.sdk.geometry import Box, iou
from pocketface.sdk.predictor import load


def faces_in(folder: Path, count: int) -> list[Face]:
    """Pictures of 100 x 100 pixels whose landmarks span 40 x 40 around the middle, so that the box has 50 pixels."""
    turn = np.linspace(0, 2 * np.pi, 68, endpoint=False)
    points = (49.5 + 20 * np.stack((np.cos(turn), np.sin(turn)), 1)).astype(np.float32)
    found = []
    for number in range(count):
        path = folder / f"{number}.png"
        Image.fromarray(np.full((100, 100, 3), 10 * number, np.uint8)).save(path)
        found.append(Face(name=f"{number}", image=path, points=points))
    return found


def test_missed_others_and_false_alarms(tmp_path: Path) -> None:
    faces = faces_in(tmp_path, 4)
    truth = faces[0].box
    shifted = Box(truth.x0 + 5, truth.y0, truth.x1 + 5, truth.y1)
    far = Box(0, 0, 20, 20)

    def detector(image: np.ndarray) -> list[Detection]:
        # A plain picture stays as it is when its face is painted over, so every detection is a false alarm too.
        number = round(float(image[0, 0, 0]) / 10)
        return [[Detection(truth, 0.9)], [Detection(shifted, 0.8), Detection(far, 0.6)], [Detection(far, 0.9)], []][
            number
        ]

    result, matched = evaluate_detector(detector, faces)
    assert result.missed == 50
    assert result.faces == 4
    assert result.others == pytest.approx(2 / 4)  # the far one beside a match, and the far one alone
    assert result.false_alarms == pytest.approx(4 / 4)
    assert result.box_error == pytest.approx((0 + 100 * 5 / truth.width) / 2)
    assert [one is None for one in matched] == [False, False, True, True]


def test_landmarks_in_true_and_detected_boxes(tmp_path: Path) -> None:
    faces = faces_in(tmp_path, 2)
    predictor = load(make_bundle(tmp_path / "b"), detector=None)
    same = [Detection(face.box, 0.9) for face in faces]
    figures = nme_by_boxes(predictor, faces, same)
    assert figures["true"]["nme"] == figures["detected"]["nme"] != figures["image"]["nme"]
    moved = [Detection(Box(10, 10, 40, 40), 0.9), None]
    assert nme_by_boxes(predictor, faces, moved)["detected"]["nme"] != figures["true"]["nme"]
    with pytest.raises(BadInputError, match="nothing to compare"):
        nme_by_boxes(predictor, faces, [None, None])
    with pytest.raises(BadInputError, match="no faces"):
        evaluate_detector(lambda image: [], [])


def test_overlap_and_error_by_hand() -> None:
    one, other = Box(0, 0, 10, 10), Box(5, 0, 15, 10)
    assert iou(one, other) == pytest.approx(50 / 150)
    assert iou(one, Box(20, 0, 30, 10)) == 0
    assert box_error(other, one) == pytest.approx(50)


def test_painted_over() -> None:
    image = np.zeros((50, 50, 3), np.uint8)
    image[10:30, 10:30] = 255
    assert painted_over(image, Box(10, 10, 29, 29)).max() == 0
    assert image.max() == 255
    assert (painted_over(np.full((9, 9, 3), 7, np.uint8), Box(0, 0, 8, 8)) == 128).all()
