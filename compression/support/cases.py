"""Which networks the support table tries, and in what."""

from __future__ import annotations

from typing import Literal

import msgspec

from pocketface.compression.models.registry import MODELS, STAGE_MODELS, ModelSpec
from pocketface.compression.variants import precisions
from pocketface.converters.formats.registry import EXPORTERS
from pocketface.sdk.manifest import PRECISIONS

INPUT_SIZE, STAGE_SIZE = 96, 64
"""Pixels, of landmark networks and of the stages of a chain. Padding, pooling and heads are those of any size;
conversions take half the time of 224."""

SMALL = "efficientnet_lite0"
"""The network that the face68 recipe ships: its padding, which differs from side to side, is the hard case for both."""

REASONS = {
    ("coreml", "w8a8"): "8-bit activations need their ranges learnt in torch; no quantizer does that yet",
    ("executorch", "w8"): "XNNPACK has no convolution with 8-bit weights and float arithmetic",
    ("*", "pal4"): "only Core ML stores weights as palettes",
    ("*", "pal6"): "only Core ML stores weights as palettes",
    ("*", "mixed"): "a w8a8 variant whose recipe names modules in keep_float; none has a name of its own yet",
    ("*", "*"): "no quantizer is registered",
}
"""(Format, precision) -> why the combination does not exist; the first that fits counts."""


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """A network as it is tried."""

    network: str
    head: Literal["pooled", "spatial"] = "pooled"
    input: Literal["normalised", "pixels"] = "normalised"

    @property
    def spec(self) -> ModelSpec:
        size = INPUT_SIZE if self.network in MODELS else STAGE_SIZE
        return ModelSpec(name=self.network, input_size=size, head=self.head)


def cases() -> list[Case]:
    """Every registered network; the other head and the other input once each."""
    found = [Case(network=name) for name in (*MODELS, *STAGE_MODELS)]
    return [*found, Case(network=SMALL, head="spatial"), Case(network=SMALL, input="pixels")]


def every_format() -> dict[str, tuple[str, ...]]:
    """Format -> every precision that exists there."""
    return {name: precisions(name) for name in EXPORTERS}


def absent() -> list[tuple[str, str, str]]:
    """Format, precision and reason of the combinations that do not exist."""
    found = []
    for name, known in every_format().items():
        for precision in PRECISIONS:
            if precision not in known:
                keys = ((name, precision), ("*", precision), ("*", "*"))
                found.append((name, precision, next(REASONS[key] for key in keys if key in REASONS)))
    return found
