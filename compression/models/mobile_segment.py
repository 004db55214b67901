"""The single-stage mobile student: a pretrained mobile encoder at 128 to 192 pixels, a light decoder, logits at 256.

    1/2 --------------------- (finest 2) + --> separable --> 1 x 1 --> bilinear to M
    1/4 --------------------------- + --> separable --> x 2 /
    1/8 ------------------ + --> separable --> x 2 /
    1/16 -------- + --> separable --> x 2 /
    1/32 --> x 2 /

A map from below is enlarged bilinearly and added to the encoder's (through a 1 x 1 convolution), then separable
convolutions mix. The encoder takes nearly all of the time, and that goes with the square of its input's side: a mask at
256 does not need a picture at 256. Made for hair (Face AR thesis, chapter 6, is the teacher); it parses faces too.
"""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor, nn

from pocketface.compression.models.blocks import scaled
from pocketface.compression.models.segment_blocks import (
    OUTPUT_SIZE,
    PreviousInput,
    SegmentNet,
    bilinear,
    check_multiple,
    init_convolutions,
    lateral,
    separable,
    start_undecided,
)
from pocketface.compression.models.trunks import MobileTrunk
from pocketface.converters.options import Options, configured
from pocketface.sdk.errors import ConfigError

CHANNELS = (24, 32, 48, 64)
"""Of the decoder at 1/2, 1/4, 1/8 and 1/16 of the input's side."""


class MobileOptions(Options, frozen=True, kw_only=True):
    """``model.options`` of the mobile student.

    Attributes:
        trunk: the encoder; ``model.init: package`` loads the EfficientNet-Lites' ImageNet weights.
        levels: 4 leaves out the layers at 1/32, three quarters of the parameters and a third of the time; 5 keeps them.
        finest: the decoder ends at 1 / ``finest`` of the input's side.
        kernel: of the decoder's depthwise convolutions.
        output_size: M, cells a side.
        previous: whether the previous frame's mask is an input.
    """

    trunk: Literal["efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2", "mobilenetv2"] = (
        "efficientnet_lite0"
    )
    levels: Literal[4, 5] = 4
    finest: Literal[2, 4] = 2
    kernel: Literal[3, 5] = 3
    output_size: int = OUTPUT_SIZE
    previous: bool = False

    def __post_init__(self) -> None:
        if self.output_size < 1:
            raise ConfigError(f"output_size {self.output_size}", expected="1 or more")


class MobileSegment(SegmentNet):
    """See the module and `SegmentNet`. ``maps`` gives, besides ``"logits"`` (B, C, M, M):

    - ``"features"`` (B, ``feature_channels``, s, s), what the last convolution sees, s = S / ``finest``;
    - ``"border"`` (B, 1, s, s), logits of how much a cell matters to a border: for hints, and not exported.

    Args:
        n_classes, input_size: see `SegmentNet`; the size is a multiple of 32 (of 16 with four levels).
        width: multiplier of the decoder's channels; the encoder's are those of its weights.
        options: see there.

    Raises:
        ConfigError: the size does not fit.
    """

    def __init__(self, *, n_classes: int, width: float, input_size: int, options: MobileOptions) -> None:
        check_multiple("mobile_segment", input_size, 2**options.levels)
        trunk = MobileTrunk(options.trunk, input_size=input_size, levels=options.levels)
        super().__init__(
            n_classes=n_classes,
            input_size=input_size,
            output_size=options.output_size,
            mean=trunk.mean,
            std=trunk.std,
            previous=options.previous,
        )
        self.trunk = trunk
        half = input_size // 2
        self.remember = (
            PreviousInput(n_classes, trunk.stem_channels, output_size=options.output_size, size=half)
            if options.previous
            else None
        )
        channels = [scaled(count, width) for count in CHANNELS]
        used = channels[0 if options.finest == 2 else 1 : options.levels - 1]
        self.laterals, self.rises, self.mixes = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        below = trunk.channels[-1]
        for encoded, decoded in zip(trunk.channels[-2 : -len(used) - 2 : -1], reversed(used), strict=True):
            # Channels go down before a map is enlarged: a quarter of the arithmetic.
            self.rises.append(nn.Sequential(lateral(below, decoded), nn.Upsample(scale_factor=2, mode="bilinear")))
            self.laterals.append(lateral(encoded, decoded))
            self.mixes.append(nn.Sequential(nn.ReLU6(inplace=True), separable(decoded, decoded, options.kernel)))
            below = decoded
        self.feature_channels = below
        self.logits = nn.Conv2d(below, n_classes, 1)
        self.border = nn.Conv2d(below, 1, 1)
        self.enlarge = bilinear(input_size // options.finest, options.output_size)
        init_convolutions(self.laterals, self.rises, self.mixes)
        for head in (self.logits, self.border):
            start_undecided(head)
        if self.remember is not None:
            self.remember.start_at_zero()

    def load_pretrained(self, source: str) -> None:
        """Load the encoder, see `MobileTrunk.load`."""
        self.trunk.load(source)

    def forward(self, image: Tensor, previous: Tensor | None = None) -> tuple[Tensor]:
        """See `SegmentNet`."""
        return (self.enlarge(self.logits(self.decoded(image, previous))),)

    def maps(self, image: Tensor, previous: Tensor | None = None) -> dict[str, Tensor]:
        """See the class."""
        x = self.decoded(image, previous)
        return {"logits": self.enlarge(self.logits(x)), "features": x, "border": self.border(x)}

    def decoded(self, image: Tensor, previous: Tensor | None = None) -> Tensor:
        """``"features"`` alone."""
        previous = self.checked_previous(image, previous)
        extra = self.remember(previous) if self.remember is not None and previous is not None else None
        *skips, x = self.trunk(image, extra)
        skips.reverse()
        for rise, beside, mix, skip in zip(self.rises, self.laterals, self.mixes, skips, strict=False):
            x = mix(rise(x) + beside(skip))
        return x


def build(*, n_classes: int, width: float = 1.0, input_size: int = 160, **options: Any) -> MobileSegment:
    """The mobile student; ``options`` as `MobileOptions` has them.

    Raises:
        ConfigError: an unknown option or a value out of range.
    """
    chosen = configured(MobileOptions, options, "model.options")
    return MobileSegment(n_classes=n_classes, width=width, input_size=input_size, options=chosen)
