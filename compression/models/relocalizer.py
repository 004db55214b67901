"""The relocalizer, stage R (Dapogny et al., RULe, FG 2023, section IV-B): looks at a crop and says where the box
belongs.

crop (S, S) --grey--> 6 x [3 x 3 convolution of stride 2, batch norm, ReLU] --flatten--> 1024 --ReLU--> dx, dy, sw, sh
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pocketface.compression.models.blocks import MID_GREY, Grey, conv_bn_relu, scaled
from pocketface.sdk.errors import ConfigError

CHANNELS = (64, 64, 128, 256, 512, 1024)
DENSE = 1024
IDENTITY = (0.0, 0.0, 1.0, 1.0)
"""The correction that leaves a box as it is."""


class Relocalizer(nn.Module):
    """A box correction from one look at the crop that the box gives (eq. 1).

    ``forward`` takes ``(B, 3, S, S)`` float32, RGB, ``(pixel - mean) / std``, and gives one output, ``box``: ``(B, 4)``
    float32 dx, dy, sw, sh. With a box of centre (x, y) and side w, whose crop was looked at, the face's box is

        x + dx w, y + dy w, w sw, w sh,

    dx and dy along the crop's axes. The values are linear and unbounded; an untrained network gives the identity.

    Args:
        width: multiplier of all channels, of the hidden dense layer too.
        input_size: S, pixels, at least 64 (the network shrinks it 64-fold); the paper's is 128.
    """

    task = "relocalize"
    output_names = ("box",)
    heads = ("box",)

    def __init__(self, *, width: float, input_size: int) -> None:
        super().__init__()
        if input_size < 2 ** len(CHANNELS):
            raise ConfigError(
                f"model.input_size: {input_size} for 'relocalizer'",
                expected=f"at least {2 ** len(CHANNELS)} pixels: it is shrunk {2 ** len(CHANNELS)}-fold",
            )
        self.input_size = input_size
        self.mean = self.std = MID_GREY
        self.grey = Grey()
        layers, inputs, side = [], 1, input_size
        for channels in CHANNELS:
            layers.append(conv_bn_relu(inputs, scaled(channels, width), stride=2))
            inputs, side = scaled(channels, width), -(-side // 2)
        self.features = nn.Sequential(*layers)
        # A convolution as large as the map is a dense layer on it in any memory layout: no format has to transpose.
        self.hidden = nn.Sequential(nn.Conv2d(inputs, scaled(DENSE, width), side), nn.ReLU(inplace=True))
        self.box = nn.Conv2d(scaled(DENSE, width), len(IDENTITY), 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        nn.init.zeros_(self.box.weight)
        if self.box.bias is not None:
            with torch.no_grad():
                self.box.bias.copy_(torch.tensor(IDENTITY))

    def forward(self, x: Tensor) -> tuple[Tensor]:
        """See the class: ``(B, 3, S, S)`` -> a tuple of ``(B, 4)``."""
        return (self.box(self.hidden(self.features(self.grey(x)))).reshape(-1, len(IDENTITY)),)


def build(*, n_points: int, width: float, input_size: int) -> Relocalizer:
    """The network of a recipe; ``n_points`` means nothing to it."""
    return Relocalizer(width=width, input_size=input_size)
