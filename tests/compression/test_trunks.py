"""Trunks: ResNet-18 and the landmark networks' backbones, tapped, dilated and loaded."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from segment_tools import pictures
from torch import Tensor

from pocketface.compression.models.flops import count_parameters
from pocketface.compression.models.registry import MODELS
from pocketface.compression.models.resnet import ResNet18
from pocketface.compression.models.trunks import MobileTrunk, build_trunk, normalisation
from pocketface.sdk.errors import ConfigError, WeightsError

# ---- ResNet-18


def resnet_by_hand(state: dict[str, Tensor], x: Tensor) -> list[Tensor]:
    """He et al., Table 1, written out with torchvision's names."""

    def norm(y: Tensor, name: str) -> Tensor:
        parts = ("running_mean", "running_var", "weight", "bias")
        return F.batch_norm(y, *(state[f"{name}.{part}"] for part in parts))

    found = [F.relu(norm(F.conv2d(x, state["conv1.weight"], stride=2, padding=3), "bn1"))]
    x = F.max_pool2d(found[0], 3, 2, 1)
    for layer in range(1, 5):
        for block in range(2):
            name, stride = f"layer{layer}.{block}", 2 if layer > 1 and block == 0 else 1
            y = F.relu(norm(F.conv2d(x, state[f"{name}.conv1.weight"], stride=stride, padding=1), f"{name}.bn1"))
            y = norm(F.conv2d(y, state[f"{name}.conv2.weight"], padding=1), f"{name}.bn2")
            if stride == 2:
                x = norm(F.conv2d(x, state[f"{name}.downsample.0.weight"], stride=2), f"{name}.downsample.1")
            x = F.relu(x + y)
        found.append(x)
    return found


def test_resnet18_is_he_et_als_with_torchvisions_names_and_size():
    torch.manual_seed(0)
    net = ResNet18().eval()
    # torchvision's resnet18 has 11 689 512 parameters, of which the classifier has 513 000.
    assert count_parameters(net) == 11_689_512 - 513_000
    x = pictures(2, 64)
    with torch.no_grad():
        for mine, theirs, stride, channels in zip(
            net(x), resnet_by_hand(net.state_dict(), x), net.strides, net.channels, strict=True
        ):
            torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)
            assert mine.shape == (2, channels, 64 // stride, 64 // stride)


def test_resnet18_loads_a_torchvision_checkpoint_and_leaves_its_classifier(tmp_path: Path):
    torch.manual_seed(1)
    source = ResNet18().state_dict()
    torch.save({**source, "fc.weight": torch.zeros(1000, 512), "fc.bias": torch.zeros(1000)}, tmp_path / "r.pth")
    net = ResNet18(output_stride=16)
    report = net.load(str(tmp_path / "r.pth"))
    assert report.ignored == ("fc.weight", "fc.bias")
    assert all(torch.equal(value, source[name]) for name, value in net.state_dict().items())


def test_resnet18_refuses_what_does_not_fit(tmp_path: Path):
    torch.save({"conv1.weight": torch.zeros(64, 3, 7, 7)}, tmp_path / "r.pth")
    net = ResNet18()
    before = net.conv1.weight.clone()
    with pytest.raises(WeightsError, match="missing"):
        net.load(str(tmp_path / "r.pth"))
    assert torch.equal(net.conv1.weight, before)
    with pytest.raises(ConfigError, match=r"no package.*efficientnet_lite0"):
        net.load("package")


# ---- mobile trunks


@pytest.mark.parametrize("name", ["mobilenetv2", "efficientnet_lite0"])
def test_a_mobile_trunk_is_the_landmark_networks_backbone_tapped(name: str):
    torch.manual_seed(0)
    trunk, whole = (
        MobileTrunk(name, input_size=64).eval(),
        MODELS[name](n_points=1, width=1.0, input_size=64, dropout=0.0).eval(),
    )
    kept = {key: value for key, value in whole.features.state_dict().items() if key in trunk.features.state_dict()}
    trunk.features.load_state_dict(kept)
    x = pictures(1, 64)
    with torch.no_grad():
        maps, y = trunk(x), x
        every = []
        for layer in whole.features:
            y = layer(y)
            every.append(y)
    # The last map of each size, but for the last 1 x 1 convolution to 1280 channels.
    last = {value.shape[-1]: value for value in every[:-1]}
    assert [value.shape[-1] for value in maps] == [32, 16, 8, 4, 2]
    for value, channels in zip(maps, trunk.channels, strict=True):
        assert value.shape[1] == channels
        torch.testing.assert_close(value, last[value.shape[-1]])


def test_a_summand_goes_into_the_first_convolutions_output():
    trunk = MobileTrunk("efficientnet_lite0", input_size=64).eval()
    x, extra = pictures(1, 64), torch.randn(1, 32, 32, 32)
    seen: list[Tensor] = []
    trunk.features[0][1].register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    with torch.no_grad():
        trunk(x)
        trunk(x, extra)
    torch.testing.assert_close(seen[1] - seen[0], extra, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["mobilenetv2", "efficientnet_lite0", "resnet18"])
def test_at_output_stride_16_every_second_cell_is_what_stride_32_sees(name: str):
    """Atrous convolution computes the same features on a denser grid (Chen et al. 2017, Fig. 3), border effects and
    EfficientNet-Lite's one-sided padding aside: equal here in the middle, where both see the same pixels.
    """
    size = 128 if name == "resnet18" else 512
    torch.manual_seed(0)
    coarse, dense = (build_trunk(name, input_size=size, output_stride=stride).eval() for stride in (32, 16))
    dense.load_state_dict(coarse.state_dict())
    x = pictures(1, size)
    with torch.no_grad():
        at_32, at_16 = coarse(x)[-1], dense(x)[-1]
    assert at_16.shape[-1] == 2 * at_32.shape[-1]
    middle = slice(at_32.shape[-1] // 2 - 1, at_32.shape[-1] // 2 + 1)
    first = 1 if name == "efficientnet_lite0" else 0  # SAME padding of an even size puts the kernel one further right
    expected, found = at_32[..., middle, middle], at_16[..., first::2, first::2][..., middle, middle]
    assert expected.std() > 0
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3 * float(expected.std()))


@pytest.mark.parametrize("name", ["mobilenetv2", "efficientnet_lite0", "efficientnet_lite2", "resnet18"])
def test_normalisation_is_the_trunks(name: str):
    trunk = build_trunk(name, input_size=64)
    assert normalisation(name) == (trunk.mean, trunk.std)
