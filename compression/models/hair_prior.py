"""The hair shape prior (Face AR thesis, section 6.3.1): DeepLabV3's atrous spatial pyramid pooling on a pretrained
trunk, one map, Hardtanh.

image --trunk, 1/16--> [1 x 1 | three atrous 3 x 3 | image pooling] --> 1 x 1 --> 3 x 3 --> 1 x 1 --> x 16 --> Hardtanh

It regresses the clipped, eroded signed distance map of eqs 6.1-6.3 (-1 far from hair, +1 well inside). The thesis's
trunk is ResNet-18 with ImageNet weights; an EfficientNet-Lite takes its place where only those are at hand.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pocketface.compression.models.segment_blocks import (
    bilinear,
    check_multiple,
    conv_bn,
    init_convolutions,
    start_undecided,
)
from pocketface.compression.models.trunks import Trunk, build_trunk

RATES = (6, 12, 18)
"""DeepLabV3's, for an output stride of 16."""
OUTPUT_STRIDE = 16


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling with image-level features (Chen et al. 2017, section 3.3).

    (B, inputs, s, s) -> (B, channels, s, s).

    Args:
        inputs, channels: of the map and of each branch.
        rates: of the atrous branches.
    """

    def __init__(self, inputs: int, channels: int, rates: Sequence[int] = RATES) -> None:
        super().__init__()
        self.branches = nn.ModuleList([conv_bn(inputs, channels, 1)])
        self.branches.extend(conv_bn(inputs, channels, dilation=rate) for rate in rates)
        # No batch norm here: one value a channel and image, whose statistics over a batch of six mean little.
        self.image = nn.Sequential(nn.Conv2d(inputs, channels, 1), nn.ReLU(inplace=True))
        # The image's branch is the same everywhere. Its part of the 1 x 1 convolution that joins all branches is a
        # summand, which spares enlarging it.
        self.join = nn.Conv2d(channels * len(self.branches), channels, 1, bias=False)
        self.join_image = nn.Conv2d(channels, channels, 1, bias=False)
        self.norm = nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU(inplace=True))

    def forward(self, x: Tensor) -> Tensor:
        local = self.join(torch.cat([branch(x) for branch in self.branches], 1))
        mixed: Tensor = self.norm(local + self.join_image(self.image(x.mean((2, 3), keepdim=True))))
        return mixed


class HairPrior(nn.Module):
    """``(B, 3, S, S)`` float32, normalised -> ``(prior,)``, (B, 1, S, S) in [-1, 1]; see the module.

    Args:
        input_size: S, a multiple of 32.
        trunk: see trunks.py; its ``mean`` and ``std`` are this network's.
        channels: of every branch and of the head; DeepLabV3's is 256.
        rates: atrous rates, as for 256 pixels. On a smaller input they shrink with its side: at 128 pixels the trunk's
            map has 8 cells a side, and a kernel of rate 12 would meet nothing but its own centre and padding.

    Raises:
        ConfigError: the size does not fit.
    """

    task = "segmentation"
    output_names = ("prior",)
    heads = ("prior",)

    def __init__(
        self,
        *,
        input_size: int,
        trunk: str = "efficientnet_lite0",
        channels: int = 256,
        rates: Sequence[int] = RATES,
    ) -> None:
        super().__init__()
        check_multiple("hair_prior", input_size, 32)
        self.input_size = input_size
        self.trunk: Trunk = build_trunk(trunk, input_size=input_size, output_stride=OUTPUT_STRIDE)
        self.mean, self.std = self.trunk.mean, self.trunk.std
        self.rates = tuple(max(1, round(rate * min(1.0, input_size / 256))) for rate in rates)
        self.aspp = ASPP(self.trunk.channels[-1], channels, self.rates)
        self.head = conv_bn(channels, channels)
        self.prior = nn.Conv2d(channels, 1, 1)
        self.enlarge = bilinear(input_size // OUTPUT_STRIDE, input_size)
        self.clip = nn.Hardtanh(-1.0, 1.0)  # eq. 6.4
        init_convolutions(self.aspp, self.head)
        start_undecided(self.prior)  # inside Hardtanh's linear part: outside it no gradient comes through

    def load_pretrained(self, source: str) -> None:
        """Load the trunk's weights."""
        self.trunk.load(source)

    def forward(self, image: Tensor) -> tuple[Tensor]:
        """See the class."""
        return (self.clip(self.linear(image)),)

    def linear(self, image: Tensor) -> Tensor:
        """The map before Hardtanh, (B, 1, S, S)."""
        enlarged: Tensor = self.enlarge(self.prior(self.head(self.aspp(self.trunk(image)[-1]))))
        return enlarged
