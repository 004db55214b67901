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

STORED: Mapping[str, Mapping[str, Any]] = {"hourglass": {"min_elements": 256}, "blazeface": {"min_elements": 256}}
"""Network -> settings of the quantizers that round weights and nothing else, where their own would leave more values in
float32 than the precision may: these have many small kernels and no large ones."""

_STORING = ("w8", "dynamic", "w4", "pal4", "pal6")

REASONS = {
    ("executorch", "w8"): "XNNPACK has no convolution with 8-bit weights and float arithmetic",
    ("*", "pal4"): "only Core ML stores weights as palettes",
    ("*", "pal6"): "only Core ML stores weights as palettes",
    ("onnx", "w8a16"): "QLinearConv takes 8 bits alone: onnxruntime would round to 16 and compute in float",
    ("coreml", "w8a16"): "its quantize operation gives int8 or uint8 alone",
    ("executorch", "w8a16"): "XNNPACK has no type of 16-bit integers",
    ("onnx", "w4"): "4-bit constants need opset 21, files are written in 18; no quantizer does that yet",
    ("coreml", "w4"): "needs iOS 18; pal4 has as many bits, and 16 values of its own choice, from iOS 16 on",
    ("executorch", "w4"): "XNNPACK has 4-bit weights in fully connected layers alone",
    ("onnx", "dynamic"): "ConvInteger gives int32, which the graph would have to scale; no quantizer does that yet",
    ("coreml", "dynamic"): "its quantize operation takes a constant step alone",
    ("executorch", "dynamic"): "XNNPACK has such convolutions, depthwise ones apart; no quantizer does that yet",
    ("*", "mixed"): "searched for on a trained network's validation faces: `export.mixed` of a recipe",
    ("*", "*"): "no quantizer is registered",
}
"""(Format, precision) -> why the combination does not exist; the first that fits counts. Read in ONNX's own schemas, in
coremltools 9.0 (quantize of iOS 17) and in ExecuTorch 1.5.1 (XNNPACK's schema, partitioner and quantizer)."""


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
