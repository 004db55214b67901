"""VGG-Face (Parkhi et al. 2015) from a checkpoint that a user has: RULe's own choice for eqs 5-6 (section III-B).

No package ships it, so it is named with its file: ``vgg_face:PATH``. The 13 convolutions of VGG-16 under the names of
the converted release (``conv1_1.weight`` .. ``conv5_3.bias``) or of torchvision's VGG-16 (``features.0.weight`` ..);
their channels are read off the file. The fully connected layers are left out: they want 224 x 224 pixels, a crop has
fewer. Where the paper says "the last layer", the embedding is the mean over the last map.
"""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn

from pocketface.compression.models.features import FeatureNet
from pocketface.compression.models.weights import read_tensors
from pocketface.sdk.errors import ConfigError, WeightsError

BLOCKS = (2, 2, 3, 3, 3)
"""Convolutions in each block of VGG-16."""
TORCHVISION = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
"""Their numbers in torchvision's ``features``."""
MEAN, STD = (129.1863, 104.7624, 93.5940), (1.0, 1.0, 1.0)
"""Of the release, RGB: it subtracts this and divides by nothing."""
HALVINGS = len(BLOCKS) - 1


def build_vgg_face(*, input_size: int, source: str = "") -> FeatureNet:
    """The convolutions of a VGG-16 that was trained on faces; taps after the last of each block.

    Args:
        input_size: pixels, 16 or more.
        source: path of the checkpoint, ``.pth``, ``.pt`` or ``.safetensors``.

    Raises:
        ConfigError: no file is named, or the pictures are too small.
        WeightsError: the file is unreadable or holds other convolutions.
    """
    if not source:
        raise ConfigError("features: 'vgg_face' without a file", expected="vgg_face:PATH", next="Name its checkpoint")
    if input_size < 1 << HALVINGS:
        raise ConfigError(f"features: vgg_face at {input_size} pixels", expected=f"{1 << HALVINGS} or more")
    path = Path(source)
    tensors = read_tensors(path)
    names = [f"conv{block}_{number}" for block, count in enumerate(BLOCKS, 1) for number in range(1, count + 1)]
    if names[0] + ".weight" not in tensors:
        names = [f"features.{number}" for number in TORCHVISION]
    layers: list[nn.Module] = []
    taps: list[int] = []
    inputs, start = 3, 0
    for count in BLOCKS:
        if layers:
            layers.append(nn.MaxPool2d(2))
        for name in names[start : start + count]:
            conv, inputs = _conv(path, tensors, name, inputs)
            layers += [conv, nn.ReLU()]
        taps.append(len(layers) - 1)
        start += count
    return FeatureNet(nn.Sequential(*layers), tuple(taps), mean=MEAN, std=STD)


def _conv(path: Path, tensors: dict[str, Tensor], name: str, inputs: int) -> tuple[nn.Conv2d, int]:
    weight, bias = tensors.get(f"{name}.weight"), tensors.get(f"{name}.bias")
    if weight is None or bias is None:
        raise WeightsError(f"{path}: no {name}.weight and .bias", expected="the 13 convolutions of VGG-16")
    outputs = len(weight)
    if weight.shape[1:] != (inputs, 3, 3) or bias.shape != (outputs,):
        raise WeightsError(
            f"{path}: {name} is {tuple(weight.shape)} with {tuple(bias.shape)}", expected=f"(any, {inputs}, 3, 3)"
        )
    if not (weight.isfinite().all() and bias.isfinite().all()):
        raise WeightsError(f"{path}: {name} holds values that are not finite")
    conv = nn.Conv2d(inputs, outputs, 3, padding=1)
    conv.load_state_dict({"weight": weight, "bias": bias})
    return conv, outputs
