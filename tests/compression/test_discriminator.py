"""The discriminator: the encoder's mirror image, without dense layers, leaky everywhere."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pocketface.compression.losses.adversarial import discriminator_loss
from pocketface.compression.models.discriminator import Discriminator
from pocketface.compression.models.uniformizer import Uniformizer
from pocketface.sdk.errors import ConfigError


def convolutions(net: nn.Module) -> list[tuple[int, int, tuple[int, ...]]]:
    return [(m.in_channels, m.out_channels, m.stride) for m in net.modules() if isinstance(m, nn.Conv2d)]


def test_it_has_the_encoders_convolutions_no_dense_layer_and_no_plain_relu():
    with torch.device("meta"):
        net, generator = Discriminator(width=0.5, input_size=128), Uniformizer(width=0.5, input_size=128)
    assert convolutions(net.features) == convolutions(generator.encoder)
    assert not [m for m in net.modules() if isinstance(m, nn.Linear | nn.ReLU)]
    assert len([m for m in net.modules() if isinstance(m, nn.LeakyReLU)]) == len(convolutions(net.features))


def test_it_gives_one_logit_for_each_picture():
    net = Discriminator(width=0.125, input_size=32)
    assert net(torch.rand(5, 3, 32, 32)).shape == (5,)


def test_it_learns_to_tell_two_kinds_of_pictures_apart():
    torch.manual_seed(0)
    net = Discriminator(width=0.125, input_size=8)
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    for _ in range(120):
        smooth = torch.rand(16, 3, 1, 1).expand(-1, -1, 8, 8)
        loss = discriminator_loss(net(smooth), net(torch.rand(16, 3, 8, 8)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.5  # 2 log 2 = 1.39 for guessing


def test_a_size_that_cannot_be_halved_is_refused():
    with pytest.raises(ConfigError, match="48"):
        Discriminator(width=1.0, input_size=48)
