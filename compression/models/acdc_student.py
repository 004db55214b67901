"""AC-DC-s: the cascade's student, a 13-layer U-net with a geometry transfer network after each decoding layer (RULe
paper, III-C and IV-B).

Encoder: seven 3 x 3 convolutions, 64-64-128-128-256-256-512 channels, of which the 1st, 3rd, 5th and 7th halve.
Decoder: six that mirror them, 256-256, 128-128, 64, 64. d1, d2 and d3 come up by one doubling each, d4 refines d3's.

    e   S/2 64 64 -> S/4 128 128 -> S/8 256 256 -> S/16 512
    d   S/8 256 256 (d1) -> S/4 128 128 (d2) -> S/2 64 (d3) -> S/2 64 (d4)

The paper prints channels, not strides. Halving at once and ending at S/2 takes a quarter of the arithmetic of a U-net
that works at full size, and the expected place of a map needs no finer cells. Channels go down before a map is doubled,
and the encoder's map is added, not appended: half the arithmetic again.

Sizes: small is ``input_size`` 64, thin is ``width`` 0.5 besides, sep is `build_sep`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pocketface.compression.models.blocks import MID_GREY, Grey, conv_bn_relu, scaled
from pocketface.compression.models.gtn import GTN, StagedNet, StageOutput, check_input_size

CHANNELS = (64, 128, 256, 512)


class Student(StagedNet):
    """See the module and `StagedNet`.

    Args:
        n_points: of the first mark-up.
        width: multiplier of every channel count.
        input_size: S, a multiple of 16.
        separable: depthwise and 1 x 1 convolutions, but for the first: one channel of input has nothing to separate.

    Raises:
        ConfigError: the input size does not fit.
    """

    def __init__(self, *, n_points: int, width: float, input_size: int, separable: bool = False) -> None:
        super().__init__()
        check_input_size("acdc_s_sep" if separable else "acdc_s", input_size)
        self.n_points, self.input_size, self.mean, self.std = n_points, input_size, MID_GREY, MID_GREY
        a, b, c, d = (scaled(channels, width) for channels in CHANNELS)

        def conv(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
            return conv_bn_relu(inputs, outputs, stride=stride, separable=separable and inputs > 1)

        self.grey = Grey()
        self.encoder = nn.ModuleList(
            [
                nn.Sequential(conv(1, a, 2), conv(a, a)),
                nn.Sequential(conv(a, b, 2), conv(b, b)),
                nn.Sequential(conv(b, c, 2), conv(c, c)),
                conv(c, d, 2),
            ]
        )
        up = nn.Upsample(scale_factor=2, mode="nearest")
        self.rise = nn.ModuleList([nn.Sequential(conv(d, c), up), nn.Sequential(conv(c, b), up)])
        self.rise.append(nn.Sequential(conv(b, a), up))
        self.refine = nn.ModuleList([conv(c, c), conv(b, b), nn.Identity()])
        self.last = conv(a, a)
        sides = [input_size // 8, input_size // 4, input_size // 2, input_size // 2]
        self.gtn = nn.ModuleList(
            GTN(channels, side, n_points=n_points) for channels, side in zip((c, b, a, a), sides, strict=True)
        )
        init_convolutions(self)

    def decoded(self, x: Tensor) -> list[Tensor]:
        """The maps after d1 .. d4: (B, 256, S/8, S/8), (B, 128, S/4, S/4) and twice (B, 64, S/2, S/2), x width."""
        x, skips = self.grey(x), []
        for block in self.encoder:
            x = block(x)
            skips.append(x)
        found = []
        for rise, refine, skip in zip(self.rise, self.refine, reversed(skips[:-1]), strict=True):
            x = refine(rise(x) + skip)
            found.append(x)
        return [*found, self.last(x)]

    def stages(self, x: Tensor) -> list[StageOutput]:
        return [head(features) for head, features in zip(self.gtn, self.decoded(x), strict=True)]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """See `StagedNet`. The first three heads are for training alone, and so are the last one's other mark-ups."""
        # Called as a module: exporters then put all of it in its scope, and quantizers leave all of it alone.
        last: StageOutput = self.gtn[-1](self.decoded(x)[-1])
        return last.points[str(self.n_points)], last.pose


def init_convolutions(net: nn.Module) -> None:
    """He normal (fan out) for the 3 x 3 and depthwise convolutions, batch norm at the identity; heads keep theirs."""
    heads = {id(module) for part in net.modules() if isinstance(part, GTN) for module in part.modules()}
    for module in net.modules():
        if isinstance(module, nn.Conv2d) and id(module) not in heads:
            # A depthwise convolution's fan out counts its own filter only.
            fan = module.kernel_size[0] * module.kernel_size[1] * module.out_channels // module.groups
            with torch.no_grad():
                module.weight.normal_(0, (2 / fan) ** 0.5)


def build(*, n_points: int, width: float, input_size: int) -> Student:
    """AC-DC-s, see the module."""
    return Student(n_points=n_points, width=width, input_size=input_size)


def build_sep(*, n_points: int, width: float, input_size: int) -> Student:
    """AC-DC-s-sep: separable convolutions everywhere but in the first layer."""
    return Student(n_points=n_points, width=width, input_size=input_size, separable=True)
