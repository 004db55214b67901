"""Assistive loss against values by hand, a scalar loop with the paper's signed points, and finite differences."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pocketface.compression.losses.assistive import assistive_loss
from pocketface.sdk.errors import BadInputError, ConfigError

COORDINATE = st.floats(-0.5, 0.5, allow_subnormal=False)
SIGMA = st.floats(0.05, 0.5)


def at(pred, truth=0.0, teacher=0.4, sigma=0.4, dtype=torch.float64):
    """The loss at scalars, or lists of them, through the real (batch, n, 2) shape."""
    pred, truth, teacher = np.broadcast_arrays(pred, truth, teacher)
    tensors = [torch.tensor(np.stack([a, a], -1).reshape(1, -1, 2), dtype=dtype) for a in (pred, truth, teacher)]
    loss = assistive_loss(*tensors, sigma=sigma)
    assert loss.shape == tensors[0].shape
    return loss[0, :, 0].numpy().reshape(pred.shape)


def slope(pred, truth=0.0, teacher=0.4, sigma=0.4):
    """d loss / d pred by autograd at one scalar."""
    p = torch.full((1, 1, 2), pred, dtype=torch.float64, requires_grad=True)
    t, te = (torch.full_like(p, value).detach() for value in (truth, teacher))
    assistive_loss(p, t, te, sigma=sigma).sum().backward()
    return p.grad[0, 0, 0].item()


def slow(pred, truth, teacher, sigma):
    """Eqs 4-10 for one coordinate, as printed: signed, mirrored points; the weight of R_L is the text's linear one."""
    side = 1.0 if pred >= truth else -1.0
    te = truth + side * abs(teacher - truth)  # eq. 4
    beta = truth + sigma * side * abs(teacher - truth)  # eq. 5
    if abs(pred - truth) - abs(te - truth) >= 0:  # eq. 7
        weight = 1.0
    elif abs(pred - truth) - abs(beta - truth) >= 0:  # eq. 8
        weight = -0.5
    else:  # eq. 9
        weight = -0.5 / abs(beta - truth) * abs(pred - truth)
    return weight * abs(te - pred)  # eq. 10


