"""Networks against published figures, torchvision's names, and what holds for every network."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pocketface.compression.models.efficientnet import MBConv, PaddedConv2d, SqueezeExcitation, Style
from pocketface.compression.models.flops import count_parameters, flops
from pocketface.compression.models.heads import IMAGENET_MEAN, IMAGENET_STD, LandmarkNet
from pocketface.compression.models.mobilenetv2 import make_divisible
from pocketface.compression.models.registry import MODELS, ModelSpec, build_model, build_network
from pocketface.sdk.errors import ConfigError, UnknownNameError


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="module", params=sorted(MODELS))
def net(request: pytest.FixtureRequest) -> LandmarkNet:
    """Every registered network at 64 px: a new one is tested by being registered."""
    torch.manual_seed(0)
    return build_model(ModelSpec(name=request.param, input_size=64), n_points=5)


# Every network


def test_outputs_have_the_promised_shapes_and_types(net: LandmarkNet) -> None:
    with torch.no_grad():
        points, score = net.eval()(torch.randn(3, 3, 64, 64))
    assert points.shape == (3, 5, 2)
    assert score.shape == (3,)
    assert points.dtype == score.dtype == torch.float32
    assert torch.isfinite(points).all()
    assert torch.isfinite(score).all()


def test_every_parameter_gets_a_gradient(net: LandmarkNet) -> None:
    net.train()
    points, score = net(torch.randn(4, 3, 64, 64))
    (points.square().sum() + score.square().sum() + points.sum() + score.sum()).backward()
    without = [name for name, parameter in net.named_parameters() if parameter.grad is None]
    net.zero_grad(set_to_none=True)
    assert without == []


def test_one_image_does_not_depend_on_its_batch_in_evaluation(net: LandmarkNet) -> None:
    images = torch.randn(3, 3, 64, 64)
    with torch.no_grad():
        together, alone = net.eval()(images), net(images[1:2])
    torch.testing.assert_close(together[0][1:2], alone[0])
    torch.testing.assert_close(together[1][1:2], alone[1])


def test_channels_last_goes_through_unbroken(net: LandmarkNet) -> None:
    """A layer that falls back to the plain layout would copy every activation twice."""
    layouts: list[tuple[str, bool]] = []
    last = net.eval().to(memory_format=torch.channels_last)
    handles = [
        module.register_forward_hook(
            lambda _, inputs, output, name=name: layouts.append(
                (name, output.is_contiguous(memory_format=torch.channels_last))
            )
        )
        for name, module in last.features.named_modules()
        if isinstance(module, nn.Conv2d)
    ]
    with torch.no_grad():
        last(torch.randn(2, 3, 64, 64).contiguous(memory_format=torch.channels_last))
    for handle in handles:
        handle.remove()
    net.to(memory_format=torch.contiguous_format)
    assert layouts
    assert [name for name, kept in layouts if not kept] == []


def test_first_predictions_are_the_mean_shape(net: LandmarkNet) -> None:
    shape = torch.tensor([[-0.2, -0.1], [0.2, -0.1], [0.0, 0.05], [-0.1, 0.2], [0.1, 0.2]])
    net.set_mean_shape(shape)
    with torch.no_grad():
        # Training mode: batch norm gives the features the size they will have when training starts.
        points, _ = net.train()(torch.randn(4, 3, 64, 64))
    assert (points - shape).abs().max() < 0.1
    with torch.no_grad():
        net.points.weight.zero_()
        points, _ = net.eval()(torch.randn(2, 3, 64, 64))
    torch.testing.assert_close(points, shape.expand(2, 5, 2))


def test_same_seed_same_weights() -> None:
    one, two = ((torch.manual_seed(7), build_model(ModelSpec(name="mobilenetv2", width=0.25)))[1] for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True))


@pytest.mark.parametrize("shape", [torch.zeros(4, 2), torch.zeros(10), torch.full((5, 2), math.nan)])
def test_a_mean_shape_that_does_not_fit_is_refused(shape: Tensor) -> None:
    small = build_model(ModelSpec(name="mobilenetv2", width=0.25, input_size=32), n_points=5)
    with pytest.raises(ConfigError, match="mean shape"):
        small.set_mean_shape(shape)


def test_dropout_is_off_unless_asked_for() -> None:
    def spread(dropout: float) -> Tensor:
        net = LandmarkNet(nn.Conv2d(3, 64, 1), 64, n_points=2, input_size=8, dropout=dropout).train()
        image = torch.randn(1, 3, 8, 8)
        with torch.no_grad():
            return (net(image)[0] - net(image)[0]).abs().max()

    assert spread(0.0) == 0
    assert spread(0.5) > 0


# Published figures


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        # torchvision's totals (3,504,872 and 12,233,232) less the classifiers (1280 and 1536 features, 1000 classes).
        ("mobilenetv2", 3_504_872 - 1_281_000),
        ("efficientnet_b3", 12_233_232 - 1_537_000),
        # 4.652, 5.417 and 6.092 million with the classifier, in the tables of EfficientNet-Lite.
        ("efficientnet_lite0", 4_652_008 - 1_281_000),
        ("efficientnet_lite1", 5_416_680 - 1_281_000),
        ("efficientnet_lite2", 6_092_072 - 1_281_000),
    ],
)
def test_the_backbone_has_the_published_number_of_parameters(name: str, parameters: int) -> None:
    net = build_model(ModelSpec(name=name))
    assert count_parameters(net.features) == parameters
    heads = (net.feature_dim + 1) * (2 * 68 + 1)
    assert count_parameters(net) == parameters + heads


@pytest.mark.parametrize(
    ("name", "size", "gmacs"),
    # torchvision's documentation; for Lite the table of another implementation (d-li14/efficientnet-lite.pytorch).
    [
        ("mobilenetv2", 224, 0.301),
        ("efficientnet_b3", 300, 1.827),
        ("efficientnet_lite0", 224, 0.385),
        ("efficientnet_lite1", 240, 0.600),
        ("efficientnet_lite2", 260, 0.860),
    ],
)
def test_flops_are_twice_the_published_multiply_adds(name: str, size: int, gmacs: float) -> None:
    net = build_model(ModelSpec(name=name, input_size=size)).to("meta")
    with_classifier = flops(net) + 2 * net.feature_dim * (1000 - 2 * 68 - 1)
    assert with_classifier == pytest.approx(2e9 * gmacs, rel=0.005)


def test_flops_of_one_convolution_by_hand() -> None:
    net = LandmarkNet(nn.Conv2d(3, 8, 3, stride=2, padding=1), 8, n_points=4, input_size=16).train()
    convolution = 2 * (8 * 8) * 8 * (3 * 3 * 3)
    heads = 2 * 8 * (2 * 4) + 2 * 8 * 1
    assert flops(net) == convolution + heads
    assert net.training


@pytest.mark.parametrize(
    ("stem", "macs"),
    # At stem 1 a 3 x 3 convolution of 5 classes on the input's 64 x 64 cells; at stem 4 a 1 x 1 one on half the side.
    [(1, 64 * 64 * 8 * (3 * 3 * 5)), (4, 32 * 32 * 8 * 5)],
)
def test_a_previous_mask_costs_its_convolution(stem: int, macs: int) -> None:
    options = {"features": 8, "expansion": 2, "dense": False, "stem": stem}
    without, with_previous = (
        build_network(
            ModelSpec(name="hourglass", input_size=64, options={**options, "previous": previous}), n_classes=5
        ).to("meta")
        for previous in (False, True)
    )
    assert flops(with_previous) - flops(without) == 2 * macs


# MobileNetV2


@pytest.mark.parametrize(
    ("value", "expected"),
    # By hand: nearest multiple of 8, one more where that would lose over 10 %.
    [
        (32, 32),
        (24.0, 24),
        (33.6, 32),
        (5.6, 8),
        (1, 8),
        (12, 16),
        (17.6, 16),
        (11, 16),
        (17.9, 24),
        (1280 * 1.4, 1792),
    ],
)
def test_make_divisible(value: float, expected: int) -> None:
    assert make_divisible(value) == expected


@pytest.mark.parametrize("width", [0.25, 0.35, 0.5, 0.75, 1.0, 1.4])
def test_width_scales_every_layer_to_multiples_of_8(width: float) -> None:
    net = build_model(ModelSpec(name="mobilenetv2", width=width, input_size=32))
    convolutions = [module for module in net.features.modules() if isinstance(module, nn.Conv2d)]
    assert len(convolutions) == 52
    assert all(module.out_channels % 8 == 0 for module in convolutions)
    assert convolutions[0].out_channels == make_divisible(32 * width)
    assert net.feature_dim == convolutions[-1].out_channels == make_divisible(1280 * max(1.0, width))
    with torch.no_grad():
        assert net.eval()(torch.zeros(1, 3, 32, 32))[0].shape == (1, 68, 2)


def test_width_a_half_has_the_published_number_of_parameters() -> None:
    """1,968,680 with the classifier of 1000 classes, in torchvision and timm (mobilenetv2_050)."""
    net = build_model(ModelSpec(name="mobilenetv2", width=0.5))
    assert count_parameters(net.features) == 1_968_680 - 1_281_000


def test_mobilenetv2_has_torchvisions_names_and_shapes() -> None:
    state = {
        name: tuple(tensor.shape)
        for name, tensor in build_model(ModelSpec(name="mobilenetv2")).state_dict().items()
        if name.startswith("features.")
    }
    # 52 convolutions, each with a batch norm of five tensors.
    assert len(state) == 52 * 6
    expected = {
        "features.0.0.weight": (32, 3, 3, 3),
        "features.0.1.running_mean": (32,),
        "features.1.conv.0.0.weight": (32, 1, 3, 3),
        "features.1.conv.0.1.bias": (32,),
        "features.1.conv.1.weight": (16, 32, 1, 1),
        "features.1.conv.2.num_batches_tracked": (),
        "features.2.conv.0.0.weight": (96, 16, 1, 1),
        "features.2.conv.1.0.weight": (96, 1, 3, 3),
        "features.2.conv.2.weight": (24, 96, 1, 1),
        "features.2.conv.3.weight": (24,),
        "features.17.conv.0.0.weight": (960, 160, 1, 1),
        "features.17.conv.2.weight": (320, 960, 1, 1),
        "features.18.0.weight": (1280, 320, 1, 1),
        "features.18.1.running_var": (1280,),
    }
    assert {name: state.get(name) for name in expected} == expected


# EfficientNet-B3


def test_b3_has_torchvisions_names_shapes_and_constants() -> None:
    net = build_model(ModelSpec(name="efficientnet_b3"))
    state = {name: tuple(tensor.shape) for name, tensor in net.state_dict().items() if name.startswith("features.")}
    expected = {
        "features.0.0.weight": (40, 3, 3, 3),
        "features.0.1.weight": (40,),
        "features.1.0.block.0.0.weight": (40, 1, 3, 3),
        "features.1.0.block.1.fc1.weight": (10, 40, 1, 1),
        "features.1.0.block.1.fc2.bias": (40,),
        "features.1.0.block.2.0.weight": (24, 40, 1, 1),
        "features.1.0.block.2.1.running_var": (24,),
        "features.1.1.block.1.fc1.bias": (6,),
        "features.2.0.block.0.0.weight": (144, 24, 1, 1),
        "features.2.0.block.1.0.weight": (144, 1, 3, 3),
        "features.2.0.block.2.fc1.weight": (6, 144, 1, 1),
        "features.2.0.block.3.0.weight": (32, 144, 1, 1),
        "features.3.0.block.1.0.weight": (192, 1, 5, 5),
        "features.7.1.block.3.0.weight": (384, 2304, 1, 1),
        "features.8.0.weight": (1536, 384, 1, 1),
    }
    assert {name: state.get(name) for name in expected} == expected
    blocks = [module for module in net.modules() if isinstance(module, MBConv)]
    # 1.4 x (1, 2, 2, 3, 3, 4, 1), rounded up: 2 + 3 + 3 + 5 + 5 + 6 + 2 blocks; skipped with probability 0.2 i / 26.
    assert len(blocks) == 26
    assert [block.drop for block in blocks] == pytest.approx([0.2 * index / 26 for index in range(26)])
    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    assert {(norm.eps, norm.momentum) for norm in norms} == {(1e-5, 0.1)}
    # The stem, the last layer, two in every block, one in the two that do not expand.
    activations = [module for module in net.features.modules() if isinstance(module, nn.SiLU | nn.ReLU | nn.ReLU6)]
    assert len(activations) == 1 + 1 + 2 * 26 - 2
    assert {type(module) for module in activations} == {nn.SiLU}
    assert not any(isinstance(module, PaddedConv2d) for module in net.modules())


def test_squeeze_and_excitation_by_hand() -> None:
    gate, x = SqueezeExcitation(3, 2), torch.randn(2, 3, 4, 5)
    w1, b1, w2, b2 = (
        tensor.detach().numpy() for tensor in (gate.fc1.weight, gate.fc1.bias, gate.fc2.weight, gate.fc2.bias)
    )
    hidden = x.numpy().mean((2, 3)) @ w1[:, :, 0, 0].T + b1
    hidden = hidden / (1 + np.exp(-hidden))
    gates = 1 / (1 + np.exp(-(hidden @ w2[:, :, 0, 0].T + b2)))
    np.testing.assert_allclose(gate(x).detach().numpy(), x.numpy() * gates[:, :, None, None], rtol=1e-5, atol=1e-6)


def test_stochastic_depth_skips_single_images_and_keeps_the_mean() -> None:
    style = Style(nn.SiLU, eps=1e-5, momentum=0.1, squeeze=True, same_padding=False)
    block = MBConv(4, 4, 2, 3, 1, 8, style, drop=0.75).train()
    block.block.eval()
    x = torch.randn(1, 4, 8, 8).expand(400, -1, -1, -1)
    with torch.no_grad():
        branch, y = block.block(x), block(x)
        whole = block.eval()(x)
    torch.testing.assert_close(whole, x + branch)
    skipped = (y == x).flatten(1).all(1)
    # 0.75 of 400 images, five standard deviations (8.7 each).
    assert 300 - 44 < int(skipped.sum()) < 300 + 44
    torch.testing.assert_close(y[~skipped], (x + 4 * branch)[~skipped])


def test_imagenet_normalisation_is_in_pixel_units() -> None:
    assert pytest.approx([0.485 * 255, 0.456 * 255, 0.406 * 255]) == IMAGENET_MEAN
    assert pytest.approx([0.229 * 255, 0.224 * 255, 0.225 * 255]) == IMAGENET_STD


# Bad input


@pytest.mark.parametrize("name", sorted(set(MODELS) - {"mobilenetv2"}))
def test_a_network_of_one_width_refuses_another(name: str) -> None:
    with pytest.raises(ConfigError, match=r"model\.width: 0\.5.*Valid: 1\.0.*mobilenetv2"):
        build_model(ModelSpec(name=name, width=0.5))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"width": 0.0}, "model.width: 0.0, expected a finite number above 0"),
        ({"width": math.nan}, "model.width: nan"),
        ({"width": math.inf}, "model.width: inf"),
        ({"input_size": 31}, "model.input_size: 31, expected at least 32"),
        ({"dropout": 1.0}, "model.dropout: 1.0"),
        ({"dropout": -0.1}, "model.dropout: -0.1"),
        ({"init": ""}, "model.init: empty"),
    ],
)
def test_a_spec_out_of_range_is_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        ModelSpec(name="mobilenetv2", **values)
    assert message in str(caught.value)
    with pytest.raises(ConfigError):
        msgspec.convert({"name": "mobilenetv2", **values}, ModelSpec)


def test_a_misspelt_key_or_name_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError, match="widht"):
        msgspec.convert({"name": "mobilenetv2", "widht": 0.5}, ModelSpec)
    with pytest.raises(UnknownNameError, match="did you mean 'mobilenetv2'"):
        build_model(ModelSpec(name="mobilnetv2"))
    with pytest.raises(ConfigError, match="n_points: 0"):
        build_model(ModelSpec(name="mobilenetv2"), n_points=0)
