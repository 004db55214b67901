"""Eqs 3, 4 and 7 in logits against the printed formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from pocketface.compression.losses.adversarial import discriminator_loss, generator_loss, uniformization_loss

REAL = torch.tensor([3.0, -1.0, 0.0, 7.5], dtype=torch.float64)
MADE = torch.tensor([-2.0, 0.5, 4.0, -0.1], dtype=torch.float64)


def d(logits: torch.Tensor) -> np.ndarray:
    return 1 / (1 + np.exp(-logits.numpy()))


def test_the_discriminators_loss_is_eq_3():
    printed = np.mean(-np.log(d(REAL)) - np.log(1 - d(MADE)))
    assert discriminator_loss(REAL, MADE).item() == pytest.approx(printed, rel=1e-12)


def test_the_generators_loss_is_eq_4():
    assert generator_loss(MADE).item() == pytest.approx(np.mean(-np.log(d(MADE))), rel=1e-12)


def test_who_knows_nothing_pays_log_2_for_each_picture():
    nothing = torch.zeros(3)
    assert discriminator_loss(nothing, nothing).item() == pytest.approx(2 * math.log(2))
    assert generator_loss(nothing).item() == pytest.approx(math.log(2))


@pytest.mark.parametrize("size", [80.0, 1e4])
def test_certain_logits_keep_their_value_and_gradient_in_float32(size):
    """Through a sigmoid they would be log 0 and no gradient."""
    logits = torch.tensor([-size], requires_grad=True)
    loss = generator_loss(logits)
    loss.backward()
    assert loss.item() == pytest.approx(size)
    assert logits.grad.item() == pytest.approx(-1.0)
    assert discriminator_loss(torch.tensor([-size]), torch.tensor([size])).item() == pytest.approx(2 * size)


def test_the_gradients_pull_in_opposite_directions():
    made = torch.zeros(1, requires_grad=True)
    (towards_fake,) = torch.autograd.grad(discriminator_loss(torch.zeros(1), made), made)
    (towards_real,) = torch.autograd.grad(generator_loss(made), made)
    assert towards_fake > 0 > towards_real  # a step goes against its gradient


def test_the_total_is_eq_7():
    assert uniformization_loss(2.0, 3.0, 5.0, 7.0) == 17.0  # printed: both lambdas 1
    weighted = uniformization_loss(
        2.0, 3.0, 5.0, 7.0, adversarial_weight=0.1, perceptual_weight=10.0, identity_weight=100.0
    )
    assert weighted == pytest.approx(0.2 + 3 + 50 + 700)
