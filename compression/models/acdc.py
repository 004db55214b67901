"""AC-DC: the landmark teacher, a cascade of four U-nets that look where the stage before found landmarks (RULe paper,
III-C; the cascade itself is Dapogny et al., FG 2020: "attentional cascade with doubly-conditional fusion").

    stem -> U-net 1 -> GTN 1 -> U-net 2 -> GTN 2 -> U-net 3 -> GTN 3 -> U-net 4 -> GTN 4
       |________ x attention, x pose ^________________ ^ _______________ ^

A stage reads the stem's map, conditioned twice on the stage before: cell by cell on the landmarks' attention maps and
channel by channel on the head pose, plus that stage's own features. RULe does not print the cascade's layers; the
U-nets here have 64-128-128-256 channels on maps of S/2, S/4, S/8 and S/16, and, as the student's, halve at once and add
the encoder's maps.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pocketface.compression.models.acdc_student import init_convolutions
from pocketface.compression.models.blocks import MID_GREY, Grey, conv_bn_relu, scaled
from pocketface.compression.models.gtn import GTN, StagedNet, StageOutput, check_input_size

STAGES = 4
CHANNELS = (64, 128, 128, 256)


class Hourglass(nn.Module):
    """A U-net: (B, a, h, h) -> (B, a, h, h), by way of h/2, h/4 and h/8."""

    def __init__(self, a: int, b: int, c: int, d: int) -> None:
        super().__init__()
        self.entry = conv_bn_relu(a, a)
        self.down = nn.ModuleList(
            [conv_bn_relu(a, b, stride=2), conv_bn_relu(b, c, stride=2), conv_bn_relu(c, d, stride=2)]
        )
        up = nn.Upsample(scale_factor=2, mode="nearest")
        self.rise = nn.ModuleList([nn.Sequential(conv_bn_relu(wide, slim), up) for wide, slim in ((d, c), (c, b))])
        self.rise.append(nn.Sequential(conv_bn_relu(b, a), up))
        self.refine = nn.ModuleList([conv_bn_relu(c, c), conv_bn_relu(b, b), conv_bn_relu(a, a)])

    def forward(self, x: Tensor) -> Tensor:
        x = self.entry(x)
        skips = [x]
        for block in self.down:
            x = block(x)
            skips.append(x)
        for rise, refine, skip in zip(self.rise, self.refine, reversed(skips[:-1]), strict=True):
            x = refine(rise(x) + skip)
        return x


class Fusion(nn.Module):
    """Conditions the stem's map on what the stage before found: ``2 sigmoid`` of each, so 1 at the start.

    Args:
        channels: of the stem's map.
        n_points: attention maps.
    """

    def __init__(self, channels: int, n_points: int) -> None:
        super().__init__()
        # Attention maps are small numbers of sum 1, which the batch norm brings to a common size.
        self.norm = nn.BatchNorm2d(n_points)
        self.place = nn.Conv2d(n_points, channels, 1)
        self.turn = nn.Linear(3, channels)
        for layer in (self.place, self.turn):
            nn.init.normal_(layer.weight, std=1e-2)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(self, stem: Tensor, maps: Tensor, pose: Tensor) -> Tensor:
        """(B, C, h, w), (B, n, h, w) and (B, 3) -> (B, C, h, w)."""
        places = torch.sigmoid(self.place(self.norm(maps)))
        turns = torch.sigmoid(self.turn(pose)).reshape(-1, stem.shape[1], 1, 1)
        return 4 * stem * places * turns


class Cascade(StagedNet):
    """See the module and `StagedNet`.

    Args:
        n_points: of the first mark-up.
        width: multiplier of every channel count.
        input_size: S, a multiple of 16.

    Raises:
        ConfigError: the input size does not fit.
    """

    def __init__(self, *, n_points: int, width: float, input_size: int) -> None:
        super().__init__()
        check_input_size("acdc", input_size)
        self.n_points, self.input_size, self.mean, self.std = n_points, input_size, MID_GREY, MID_GREY
        a, b, c, d = (scaled(channels, width) for channels in CHANNELS)
        self.stem = nn.Sequential(Grey(), conv_bn_relu(1, a, stride=2), conv_bn_relu(a, a))
        self.nets = nn.ModuleList(Hourglass(a, b, c, d) for _ in range(STAGES))
        self.gtn = nn.ModuleList(GTN(a, input_size // 2, n_points=n_points) for _ in range(STAGES))
        self.fusion = nn.ModuleList(Fusion(a, n_points) for _ in range(STAGES - 1))
        init_convolutions(self.stem)
        init_convolutions(self.nets)

    def stages(self, x: Tensor) -> list[StageOutput]:
        found: list[StageOutput] = []
        stem = self.stem(x)
        features = stem
        for place, (net, head) in enumerate(zip(self.nets, self.gtn, strict=True)):
            if found:
                features = features + self.fusion[place - 1](stem, found[-1].maps, found[-1].pose)
            features = net(features)
            found.append(head(features))
        return found

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """See `StagedNet`."""
        last = self.stages(x)[-1]
        return last.points[str(self.n_points)], last.pose


def build(*, n_points: int, width: float, input_size: int) -> Cascade:
    """AC-DC, see the module."""
    return Cascade(n_points=n_points, width=width, input_size=input_size)
