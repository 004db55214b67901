"""Building blocks that the networks of a chain share."""

from __future__ import annotations

import torch
from torch import Tensor, nn

GREY = (0.299, 0.587, 0.114)
"""Luma weights of ITU-R BT.601: what "grayscale" means in every common library."""

MID_GREY = (127.5, 127.5, 127.5)
"""Mean and standard deviation of networks that no ImageNet weights belong to: pixels become -1 .. 1."""


class Grey(nn.Module):
    """RGB -> grey inside the network, so that every stage of a chain is fed the same kind of picture.

    ``(B, 3, S, S)`` float32 -> ``(B, 1, S, S)``. A fixed 1 x 1 convolution, which every format has. All three channels
    must be normalised alike, or the weights would not be those of pixels.
    """

    weight: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weight", torch.tensor(GREY).view(1, 3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.conv2d(x, self.weight)


def conv_bn_relu(inputs: int, outputs: int, *, stride: int = 1, separable: bool = False) -> nn.Sequential:
    """3 x 3 convolution (or a depthwise one and a 1 x 1), batch norm, ReLU."""
    if separable:
        return nn.Sequential(
            nn.Conv2d(inputs, inputs, 3, stride, 1, groups=inputs, bias=False),
            nn.BatchNorm2d(inputs),
            nn.ReLU(inplace=True),
            nn.Conv2d(inputs, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        )
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )


def scaled(channels: int, width: float) -> int:
    """Channels at a width: the nearest multiple of 8, at least 8."""
    return max(8, int(channels * width / 8 + 0.5) * 8)
