"""Pretrained encoders of the segmentation networks: an image -> its maps at 1/2, 1/4 ... of its side, finest first.

A trunk is called with an image and, if there is one, a summand for its first convolution's output (a previous mask).
It has ``channels`` and ``strides`` of its maps, ``mean`` and ``std`` of its input, and ``load(source)``.
"""

from __future__ import annotations

from typing import Any, Literal, Protocol

from torch import Tensor, nn

from pocketface.compression.models.efficientnet_lite import MEAN as LITE_MEAN
from pocketface.compression.models.efficientnet_lite import STD as LITE_STD
from pocketface.compression.models.heads import IMAGENET_MEAN, IMAGENET_STD, LandmarkNet
from pocketface.compression.models.registry import MODELS
from pocketface.compression.models.resnet import ResNet18
from pocketface.compression.models.segment_blocks import dilate
from pocketface.compression.models.weights import LoadReport, load_backbone
from pocketface.sdk.errors import ConfigError

TrunkName = Literal["efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2", "mobilenetv2", "resnet18"]

# Index in ``features`` of the last layer at each scale that a decoder reads. The landmark networks' last 1 x 1
# convolution (to 1280 channels) is for pooled features, and is left out.
TAPS = {"mobilenetv2": (1, 3, 6, 13, 17), "efficientnet_lite": (1, 2, 3, 5, 7)}
# From which layer on the maps are at 1/32.
DEEPEST = {"mobilenetv2": 14, "efficientnet_lite": 6}


class Trunk(Protocol):
    """What a decoder builds on."""

    stem_channels: int
    channels: tuple[int, ...]
    strides: tuple[int, ...]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __call__(self, image: Tensor, extra: Tensor | None = None) -> list[Tensor]: ...

    def load(self, source: str) -> LoadReport: ...


class MobileTrunk(nn.Module):
    """The layers of a landmark network's backbone, tapped; see the module.

    Args:
        name: a key of ``MODELS`` with taps.
        input_size: S, pixels, which fixes EfficientNet-Lite's padding.
        output_stride: 32, or 16: the last stages then keep their maps' size and are dilated instead (DeepLab).
        levels: how many maps, 5 or fewer; with 4 the layers at 1/32 are left out.
    """

    def __init__(self, name: str, *, input_size: int, output_stride: int = 32, levels: int = 5) -> None:
        super().__init__()
        kind = name.rstrip("0123456789") if name.startswith("efficientnet_lite") else name
        whole = _whole(name, input_size)
        self.name, self.input_size, self.mean, self.std = name, input_size, whole.mean, whole.std
        self.taps = TAPS[kind][:levels]
        layers: Any = whole.features
        self.features: Any = layers[: self.taps[-1] + 1]
        self.stem_channels: int = self.features[0][0].out_channels
        self.channels = tuple(_channels(self.features[tap]) for tap in self.taps)
        self.strides: tuple[int, ...] = (2, 4, 8, 16, output_stride)[:levels]
        if output_stride == 16 and levels == 5:
            for layer in self.features[DEEPEST[kind] :]:
                dilate(layer)

    def forward(self, image: Tensor, extra: Tensor | None = None) -> list[Tensor]:
        """(B, 3, S, S) -> ``levels`` maps; ``extra`` (B, ``stem_channels``, S/2, S/2) is added to what the first
        convolution gives.
        """
        convolution, *rest = self.features[0]
        x = convolution(image)
        if extra is not None:
            x = x + extra
        for layer in rest:
            x = layer(x)
        found = []
        for index, layer in enumerate(self.features):
            x = layer(x) if index else x
            if index in self.taps:
                found.append(x)
        return found

    def load(self, source: str) -> LoadReport:
        """Copy pretrained weights, see `load_backbone`, whose errors these are."""
        whole = _whole(self.name, self.input_size)
        report = load_backbone(whole, source)
        kept = set(self.features.state_dict())
        loaded = whole.features.state_dict()
        self.features.load_state_dict({name: tensor for name, tensor in loaded.items() if name in kept})
        return report


def build_trunk(name: str, *, input_size: int, output_stride: int = 32, levels: int = 5) -> Any:
    """A trunk by name, with random weights.

    Raises:
        ConfigError: ResNet-18 with fewer levels, which nothing here needs.
    """
    if name != "resnet18":
        return MobileTrunk(name, input_size=input_size, output_stride=output_stride, levels=levels)
    if levels != 5:
        raise ConfigError(f"resnet18 with {levels} levels", expected="5")
    return ResNet18(input_size=input_size, output_stride=output_stride)


def normalisation(name: str) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Mean and standard deviation of a trunk's input."""
    if name.startswith("efficientnet_lite"):
        return LITE_MEAN, LITE_STD
    return IMAGENET_MEAN, IMAGENET_STD


def _whole(name: str, input_size: int) -> LandmarkNet:
    net: LandmarkNet = MODELS[name](n_points=1, width=1.0, input_size=input_size, dropout=0.0)
    return net


def _channels(layer: nn.Module) -> int:
    return [module.out_channels for module in layer.modules() if isinstance(module, nn.Conv2d)][-1]
