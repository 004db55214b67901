"""EfficientNet (Tan & Le 2019), with torchvision's parameter names, so that its ImageNet weights load.

B3 is the teacher of the KD paper (Pourramezan Fard & Mahoor 2021). The blocks here also make up EfficientNet-Lite
(``efficientnet_lite.py``), which has no squeeze-and-excitation, and ReLU6 for SiLU.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pocketface.compression.models.heads import LandmarkNet, init_backbone, refuse_width
from pocketface.compression.models.mobilenetv2 import make_divisible


@dataclass(frozen=True)
class Stage:
    """One row of the paper's Table 1: ``blocks`` inverted residuals, the first of which has the stride."""

    expansion: int
    kernel: int
    stride: int
    inputs: int
    outputs: int
    blocks: int


# EfficientNet-B0 (paper, Table 1). B1 to B7 and Lite scale the channels and the numbers of blocks.
B0 = (
    Stage(1, 3, 1, 32, 16, 1),
    Stage(6, 3, 2, 16, 24, 2),
    Stage(6, 5, 2, 24, 40, 2),
    Stage(6, 3, 2, 40, 80, 3),
    Stage(6, 5, 1, 80, 112, 3),
    Stage(6, 5, 2, 112, 192, 4),
    Stage(6, 3, 1, 192, 320, 1),
)


@dataclass(frozen=True)
class Style:
    """What differs between EfficientNet and EfficientNet-Lite inside a block.

    Args:
        activation: class of the activation, built with ``inplace=True``.
        eps, momentum: of batch norm.
        squeeze: whether there is squeeze-and-excitation.
        same_padding: pad as TensorFlow's SAME does, which weights trained there need: fixed for the input size, one
            more at the right and the bottom where the total is odd. Otherwise symmetric, as torchvision.
    """

    activation: Callable[..., nn.Module]
    eps: float
    momentum: float
    squeeze: bool
    same_padding: bool


class PaddedConv2d(nn.Conv2d):
    """A convolution whose zero padding differs between the sides; constant, so exporters see a plain Pad.

    Args:
        before, after: zeros at the left and top, and at the right and bottom.
    """

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int, *, before: int, after: int, groups: int
    ) -> None:
        super().__init__(inputs, outputs, kernel, stride, groups=groups, bias=False)
        self.before, self.after = before, after

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.pad(x, (self.before, self.after, self.before, self.after)))


