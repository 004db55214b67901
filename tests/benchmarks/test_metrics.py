"""Metrics against figures worked out by hand, slow loops, numerical integration and scipy."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import integrate, stats

from pocketface.benchmarks.metrics import (
    area_under_ced,
    auroc,
    ced,
    expected_calibration_error,
    face_errors,
    landmark_errors,
    summarise,
    summarise_errors,
)
from pocketface.sdk.errors import BadInputError

errors_lists = st.lists(st.floats(0, 0.4), min_size=1, max_size=30).map(np.array)


@pytest.fixture
def faces():
    """Three faces of 68 points whose outer eye corners are 40, 50 and 60 apart, and guesses."""
    rng = np.random.default_rng(3)
    truth = rng.uniform(0, 200, (3, 68, 2))
    for face, distance in zip(truth, (40, 50, 60), strict=True):
        face[45] = face[36] + np.array([0.6, 0.8]) * distance
    return truth + rng.normal(0, 3, truth.shape), truth


def test_by_hand_three_faces_of_three_points():
    # Eye corners (points 0 and 2) 10 apart. Distances of face 0: 0, 5, 1 (mean 2); face 1: all 0; face 2: 0.6 each.
    truth = np.array([[[0, 0], [3, 3], [10, 0]]] * 3, float)
    pred = truth.copy()
    pred[0, 1] += (3, 4)
    pred[0, 2] += (0, -1)
    pred[2] += (0, 0.6)
    np.testing.assert_allclose(landmark_errors(pred, truth, (0, 2))[0], [0, 0.5, 0.1], atol=1e-12)
    np.testing.assert_allclose(face_errors(pred, truth, (0, 2)), [0.2, 0, 0.06], atol=1e-12)
    got = summarise(pred, truth, (0, 2))
    assert got.faces == 3
    assert got.nme == pytest.approx(100 * (0.2 + 0 + 0.06) / 3)
    assert got.median == pytest.approx(6)
    assert got.fr == pytest.approx(100 / 3)  # only face 0 is above 0.1
    assert got.landmark_fr == pytest.approx(100 / 9)  # only its second point: 0.5; the third is at 0.1, not above
    assert got.auc == pytest.approx((0 + 1 + 0.4) / 3)


def test_the_median_is_of_faces_not_of_landmarks():
    # Faces: 0.15, 0.03, 0.1. Landmarks: 0, 0, 0.02, 0.04, 0.2, 0.3, whose median would be 0.03.
    assert summarise_errors([[0, 0.3], [0.02, 0.04], [0.2, 0]]).median == pytest.approx(10)


def test_errors_agree_with_a_slow_loop(faces):
    pred, truth = faces
    for i, error in enumerate(face_errors(pred, truth)):
        total = 0.0
        for (x, y), (u, v) in zip(pred[i], truth[i], strict=True):
            total += math.hypot(x - u, y - v)
        assert error == pytest.approx(total / 68 / (40, 50, 60)[i])


def test_the_default_normaliser_is_points_37_and_46_counting_from_1(faces):
    pred, truth = faces
    np.testing.assert_array_equal(face_errors(pred, truth), face_errors(pred, truth, (36, 45)))
    assert not np.allclose(face_errors(pred, truth), face_errors(pred, truth, (39, 42)))


@given(st.floats(0.1, 50), st.floats(-1000, 1000), st.floats(-180, 180))
def test_scale_shift_and_rotation_change_no_error(scale, shift, angle):
    rng = np.random.default_rng(1)
    truth = rng.uniform(0, 100, (2, 68, 2))
    pred = truth + rng.normal(0, 2, truth.shape)
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))

    def moved(points):
        return scale * points @ np.array([[cos, sin], [-sin, cos]]) + shift

    np.testing.assert_allclose(face_errors(moved(pred), moved(truth)), face_errors(pred, truth), rtol=1e-6)


def test_float32_predictions_are_measured_in_double_precision(faces):
    pred, truth = (a.astype(np.float32) for a in faces)
    want = face_errors(pred.astype(np.float64), truth.astype(np.float64))
    np.testing.assert_array_equal(face_errors(pred, truth), want)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("which", [0, 1])
def test_what_is_no_number_is_an_error(faces, bad, which):
    faces[which][1, 12, 1] = bad
    with pytest.raises(BadInputError, match=rf"{('prediction', 'truth')[which]} of face 1: landmark 12"):
        summarise(*faces)


def test_shapes_and_degenerate_faces_are_refused(faces):
    pred, truth = faces
    for a, b in ((pred[:2], truth), (pred[0], truth[0]), (pred[..., :1], truth[..., :1])):
        with pytest.raises(BadInputError, match="shape"):
            face_errors(a, b)
    with pytest.raises(BadInputError, match="no landmarks"):
        face_errors(pred[:0], truth[:0])
    with pytest.raises(BadInputError, match="normaliser"):
        face_errors(pred, truth, (36, 68))
    truth[2, 45] = truth[2, 36]
    with pytest.raises(BadInputError, match="face 2 has landmarks 36 and 45 in one place"):
        face_errors(pred, truth)


@given(errors_lists, st.floats(0.02, 0.3))
def test_auc_is_the_integral_of_the_step_function(errors, threshold):
    # Independent: exact integration piece by piece between the sorted errors, counting by hand.
    knots = [0.0, *sorted(e for e in errors.tolist() if e < threshold), threshold]
    area = sum(
        (right - left) * sum(e <= left for e in errors.tolist()) / len(errors)
        for left, right in itertools.pairwise(knots)
    )
    assert area_under_ced(errors, threshold) == pytest.approx(area / threshold, abs=1e-12)


def test_auc_agrees_with_numerical_integration_of_the_drawn_curve():
    errors = np.random.default_rng(0).gamma(3, 0.015, 400)
    x, y = ced(errors, 0.1, steps=20_000)
    assert area_under_ced(errors) == pytest.approx(integrate.trapezoid(y, x) / 0.1, abs=1e-4)


@given(errors_lists)
def test_ced_counts_faces_at_or_below(errors):
    x, y = ced(errors, 0.1, steps=7)
    assert (x[0], x[-1], len(x)) == (0, 0.1, 8)
    assert y.tolist() == [sum(e <= limit for e in errors.tolist()) / len(errors) for limit in x.tolist()]


@given(errors_lists)
def test_a_summary_hangs_together(errors):
    got = summarise_errors(errors[:, None])  # one landmark: face and landmark figures are the same thing
    assert got.fr == got.landmark_fr == pytest.approx(100 * (1 - ced(errors)[1][-1]))
    assert got.nme == pytest.approx(100 * sum(errors.tolist()) / len(errors))
    assert 0 <= got.auc <= 1 - got.fr / 100 + 1e-12
    worse = summarise_errors(errors[:, None] + 0.01)
    assert worse.auc <= got.auc
    assert worse.nme > got.nme
    assert worse.fr >= got.fr


def test_extremes_of_auc_and_fr():
    perfect, hopeless = summarise_errors(np.zeros((4, 5))), summarise_errors(np.full((4, 5), 0.5))
    assert (perfect.auc, perfect.fr, perfect.landmark_fr) == (1, 0, 0)
    assert (hopeless.auc, hopeless.fr, hopeless.landmark_fr) == (0, 100, 100)
    at_the_line = summarise_errors(np.full((1, 1), 0.1))
    assert (at_the_line.fr, at_the_line.auc) == (0, 0)  # a failure is above the threshold


@pytest.mark.parametrize(
    "call",
    [
        lambda: summarise_errors(np.zeros((0, 3))),
        lambda: summarise_errors([0.1, 0.2]),
        lambda: summarise_errors([[-0.1]]),
        lambda: area_under_ced([np.nan]),
        lambda: area_under_ced([0.1], 0),
        lambda: ced([0.1], 0.1, 0),
        lambda: ced([]),
    ],
)
def test_errors_that_are_none_are_refused(call):
    with pytest.raises(BadInputError):
        call()


def test_accuracy_prints_and_is_json_able(faces):
    got = summarise(*faces)
    assert f"NME {got.nme:.3f} %" in str(got)
    assert "FR@0.1" in str(got)
    assert list(got.to_dict()) == ["faces", "nme", "median", "fr", "landmark_fr", "auc", "threshold"]
    assert all(type(value) in (int, float) for value in got.to_dict().values())


def test_auroc_by_hand():
    # Pairs (positive, negative): 0.9 beats both; 0.4 ties one and loses to none: (1 + 1 + 0.5 + 1) / 4.
    assert auroc([0.9, 0.4, 0.4, 0.1], [1, 1, 0, 0]) == 0.875
    assert auroc([1, 2, 3, 4], [0, 0, 1, 1]) == 1
    assert auroc([1, 2, 3, 4], [1, 1, 0, 0]) == 0
    assert auroc([5, 5, 5], [1, 0, 1]) == 0.5


@given(st.data())
def test_auroc_agrees_with_counting_pairs_and_with_scipy(data):
    size = data.draw(st.integers(2, 25))
    score = data.draw(arrays(np.float64, size, elements=st.sampled_from([-1.0, 0.0, 0.25, 0.5, 2.0])))
    label = data.draw(arrays(np.int64, size, elements=st.integers(0, 1)).filter(lambda a: 0 < a.sum() < len(a)))
    up, down = score[label == 1], score[label == 0]
    wins = sum((p > n) + 0.5 * (p == n) for p in up for n in down)
    assert auroc(score, label) == pytest.approx(wins / (len(up) * len(down)))
    assert auroc(score, label) == pytest.approx(stats.mannwhitneyu(up, down).statistic / (len(up) * len(down)))


def test_ece_by_hand():
    # Two bins, weighted equally. Below 0.5: mean 0.2, half are true: 0.3 apart. Above: mean 0.9, all are true: 0.1.
    assert expected_calibration_error([0.1, 0.3, 0.8, 1.0], [0, 1, 1, 1], bins=2) == pytest.approx(0.2)
    assert expected_calibration_error([0.0, 1.0], [0, 1]) == 0
    assert expected_calibration_error([0.0, 1.0], [1, 0]) == 1
    assert expected_calibration_error([0.75] * 4, [1, 1, 1, 0]) == pytest.approx(0)


@given(st.data(), st.integers(1, 20))
def test_ece_agrees_with_a_slow_loop(data, bins):
    size = data.draw(st.integers(1, 30))
    prob = data.draw(arrays(np.float64, size, elements=st.floats(0, 1)))
    label = data.draw(arrays(np.bool_, size))
    total = 0.0
    for k in range(bins):
        inside = [i for i in range(size) if min(int(prob[i] * bins), bins - 1) == k]
        if inside:
            share, stated = sum(label[i] for i in inside) / len(inside), sum(prob[i] for i in inside) / len(inside)
            total += len(inside) / size * abs(share - stated)
    assert expected_calibration_error(prob, label, bins) == pytest.approx(total, abs=1e-12)


def test_a_calibrated_score_has_a_small_ece_and_a_squashed_one_a_large():
    rng = np.random.default_rng(2)
    prob = rng.uniform(0, 1, 50_000)
    label = rng.uniform(0, 1, 50_000) < prob
    assert expected_calibration_error(prob, label) < 0.01
    # E|p - 0.5| of a uniform p is 1/4; halved distances leave half of that.
    assert expected_calibration_error(0.5 + (prob - 0.5) / 2, label) == pytest.approx(0.125, abs=0.01)


@pytest.mark.parametrize(
    ("score", "label"),
    [([0.1], [1]), ([0.1, 0.2], [1, 1]), ([0.1, np.nan], [0, 1]), ([0.1, 0.2], [0, 2]), ([0.1, 0.2], [1]), ([], [])],
)
def test_scores_that_cannot_be_ranked_are_refused(score, label):
    with pytest.raises(BadInputError):
        auroc(score, label)


@pytest.mark.parametrize(("prob", "bins"), [([1.1], 15), ([-0.1], 15), ([0.5], 0)])
def test_what_is_no_probability_is_refused(prob, bins):
    with pytest.raises(BadInputError):
        expected_calibration_error(prob, [1], bins)
