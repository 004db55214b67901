"""The two-stage hair teacher (Face AR thesis, section 6.3): a shape prior, then a symmetric encoder-decoder that finds
the exact border.

    image --HairPrior--> prior
    image + prior --stem--> [ encoder block -- skip block -- + decoder block, border refinement, x 2 ] x 4 --> logits

One ResNet block a level in the encoder, the decoder and each skip connection; before each enlargement a border
refinement module (Fig. 6.3). Both stages are trained at once: `maps` gives what their losses compare.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Literal

import torch
from torch import Tensor, nn

from pocketface.compression.models.blocks import scaled
from pocketface.compression.models.hair_prior import HairPrior
from pocketface.compression.models.segment_blocks import (
    BasicBlock,
    SegmentNet,
    bilinear,
    check_multiple,
    conv_bn,
    init_convolutions,
    start_undecided,
)
from pocketface.compression.models.trunks import TrunkName, normalisation
from pocketface.converters.options import Options, configured
from pocketface.sdk.errors import ConfigError

CHANNELS = (32, 64, 128, 256)
"""Of the levels of the second stage, finest first, and as many halvings from one to the next."""


class TwoStageOptions(Options, frozen=True, kw_only=True):
    """``model.options`` of the two-stage teacher.

    Attributes:
        prior: whether the first stage is there; without it, Table 6.1's "only seg stage".
        refine: whether the border refinement modules are there.
        trunk: of the first stage; its input normalisation is the whole network's even without a prior.
        aspp: channels of the first stage's pyramid.
        stem: the second stage begins at 1 / ``stem`` of the input's side. The thesis does not say; 1 costs four times
            the time of 2.
    """

    prior: bool = True
    refine: bool = True
    trunk: TrunkName = "efficientnet_lite0"
    aspp: int = 256
    stem: Literal[1, 2] = 2

    def __post_init__(self) -> None:
        if self.aspp < 1:
            raise ConfigError(f"aspp {self.aspp}", expected="1 channel or more")


class BorderRefinement(nn.Module):
    """Spatial attention (Fig. 6.3): 1 x 1 convolution to one channel, sigmoid, times each channel of the input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 1, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, c, s, s) -> the refined maps (B, c, s, s) and the connectivity map (B, 1, s, s) in (0, 1)."""
        connectivity = torch.sigmoid(self.conv(x))
        return x * connectivity, connectivity


class SymmetricSegment(nn.Module):
    """The second stage. (B, inputs, S, S) -> features (B, c, S / stem, S / stem) and the connectivity maps, finest
    first.

    Args:
        inputs: channels.
        channels: of the levels, finest first.
        stem: stride of the first convolution.
        refine: whether the decoder has border refinement.
    """

    def __init__(self, inputs: int, channels: list[int], *, stem: int, refine: bool) -> None:
        super().__init__()
        self.stem = conv_bn(inputs, channels[0], stride=stem)
        self.encoder = nn.ModuleList([BasicBlock(channels[0], channels[0])])
        self.encoder.extend(BasicBlock(above, below, 2) for above, below in pairwise(channels))
        self.skips = nn.ModuleList(BasicBlock(count, count) for count in channels)
        # A decoder's block brings the channels down to those of the level above, before the maps are enlarged.
        self.decoder = nn.ModuleList([BasicBlock(channels[0], channels[0])])
        self.decoder.extend(BasicBlock(below, above) for above, below in pairwise(channels))
        outputs = [channels[0], *channels[:-1]]
        self.refinements = nn.ModuleList(BorderRefinement(count) for count in outputs) if refine else None
        self.enlarge = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        x = self.stem(x)
        kept = []
        for block, skip in zip(self.encoder, self.skips, strict=True):
            x = block(x)
            kept.append(skip(x))
        maps: list[Tensor] = []
        x = kept[-1]
        for level in range(len(kept) - 1, -1, -1):
            if level < len(kept) - 1:
                x = self.enlarge(x) + kept[level]
            x = self.decoder[level](x)
            if self.refinements is not None:
                x, connectivity = self.refinements[level](x)
                maps.insert(0, connectivity)
        return x, maps


class HairTwoStage(SegmentNet):
    """See the module and `SegmentNet`; M = S. ``maps`` gives, besides ``"logits"`` (B, C, S, S):

    - ``"features"`` (B, c, s, s), what the last convolution sees, s = S / ``stem``;
    - ``"prior"`` (B, 1, S, S) in [-1, 1], and ``"prior_linear"``, the same before Hardtanh, if there is a prior;
    - ``"connectivity"`` (B, 1, s, s) in (0, 1), the finest one, if there is border refinement.

    Args:
        n_classes, input_size: see `SegmentNet`; the size is a multiple of 32.
        width: multiplier of the second stage's channels.
        options: see there.

    Raises:
        ConfigError: the size does not fit.
    """

    def __init__(self, *, n_classes: int, width: float, input_size: int, options: TwoStageOptions) -> None:
        check_multiple("hair_two_stage", input_size, 32)
        mean, std = normalisation(options.trunk)
        super().__init__(n_classes=n_classes, input_size=input_size, output_size=input_size, mean=mean, std=std)
        self.prior = (
            HairPrior(input_size=input_size, trunk=options.trunk, channels=options.aspp) if options.prior else None
        )
        channels = [scaled(count, width) for count in CHANNELS]
        self.segment = SymmetricSegment(
            3 if self.prior is None else 4, channels, stem=options.stem, refine=options.refine
        )
        self.feature_channels = channels[0]
        self.logits = nn.Conv2d(channels[0], n_classes, 1)
        self.enlarge = bilinear(input_size // options.stem, input_size)
        init_convolutions(self.segment)
        start_undecided(self.logits)

    def load_pretrained(self, source: str) -> None:
        """Load the first stage's trunk.

        Raises:
            ConfigError: there is no first stage.
        """
        if self.prior is None:
            super().load_pretrained(source)
        else:
            self.prior.load_pretrained(source)

    def maps(self, image: Tensor, previous: Tensor | None = None) -> dict[str, Tensor]:
        """See the class."""
        self.checked_previous(image, previous)
        found: dict[str, Tensor] = {}
        x = image
        if self.prior is not None:
            found["prior_linear"] = self.prior.linear(image)
            found["prior"] = self.prior.clip(found["prior_linear"])
            x = torch.cat([image, found["prior"]], 1)
        found["features"], connectivity = self.segment(x)
        if connectivity:
            found["connectivity"] = connectivity[0]
        found["logits"] = self.enlarge(self.logits(found["features"]))
        return found


def build(*, n_classes: int, width: float = 1.0, input_size: int = 256, **options: Any) -> HairTwoStage:
    """The two-stage teacher; ``options`` as `TwoStageOptions` has them.

    Raises:
        ConfigError: an unknown option or a value out of range.
    """
    chosen = configured(TwoStageOptions, options, "model.options")
    return HairTwoStage(n_classes=n_classes, width=width, input_size=input_size, options=chosen)