def conv_bn(
    inputs: int,
    outputs: int,
    kernel: int,
    stride: int,
    size: int,
    style: Style,
    *,
    groups: int = 1,
    activate: bool = True,
) -> nn.Sequential:
    """Convolution, batch norm and (if ``activate``) activation, under the names 0, 1, 2.

    ``size`` is the width of the input in pixels.
    """
    total = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0) if style.same_padding else kernel - 1
    conv: nn.Conv2d
    if total % 2:
        before = total // 2
        conv = PaddedConv2d(inputs, outputs, kernel, stride, before=before, after=total - before, groups=groups)
    else:
        conv = nn.Conv2d(inputs, outputs, kernel, stride, total // 2, groups=groups, bias=False)
    layers = [conv, nn.BatchNorm2d(outputs, eps=style.eps, momentum=style.momentum)]
    return nn.Sequential(*layers, style.activation(inplace=True)) if activate else nn.Sequential(*layers)


class SqueezeExcitation(nn.Module):
    """Channel gates from the pooled input (Hu et al. 2018), as 1 x 1 convolutions named fc1 and fc2."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc1 = nn.Conv2d(channels, squeezed, 1)
        self.fc2 = nn.Conv2d(squeezed, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.fc2(F.silu(self.fc1(self.avgpool(x)))))


class MBConv(nn.Module):
    """Inverted residual: expand, depthwise, [squeeze-and-excitation,] project.

    Where the shape stays there is a shortcut, with stochastic depth.

    Args:
        inputs, outputs: channels.
        expansion: the hidden channels are ``inputs * expansion``.
        kernel, stride: of the depthwise convolution.
        size: width of the input in pixels.
        style: see ``Style``.
        drop: probability with which training skips the block for one image (Huang et al. 2016), in [0, 1).
    """

    def __init__(
        self, inputs: int, outputs: int, expansion: int, kernel: int, stride: int, size: int, style: Style, drop: float
    ) -> None:
        super().__init__()
        hidden = inputs * expansion
        layers: list[nn.Module] = [conv_bn(inputs, hidden, 1, 1, size, style)] if expansion != 1 else []
        layers.append(conv_bn(hidden, hidden, kernel, stride, size, style, groups=hidden))
        if style.squeeze:
            layers.append(SqueezeExcitation(hidden, max(1, inputs // 4)))
        layers.append(conv_bn(hidden, outputs, 1, 1, math.ceil(size / stride), style, activate=False))
        self.block = nn.Sequential(*layers)
        self.shortcut, self.drop = stride == 1 and inputs == outputs, drop

    def forward(self, x: Tensor) -> Tensor:
        y = self.block(x)
        if not self.shortcut:
            return y
        if self.training and self.drop > 0:
            # One draw an image; divided by the probability to be kept, so that the mean is evaluation's.
            keep = torch.rand(len(x), 1, 1, 1, device=x.device) >= self.drop
            y = y * (keep.to(y.dtype) / (1 - self.drop))
        return x + y


def backbone(
    stages: tuple[Stage, ...], *, stem: int, last: int, input_size: int, style: Style, stochastic_depth: float
) -> nn.Sequential:
    """Stem, stages and the last 1 x 1 convolution; ``stages`` already scaled.

    Args:
        stages: rows with their final channels and numbers of blocks.
        stem, last: channels of the first and the last layer.
        input_size: pixels; fixes the padding where ``style.same_padding``.
        style: see ``Style``.
        stochastic_depth: skip probability of the last block; it rises linearly from 0 at the first.
    """
    layers: list[nn.Module] = [conv_bn(3, stem, 3, 2, input_size, style)]
    size, total, done = math.ceil(input_size / 2), sum(stage.blocks for stage in stages), 0
    for row in stages:
        blocks: list[nn.Module] = []
        for index in range(row.blocks):
            inputs, stride = (row.inputs, row.stride) if index == 0 else (row.outputs, 1)
            drop = stochastic_depth * done / total
            blocks.append(MBConv(inputs, row.outputs, row.expansion, row.kernel, stride, size, style, drop))
            size, done = math.ceil(size / stride), done + 1
        layers.append(nn.Sequential(*blocks))
    layers.append(conv_bn(stages[-1].outputs, last, 1, 1, size, style))
    features = nn.Sequential(*layers)
    init_backbone(features)
    return features


def scale(width: float, depth: float) -> tuple[Stage, ...]:
    """B0's rows with the channels times ``width`` (to multiples of 8) and the blocks times ``depth`` (rounded up)."""
    return tuple(
        Stage(
            row.expansion,
            row.kernel,
            row.stride,
            make_divisible(row.inputs * width),
            make_divisible(row.outputs * width),
            math.ceil(row.blocks * depth),
        )
        for row in B0
    )


# torchvision's B0 to B4 have batch norm's default epsilon (only B5 to B7 have 1e-3), and its weights need that.
STYLE = Style(nn.SiLU, eps=1e-5, momentum=0.1, squeeze=True, same_padding=False)


def build_b3(*, n_points: int, width: float, input_size: int, dropout: float) -> LandmarkNet:
    """EfficientNet-B3 (width 1.2 and depth 1.4 of B0) with the landmark heads; stochastic depth 0.2, as torchvision.

    Args:
        n_points: landmarks.
        width: 1.0 only.
        input_size: pixels.
        dropout: on the pooled features, in [0, 1).

    Raises:
        ConfigError: for any other width.
    """
    refuse_width("efficientnet_b3", width)
    rows = scale(1.2, 1.4)
    last = 4 * rows[-1].outputs
    features = backbone(rows, stem=rows[0].inputs, last=last, input_size=input_size, style=STYLE, stochastic_depth=0.2)
    return LandmarkNet(features, last, n_points=n_points, input_size=input_size, dropout=dropout)
