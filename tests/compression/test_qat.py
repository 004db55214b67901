"""Rounding in training against slow references, and against the 8-bit file that it stands for."""

from __future__ import annotations

import copy
import functools
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_export import inputs
from torch import Tensor, nn

from pocketface.compression.models.heads import LandmarkNet
from pocketface.compression.models.mobilenetv2 import conv_bn
from pocketface.compression.models.registry import MODELS, ModelSpec, build_model
from pocketface.compression.quantize.qat import (
    FoldedConv,
    QatConfig,
    RoundActivations,
    folded,
    round_weights,
    rounded,
    simulated,
)
from pocketface.compression.quantize.registry import QUANTIZERS
from pocketface.converters.formats.registry import EXPORTERS
from pocketface.converters.parity import backend_of
from pocketface.sdk.errors import ConfigError

SIZE = 32


@functools.cache
def tiny() -> LandmarkNet:
    """A MobileNetV2 in evaluation mode whose batch norms have seen pictures; do not change it."""
    torch.manual_seed(1)
    net = build_model(ModelSpec(name="mobilenetv2", width=0.25, input_size=SIZE), n_points=68)
    with torch.no_grad():
        net.points.weight.mul_(30)
        for _ in range(30):
            net(torch.from_numpy(np.array(inputs(32))))
    return net.eval()


def randomised(norm: nn.BatchNorm2d) -> nn.BatchNorm2d:
    with torch.no_grad():
        for tensor in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
            tensor.copy_(torch.rand_like(tensor) + 0.5)  # type: ignore[union-attr]
    return norm.eval()


@pytest.mark.parametrize("bias", [False, True])
def test_folded_is_the_convolution_and_its_batch_norm(bias: bool):
    torch.manual_seed(0)
    conv, norm = nn.Conv2d(6, 4, 3, padding=1, groups=2, bias=bias), randomised(nn.BatchNorm2d(4))
    x = torch.randn(2, 6, 5, 5)
    wanted = norm(conv(x))
    torch.testing.assert_close(FoldedConv(conv, norm, rounds=False).train()(x), wanted)
    weight, shift = folded(conv, norm)
    torch.testing.assert_close(nn.functional.conv2d(x, weight, shift, padding=1, groups=2), wanted)


def test_weights_are_rounded_by_output_channel():
    torch.manual_seed(0)
    weight = torch.randn(3, 2, 3, 3) * torch.tensor([1.0, 10.0, 0.01]).view(3, 1, 1, 1)
    found = round_weights(weight)
    for wanted, got in zip(weight.numpy(), found.numpy(), strict=True):
        step = np.abs(wanted).max() / 127
        np.testing.assert_allclose(got, np.rint(wanted / step) * step, atol=1e-6 * step * 127)
        assert np.abs(np.rint(got / step)).max() == 127
    assert bool((round_weights(torch.zeros(2, 1, 1, 1)) == 0).all())


def test_the_gradient_passes_through_the_rounding_of_weights():
    weight = torch.randn(2, 3, 1, 1, requires_grad=True)
    round_weights(weight).sum().backward()
    assert weight.grad is not None
    assert bool((weight.grad == 1).all())


def test_activations_have_256_steps_between_running_averages():
    layer = RoundActivations(0.25).train()
    first, second = torch.tensor([-1.0, 3.0]), torch.tensor([-2.0, 1.0])
    layer(first)
    assert (float(layer.low), float(layer.high)) == (-1, 3), "the first batch's own"
    layer(second)
    assert (float(layer.low), float(layer.high)) == pytest.approx((-1.25, 2.5))
    step = 3.75 / 255
    x = torch.linspace(-1.2, 2.4, 50)
    found = layer.eval()(x)
    assert float((found - x).abs().max()) <= step / 2 + 1e-6
    levels = (found / step).numpy()
    np.testing.assert_allclose(levels, np.rint(levels), atol=1e-3)
    assert float(layer(torch.zeros(1))) == 0
    assert float(layer(torch.tensor([9.0]))) == pytest.approx(2.5, abs=step), "cut off"
    assert (float(layer.low), float(layer.high)) == pytest.approx((-1.25, 2.5)), "evaluation does not look"


def test_activations_beyond_the_range_get_no_gradient():
    layer = RoundActivations(0.01)
    layer(torch.tensor([-1.0, 1.0]))
    x = torch.tensor([-3.0, -0.5, 0.5, 3.0], requires_grad=True)
    layer.eval()(x).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [0, 1, 1, 0]


def test_nothing_but_zeros_stays_zero():
    assert bool((RoundActivations(0.1)(torch.zeros(4)) == 0).all())


def test_the_range_holds_zero():
    layer = RoundActivations(1.0)
    layer(torch.tensor([2.0, 3.0]))
    assert (float(layer.low), float(layer.high)) == (0, 3)


