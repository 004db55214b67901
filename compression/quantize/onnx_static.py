"""ONNX with int8 weights and 8-bit activations, through onnxruntime's static quantization (QDQ).

Weights are symmetric per output channel; activation ranges come from calibration images. The heads keep float
arithmetic with int8 weights: a coordinate in 8 bits would step by half a pixel.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import onnx
from numpy.typing import NDArray

from pocketface.compression.quantize.base import Calibration, Quantizer, StaticConfig, check_modules, under
from pocketface.compression.quantize.inputs import feeds, shapes_of
from pocketface.compression.quantize.onnx_weights import store_as_int8, weights
from pocketface.converters.formats.base import INPUT, Exported
from pocketface.converters.formats.onnx import strip
from pocketface.converters.module_paths import onnx_path


class OnnxStaticConfig(StaticConfig, frozen=True, kw_only=True):
    """Weights and activations in 8 bits.

    Attributes:
        calibration: how an activation's range follows from the images: their extremes, an average of each image's
            extremes, all but the outermost 0.001 % of the values, or the range that loses the least information
            (Kullback-Leibler). The last two keep every activation of every image in memory.
    """

    calibration: Literal["minmax", "moving_average", "percentile", "entropy"] = "minmax"  # type: ignore[assignment]


class _Reader:
    """Calibration images one by one, as onnxruntime asks for them."""

    def __init__(self, rest: Iterator[dict[str, NDArray[Any]]]) -> None:
        self.rest = rest

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        return next(self.rest, None)


def _quantize(source: Exported, path: Path, calibration: Calibration, config: OnnxStaticConfig) -> None:
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    model = onnx.load(source.path)
    found = list(weights(model.graph))
    modules = sorted({weight.module for weight in found})
    check_modules(config.keep_float, modules, "keep_float")
    heads = config.weights_only or ()
    check_modules(heads, modules, "weights_only")
    kept = [weight.node.name for weight in found if under(weight.module, (*config.keep_float, *heads))]
    # Not weights alone: a softmax between two of them is theirs too.
    kept += [node.name for node in model.graph.node if under(_scope(node.name), config.keep_float)]
    if config.float_first:
        kept.append(found[0].node.name)
    if source.inputs[INPUT].dtype == "uint8":
        # The cast and the normalisation: in 8 bits they would round the pixels once more.
        kept += [node.name for node in itertools.takewhile(lambda node: node != found[0].node, model.graph.node)]
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".quantize-") as folder:
        prepared = Path(folder) / "prepared.onnx"
        onnx.save_model(onnx.shape_inference.infer_shapes(model, strict_mode=True), prepared)
        quantize_static(
            prepared,
            path,
            _Reader(feeds(calibration, shapes_of(source.inputs))),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            # What x86 wants: there, signed activations only cost; on ARM both run alike.
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=kept,
            calibrate_method={
                "percentile": CalibrationMethod.Percentile,
                "entropy": CalibrationMethod.Entropy,
            }.get(config.calibration, CalibrationMethod.MinMax),
            extra_options={"CalibMovingAverage": config.calibration == "moving_average"},
        )
    quantized = onnx.load(path)
    store_as_int8(quantized, [item for item in weights(quantized.graph) if under(item.module, heads)])
    strip(quantized)
    onnx.checker.check_model(quantized, full_check=True)
    onnx.save_model(quantized, path, save_as_external_data=False)


def _scope(name: str) -> str:
    """Module path of a node, from its name."""
    return onnx_path(name).strip("/").replace("/", ".")


QUANTIZER = Quantizer("onnx.w8a8", "onnx", "w8a8", 2, OnnxStaticConfig, _quantize, calibrated=True)
