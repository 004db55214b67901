"""The mobile hourglass: the thesis's blocks and parameters, every stem, the previous mask, the same after export."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from segment_tools import check_onnx, lively, made, pictures
from torch import Tensor, nn

from pocketface.compression.models.checkpoint import load_checkpoint, save_network
from pocketface.compression.models.flops import count_parameters, flops
from pocketface.compression.models.hourglass import Hourglass
from pocketface.compression.models.mobilenetv2 import InvertedResidual
from pocketface.compression.models.registry import ModelSpec, build_network
from pocketface.sdk.errors import BadInputError, ConfigError

# Table 7.1: (f, tau) -> parameters.
PRINTED = {(16, 3): 90_000, (16, 6): 120_000, (32, 3): 170_000, (32, 6): 270_000}


def plain(features: int, expansion: int, dense: bool = False) -> Hourglass:
    return Hourglass(n_classes=11, input_size=256, features=features, expansion=expansion, dense=dense)


def test_thirteen_blocks_at_five_resolutions():
    """Newell et al.: a skip block, one after pooling, one before enlarging at each of 4 levels; one at the bottom."""
    net = made("hourglass", features=8, expansion=1, dense=False)
    sides: list[int] = []
    for module in net.modules():
        if isinstance(module, InvertedResidual):
            module.register_forward_hook(lambda block, x, y: sides.append(y.shape[-1]))
    net.eval()(pictures(1, 64))
    assert sorted(sides) == [4] * 3 + [8] * 3 + [16] * 3 + [32] * 3 + [64]


@pytest.mark.parametrize(("features", "expansion"), PRINTED)
def test_parameters_are_those_of_a_hand_count(features: int, expansion: int):
    hidden = features * expansion
    block = 2 * features * hidden + 9 * hidden + 2 * (hidden + hidden + features)
    stem, head = 27 * features + 2 * features, (features + 1) * 11
    assert count_parameters(plain(features, expansion)) == 13 * block + stem + head


def test_parameters_grow_with_f_and_tau_as_in_table_7_1():
    """Differences between the printed figures, each rounded to 0.01 million, so that one is off by 0.01 at most."""
    ours = {key: count_parameters(plain(*key)) for key in PRINTED}
    for f in (16, 32):
        printed = PRINTED[f, 6] - PRINTED[f, 3]
        assert abs((ours[f, 6] - ours[f, 3]) - printed) <= 10_000
    assert all(0.3 * printed < ours[key] < printed for key, printed in PRINTED.items())


def test_the_dense_tail_is_four_layers_of_growth_8():
    with_tail, without = plain(16, 3, dense=True), plain(16, 3)
    convolutions = sum(9 * (16 + 8 * i) * 8 + 16 for i in range(4))
    assert count_parameters(with_tail) - count_parameters(without) == convolutions + 32 * 11
    assert with_tail.logits.in_channels == 16 + 4 * 8


@pytest.mark.parametrize("stem", [1, 2, 4])
def test_logits_are_as_large_as_the_input_at_every_stem(stem: int):
    net = made("hourglass", features=8, expansion=2, stem=stem).eval()
    maps = net.maps(pictures(2, 64))
    assert maps["logits"].shape == (2, 3, 64, 64)
    assert maps["features"].shape[-1] == 64 // stem


def test_half_a_resolution_needs_about_a_quarter_of_the_arithmetic():
    whole, half, quarter = (flops(made("hourglass", features=16, expansion=3, stem=stem)) for stem in (1, 2, 4))
    assert half == pytest.approx(whole / 4, rel=0.05)
    assert quarter < 0.5 * half


def test_a_skip_connection_carries_detail_past_the_bottom():
    """A change of one pixel shows at that pixel most, though the bottom sees 1/16 of the resolution."""
    net = lively(made("hourglass", features=8, expansion=2, dense=False))
    image = pictures(1, 64)
    changed = image.clone()
    changed[0, :, 30, 20] += 3.0
    moved = (net(changed)[0] - net(image)[0]).abs().sum((0, 1))
    row, column = divmod(int(moved.argmax()), 64)
    assert abs(row - 30) <= 2
    assert abs(column - 20) <= 2


@pytest.mark.parametrize("stem", [1, 2, 4])
def test_the_first_convolution_sees_image_and_mask_as_one_concatenated_input(stem: int):
    """By a slow way: means of the mask over what the stem halves, concatenated, one convolution."""
    net = lively(made("hourglass", features=8, expansion=1, stem=stem, previous=True))
    assert isinstance(net, Hourglass)
    assert net.remember is not None
    image, mask = pictures(2, 64), torch.rand(2, 3, 64, 64)
    seen: list[Tensor] = []
    net.stem[0].register_forward_pre_hook(lambda module, x: seen.append(x[0]))
    net(image, mask)
    factor = min(stem, 2)
    small = mask.unfold(2, factor, factor).unfold(3, factor, factor).mean((4, 5))
    weight, kernel = net.remember.conv.weight, net.remember.conv.kernel_size[0]
    expected = nn.functional.conv2d(image, net.first.weight, stride=factor, padding=1)
    if kernel == 3:
        both = torch.cat([net.first.weight, weight], 1)
        expected = nn.functional.conv2d(torch.cat([image, mask], 1), both, padding=1)
    else:
        expected = expected + torch.einsum("oc,bchw->bohw", weight[:, :, 0, 0], small)
    torch.testing.assert_close(seen[0], expected, rtol=1e-4, atol=1e-5)


def test_no_mask_is_a_mask_of_zeros_and_a_new_network_looks_at_none():
    net = made("hourglass", features=8, expansion=1, previous=True).eval()
    image, mask = pictures(1, 64), torch.rand(1, 3, 64, 64)
    assert torch.equal(net(image)[0], net(image, mask)[0])
    net = lively(net)
    assert torch.equal(net(image)[0], net(image, torch.zeros_like(mask))[0])
    assert not torch.allclose(net(image)[0], net(image, mask)[0])


def test_the_weights_of_the_mask_learn_from_zero():
    net = made("hourglass", features=8, expansion=1, previous=True)
    (logits,) = net(pictures(2, 64), torch.rand(2, 3, 64, 64))
    nn.functional.cross_entropy(logits, torch.randint(0, 3, (2, 64, 64))).backward()
    assert net.remember.conv.weight.grad.abs().max() > 0  # type: ignore[union-attr]


def test_a_mask_of_another_size_or_for_a_network_without_one_is_refused():
    net = made("hourglass", features=8, expansion=1, previous=True)
    with pytest.raises(BadInputError, match=r"\(1, 3, 32, 32\).*\(1, 3, 64, 64\)"):
        net(pictures(1, 64), torch.zeros(1, 3, 32, 32))
    with pytest.raises(BadInputError, match="previous: true"):
        made("hourglass", features=8, expansion=1)(pictures(1, 64), torch.zeros(1, 3, 64, 64))


@pytest.mark.parametrize(
    ("options", "size", "message"),
    [
        ({"stem": 3}, 64, "stem"),
        ({"tau": 6}, 64, "tau"),
        ({"features": 0}, 64, "features 0"),
        ({"stem": 4}, 96, "multiple of 64"),
    ],
)
def test_what_cannot_be_built_is_refused(options: dict[str, int], size: int, message: str):
    with pytest.raises(ConfigError, match=message):
        build_network(ModelSpec(name="hourglass", input_size=size, options=options), n_classes=3)


@pytest.mark.parametrize("init", ["package", "x.pth"])
def test_pretrained_weights_are_refused(init: str):
    with pytest.raises(ConfigError, match="no pretrained weights"):
        build_network(ModelSpec(name="hourglass", input_size=64, init=init), n_classes=3)


def test_one_class_is_refused():
    with pytest.raises(ConfigError, match="2 or more"):
        made("hourglass", n_classes=1)


def test_a_checkpoint_says_how_many_classes_it_has(tmp_path: Path):
    spec = ModelSpec(name="hourglass", input_size=64, options={"features": 8, "expansion": 2, "stem": 2})
    net = lively(build_network(spec, n_classes=5))  # type: ignore[arg-type]
    save_network(net, tmp_path / "h.safetensors", spec)
    again = load_checkpoint(tmp_path / "h.safetensors")
    image = pictures(1, 64)
    torch.testing.assert_close(again(image)[0], net(image)[0], atol=1e-4, rtol=1e-4)
    assert again(image)[0].shape == (1, 5, 64, 64)


def test_it_exports_to_onnx_with_torchs_numbers(tmp_path: Path):
    check_onnx(lively(made("hourglass", features=8, expansion=2, stem=2, previous=True)), tmp_path)
