"""A U-Net (Ronneberger et al. 2015) on a pretrained trunk: the face parsing teacher.

Each decoder level enlarges, appends the trunk's map of that scale, and runs two 3 x 3 convolutions; the logits are made
at half the input's side and enlarged bilinearly. About 7 million parameters on EfficientNet-Lite0.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from pocketface.compression.models.blocks import scaled
from pocketface.compression.models.segment_blocks import (
    PreviousInput,
    SegmentNet,
    bilinear,
    check_multiple,
    conv_bn,
    init_convolutions,
    start_undecided,
)
from pocketface.compression.models.trunks import Trunk, TrunkName, build_trunk
from pocketface.converters.options import Options, configured

CHANNELS = (64, 96, 128, 256)
"""Of the decoder at 1/2, 1/4, 1/8 and 1/16 of the input's side."""


class UNetOptions(Options, frozen=True, kw_only=True):
    """``model.options`` of the U-Net.

    Attributes:
        trunk: the encoder; ``model.init: package`` loads the EfficientNet-Lites' ImageNet weights.
        previous: whether the previous frame's mask is an input.
    """

    trunk: TrunkName = "efficientnet_lite0"
    previous: bool = False


class UNet(SegmentNet):
    """See the module and `SegmentNet`; M = S. ``maps`` gives ``"logits"`` (B, C, S, S) and ``"features"``
    (B, ``feature_channels``, S/2, S/2), what the last convolution sees.

    Args:
        n_classes, input_size: see `SegmentNet`; the size is a multiple of 32.
        width: multiplier of the decoder's channels; the trunk's are those of its weights.
        options: see there.

    Raises:
        ConfigError: the size does not fit.
    """

    def __init__(self, *, n_classes: int, width: float, input_size: int, options: UNetOptions) -> None:
        check_multiple("unet", input_size, 32)
        trunk: Trunk = build_trunk(options.trunk, input_size=input_size)
        super().__init__(
            n_classes=n_classes,
            input_size=input_size,
            output_size=input_size,
            mean=trunk.mean,
            std=trunk.std,
            previous=options.previous,
        )
        self.trunk = trunk
        self.remember = (
            PreviousInput(n_classes, trunk.stem_channels, output_size=input_size, size=input_size // 2)
            if options.previous
            else None
        )
        channels = [scaled(count, width) for count in CHANNELS]
        self.enlarge = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
        self.decoder = nn.ModuleList()
        below = trunk.channels[-1]
        for encoded, decoded in zip(trunk.channels[-2::-1], reversed(channels), strict=True):
            self.decoder.append(nn.Sequential(conv_bn(below + encoded, decoded), conv_bn(decoded, decoded)))
            below = decoded
        self.feature_channels = below
        self.logits = nn.Conv2d(below, n_classes, 1)
        self.finish = bilinear(input_size // 2, input_size)
        init_convolutions(self.decoder)
        start_undecided(self.logits)
        if self.remember is not None:
            self.remember.start_at_zero()

    def load_pretrained(self, source: str) -> None:
        """Load the trunk's weights."""
        self.trunk.load(source)

    def maps(self, image: Tensor, previous: Tensor | None = None) -> dict[str, Tensor]:
        """See the class."""
        previous = self.checked_previous(image, previous)
        extra = self.remember(previous) if self.remember is not None and previous is not None else None
        *skips, x = self.trunk(image, extra)
        for block, skip in zip(self.decoder, reversed(skips), strict=True):
            x = block(torch.cat([self.enlarge(x), skip], 1))
        return {"logits": self.finish(self.logits(x)), "features": x}


def build(*, n_classes: int, width: float = 1.0, input_size: int = 256, **options: Any) -> UNet:
    """The U-Net; ``options`` as `UNetOptions` has them.

    Raises:
        ConfigError: an unknown option or a value out of range.
    """
    chosen = configured(UNetOptions, options, "model.options")
    return UNet(n_classes=n_classes, width=width, input_size=input_size, options=chosen)
