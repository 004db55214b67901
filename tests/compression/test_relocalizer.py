"""The relocalizer network: the paper's layers, the identity at first, the same numbers after export."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from pocketface.compression.models.blocks import GREY
from pocketface.compression.models.checkpoint import load_checkpoint, save_network
from pocketface.compression.models.registry import ModelSpec, build_network
from pocketface.compression.models.relocalizer import IDENTITY, Relocalizer
from pocketface.converters.formats.registry import EXPORTERS
from pocketface.sdk.errors import ConfigError

SPEC = ModelSpec(name="relocalizer", width=0.125, input_size=64)


def pictures(count: int, size: int) -> torch.Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(0))


def lively(spec: ModelSpec = SPEC) -> Relocalizer:
    """A network whose output is not the identity and whose batch norm has statistics of its own."""
    torch.manual_seed(1)
    net = build_network(spec)
    assert isinstance(net, Relocalizer)
    torch.nn.init.normal_(net.box.weight, std=0.02)
    net.train()
    for _ in range(3):
        net(pictures(8, spec.input_size))
    return net.eval()


@pytest.mark.parametrize("size", [64, 65, 96, 128])
@pytest.mark.parametrize("training", [True, False])
def test_an_untrained_network_leaves_every_box_as_it_is(size: int, training: bool):
    net = Relocalizer(width=0.125, input_size=size).train(training)
    (box,) = net(pictures(3, size))
    assert box.dtype == torch.float32
    torch.testing.assert_close(box, torch.tensor(IDENTITY).expand(3, 4), rtol=0, atol=0)


def test_the_layers_are_the_papers():
    """Section IV-B: 128 pixels of grey; 64, 64, 128, 256, 512, 1024 channels by 3 x 3 of stride 2; 1024 and 4 dense."""
    with torch.device("meta"):
        net = Relocalizer(width=1.0, input_size=128)
    convolutions = [module for module in net.modules() if isinstance(module, torch.nn.Conv2d)]
    *body, hidden, last = convolutions
    assert [(c.in_channels, c.out_channels) for c in body] == [
        (1, 64), (64, 64), (64, 128), (128, 256), (256, 512), (512, 1024),
    ]  # fmt: skip
    assert all((c.kernel_size, c.stride) == ((3, 3), (2, 2)) for c in body)
    assert hidden.kernel_size == (2, 2)  # all that is left of 128 pixels: with it, a dense layer of 2 x 2 x 1024
    assert (hidden.in_channels, hidden.out_channels, last.out_channels) == (1024, 1024, 4)
    assert last.kernel_size == (1, 1)


def test_the_large_convolution_is_a_dense_layer_on_the_flattened_map():
    net = lively(ModelSpec(name="relocalizer", width=0.125, input_size=128))
    x = pictures(2, 128)
    with torch.no_grad():
        flat = net.features(net.grey(x)).flatten(1)
        assert flat.shape == (2, 2 * 2 * 128)
        hidden = torch.relu(flat @ net.hidden[0].weight.flatten(1).T + net.hidden[0].bias)
        expected = hidden @ net.box.weight.flatten(1).T + net.box.bias
        torch.testing.assert_close(net(x)[0], expected)


def test_width_scales_every_layer():
    net = Relocalizer(width=0.5, input_size=96)
    outputs = [module.out_channels for module in net.modules() if isinstance(module, torch.nn.Conv2d)]
    assert outputs == [32, 32, 64, 128, 256, 512, 512, 4]


def test_it_sees_grey_alone():
    net, x = lively(), pictures(2, 64)
    grey = (x * torch.tensor(GREY).view(1, 3, 1, 1)).sum(1, keepdim=True)
    with torch.no_grad():
        torch.testing.assert_close(net(x)[0], net(grey.expand_as(x))[0], atol=1e-5, rtol=1e-4)
        assert (net(x)[0] - net(x.flip(1))[0]).abs().max() > 1e-4  # channels are weighed, not averaged


def test_every_layer_learns():
    """The last layer starts at 0, and after its first step lets gradients through."""
    net = Relocalizer(width=0.125, input_size=64).train()
    optimiser = torch.optim.SGD(net.parameters(), lr=0.1)
    for _ in range(2):
        optimiser.zero_grad()
        (net(pictures(4, 64))[0] - torch.tensor([0.1, 0.2, 0.8, 1.1])).abs().mean().backward()
        optimiser.step()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in net.parameters())


@pytest.mark.parametrize("size", [32, 63])
def test_inputs_that_shrink_to_nothing_are_refused(size: int):
    with pytest.raises(ConfigError, match="at least 64"):
        build_network(ModelSpec(name="relocalizer", input_size=size))


def test_it_says_what_it_is_and_goes_through_a_checkpoint(tmp_path: Path):
    net = lively()
    assert (net.task, net.output_names, net.input_size) == ("relocalize", ("box",), 64)
    save_network(net, tmp_path / "r.safetensors", SPEC)
    again = load_checkpoint(tmp_path / "r.safetensors")
    with torch.no_grad():
        torch.testing.assert_close(again(pictures(2, 64))[0], net(pictures(2, 64))[0])


def test_onnx_gives_torchs_numbers(tmp_path: Path):
    net, x = lively(), pictures(1, 64)
    exported = EXPORTERS["onnx"].export(net, precision="fp32", path=tmp_path / "r.onnx", input_size=64)
    assert exported.outputs["box"].shape == (1, 4)
    session = onnxruntime.InferenceSession(tmp_path / "r.onnx", providers=["CPUExecutionProvider"])
    (got,) = session.run(["box"], {"image": x.numpy()})
    with torch.no_grad():
        expected = net(x)[0].numpy()
    assert np.abs(expected - IDENTITY).max() > 1e-2
    np.testing.assert_allclose(got, expected, atol=1e-5)
