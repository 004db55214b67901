"""Eqs 5 and 6 by hand, and the distance of pictures in a network's eyes."""

from __future__ import annotations

import math

import pytest
import torch

from pocketface.compression.losses.perceptual import feature_distance, identity_loss, perceptual_loss
from pocketface.compression.models.features import Features
from pocketface.sdk.errors import BadInputError


def features(seed: int, *, side: int = 2) -> Features:
    generator = torch.Generator().manual_seed(seed)
    maps = tuple(torch.randn(2, c, side * k, side * k, generator=generator) for c, k in ((4, 2), (6, 1)))
    return Features(maps, torch.randn(2, 5, generator=generator))


def norm(a: torch.Tensor, b: torch.Tensor) -> float:
    """Root mean square of each picture, by loops over scalars; then the mean over the pictures."""
    each = []
    for p, q in zip(a, b, strict=True):
        squares = [(x - y) ** 2 for x, y in zip(p.flatten().tolist(), q.flatten().tolist(), strict=True)]
        each.append(math.sqrt(sum(squares) / len(squares)))
    return sum(each) / len(each)


def test_the_perceptual_loss_is_eq_5():
    a, b = features(0), features(1)
    layers = [norm(x, y) for x, y in zip(a.maps, b.maps, strict=True)]
    assert perceptual_loss(a, b).item() == pytest.approx(sum(layers), rel=1e-5)
    assert perceptual_loss(a, b, (1.0, 0.5)).item() == pytest.approx(layers[0] + 0.5 * layers[1], rel=1e-5)


def test_the_identity_loss_is_eq_6():
    a, b = features(0), features(1)
    assert identity_loss(a, b).item() == pytest.approx(norm(a.embedding, b.embedding), rel=1e-5)


def test_the_size_of_the_maps_does_not_change_the_scale():
    """The same error in four times as many places is the same loss."""
    a, b = features(0), features(1)
    larger = [Features(tuple(m.repeat(1, 1, 2, 2) for m in f.maps), f.embedding) for f in (a, b)]
    torch.testing.assert_close(perceptual_loss(*larger), perceptual_loss(a, b))


def test_equal_pictures_cost_nothing_and_have_finite_gradients():
    a = features(0)
    same = Features(tuple(m.clone().requires_grad_() for m in a.maps), a.embedding.clone().requires_grad_())
    loss = perceptual_loss(same, a) + identity_loss(same, a)
    loss.backward()
    assert loss.item() < 1e-5
    assert all(bool(m.grad.isfinite().all()) for m in (*same.maps, same.embedding))
    assert feature_distance(same, a).tolist() == [0.0, 0.0]


def test_not_one_weight_for_each_layer_is_refused():
    with pytest.raises(BadInputError, match="3 perceptual weights for 2 layers"):
        perceptual_loss(features(0), features(1), (1, 1, 1))


def test_the_distance_matches_a_slow_loop():
    a, b = features(0), features(1)
    for picture in range(2):
        total = 0.0
        for x, y in zip(a.maps, b.maps, strict=True):
            height, width = x.shape[-2:]
            for row in range(height):
                for column in range(width):
                    p, q = x[picture, :, row, column], y[picture, :, row, column]
                    total += float(((p / p.norm() - q / q.norm()) ** 2).sum()) / (height * width)
        assert feature_distance(a, b)[picture].item() == pytest.approx(total, rel=1e-5)


def test_the_distance_looks_at_directions_not_at_strength():
    a = features(0)
    louder = Features(tuple(3 * m for m in a.maps), a.embedding)
    assert feature_distance(louder, a).max() < 1e-10
    opposite = Features(tuple(-m for m in a.maps), a.embedding)
    assert feature_distance(opposite, a).tolist() == pytest.approx([8.0, 8.0])  # 2^2 in each of two layers
