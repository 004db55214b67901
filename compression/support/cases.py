"""Which networks the support table tries, and in what."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

import msgspec

from pocketface.compression.models.registry import MODELS, SEGMENT_MODELS, STAGE_MODELS, ModelSpec
from pocketface.compression.quantize.registry import QUANTIZERS
from pocketface.compression.variants import precisions
from pocketface.converters.formats.registry import EXPORTERS
from pocketface.sdk.manifest import PRECISIONS

INPUT_SIZE, STAGE_SIZE = 96, 64
"""Pixels, of landmark networks, and of a chain's stages and networks of masks. Padding, pooling and heads are those of
any size; conversions take half the time of 224."""

N_CLASSES = 11
"""Of masks: as many as the parts of a face."""

SMALL = "efficientnet_lite0"
"""The network that the face68 recipe ships: its padding, which differs from side to side, is the hard case for both."""

WITH_PREVIOUS: Mapping[str, Mapping[str, bool | int]] = {"hourglass": {"stem": 2}, "mobile_segment": {}}
"""Networks tried with a previous mask too -> their other options then. A stem makes the hourglass shrink the mask and
enlarge the logits, as the mobile student does."""

STORED: Mapping[str, Mapping[str, Any]] = {"hourglass": {"min_elements": 256}}
"""Network -> settings of the quantizers that round weights and nothing else, where their own would leave more values in
float32 than the precision may: a hourglass has many small kernels and no large ones."""

_STORING = ("w8", "pal4", "pal6")

REASONS = {
    ("coreml", "w8a8"): "8-bit activations need their ranges learnt in torch; no quantizer does that yet",
    ("executorch", "w8"): "XNNPACK has no convolution with 8-bit weights and float arithmetic",
    ("*", "pal4"): "only Core ML stores weights as palettes",
    ("*", "pal6"): "only Core ML stores weights as palettes",
    ("coreml", "mixed"): "no w8a8 to mix with",
    ("*", "mixed"): "searched for on a trained network's validation faces: `export.mixed` of a recipe",
    ("*", "*"): "no quantizer is registered",
}
"""(Format, precision) -> why the combination does not exist; the first that fits counts."""


Input: TypeAlias = Literal["normalised", "pixels", "previous"]


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """A network as it is tried.

    Attributes:
        network: of any table of compression/models/registry.py.
        head: of a landmark network.
        input: a normalised picture, uint8 pixels, or a normalised picture and the mask of the frame before.
    """

    network: str
    head: Literal["pooled", "spatial"] = "pooled"
    input: Input = "normalised"

    @property
    def spec(self) -> ModelSpec:
        size = INPUT_SIZE if self.network in MODELS else STAGE_SIZE
        options: dict[str, bool | int | float | str] = {}
        if self.input == "previous":
            options = {**WITH_PREVIOUS[self.network], "previous": True}
        return ModelSpec(name=self.network, input_size=size, head=self.head, options=options)

    @property
    def quantize(self) -> dict[str, Mapping[str, Any]]:
        """Settings that its quantizers need, by FORMAT.PRECISION."""
        if self.network not in STORED:
            return {}
        return {name: STORED[self.network] for name in QUANTIZERS if name.endswith(_STORING)}


def cases() -> list[Case]:
    """Every registered network; the other head and the pixels once, the previous mask where a network may have one."""
    return [
        *(Case(network=name) for name in (*MODELS, *STAGE_MODELS)),
        Case(network=SMALL, head="spatial"),
        Case(network=SMALL, input="pixels"),
        *(Case(network=name) for name in SEGMENT_MODELS),
        *(Case(network=name, input="previous") for name in WITH_PREVIOUS),
    ]


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
