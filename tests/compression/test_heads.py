from __future__ import annotations

import pytest
import torch

from pocketface.compression.models.registry import MODELS, ModelSpec, build_model
from pocketface.sdk.errors import ConfigError


@pytest.mark.parametrize("name", MODELS)
def test_every_model_takes_the_spatial_head(name: str):
    net = build_model(ModelSpec(name=name, input_size=64, head="spatial"), n_points=5).eval()
    with torch.inference_mode():
        points, score = net(torch.randn(2, 3, 64, 64))
    assert points.shape == (2, 5, 2)
    assert score.shape == (2,)


@pytest.mark.parametrize("head", ["pooled", "spatial"])
def test_training_starts_at_the_mean_shape(head: str):
    net = build_model(ModelSpec(name="mobilenetv2", width=0.25, input_size=64, head=head), n_points=5).eval()
    mean = torch.linspace(-0.4, 0.4, 10).reshape(5, 2)
    net.set_mean_shape(mean)
    with torch.inference_mode():
        points, _ = net(torch.randn(1, 3, 64, 64))
    assert torch.allclose(points[0], mean, atol=0.05)


@pytest.mark.parametrize(("head", "sees"), [("pooled", False), ("spatial", True)])
def test_only_the_spatial_head_sees_where_a_feature_is(head: str, sees: bool):
    net = build_model(ModelSpec(name="mobilenetv2", width=0.25, input_size=64, head=head), n_points=5).eval()
    maps = torch.rand(1, net.feature_dim, 2, 2)
    with torch.inference_mode():
        plain, score = net.read(maps)
        turned, turned_score = net.read(maps.flip(3))
    assert torch.allclose(plain, turned, atol=1e-7) is not sees
    assert torch.allclose(score, turned_score, atol=1e-6)


def test_the_spatial_head_is_a_fully_connected_layer():
    """Its last convolution against a plain matrix product over the flattened map."""
    net = build_model(ModelSpec(name="mobilenetv2", width=0.25, input_size=64, head="spatial"), n_points=5).eval()
    reduce, norm, clip, last = net.points
    maps = torch.rand(3, net.feature_dim, 2, 2)
    with torch.inference_mode():
        last.bias.uniform_(-0.1, 0.1)
        reduced = clip(norm(reduce(maps)))
        expected = reduced.flatten(1) @ last.weight.flatten(1).T + last.bias
        assert torch.allclose(net.read(maps)[0].flatten(1), expected, atol=1e-5)


def test_a_detached_score_gives_the_features_no_gradient():
    net = build_model(ModelSpec(name="mobilenetv2", width=0.25, input_size=64), n_points=5)
    maps = torch.rand(1, net.feature_dim, 2, 2, requires_grad=True)
    (open_gradient,) = torch.autograd.grad(net.read(maps)[1].sum(), maps)
    assert open_gradient.abs().sum() > 0
    _, score = net.read(maps, detach_score=True)
    assert torch.autograd.grad(score.sum(), maps, allow_unused=True) == (None,)


def test_an_unknown_head_is_refused():
    import msgspec

    with pytest.raises((ConfigError, msgspec.ValidationError), match="head"):
        msgspec.convert({"name": "mobilenetv2", "head": "spatal"}, ModelSpec)
