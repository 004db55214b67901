"""The generator of the style uniformization stage (RULe, section IV-B): a degraded crop -> the clean crop.

encoder of blocks [3 x 3, 3 x 3 stride 2] to 4 x 4 --flatten, dense, reshape--> decoder [upsample, 3 x 3, 3 x 3]

`build` makes it as printed: everything passes the dense layer. `build_skip` adds what the encoder has at each size to
what the decoder has there (same channels, so no weight and next to no time more): fine detail and the places of things
then need not be drawn from 4096 numbers, which takes far more faces and steps to learn than a small data set offers.

How the printed channels become blocks: the list 64 -> 64 -> 128 -> 128 -> 256 -> 256 has five arrows and 128 pixels
need five halvings to the printed 4 x 4, so an arrow is a block: c_i -> c_{i+1} is a convolution to c_i channels at full
size and one of stride 2 to c_{i+1}. It ends at 4 x 4 x 256 = 4096 values, as many as the printed dense layer has units.
A smaller input needs fewer halvings: its network is the 128-pixel one without its first blocks (64 pixels: 64 -> 128 ->
128 -> 256 -> 256), so that the dense layer stays as printed. A larger one repeats the first 64.
"""

from __future__ import annotations

import math

from torch import Tensor, nn

from pocketface.compression.models.blocks import MID_GREY, conv_bn_relu, scaled
from pocketface.sdk.errors import ConfigError

CHANNELS = (64, 64, 128, 128, 256, 256)
"""As printed, for 128 pixels."""
LAST_SIDE = 4
"""Of the last feature maps, as printed."""


def channels_for(input_size: int, width: float) -> tuple[int, ...]:
    """Channels of the encoder: one more than it has halvings.

    Raises:
        ConfigError: the input does not come down to 4 x 4 by halving.
    """
    halvings = round(math.log2(max(input_size, 1) / LAST_SIDE))
    if halvings < 1 or LAST_SIDE << halvings != input_size:
        raise ConfigError(
            f"uniformizer: input_size {input_size}",
            expected="a power of two from 8 on: it is halved down to 4",
            choices=["32", "64", "128", "256"],
        )
    repeated = (CHANNELS[0],) * (halvings + 1 - len(CHANNELS))
    return tuple(scaled(channels, width) for channels in (*repeated, *CHANNELS)[-halvings - 1 :])


class Uniformizer(nn.Module):
    """The printed generator, or the same with skip connections.

    ``forward`` takes ``(B, 3, S, S)`` float32, ``(pixel - 127.5) / 127.5``, and gives ``(picture,)``: ``(B, 3, S, S)``
    float32 in [0, 1], pixel values / 255 of the same crop.

    What the paper leaves open: ReLU after the dense layer; upsampling by nearest neighbours, which the next convolution
    smooths; the decoder's convolutions have batch norm and ReLU but for the last, which ends in a sigmoid.

    Args:
        width: multiplier of the channels, and so of the dense layer's units.
        input_size: pixels, a power of two.
        skip: add the encoder's maps to the decoder's.

    Raises:
        ConfigError: the size cannot be halved down to 4.
    """

    task = "uniformize"
    output_names = ("picture",)

    def __init__(self, *, width: float, input_size: int, skip: bool = False) -> None:
        super().__init__()
        channels = channels_for(input_size, width)
        self.input_size, self.mean, self.std = input_size, MID_GREY, MID_GREY
        self.maps = (channels[-1], LAST_SIDE, LAST_SIDE)
        units = math.prod(self.maps)
        # What enters block i of the encoder is what block i of its mirror gives back.
        entering = (3, *channels[1:-1])
        arrows = list(zip(entering, channels[:-1], channels[1:], strict=True))
        self.skip = skip
        self.encoder = nn.ModuleList(
            nn.ModuleList([conv_bn_relu(outside, inside), conv_bn_relu(inside, smaller, stride=2)])
            for outside, inside, smaller in arrows
        )
        self.dense = nn.Sequential(nn.Flatten(), nn.Linear(units, units), nn.ReLU(inplace=True))
        self.enlarge = nn.Upsample(scale_factor=2, mode="nearest")
        self.decoder = nn.ModuleList(
            nn.ModuleList(
                [
                    conv_bn_relu(smaller, inside),
                    conv_bn_relu(inside, outside) if outside != 3 else nn.Conv2d(inside, 3, 3, padding=1),
                ]
            )
            for outside, inside, smaller in reversed(arrows)
        )

        self.heads = (f"decoder.{len(arrows) - 1}.1",)

    def forward(self, x: Tensor) -> tuple[Tensor]:
        """See the class."""
        skips: list[Tensor] = []
        for block in self.encoder:
            at_size, halve = block.children()
            x = at_size(x)
            skips.append(x)
            x = halve(x)
        x = self.dense(x).reshape(-1, *self.maps)
        for block in self.decoder:
            first, second = block.children()
            x = first(self.enlarge(x))
            beside = skips.pop()
            x = second(x + beside if self.skip else x)
        return (x.sigmoid(),)


def build(*, n_points: int = 0, width: float = 1.0, input_size: int = 128) -> Uniformizer:
    """The generator as printed at width 1 and 128 pixels; ``n_points`` is not looked at.

    Raises:
        ConfigError: the size cannot be halved down to 4.
    """
    return Uniformizer(width=width, input_size=input_size)


def build_skip(*, n_points: int = 0, width: float = 1.0, input_size: int = 128) -> Uniformizer:
    """`build`, with skip connections.

    Raises:
        ConfigError: the size cannot be halved down to 4.
    """
    return Uniformizer(width=width, input_size=input_size, skip=True)
