"""Main loss of the KD paper (eqs 12 and 13): values by hand, the join at 0.5, finite differences."""

import numpy as np
import pytest
import torch

from pocketface.compression.losses.main import main_loss
from pocketface.sdk.errors import BadInputError


def at(error):
    return main_loss(torch.full((1, 1, 2), error, dtype=torch.float64), torch.zeros(1, 1, 2, dtype=torch.float64))[
        0, 0, 0
    ]


@pytest.mark.parametrize(
    ("error", "expected"),
    [(0.0, 0.0), (0.2, 0.2), (0.5, 0.5), (0.6, 0.61), (1.0, 1.25), (2.0, 4.25)],  # 0.36 + 0.25, 1 + 0.25, 4 + 0.25
)
def test_values_by_hand(error, expected):
    assert at(error) == pytest.approx(expected)
    assert at(-error) == pytest.approx(expected)


def test_value_and_slope_are_continuous_at_the_border():
    """0.5 = 0.25 + C asks for C = 0.25, and then 1 = 2 * 0.5: smooth, as the paper says."""
    below, above = torch.tensor([0.5 - 1e-9, 0.5 + 1e-9], dtype=torch.float64)
    assert at(float(above)) - at(float(below)) == pytest.approx(2e-9, rel=1e-3)
    for error in (0.5 - 1e-6, 0.5, 0.5 + 1e-6):
        pred = torch.full((1, 1, 2), error, dtype=torch.float64, requires_grad=True)
        main_loss(pred, torch.zeros_like(pred)).sum().backward()
        assert pred.grad[0, 0, 0] == pytest.approx(1.0, abs=1e-5)


def test_never_below_the_absolute_error():
    error = torch.linspace(-2, 2, 801, dtype=torch.float64).reshape(1, -1, 1).expand(1, -1, 2)
    loss = main_loss(error, torch.zeros_like(error))
    assert (loss >= error.abs() - 1e-12).all()
    assert (loss >= 0).all()


def test_each_coordinate_chooses_its_own_piece():
    pred = torch.tensor([[[0.1, 0.7], [-0.9, -0.3]]])
    expected = torch.tensor([[[0.1, 0.74], [1.06, 0.3]]])
    torch.testing.assert_close(main_loss(pred, torch.zeros_like(pred)), expected)


def test_gradient_against_finite_differences():
    pred = torch.tensor([[[0.1, 0.7], [-0.9, -0.3]]], dtype=torch.float64, requires_grad=True)
    truth = torch.full_like(pred, 0.02).detach()
    assert torch.autograd.gradcheck(lambda p: main_loss(p, truth), (pred,))
    gradient = torch.autograd.grad(main_loss(pred, truth).sum(), pred)[0]
    np.testing.assert_allclose(gradient, [[[1.0, 1.36], [-1.84, -1.0]]])  # 2 * 0.68, 2 * 0.92


def test_gradient_at_the_truth_is_zero():
    pred = torch.zeros(1, 3, 2, requires_grad=True)
    main_loss(pred, torch.zeros(1, 3, 2)).sum().backward()
    assert (pred.grad == 0).all()


def test_shapes_are_never_broadcast():
    with pytest.raises(BadInputError, match=r"'truth' has shape \(5, 2\), expected \(3, 5, 2\)"):
        main_loss(torch.zeros(3, 5, 2), torch.zeros(5, 2))