def test_the_network_is_itself_again_afterwards():
    net = copy.deepcopy(tiny())
    x = torch.from_numpy(np.array(inputs(4)))
    before, tensors = net(x)[0], dict(net.state_dict(keep_vars=True))
    with simulated(net, QatConfig()) as report:
        net.train()
        during = net(x)[0]
        net.eval()
    assert bool((during != before).any())
    assert bool((net(x)[0] == before).all())
    after = net.state_dict(keep_vars=True)
    assert after.keys() == tensors.keys()
    assert all(after[name] is tensors[name] for name in after)
    convolutions = [name for name, module in net.features.named_modules() if isinstance(module, nn.Conv2d)]
    assert report.weights == tuple(f"features.{name}" for name in convolutions[1:])
    assert report.float == ("features.0.0",)
    # Each convolution's result once, behind its ReLU6 where it has one, and that of each shortcut.
    shortcuts = sum(getattr(module, "shortcut", False) for module in net.features.modules())
    assert report.activations == len(convolutions) + shortcuts
    assert f"{len(convolutions) - 1} layers" in str(report)


def test_it_trains_the_networks_own_tensors():
    net = copy.deepcopy(tiny())
    before = copy.deepcopy(net.state_dict())
    with simulated(net, QatConfig()):
        net.train()
        optimiser = torch.optim.SGD(net.parameters(), lr=0.1)
        net(torch.from_numpy(np.array(inputs(8))))[0].square().sum().backward()
        assert [name for name, p in net.features.named_parameters() if p.grad is None] == []
        optimiser.step()
    after = net.state_dict()
    for name, tensor in after.items():
        if name.startswith("features"):
            still = "running" in name or "num_batches" in name
            assert bool((tensor == before[name]).all()) == still, name


def test_it_rounds_as_the_8_bit_file_does(tmp_path: Path):
    """Of a few layers: over many, two roundings of the same network drift apart."""
    torch.manual_seed(2)
    layers = [conv_bn(3, 16, stride=2), conv_bn(16, 16, groups=16), nn.Conv2d(16, 32, 1, bias=False)]
    net = LandmarkNet(nn.Sequential(*layers, nn.BatchNorm2d(32)), 32, n_points=68, input_size=SIZE)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            randomised(module)
    net, x = net.eval(), np.array(inputs(16))
    with torch.no_grad():
        net.points.weight.mul_(100)
    source = EXPORTERS["onnx"].export(net, precision="fp32", path=tmp_path / "a.onnx", input_size=SIZE)
    item = QUANTIZERS["onnx.w8a8"](source, tmp_path / "b.onnx", x)
    backend = backend_of(item)
    file = np.concatenate([backend.run({"image": image[None]})["points"] for image in x])
    with torch.no_grad():
        plain = net(torch.from_numpy(x))[0].numpy()
        with simulated(net, QatConfig(momentum=1.0)):
            net.train()(torch.from_numpy(x))  # extremes of all pictures, as the file's
            maps = net.eval().features(torch.from_numpy(x))
        # Behind the trunk, which is all that rounds in training, the file has the heads' weights in 8 bits.
        weight = round_weights(net.points.weight[:, :, None, None])[:, :, 0, 0]
        rounding = nn.functional.linear(maps.mean((2, 3)), weight, net.points.bias).reshape(-1, 68, 2).numpy()
    assert np.abs(rounding - file).mean() < 0.2 * np.abs(plain - file).mean()


@pytest.mark.parametrize("name", sorted(MODELS))
def test_every_landmark_network_can_round(name: str):
    net = build_model(ModelSpec(name=name, input_size=64), n_points=5).eval()
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        wanted = net.features(x)
        graph, report = rounded(net.features, 64, QatConfig(keep_float=("features",)))
        torch.testing.assert_close(graph.eval()(x), wanted, rtol=1e-3, atol=1e-4)
        assert report.weights == ()
        _, report = rounded(net.features, 64, QatConfig(float_first=False))
    assert len(report.weights) == sum(isinstance(module, nn.Conv2d) for module in net.features.modules())


def test_unknown_modules_are_refused():
    with pytest.raises(ConfigError, match=r"features\.99"):
        rounded(tiny().features, SIZE, QatConfig(keep_float=("features.99",)))
    with pytest.raises(ConfigError, match="momentum"):
        QatConfig(momentum=0.0)


class Choosy(nn.Module):
    """Whose course depends on what it sees."""

    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


def test_a_network_that_is_no_graph_is_refused():
    with pytest.raises(ConfigError, match="graph"):
        rounded(nn.Sequential(nn.Conv2d(3, 3, 1), Choosy()), SIZE, QatConfig())


def test_one_strange_crop_changes_nothing_for_the_others():
    """Heads normalise by standing statistics: a face reads the same beside any other crop."""
    torch.manual_seed(3)
    net = copy.deepcopy(tiny())
    net.use_spatial_head()
    net.points[1] = randomised(nn.BatchNorm2d(64)).train()
    before = copy.deepcopy(net.state_dict())
    faces = torch.from_numpy(np.array(inputs(4)))
    with simulated(net.train(), QatConfig(keep_float=("features",))):
        alone = net(faces)[0]
        beside = net(torch.cat((faces, 50 * torch.ones_like(faces[:1]))))[0][:4]
        alone.square().sum().backward()
        assert net.points[1].norm.weight.grad.abs().sum() > 0  # its scale trains
    torch.testing.assert_close(beside, alone)
    assert isinstance(net.points[1], nn.BatchNorm2d)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