@pytest.mark.parametrize(
    ("pred", "expected"),
    [
        (0.0, 0.0),  # at the truth
        (0.08, -0.08),  # R_L, half way to beta = 0.16: weight -0.25, 0.32 from the teacher
        (0.16, -0.12),  # beta: weight -0.5, 0.24 from the teacher
        (0.28, -0.06),  # R_N: weight -0.5, 0.12 from the teacher
        (0.4, 0.0),  # on the teacher
        (0.5, 0.1),  # R_P: weight 1, 0.1 from the teacher
    ],
)
@pytest.mark.parametrize("side", [1, -1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_curve_of_figure_7(pred, expected, side, dtype):
    """Fig. 7: truth 0, teacher 0.4; by eq. 4 the other side looks the same."""
    assert at(side * pred, dtype=dtype) == pytest.approx(expected, abs=1e-7)


def test_sign_in_each_region():
    teacher, beta = 0.4, 0.16
    assert (at(np.linspace(0.001, beta - 0.001, 50)) < 0).all()
    assert (at(np.linspace(beta, teacher - 0.001, 50)) < 0).all()
    assert (at(np.linspace(teacher + 0.001, 1.0, 50)) > 0).all()


@pytest.mark.parametrize(
    ("pred", "expected"),
    [
        (1e-9, -1.25),  # leaving the truth: -0.5 / sigma
        (0.08, -0.75),  # R_L: -(0.5 / sigma) (1 - 2 e / d)
        (0.2, 0.5),  # R_N: growing again towards the teacher
        (0.45, 1.0),  # R_P
        (-0.08, 0.75),
        (-0.2, -0.5),
        (-0.45, -1.0),
    ],
)
def test_slope_in_each_region_by_hand(pred, expected):
    assert slope(pred) == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize("sigma", [0.1, 0.4, 0.5])
def test_continuous_at_both_borders(sigma):
    teacher, step = 0.37, 1e-9
    for border, value in ((sigma * teacher, -0.5 * (1 - sigma) * teacher), (teacher, 0.0)):
        below, above = at([border - step, border + step], teacher=teacher, sigma=sigma)
        assert below == pytest.approx(value, abs=1e-8)
        assert above == pytest.approx(value, abs=1e-8)


def test_border_of_the_teacher_is_crossed_through_zero_with_a_kink():
    """R_N to R_P: the weight jumps from -0.5 to 1, but |teacher - pred| is 0 there. Only the slope jumps."""
    below, above = at([0.4 - 1e-6, 0.4 + 1e-6])
    assert below == pytest.approx(-0.5e-6, rel=1e-6)
    assert above == pytest.approx(1e-6, rel=1e-6)
    assert slope(0.4 - 1e-6) == pytest.approx(0.5)
    assert slope(0.4 + 1e-6) == pytest.approx(1.0)


def test_border_of_the_low_region_has_a_kink():
    """At beta the slope turns from -(0.5 / sigma) (1 - 2 sigma) = -0.25 to 0.5: the minimum is a corner."""
    assert slope(0.16 - 1e-6) == pytest.approx(-0.25, abs=1e-4)
    assert slope(0.16 + 1e-6) == pytest.approx(0.5)


@given(truth=COORDINATE, teacher=COORDINATE, sigma=SIGMA)
def test_zero_at_the_truth(truth, teacher, sigma):
    assert at(truth, truth, teacher, sigma) == 0.0


@given(truth=COORDINATE, teacher=COORDINATE, sigma=SIGMA)
def test_minimum_at_beta(truth, teacher, sigma):
    gap = abs(teacher - truth)
    curve = at(truth + np.linspace(-1, 1, 401), truth, teacher, sigma)
    lowest = -0.5 * (1 - sigma) * gap
    assert at(truth + sigma * gap, truth, teacher, sigma) == pytest.approx(lowest, abs=1e-12)
    assert curve.min() >= lowest - 1e-12
    # Only beta and its mirror image reach it.
    away = np.abs(np.abs(np.linspace(-1, 1, 401)) - sigma * gap) > 0.05
    if gap > 0.2 and sigma < 0.45:
        assert curve[away].min() > lowest + 1e-4


@given(truth=COORDINATE, teacher=COORDINATE, offset=st.floats(-1, 1), sigma=SIGMA)
def test_symmetric_around_the_truth(truth, teacher, offset, sigma):
    value = at(truth + offset, truth, teacher, sigma)
    assert at(truth - offset, truth, teacher, sigma) == pytest.approx(value, abs=1e-12)
    # Eq. 4: a teacher on the other side counts as the same teacher.
    assert at(truth + offset, truth, 2 * truth - teacher, sigma) == pytest.approx(value, abs=1e-12)


@given(pred=COORDINATE, truth=COORDINATE, teacher=COORDINATE, sigma=SIGMA)
def test_matches_the_scalar_loop_and_stays_in_range(pred, truth, teacher, sigma):
    value = at(pred, truth, teacher, sigma)
    assert value == pytest.approx(slow(pred, truth, teacher, sigma), abs=1e-12)
    assert -0.5 * (1 - sigma) - 1e-12 <= value <= 1 + 1e-12


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_batch_matches_the_scalar_loop(dtype):
    generator = torch.Generator().manual_seed(0)
    pred, truth, teacher = (torch.rand(3, 68, 2, generator=generator, dtype=dtype) - 0.5 for _ in range(3))
    teacher[:, ::5] = truth[:, ::5]
    pred[:, ::7] = truth[:, ::7]
    loss = assistive_loss(pred, truth, teacher)
    assert loss.dtype == dtype
    expected = [slow(*(float(t[i]) for t in (pred, truth, teacher)), 0.4) for i in np.ndindex(3, 68, 2)]
    np.testing.assert_allclose(loss.numpy().ravel(), expected, atol=1e-6 if dtype == torch.float32 else 1e-14)


@pytest.mark.parametrize("distance", [0.0, 1e-45, 1e-40, 1e-38, 1e-37, 1e-30, 1e-8])
def test_teacher_on_or_next_to_the_truth(distance):
    """Nothing divides by zero, forwards or backwards, and the loss is the absolute error."""
    pred = torch.tensor([[[0.0, 1e-45], [1e-42, 0.3], [-0.3, 1e-38]]], requires_grad=True)
    truth = torch.zeros_like(pred).detach()
    loss = assistive_loss(pred, truth, truth + distance)
    loss.sum().backward()
    assert torch.isfinite(loss).all()
    assert torch.isfinite(pred.grad).all()
    assert pred.grad.abs().max() <= 1.25 + 1e-6
    torch.testing.assert_close(loss, pred.abs(), atol=2 * distance + 1e-37, rtol=1e-6)
    assert pred.grad[0, 1, 1] == 1.0
    assert pred.grad[0, 2, 0] == -1.0


def test_no_pull_on_the_truth_itself():
    assert slope(0.0) == 0.0
    assert slope(0.1, truth=0.1, teacher=0.1) == 0.0


def test_gradient_against_finite_differences():
    # Away from the kinks (truth, beta, teacher) of every coordinate.
    share = torch.tensor([0.05, 0.2, 0.35, 0.45, 0.7, 0.95, 1.1, 2.0], dtype=torch.float64).reshape(2, 2, 2)
    gap = torch.tensor([0.1, 0.2, 0.3, 0.05, 0.4, 0.25, 0.15, 0.2], dtype=torch.float64).reshape(2, 2, 2)
    sign = torch.tensor([1.0, -1.0], dtype=torch.float64)
    truth = torch.full_like(gap, 0.03)
    pred = (truth + sign * share * gap).requires_grad_()
    assert torch.autograd.gradcheck(lambda p: assistive_loss(p, truth, truth + gap), (pred,))

    gradient = torch.autograd.grad(assistive_loss(pred, truth, truth + gap).sum(), pred)[0]
    step = 1e-6
    for i in np.ndindex(2, 2, 2):
        numbers = pred[i].item(), truth[i].item(), (truth[i] + gap[i]).item()
        difference = slow(numbers[0] + step, *numbers[1:], 0.4) - slow(numbers[0] - step, *numbers[1:], 0.4)
        assert float(gradient[i]) == pytest.approx(difference / (2 * step), abs=1e-6)


def test_the_teacher_gets_no_gradient():
    pred, teacher = (torch.rand(2, 5, 2, requires_grad=True) for _ in range(2))
    assistive_loss(pred, torch.rand(2, 5, 2), teacher).sum().backward()
    assert teacher.grad is None
    assert pred.grad is not None


@pytest.mark.parametrize("sigma", [0.0, -0.1, 0.51, 1.0, float("nan")])
def test_sigma_out_of_range(sigma):
    with pytest.raises(ConfigError, match=r"sigma is .*expected a share in \(0, 0.5\]"):
        at(0.1, sigma=sigma)


def test_shapes_are_never_broadcast():
    points = torch.zeros(2, 5, 2)
    with pytest.raises(BadInputError, match=r"'teacher' has shape \(1, 5, 2\), expected \(2, 5, 2\)"):
        assistive_loss(points, points, points[:1])
    with pytest.raises(BadInputError, match="'truth'"):
        assistive_loss(points, points[..., :1], points)
