"""A detector's raw output to faces, against boxes by hand and slow loops."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest
from bundle_factory import make_bundle
from detector_factory import detector_stage
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pocketface.sdk.bundle import open_bundle
from pocketface.sdk.decode_faces import decode_faces
from pocketface.sdk.errors import BundleError
from pocketface.sdk.geometry import Crop, iou
from pocketface.sdk.manifest import FaceBox, Stage

CROP = Crop(49.5, 49.5, 100)
"""The whole of a picture of 100 x 100 pixels."""


def stage_of(rows: int, **changes: object) -> Stage:
    stage = detector_stage(face_box=FaceBox())
    output = msgspec.structs.replace(stage.outputs[0], shape=(1, rows, 9))
    detector = msgspec.structs.replace(stage.detector, **changes)
    return msgspec.structs.replace(stage, outputs=(output,), detector=detector)


def row(score: float, cx: float, cy: float, side: float, turn: float = 0.0) -> list[float]:
    """One anchor: a probability, a box in crop coordinates, eyes on a line turned by so many degrees."""
    dx, dy = math.cos(math.radians(turn)) / 10, math.sin(math.radians(turn)) / 10
    half = side / 2
    box = [cx - half, cy - half, cx + half, cy + half]
    return [math.log(score / (1 - score)), *box, cx - dx, cy - dy, cx + dx, cy + dy]


def found(rows: list[list[float]], crop: Crop = CROP, **changes: object) -> np.ndarray:
    values = np.array([rows], np.float32)
    return decode_faces({"faces": values}, stage_of(len(rows), **changes), crop)


def test_one_face_by_hand() -> None:
    faces = found([row(0.9, 0.1, -0.2, 0.4), row(0.3, 0, 0, 0.5)])
    # u = 0.1 lies at pixel 0.6 * 100 - 0.5 = 59.5; 0.4 of 100 pixels is 40.
    assert faces.shape == (1, 6)
    assert faces[0] == pytest.approx([39.5, 9.5, 79.5, 49.5, 0.9, 0], abs=1e-4)


def test_nothing_is_found_below_the_score_and_a_lower_one_can_be_asked_for() -> None:
    rows = [row(0.45, 0, 0, 0.5)]
    assert found(rows).shape == (0, 6)
    given = {"faces": np.array([rows], np.float32)}
    assert len(decode_faces(given, stage_of(1), CROP, min_score=0.4)) == 1


def test_overlapping_anchors_become_their_mean_by_score_and_keep_the_best_score() -> None:
    faces = found([row(0.6, 0.02, 0, 0.4), row(0.9, 0, 0, 0.4), row(0.8, -0.4, -0.4, 0.1)])
    assert faces[:, 4] == pytest.approx([0.9, 0.8], abs=1e-6)
    centre = (faces[0, 0] + faces[0, 2]) / 2
    assert centre == pytest.approx(49.5 + 100 * 0.02 * 0.6 / 1.5, abs=1e-4)


def test_faces_that_overlap_less_are_two() -> None:
    near = [row(0.9, 0, 0, 0.4), row(0.8, 0.25, 0, 0.4)]  # intersection 0.15 of 0.4: 0.23 over union
    assert len(found(near, max_overlap=0.3)) == 2
    assert len(found(near, max_overlap=0.2)) == 1


def test_the_contracts_box_moves_along_the_faces_own_axes() -> None:
    box = FaceBox(dx=0.0, dy=0.1, scale=1.5)
    upright = found([row(0.9, 0, 0, 0.4)], face_box=box)[0]
    assert upright[:4] == pytest.approx([19.5, 23.5, 79.5, 83.5], abs=1e-4)  # 60 pixels, 4 further down
    turned = found([row(0.9, 0, 0, 0.4, turn=90)], face_box=box)[0]
    assert turned[:4] == pytest.approx([15.5, 19.5, 75.5, 79.5], abs=1e-4)  # lying: its chin is on the left
    assert turned[5] == pytest.approx(90, abs=1e-4)


def test_a_turned_crop_turns_the_face_back() -> None:
    (face,) = found([row(0.9, 0.2, 0, 0.4)], crop=Crop(50, 50, 100, 90))
    assert face[5] == pytest.approx(90, abs=1e-4)
    assert (face[0] + face[2]) / 2 == pytest.approx(50, abs=1e-4)
    assert (face[1] + face[3]) / 2 == pytest.approx(70, abs=1e-4)


@given(hnp.arrays(np.float64, (6, 4), elements=st.floats(-5, 5)))
def test_overlap_agrees_with_a_slow_loop(values: np.ndarray) -> None:
    boxes = np.concatenate((values[:, :2], values[:, :2] + np.abs(values[:, 2:])), axis=1)
    for box in boxes:
        expected = []
        for other in boxes:
            wide = max(0.0, min(box[2], other[2]) - max(box[0], other[0]))
            high = max(0.0, min(box[3], other[3]) - max(box[1], other[1]))
            union = (box[2] - box[0]) * (box[3] - box[1]) + (other[2] - other[0]) * (other[3] - other[1]) - wide * high
            expected.append(wide * high / union if union > 0 else 0.0)
        assert iou(box, boxes) == pytest.approx(expected, abs=1e-9)


@given(hnp.arrays(np.float32, (1, 12, 9), elements=st.floats(-8, 8, width=32)))
def test_whatever_the_network_says_the_faces_are_finite_sorted_and_few(values: np.ndarray) -> None:
    faces = decode_faces({"faces": values}, stage_of(12), CROP)
    assert np.isfinite(faces).all()
    assert len(faces) <= 12
    assert (np.diff(faces[:, 4]) <= 0).all()
    assert (faces[:, 4] >= 0.5).all()
    assert (faces[:, 2] > faces[:, 0]).all()
    assert (np.abs(faces[:, 5]) <= 180).all()


def test_refused() -> None:
    with pytest.raises(BundleError, match="NaN"):
        decode_faces({"faces": np.full((1, 3, 9), np.nan, np.float32)}, stage_of(3), CROP)
    with pytest.raises(BundleError, match="shape"):
        decode_faces({"faces": np.zeros((1, 4, 9), np.float32)}, stage_of(3), CROP)


def test_a_stage_of_landmarks_is_refused(tmp_path) -> None:  # type: ignore[no-untyped-def]
    with open_bundle(make_bundle(tmp_path / "b")) as bundle, pytest.raises(BundleError, match="detection"):
        decode_faces({}, bundle.manifest.stages[0], CROP)
