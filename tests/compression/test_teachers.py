from __future__ import annotations

import numpy as np
import pytest
import torch

from pocketface.compression.augment.spec import AugmentSpec
from pocketface.compression.augment.views import ViewRenderer
from pocketface.compression.cache import FaceCache
from pocketface.compression.models.registry import ModelSpec, build_model
from pocketface.compression.training.teachers import CachedTeachers, LiveTeachers, look_at_pool
from pocketface.compression.training.tensors import network_input
from pocketface.sdk.schemes.registry import load_scheme

VIEWS = 3


@pytest.fixture(scope="module")
def live(textured_cache: FaceCache) -> LiveTeachers:
    torch.manual_seed(0)
    nets = {
        name: build_model(ModelSpec(name="mobilenetv2", width=0.25, input_size=size))
        for name, size in (("tough", 32), ("tolerant", 64))
    }
    renderer = ViewRenderer(textured_cache, AugmentSpec(), seed=0, flip=load_scheme("ibug68").flip)
    with torch.no_grad():
        for net in nets.values():
            # A fresh network says nearly 0 about every picture: give it a head and batch statistics that make a
            # difference.
            net.points.weight.normal_(std=0.1)
            for module in net.modules():
                if isinstance(module, torch.nn.BatchNorm2d):
                    module.momentum = 1.0
            everyone = np.arange(len(textured_cache))
            net(network_input(net, renderer.faces(everyone, np.full_like(everyone, 9), net.input_size).pixels))
    return LiveTeachers(nets, renderer)


def test_cached_teachers_say_what_live_ones_say_for_each_view(live: LiveTeachers, textured_cache: FaceCache):
    cached = CachedTeachers(look_at_pool(live, len(textured_cache), VIEWS, batch=5))
    index, views = np.array([4, 0, 5, 4]), np.array([2, 1, 0, 0])
    fresh, kept = live.points(index, views), cached.points(index, views)
    for name in ("tough", "tolerant"):
        assert torch.allclose(fresh[name], kept[name], atol=1e-5)
        assert not torch.allclose(kept[name][0], kept[name][3], atol=1e-4)  # two views of one face


def test_each_teacher_sees_the_view_at_its_own_size(live: LiveTeachers):
    index, views = np.array([1]), np.array([2])
    for name, size in (("tough", 32), ("tolerant", 64)):
        net = live.nets[name]
        with torch.inference_mode():
            expected = net(network_input(net, live.renderer.faces(index, views, size).pixels))[0]
        assert torch.allclose(live.points(index, views)[name], expected, atol=1e-6)


def test_teachers_do_not_learn(live: LiveTeachers):
    for net in live.nets.values():
        assert not net.training
        assert not any(parameter.requires_grad for parameter in net.parameters())
    assert not live.points(np.array([0]), np.array([0]))["tough"].requires_grad
