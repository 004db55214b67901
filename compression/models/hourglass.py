"""The mobile hourglass for face parsing (Face AR thesis, chapter 7, Fig. 7.2): Newell et al.'s hourglass of depth 4,
with MobileNetV2's inverted bottlenecks for its ResNet blocks, and logits as large as the input.

    stem --> [ skip block ------------------------------------------ + ] x 4 --> [dense tail] --> 1 x 1 --> logits
              max pool, block --> (next level, or a block) --> block, x 2

13 blocks of ``features`` channels. As printed all of it begins at the input's resolution, which is what costs time:
``stem`` 2 or 4 lets the first convolutions halve (twice), runs the same hourglass on a half or a quarter of the side,
and enlarges the logits bilinearly at the end.

The thesis says "convolutional layer + batch norm layer" of the stem, and no more; its parameters (Table 7.1) grow with
f and tau as those of these 13 blocks do, and exceed them by 0.06 to 0.08 million that the text does not describe.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from pocketface.compression.models.blocks import MID_GREY, scaled
from pocketface.compression.models.mobilenetv2 import InvertedResidual
from pocketface.compression.models.segment_blocks import (
    PreviousInput,
    SegmentNet,
    bilinear,
    check_multiple,
    conv_bn,
    init_convolutions,
    start_undecided,
)
from pocketface.converters.options import Options, configured
from pocketface.sdk.errors import ConfigError

DEPTH = 4
DENSE_LAYERS, GROWTH = 4, 8


class HourglassOptions(Options, frozen=True, kw_only=True):
    """``model.options`` of a hourglass.

    Attributes:
        features: f, channels between the blocks, before ``model.width``; the thesis's are 16 and 32.
        expansion: tau; the thesis's are 3 and 6.
        stem: the hourglass runs at 1 / ``stem`` of the input's side.
        dense: whether the tail of four dense layers of growth 8 is there.
        previous: whether the previous frame's mask is an input.
    """

    features: int = 32
    expansion: int = 6
    stem: Literal[1, 2, 4] = 1
    dense: bool = True
    previous: bool = False

    def __post_init__(self) -> None:
        if self.features < 1 or self.expansion < 1:
            raise ConfigError(f"features {self.features}, expansion {self.expansion}", expected="1 or more of each")


class Level(nn.Module):
    """One level of the hourglass and all below it: (B, f, s, s) -> (B, f, s, s)."""

    def __init__(self, depth: int, features: int, expansion: int) -> None:
        super().__init__()

        def block() -> nn.Module:
            return InvertedResidual(features, features, 1, expansion)

        self.skip, self.down, self.up = block(), block(), block()
        self.below: nn.Module = Level(depth - 1, features, expansion) if depth > 1 else block()
        self.pool = nn.MaxPool2d(2)
        # Bilinear, not nearest: XNNPACK has no nearest, and the graph would be cut in two at each level.
        self.enlarge = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)

    def forward(self, x: Tensor) -> Tensor:
        below = self.up(self.below(self.down(self.pool(x))))
        total: Tensor = self.skip(x) + self.enlarge(below)
        return total


class DenseTail(nn.Module):
    """Layers that each add ``GROWTH`` channels, computed from all before (Huang et al. 2017): f -> f + 32 channels."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(conv_bn(features + GROWTH * i, GROWTH) for i in range(DENSE_LAYERS))
        self.outputs = features + GROWTH * DENSE_LAYERS

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = torch.cat([x, layer(x)], 1)
        return x


class Hourglass(SegmentNet):
    """See the module and `SegmentNet`. ``maps`` gives ``"logits"`` (B, C, S, S) and ``"features"``, what the last
    convolution sees, (B, f [+ 32], S / stem, S / stem).

    Args:
        n_classes, input_size: see `SegmentNet`; the size is a multiple of 16 ``stem``, and that of the logits.
        features, expansion, stem, dense, previous: see `HourglassOptions`.

    Raises:
        ConfigError: the size does not fit.
    """

    def __init__(
        self,
        *,
        n_classes: int,
        input_size: int,
        features: int,
        expansion: int,
        stem: int = 1,
        dense: bool = True,
        previous: bool = False,
    ) -> None:
        super().__init__(
            n_classes=n_classes,
            input_size=input_size,
            output_size=input_size,
            mean=MID_GREY,
            std=MID_GREY,
            previous=previous,
        )
        check_multiple("hourglass", input_size, 2**DEPTH * stem)
        first = 2 if stem > 1 else 1
        self.first = nn.Conv2d(3, features, 3, first, 1, bias=False)
        self.remember = (
            PreviousInput(n_classes, features, output_size=input_size, size=input_size // first) if previous else None
        )
        self.stem = nn.Sequential(nn.BatchNorm2d(features), nn.ReLU6(inplace=True))
        if stem == 4:
            self.stem.append(conv_bn(features, features, stride=2))
        self.hourglass = Level(DEPTH, features, expansion)
        self.tail: nn.Module = DenseTail(features) if dense else nn.Identity()
        self.logits = nn.Conv2d(self.tail.outputs if isinstance(self.tail, DenseTail) else features, n_classes, 1)
        self.enlarge = bilinear(input_size // stem, input_size)
        init_convolutions(self)
        start_undecided(self.logits)

    def maps(self, image: Tensor, previous: Tensor | None = None) -> dict[str, Tensor]:
        """See the class."""
        previous = self.checked_previous(image, previous)
        x = self.first(image)
        if self.remember is not None and previous is not None:
            x = x + self.remember(previous)
        x = self.tail(self.hourglass(self.stem(x)))
        return {"logits": self.enlarge(self.logits(x)), "features": x}


def build(*, n_classes: int, width: float = 1.0, input_size: int = 256, **options: Any) -> Hourglass:
    """A mobile hourglass; ``options`` as `HourglassOptions` has them.

    Raises:
        ConfigError: an unknown option or a value out of range.
    """
    chosen = configured(HourglassOptions, options, "model.options")
    return Hourglass(
        n_classes=n_classes,
        input_size=input_size,
        features=chosen.features if width == 1.0 else scaled(chosen.features, width),
        expansion=chosen.expansion,
        stem=chosen.stem,
        dense=chosen.dense,
        previous=chosen.previous,
    )
