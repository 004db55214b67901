"""Losses of label maps against torch, by hand and by finite differences."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from pocketface.compression.losses.segmentation import (
    Parts,
    SegmentationLossSpec,
    cross_entropy,
    prior_l1,
    segmentation_loss,
    soft_dice,
)
from pocketface.sdk.errors import BadInputError, ConfigError


def drawn(seed: int = 0, classes: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, classes, 4, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    labels = torch.randint(0, classes, (2, 4, 4), generator=generator)
    labels[0, 0, :2] = 255
    return logits, labels


def test_cross_entropy_by_hand():
    logits = torch.tensor([2.0, 0.0]).view(1, 2, 1, 1).expand(1, 2, 1, 3)
    labels = torch.tensor([[[0, 1, 255]]])
    right, wrong = math.log(1 + math.exp(-2)), math.log(1 + math.exp(2))
    assert float(cross_entropy(logits, labels)) == pytest.approx((right + wrong) / 2, rel=1e-6)
    weighted = cross_entropy(logits, labels, class_weights=torch.tensor([1.0, 3.0]))
    assert float(weighted) == pytest.approx((right + 3 * wrong) / 4, rel=1e-6)


@pytest.mark.parametrize("weights", [None, torch.tensor([0.5, 1.0, 4.0], dtype=torch.float64)])
def test_cross_entropy_is_torchs_on_the_pixels_that_count(weights):
    logits, labels = drawn()
    kept = labels != 255
    want = F.cross_entropy(logits.movedim(1, -1)[kept], labels[kept], weight=weights)
    torch.testing.assert_close(cross_entropy(logits, labels, class_weights=weights), want)
    torch.testing.assert_close(cross_entropy(logits, labels.to(torch.uint8), class_weights=weights), want)


def test_gradients_agree_with_finite_differences():
    logits, labels = drawn(1)
    weights = torch.tensor([0.5, 1.0, 4.0], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: cross_entropy(x, labels, class_weights=weights), logits)
    assert torch.autograd.gradcheck(lambda x: soft_dice(x, labels), logits)
    prior = torch.rand(2, 1, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1), requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: prior_l1(x, torch.full((2, 4, 4), 2.0, dtype=torch.float64)), prior)


@pytest.mark.parametrize("weights", [None, torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)])
def test_a_batch_of_ignored_pixels_costs_nothing_and_moves_nothing(weights):
    logits, labels = drawn()
    for loss in (cross_entropy(logits, labels.fill_(255), class_weights=weights), soft_dice(logits, labels)):
        assert float(loss) == 0
        (gradient,) = torch.autograd.grad(loss, logits)
        assert not gradient.any()


def test_ignored_pixels_have_no_gradient():
    logits, labels = drawn()
    for loss in (cross_entropy(logits, labels), soft_dice(logits, labels)):
        (gradient,) = torch.autograd.grad(loss, logits)
        assert not gradient[0, :, 0, :2].any()
        assert gradient[1].any()


def test_dice_by_hand():
    # Two classes, four pixels, probabilities 0.5 everywhere: class sums 2 and 2; labels 3 of class 0, 1 of class 1.
    labels = torch.tensor([[[0, 0], [0, 1]]])
    want = 1 - ((2 * 1.5 + 1) / (2 + 3 + 1) + (2 * 0.5 + 1) / (2 + 1 + 1)) / 2
    assert float(soft_dice(torch.zeros(1, 2, 2, 2), labels)) == pytest.approx(want, rel=1e-6)
    sure = F.one_hot(labels, 3).movedim(-1, 1).float() * 100
    assert float(soft_dice(sure, labels)) == pytest.approx(0, abs=1e-6)  # the third class is nowhere and does not count
    assert float(soft_dice(-sure, labels, smooth=1e-6)) == pytest.approx(1, abs=1e-3)


def test_prior_l1_is_the_mean_distance_with_or_without_a_channel():
    prior, target = torch.zeros(2, 1, 2, 2), torch.full((2, 1, 2, 2), 0.25)
    target[0, 0, 0, 0] = -1
    want = (1 + 7 * 0.25) / 8
    assert float(prior_l1(prior, target)) == pytest.approx(want)
    assert float(prior_l1(prior, target[:, 0])) == pytest.approx(want)


def test_the_total_is_the_weighted_sum_of_its_named_terms():
    logits, labels = drawn()
    prior, target = torch.zeros(2, 1, 4, 4, dtype=torch.float64), torch.full((2, 4, 4), 0.5, dtype=torch.float64)
    spec = SegmentationLossSpec(cross_entropy=2.0, prior=0.5, dice=0.25, class_weights=(1.0, 2.0, 1.0))
    parts = segmentation_loss(spec, logits, labels, prior=prior, prior_target=target)
    assert list(parts.terms) == ["cross_entropy", "dice", "prior"]
    entropy = cross_entropy(logits, labels, class_weights=torch.tensor([1.0, 2.0, 1.0], dtype=torch.float64))
    assert float(parts.total) == pytest.approx(float(2 * entropy + 0.25 * soft_dice(logits, labels)) + 0.5 * 0.5)
    assert parts.numbers()["prior"] == pytest.approx(0.5)
    without = segmentation_loss(SegmentationLossSpec(), logits, labels)
    assert list(without.terms) == ["cross_entropy"]


def test_bad_input_is_refused():
    logits, labels = drawn()
    with pytest.raises(BadInputError, match=r"labels of shape \(2, 2, 4\)"):
        cross_entropy(logits, labels[:, :2])
    with pytest.raises(BadInputError, match="float32"):
        soft_dice(logits, labels.float())
    with pytest.raises(BadInputError, match="one for each of 3 classes"):
        cross_entropy(logits, labels, class_weights=torch.ones(2))
    with pytest.raises(BadInputError, match="prior of shape"):
        prior_l1(torch.zeros(1, 1, 2, 2), torch.zeros(1, 3, 3))
    with pytest.raises(BadInputError, match="both or neither"):
        segmentation_loss(SegmentationLossSpec(), logits, labels, prior=torch.zeros(2, 1, 4, 4))
    for bad in ({"prior": -1.0}, {"dice": math.inf}, {"class_weights": (1.0, 0.0)}):
        with pytest.raises(ConfigError):
            SegmentationLossSpec(**bad)
    with pytest.raises(ConfigError):
        _ = Parts({}, {}).total
