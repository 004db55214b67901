"""The two generators: the printed sizes, what they give, and that every number survives an export."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from pocketface.compression.models.blocks import MID_GREY
from pocketface.compression.models.flops import flops
from pocketface.compression.models.registry import ModelSpec, build_network
from pocketface.compression.models.uniformizer import CHANNELS, Uniformizer, channels_for
from pocketface.compression.models.uniformizer_mobile import UniformizerMobile
from pocketface.converters.formats.registry import EXPORTERS
from pocketface.sdk.errors import ConfigError

NAMES = ("uniformizer", "uniformizer_mobile", "uniformizer_skip")


def network(name: str, size: int = 32, width: float = 0.125) -> nn.Module:
    torch.manual_seed(0)
    return build_network(ModelSpec(name=name, width=width, input_size=size))


def test_at_128_pixels_the_generator_has_the_printed_channels_and_dense_layer():
    with torch.device("meta"):
        net = Uniformizer(width=1.0, input_size=128)
    convolutions = [m for m in net.encoder.modules() if isinstance(m, nn.Conv2d)]
    assert [(m.out_channels, m.stride[0]) for m in convolutions] == [
        (64, 1), (64, 2), (64, 1), (128, 2), (128, 1), (128, 2), (128, 1), (256, 2), (256, 1), (256, 2),
    ]  # fmt: skip
    assert net.dense[1].in_features == net.dense[1].out_features == 4096
    assert net.maps == (256, 4, 4)
    assert net(torch.zeros(1, 3, 128, 128, device="meta"))[0].shape == (1, 3, 128, 128)


def test_a_smaller_generator_is_the_larger_one_without_its_first_blocks():
    assert channels_for(128, 1.0) == CHANNELS
    assert channels_for(64, 1.0) == CHANNELS[1:]
    assert channels_for(32, 0.5) == (64, 64, 128, 128)
    assert channels_for(256, 1.0) == (64, *CHANNELS)


def test_the_decoder_mirrors_the_encoder():
    net = Uniformizer(width=1.0, input_size=64).to("meta")
    encoder = [(m.in_channels, m.out_channels) for m in net.encoder.modules() if isinstance(m, nn.Conv2d)]
    decoder = [(m.out_channels, m.in_channels) for m in net.decoder.modules() if isinstance(m, nn.Conv2d)]
    assert decoder[::-1] == encoder


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("training", [False, True])
def test_it_gives_one_picture_in_the_unit_range(name, training):
    net = network(name).train(training)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    outputs = net(3 * torch.randn(4, 3, 32, 32))
    assert len(outputs) == len(net.output_names) == 1
    assert outputs[0].shape == (4, 3, 32, 32)
    assert 0 <= outputs[0].min() < outputs[0].max() <= 1
    assert (net.task, net.input_size, net.mean, net.std) == ("uniformize", 32, MID_GREY, MID_GREY)


def test_the_small_generator_begins_by_giving_back_its_input():
    pixels = torch.rand(2, 3, 32, 32) * 255
    given = network("uniformizer_mobile").eval()((pixels - 127.5) / 127.5)[0]
    torch.testing.assert_close(given, pixels / 255)


def test_a_clipped_pixel_still_has_a_gradient_in_training():
    net = network("uniformizer_mobile")
    with torch.no_grad():
        net.residual.bias.fill_(5.0)  # everything is clipped to white
    given = net.train()(torch.zeros(2, 3, 32, 32))[0]
    torch.testing.assert_close(given, torch.ones_like(given))
    given.sum().backward()
    assert torch.allclose(net.residual.bias.grad, torch.full((3,), 2.0 * 32 * 32))


@pytest.mark.parametrize(("size", "least", "most"), [(64, 10, 14), (128, 5, 7)])
def test_the_small_generator_takes_the_share_of_multiply_adds_that_it_claims(size, least, most):
    with torch.device("meta"):
        large, small = Uniformizer(width=0.5, input_size=size), UniformizerMobile(width=1.0, input_size=size)
    assert least < flops(large) / flops(small) < most


@pytest.mark.parametrize("name", NAMES)
def test_every_part_of_the_picture_can_reach_every_other(name):
    """Light is a fact about the whole crop: the corner's pixel must see the opposite corner."""
    net = network(name, size=64).eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    x = torch.zeros(1, 3, 64, 64, requires_grad=True)
    net(x)[0][0, 0, 0, 0].backward()
    assert x.grad[0, :, 48:, 48:].abs().sum() > 0


@pytest.mark.parametrize(("name", "size"), [("uniformizer", 96), ("uniformizer", 33), ("uniformizer_mobile", 40)])
def test_a_size_that_cannot_be_halved_is_refused(name, size):
    with pytest.raises(ConfigError, match=str(size)):
        network(name, size=size)


def test_skip_connections_cost_no_weight_and_carry_detail_past_the_dense_layer():
    printed, skip = (network(name).eval() for name in ("uniformizer", "uniformizer_skip"))
    assert printed.state_dict().keys() == skip.state_dict().keys()
    with torch.no_grad():
        for net in (printed, skip):
            net.dense[1].weight.zero_()  # nothing passes
            net.dense[1].bias.zero_()
        a, b = torch.randn(2, 1, 3, 32, 32)
        assert torch.equal(printed(a)[0], printed(b)[0])
        assert not torch.allclose(skip(a)[0], skip(b)[0])


@pytest.mark.parametrize("name", NAMES)
def test_it_exports_to_onnx_with_the_same_numbers(name, tmp_path: Path):
    import onnxruntime

    net = network(name).train()
    for _ in range(3):  # statistics of its own, or batch norm would be the identity
        net(torch.randn(8, 3, 32, 32))
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    net.eval()
    EXPORTERS["onnx"].export(net, precision="fp32", path=tmp_path / "net.onnx", input_size=32, fp32=None)
    x = torch.randn(1, 3, 32, 32)
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx", providers=["CPUExecutionProvider"])
    assert [output.name for output in session.get_outputs()] == ["picture"]
    (given,) = session.run(None, {"image": x.numpy()})
    with torch.no_grad():
        np.testing.assert_allclose(given, net(x)[0].numpy(), atol=1e-5)
