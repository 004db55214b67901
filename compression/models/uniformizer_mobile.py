"""A small generator for the uniformization stage: the printed one's student (see uniformizer.py).

stem at half resolution -> U-Net of depthwise-separable blocks -> residual on the input, clipped to [0, 1]

A residual and skip connections, because what a small network need not draw it need not store: a clean crop passes
nearly untouched, and only what is wrong with a crop is computed. The lowest maps get their own mean added back through
a 1 x 1 convolution: light and colour are facts about the whole crop.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from pocketface.compression.models.blocks import MID_GREY, conv_bn_relu, scaled
from pocketface.sdk.errors import ConfigError

CHANNELS = (32, 64, 128, 192)
"""At 1/2, 1/4, 1/8 and 1/16 of the input's size."""
DEPTH = 2
"""Separable blocks at each of these sizes on the way down, the one that halves included."""
STEP = 2 ** len(CHANNELS)


class UniformizerMobile(nn.Module):
    """Input and output as `Uniformizer`'s; see the top of this file.

    At the start of training the residual is 0: the network gives back what it got. Multiply-adds at width 1: 25 million
    at 64 pixels and 99 million at 128. That is a 12th and a 6th of the printed generator's at width 0.5, a 48th and a
    23rd of it as printed.

    Args:
        width: multiplier of the channels.
        input_size: pixels, a multiple of 16.

    Raises:
        ConfigError: the size is no multiple of 16.
    """

    task = "uniformize"
    output_names = ("picture",)
    heads = ("residual",)

    def __init__(self, *, width: float, input_size: int) -> None:
        super().__init__()
        if input_size < STEP or input_size % STEP:
            raise ConfigError(
                f"uniformizer_mobile: input_size {input_size}", expected=f"a multiple of {STEP}", choices=["64", "128"]
            )
        self.input_size, self.mean, self.std = input_size, MID_GREY, MID_GREY
        channels = [scaled(count, width) for count in CHANNELS]
        self.stem = nn.Sequential(
            conv_bn_relu(3, channels[0], stride=2), conv_bn_relu(channels[0], channels[0], separable=True)
        )
        self.down = nn.ModuleList(
            nn.Sequential(
                conv_bn_relu(above, below, stride=2, separable=True),
                *(conv_bn_relu(below, below, separable=True) for _ in range(DEPTH - 1)),
            )
            for above, below in pairwise(channels)
        )
        self.context = nn.Conv2d(channels[-1], channels[-1], 1)
        self.enlarge = nn.Upsample(scale_factor=2, mode="nearest")
        self.up = nn.ModuleList(
            nn.Sequential(
                conv_bn_relu(above + below, above, separable=True), conv_bn_relu(above, above, separable=True)
            )
            for above, below in zip(channels[-2::-1], channels[:0:-1], strict=True)
        )
        # One convolution of maps and input side by side, in two: XNNPACK does not concatenate floats and integers.
        self.residual = nn.Conv2d(channels[0], 3, 3, padding=1)
        self.detail = nn.Conv2d(3, 3, 3, padding=1, bias=False)
        for layer in (self.residual, self.detail):
            nn.init.zeros_(layer.weight)
        nn.init.zeros_(self.residual.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> tuple[Tensor]:
        """See the class."""
        maps = self.stem(x)
        skips = []
        for block in self.down:
            skips.append(maps)
            maps = block(maps)
        maps = maps + self.context(maps.mean((2, 3), keepdim=True))
        for block, skip in zip(self.up, reversed(skips), strict=True):
            maps = block(torch.cat([self.enlarge(maps), skip], 1))
        image = 0.5 * x + 0.5 + self.residual(self.enlarge(maps)) + self.detail(x)
        clipped = image.clamp(0, 1)
        if self.training:
            # The same values, but a pixel that was clipped still tells the network in which direction it was wrong.
            clipped = image + (clipped - image).detach()
        return (clipped,)


def build(*, n_points: int = 0, width: float = 1.0, input_size: int = 128) -> UniformizerMobile:
    """The small generator; ``n_points`` is not looked at.

    Raises:
        ConfigError: the size is no multiple of 16.
    """
    return UniformizerMobile(width=width, input_size=input_size)
