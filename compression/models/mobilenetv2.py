"""MobileNetV2 (Sandler et al. 2018, Table 2) of any width.

Parameter names are torchvision's, so that its ImageNet weights load.
"""

from __future__ import annotations

from torch import Tensor, nn

from pocketface.compression.models.heads import LandmarkNet, init_backbone

# t: expansion, c: output channels at width 1, n: blocks, s: stride of the first one.
STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))


def make_divisible(value: float, divisor: int = 8) -> int:
    """The multiple of ``divisor`` nearest to ``value``, at least ``divisor``, never more than 10 % below ``value``."""
    rounded = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded if rounded >= 0.9 * value else rounded + divisor


def conv_bn(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Convolution, batch norm, ReLU6, under the names 0, 1, 2."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, (kernel - 1) // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU6(inplace=True))


class InvertedResidual(nn.Module):
    """Expand (1 x 1), depthwise (3 x 3), project (1 x 1, linear), with a shortcut where the shape stays."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        layers: list[nn.Module] = [conv_bn(inputs, hidden, kernel=1)] if expansion != 1 else []
        layers += [
            conv_bn(hidden, hidden, stride=stride, groups=hidden),
            nn.Conv2d(hidden, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        ]
        self.conv = nn.Sequential(*layers)
        self.shortcut = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.shortcut else self.conv(x)


def build(*, n_points: int, width: float, input_size: int, dropout: float) -> LandmarkNet:
    """MobileNetV2 with the landmark heads.

    Args:
        n_points: landmarks.
        width: multiplier of every layer's channels (rounded to multiples of 8); as in torchvision the last layer keeps
            its 1280 channels below width 1.
        input_size: pixels.
        dropout: on the pooled features, in [0, 1).
    """
    channels = make_divisible(32 * width)
    last = make_divisible(1280 * max(1.0, width))
    layers: list[nn.Module] = [conv_bn(3, channels, stride=2)]
    for expansion, base, blocks, stride in STAGES:
        outputs = make_divisible(base * width)
        for index in range(blocks):
            layers.append(InvertedResidual(channels, outputs, stride if index == 0 else 1, expansion))
            channels = outputs
    layers.append(conv_bn(channels, last, kernel=1))
    features = nn.Sequential(*layers)
    init_backbone(features)
    return LandmarkNet(features, last, n_points=n_points, input_size=input_size, dropout=dropout)
