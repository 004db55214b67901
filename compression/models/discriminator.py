"""The discriminator of the uniformization stage (RULe, section IV-B): "mirrors the encoder part, except it does not
have dense layers and has leaky ReLU activation everywhere". It exists in training only and never ships.
"""

from __future__ import annotations

from torch import Tensor, nn

from pocketface.compression.models.uniformizer import channels_for

SLOPE = 0.2
"""Of the leaky ReLU below 0; the paper prints none, this is DCGAN's."""


def _conv(inputs: int, outputs: int, *, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.LeakyReLU(SLOPE, inplace=True)
    )


class Discriminator(nn.Module):
    """Real or generated? The encoder's blocks, then a 1 x 1 convolution to one channel: the logit of each of the 4 x 4
    places, of which the picture's logit is the mean (the paper does not say how it gets from maps to a number).

    ``forward`` takes pictures ``(B, 3, S, S)`` float32 in [0, 1] and gives logits ``(B,)``: D = sigmoid(logit) is the
    probability that a picture is real. Real and generated pictures go through it in batches of their own: batch norm
    would tell each from the other by their share of a common one.

    Args:
        width: multiplier of the channels.
        input_size: pixels, a power of two from 8 on.

    Raises:
        ConfigError: the size cannot be halved down to 4.
    """

    def __init__(self, *, width: float, input_size: int) -> None:
        super().__init__()
        channels = channels_for(input_size, width)
        entering = (3, *channels[1:-1])
        self.features = nn.Sequential(
            *(
                nn.Sequential(_conv(outside, inside, stride=1), _conv(inside, smaller, stride=2))
                for outside, inside, smaller in zip(entering, channels[:-1], channels[1:], strict=True)
            )
        )
        self.logit = nn.Conv2d(channels[-1], 1, 1)

    def forward(self, pictures: Tensor) -> Tensor:
        """See the class."""
        logits: Tensor = self.logit(self.features(2 * pictures - 1))
        return logits.mean((1, 2, 3))
