"""KD-Loss (eq. 14): a scalar loop, and where the paper's claim that it is never negative holds."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pocketface.compression.distill.kd import kd_loss, single_teacher_loss, smallest_phi
from pocketface.sdk.errors import BadInputError, ConfigError

COORDINATE = st.floats(-0.5, 0.5, allow_subnormal=False)
SIGMA = st.floats(0.05, 0.5)


def full(value):
    return torch.full((1, 1, 2), float(value), dtype=torch.float64)


def kd(error, tough, tolerant, **parameters):
    """KD-Loss at a truth of 0."""
    return kd_loss(full(error), full(0), full(tough), full(tolerant), **parameters)[0, 0, 0].item()


def slope(error, distance, **parameters):
    pred = full(error).requires_grad_()
    kd_loss(pred, full(0), full(distance), full(-distance), **parameters).sum().backward()
    return pred.grad[0, 0, 0].item()


def slow(error, gaps, phi, sigma):
    """phi * main + the assistive losses, in distances from the truth, for one coordinate."""
    total = phi * (error if error <= 0.5 else error**2 + 0.25)
    for gap in gaps:
        if error >= gap:
            total += error - gap
        elif error >= sigma * gap:
            total -= 0.5 * (gap - error)
        else:
            total -= 0.5 * error / (sigma * gap) * (gap - error)
    return total


@given(pred=COORDINATE, truth=COORDINATE, tough=COORDINATE, tolerant=COORDINATE, phi=st.floats(0.5, 4), sigma=SIGMA)
def test_matches_a_scalar_loop(pred, truth, tough, tolerant, phi, sigma):
    tensors = [full(v) for v in (pred, truth, tough, tolerant)]
    gaps = abs(tough - truth), abs(tolerant - truth)
    loss = kd_loss(*tensors, phi=phi, sigma=sigma)
    assert loss.shape == (1, 1, 2)
    assert loss[0, 0, 1].item() == pytest.approx(slow(abs(pred - truth), gaps, phi, sigma), abs=1e-12)
    single = single_teacher_loss(*tensors[:3], phi=phi, sigma=sigma)[0, 0, 0].item()
    assert single == pytest.approx(slow(abs(pred - truth), gaps[:1], phi / 2, sigma), abs=1e-12)


def test_values_by_hand():
    # Error 0.1: main 0.1. Tough at 0.05: R_P, 0.05. Tolerant at 0.2, beta 0.08: R_N, -0.5 * 0.1.
    assert kd(0.1, 0.05, 0.2, phi=2.0) == pytest.approx(0.2 + 0.05 - 0.05)
    assert kd(0.1, 0.05, 0.2) == pytest.approx(0.25)  # phi 2.5 is the default
    one = single_teacher_loss(full(0.1), full(0), full(0.2))
    assert one[0, 0, 0].item() == pytest.approx(1.25 * 0.1 - 0.05)


@pytest.mark.parametrize("distance", [0.01, 0.1, 0.3, 1.0])
def test_phi_2_as_printed_is_negative_near_the_truth(distance):
    """Both teachers at d: -0.5 e + 2.5 e^2 / d. Negative below 0.2 d, smallest at 0.1 d, falling at the truth."""
    share = np.linspace(0.001, 0.399, 399)
    curve = np.array([kd(s * distance, distance, -distance, phi=2.0) for s in share])
    np.testing.assert_allclose(curve, -0.5 * share * distance + 2.5 * share**2 * distance, atol=1e-12)
    assert (curve[share < 0.1999] < 0).all()
    assert (curve[share > 0.2001] > 0).all()
    assert share[curve.argmin()] == pytest.approx(0.1, abs=1e-3)
    assert kd(0.1 * distance, distance, distance, phi=2.0) == pytest.approx(-0.025 * distance)
    # The gradient step -slope leads away from the truth, on either side of it.
    assert slope(1e-9, distance, phi=2.0) == pytest.approx(-0.5, abs=1e-5)
    assert slope(-1e-9, distance, phi=2.0) == pytest.approx(0.5, abs=1e-5)


def test_phi_decides_where_descent_comes_to_rest():
    """Descent from next to the truth: the paper's phi 2 walks off to 0.1 d, phi 2.5 goes home."""
    distance = 0.2
    rest = {}
    for phi in (2.0, 2.5):
        pred = full(0.002).requires_grad_()
        for _ in range(400):
            (gradient,) = torch.autograd.grad(
                kd_loss(pred, full(0), full(distance), full(distance), phi=phi)[0, 0, 0], pred
            )
            pred = (pred - 0.01 * gradient).detach().requires_grad_()
        rest[phi] = pred[0, 0, 0].item()
    assert rest[2.0] == pytest.approx(0.1 * distance, abs=1e-6)
    assert abs(rest[2.5]) < 0.002 / 2


@given(truth=COORDINATE, pred=COORDINATE, tough=COORDINATE, tolerant=COORDINATE)
def test_phi_2_5_is_never_negative(truth, pred, tough, tolerant):
    loss = kd_loss(full(pred), full(truth), full(tough), full(tolerant))
    assert loss.min() >= -1e-15
    for teacher in (tough, tolerant):
        assert single_teacher_loss(full(pred), full(truth), full(teacher)).min() >= -1e-15


