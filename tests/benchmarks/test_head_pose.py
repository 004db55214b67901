"""Head pose error against figures worked out by hand and against distances on the circle."""

from __future__ import annotations

import cmath
import json
import math

import numpy as np
import pytest

from pocketface.benchmarks.head_pose import angle_errors, summarise_pose
from pocketface.sdk.errors import BadInputError


def test_by_hand_two_faces():
    got = summarise_pose([[10, 0, -5], [-20, 4, 0]], [[13, -1, -5], [-15, 4, 2]])
    # |differences|: 3, 1, 0 and 5, 0, 2.
    assert (got.faces, got.yaw, got.pitch, got.roll) == (2, 4.0, 0.5, 1.0)
    assert got.mae == pytest.approx(11 / 6)


@pytest.mark.parametrize(
    ("a", "b", "apart"), [(359, 1, 2), (1, 359, 2), (-179, 179, 2), (180, -180, 0), (0, 180, 180), (725, 3, 2)]
)
def test_differences_wrap_at_a_full_turn(a, b, apart):
    np.testing.assert_allclose(angle_errors([[a] * 3], [[b] * 3]), [[apart] * 3])


def test_errors_agree_with_distances_on_the_circle():
    random = np.random.default_rng(0)
    pred, truth = random.uniform(-400, 400, (2, 50, 3))
    got = angle_errors(pred, truth)
    for i in range(50):
        for k in range(3):
            turn = cmath.rect(1, math.radians(pred[i, k])) / cmath.rect(1, math.radians(truth[i, k]))
            assert got[i, k] == pytest.approx(abs(math.degrees(cmath.phase(turn))), abs=1e-9)


def test_it_prints_and_is_json_able():
    got = summarise_pose(np.zeros((4, 3), np.float32), np.full((4, 3), 2.5))
    assert str(got) == "pose MAE 2.50 deg  (yaw 2.50, pitch 2.50, roll 2.50; 4 faces)"
    assert json.loads(json.dumps(got.to_dict())) == {"faces": 4, "mae": 2.5, "yaw": 2.5, "pitch": 2.5, "roll": 2.5}


@pytest.mark.parametrize(
    ("pred", "truth", "message"),
    [
        (np.zeros((2, 3)), np.zeros((3, 3)), "shape"),
        (np.zeros(3), np.zeros(3), "shape"),
        (np.zeros((2, 2)), np.zeros((2, 2)), "shape"),
        (np.zeros((0, 3)), np.zeros((0, 3)), "no angles"),
        ([[0, np.nan, 0]], [[0, 0, 0]], "prediction of face 0: pitch is nan"),
        ([[0, 0, 0]], [[0, 0, np.inf]], "truth of face 0: roll is inf"),
    ],
)
def test_what_cannot_be_measured_is_refused(pred, truth, message):
    with pytest.raises(BadInputError, match=message):
        summarise_pose(pred, truth)
