"""The U-Net teacher: shapes, the previous mask, the same numbers after export."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from segment_tools import check_onnx, lively, made, pictures, use_small_trunk
from torch import Tensor, nn

from pocketface.compression.models.registry import ModelSpec, build_network
from pocketface.sdk.errors import ConfigError


@pytest.mark.parametrize("trunk", ["efficientnet_lite0", "resnet18"])
def test_logits_are_as_large_as_the_input(trunk: str):
    maps = made("unet", trunk=trunk).eval().maps(pictures(1, 64))
    assert maps["logits"].shape == (1, 3, 64, 64)
    assert maps["features"].shape[-1] == 32


def test_each_level_sees_the_map_from_below_beside_the_trunks():
    net = made("unet").eval()
    seen: list[tuple[int, int]] = []
    for block in net.decoder:  # type: ignore[union-attr]
        block.register_forward_pre_hook(lambda module, x: seen.append((x[0].shape[1], x[0].shape[-1])))  # type: ignore[union-attr]
    net(pictures(1, 64))
    # EfficientNet-Lite0 has 320, 112, 40, 24 and 16 channels; the decoder's at width 0.25 are 64, 32, 24, 16.
    assert seen == [(320 + 112, 4), (64 + 40, 8), (32 + 24, 16), (24 + 16, 32)]


def test_a_previous_mask_changes_the_answer_only_once_it_was_trained():
    net = made("unet", previous=True).eval()
    image, mask = pictures(1, 64), torch.rand(1, 3, 64, 64)
    assert torch.equal(net(image)[0], net(image, mask)[0])
    net = lively(net)
    assert torch.equal(net(image)[0], net(image, torch.zeros_like(mask))[0])
    assert not torch.allclose(net(image)[0], net(image, mask)[0])


def test_the_mask_is_averaged_to_the_first_convolutions_grid():
    net = lively(made("unet", previous=True))
    seen: list[Tensor] = []
    net.trunk.features[0][1].register_forward_pre_hook(lambda module, x: seen.append(x[0]))  # type: ignore[union-attr,index]
    image, mask = pictures(1, 64), torch.rand(1, 3, 64, 64)
    net(image)
    net(image, mask)
    means = mask.reshape(1, 3, 32, 2, 32, 2).mean((3, 5))
    weight = next(module.weight for name, module in net.named_modules() if name == "remember.conv")
    expected = nn.functional.conv2d(means, weight)  # type: ignore[arg-type]
    torch.testing.assert_close(seen[1] - seen[0], expected, rtol=1e-3, atol=1e-5)


def test_a_size_that_cannot_be_halved_five_times_is_refused():
    with pytest.raises(ConfigError, match="multiple of 32"):
        build_network(ModelSpec(name="unet", input_size=80), n_classes=3)


def test_it_exports_to_onnx_with_torchs_numbers(tmp_path: Path):
    net = made("unet", previous=True)
    use_small_trunk(net)
    check_onnx(lively(net), tmp_path)
