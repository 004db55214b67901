"""A landmark teacher as the network that compares pictures: what it gives, what stays untouched, what is refused."""

from __future__ import annotations

import pytest
import torch

from pocketface.compression.losses.perceptual import identity_loss, perceptual_loss
from pocketface.compression.models.features_landmarks import POINTS, TYPICAL, LandmarkFeatures
from pocketface.compression.models.registry import ModelSpec, build_network
from pocketface.sdk.errors import ConfigError

SIZE = 32


@pytest.fixture(scope="module")
def teacher() -> torch.nn.Module:
    torch.manual_seed(0)
    return build_network(ModelSpec(name="acdc", width=0.125, input_size=SIZE), n_points=68).eval()


def test_its_maps_and_points_are_those_of_the_first_stage(teacher):
    seen: dict[str, torch.Tensor] = {}
    hooks = [
        layer.register_forward_hook(lambda _, __, value, name=name: seen.setdefault(name, value))
        for name, layer in (("stem", teacher.stem), ("first", teacher.nets[0]))
    ]
    pictures = torch.rand(2, 3, SIZE, SIZE)
    with torch.no_grad():
        stages = teacher.stages((255 * pictures - 127.5) / 127.5)
        for hook in hooks:
            hook.remove()
        found = LandmarkFeatures(teacher)(pictures)
    torch.testing.assert_close(found.maps[0] * TYPICAL, seen["stem"])
    torch.testing.assert_close(found.maps[1] * TYPICAL, seen["first"])
    torch.testing.assert_close(found.embedding.reshape(2, 68, 2) / POINTS, stages[0].points["68"])


def test_gradients_reach_the_picture_and_no_weight(teacher):
    net = LandmarkFeatures(teacher)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    torch.nn.ModuleList([net]).train()
    made = torch.rand(2, 3, SIZE, SIZE, requires_grad=True)
    clean = net(torch.rand(2, 3, SIZE, SIZE)).detach()
    seen = net(made)
    (perceptual_loss(seen, clean) + identity_loss(seen, clean)).backward()
    assert made.grad is not None
    assert (made.grad.flatten(1).abs().sum(1) > 0).all()
    assert all(parameter.grad is None for parameter in net.parameters())
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_only_a_cascade_will_do():
    with pytest.raises(ConfigError, match="landmark cascade"):
        LandmarkFeatures(build_network(ModelSpec(name="acdc_s", width=0.125, input_size=SIZE), n_points=68))