@given(share=st.floats(0, 3), tough=st.floats(0, 1), tolerant=st.floats(0, 1), sigma=SIGMA)
def test_smallest_phi_is_enough_for_every_sigma(share, tough, tolerant, sigma):
    """Errors drawn as a share of a teacher's distance, so that the neighbourhood of the truth is well covered."""
    assert kd(share * tough, tough, -tolerant, phi=smallest_phi(sigma), sigma=sigma) >= -1e-13


@given(distance=st.floats(0.01, 1), sigma=SIGMA, shortfall=st.floats(0.01, 0.5))
def test_smallest_phi_is_tight(distance, sigma, shortfall):
    """Any less gives negative values: with phi = (1 - s) / sigma the loss is e / sigma (e / d - s) below beta."""
    phi = (1 - shortfall) * smallest_phi(sigma)
    error = 0.5 * min(shortfall, sigma) * distance
    assert kd(error, distance, distance, phi=phi, sigma=sigma) < 0
    one = single_teacher_loss(full(error), full(0), full(distance), phi=phi, sigma=sigma)
    assert one[0, 0, 0].item() < 0


def test_smallest_phi_of_the_paper_is_2_5():
    assert smallest_phi(0.4) == pytest.approx(2.5)


def test_float32_stays_non_negative_up_to_rounding():
    generator = torch.Generator().manual_seed(1)
    truth, tough, tolerant = (torch.rand(64, 68, 2, generator=generator) - 0.5 for _ in range(3))
    pred = truth + 0.1 * (tough - truth) * torch.rand(64, 68, 2, generator=generator)
    loss = kd_loss(pred, truth, tough, tolerant)
    assert loss.dtype == torch.float32
    assert loss.min() >= -1e-6
    assert kd_loss(pred, truth, tough, tough, phi=2.0).min() < -1e-3


@given(truth=COORDINATE, tough=COORDINATE, tolerant=COORDINATE, phi=st.floats(0.1, 5))
def test_zero_at_the_truth(truth, tough, tolerant, phi):
    assert kd_loss(full(truth), full(truth), full(tough), full(tolerant), phi=phi).abs().max() == 0


def test_two_teachers_are_interchangeable():
    assert kd(0.07, 0.2, 0.05) == pytest.approx(kd(0.07, 0.05, -0.2))


def test_single_teacher_is_half_of_kd_with_that_teacher_twice():
    """Why phi is halved: both terms keep the proportion that they have in eq. 14."""
    generator = torch.Generator().manual_seed(2)
    pred, truth, teacher = (torch.rand(4, 68, 2, generator=generator, dtype=torch.float64) - 0.5 for _ in range(3))
    for phi in (2.0, 2.5):
        both = kd_loss(pred, truth, teacher, teacher, phi=phi)
        torch.testing.assert_close(2 * single_teacher_loss(pred, truth, teacher, phi=phi), both)


def test_gradient_against_finite_differences():
    generator = torch.Generator().manual_seed(3)
    pred, truth, tough, tolerant = (
        torch.rand(2, 6, 2, generator=generator, dtype=torch.float64) - 0.5 for _ in range(4)
    )
    pred.requires_grad_()
    assert torch.autograd.gradcheck(lambda p: kd_loss(p, truth, tough, tolerant), (pred,))
    gradient = torch.autograd.grad(kd_loss(pred, truth, tough, tolerant).sum(), pred)[0]
    step = 1e-6
    for i in np.ndindex(2, 6, 2):
        gaps = [abs(float(t[i] - truth[i])) for t in (tough, tolerant)]
        error = (pred[i] - truth[i]).item()
        difference = slow(abs(error + step), gaps, 2.5, 0.4) - slow(abs(error - step), gaps, 2.5, 0.4)
        assert float(gradient[i]) == pytest.approx(difference / (2 * step), abs=1e-5)


def test_teachers_on_the_truth_leave_finite_values_and_gradients():
    pred = torch.tensor([[[0.0, 0.1], [-0.2, 0.6]]], requires_grad=True)
    truth = torch.zeros(1, 2, 2)
    loss = kd_loss(pred, truth, truth, truth)
    loss.sum().backward()
    # 2.5 * main + twice the absolute error.
    torch.testing.assert_close(loss, torch.tensor([[[0.0, 0.45], [0.9, 2.5 * 0.61 + 1.2]]]))
    torch.testing.assert_close(pred.grad, torch.tensor([[[0.0, 4.5], [-4.5, 2.5 * 1.2 + 2]]]))


def test_teachers_get_no_gradient():
    pred, tough, tolerant = (torch.rand(2, 5, 2, requires_grad=True) for _ in range(3))
    kd_loss(pred, torch.rand(2, 5, 2), tough, tolerant).sum().backward()
    assert tough.grad is None
    assert tolerant.grad is None


@pytest.mark.parametrize("phi", [0.0, -1.0, float("nan"), float("inf")])
def test_phi_out_of_range(phi):
    with pytest.raises(ConfigError, match=r"phi is .*expected a positive number"):
        kd(0.1, 0.2, 0.3, phi=phi)
    with pytest.raises(ConfigError, match="phi is"):
        single_teacher_loss(full(0.1), full(0), full(0.2), phi=phi)


def test_sigma_and_shapes_are_checked():
    with pytest.raises(ConfigError, match=r"sigma is 0\.6"):
        kd(0.1, 0.2, 0.3, sigma=0.6)
    with pytest.raises(BadInputError, match="teacher"):
        kd_loss(torch.zeros(2, 5, 2), torch.zeros(2, 5, 2), torch.zeros(2, 5, 2), torch.zeros(2, 4, 2))
