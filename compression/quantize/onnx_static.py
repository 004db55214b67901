"""ONNX with int8 weights and 8-bit activations, through onnxruntime's static quantization (QDQ).

Weights are symmetric per output channel; activation ranges come from calibration images. The heads keep float
arithmetic with int8 weights: a coordinate in 8 bits would step by half a pixel.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray

from pocketface.compression.quantize.base import Calibration, QuantizeConfig, Quantizer, check_modules, under
from pocketface.compression.quantize.onnx_weights import store_as_int8, weights
from pocketface.converters.formats.base import INPUT, Exported
from pocketface.converters.formats.onnx import strip
from pocketface.sdk.errors import ConfigError


class StaticConfig(QuantizeConfig, frozen=True, kw_only=True):
    """Weights and activations in 8 bits.

    Attributes:
        weights_only: modules whose weights are int8 while their arithmetic stays float32.
        calibration: how an activation's range follows from the images: their extremes, or the percentile below.
        percentile: share of values that the range covers, in percent, for ``"percentile"``.
        activations: the type of activations.
    """

    weights_only: tuple[str, ...] = ("points", "score")
    calibration: Literal["minmax", "moving_average", "percentile", "entropy"] = "minmax"
    percentile: float = 99.99
    activations: Literal["uint8", "int8"] = "uint8"

    def __post_init__(self) -> None:
        if not 50 < self.percentile <= 100:
            raise ConfigError(f"percentile: {self.percentile}", expected="a number in (50, 100]")


class _Reader:
    """Calibration images one by one, as onnxruntime asks for them."""

    def __init__(self, images: Calibration) -> None:
        self.images = images
        self.rest: Iterator[NDArray[np.float32]] = iter(images)

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        image = next(self.rest, None)
        return None if image is None else {INPUT: np.ascontiguousarray(image[None])}

    def rewind(self) -> None:
        self.rest = iter(self.images)

    def __len__(self) -> int:
        return len(self.images)

    def set_range(self, start_index: int, end_index: int) -> None:
        self.rest = iter(self.images[start_index:end_index])


def _quantize(source: Exported, path: Path, calibration: Calibration, config: StaticConfig) -> None:
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    model = onnx.load(source.path)
    found = list(weights(model.graph))
    modules = sorted({weight.module for weight in found})
    check_modules(config.keep_float, modules, "keep_float")
    check_modules(config.weights_only, modules, "weights_only")
    float_modules = (*config.keep_float, *config.weights_only)
    methods = {
        "minmax": CalibrationMethod.MinMax,
        "moving_average": CalibrationMethod.MinMax,
        "percentile": CalibrationMethod.Percentile,
        "entropy": CalibrationMethod.Entropy,
    }
    options: dict[str, Any] = {"CalibMovingAverage": config.calibration == "moving_average"}
    if config.calibration == "percentile":
        options["CalibPercentile"] = config.percentile
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".quantize-") as folder:
        prepared = Path(folder) / "prepared.onnx"
        onnx.save_model(onnx.shape_inference.infer_shapes(model, strict_mode=True), prepared)
        quantize_static(
            prepared,
            path,
            _Reader(calibration),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8 if config.activations == "uint8" else QuantType.QInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=[weight.node.name for weight in found if under(weight.module, float_modules)],
            calibrate_method=methods[config.calibration],
            extra_options=options,
        )
    quantized = onnx.load(path)
    store_as_int8(quantized, [item for item in weights(quantized.graph) if under(item.module, config.weights_only)])
    strip(quantized)
    onnx.checker.check_model(quantized, full_check=True)
    onnx.save_model(quantized, path, save_as_external_data=False)


QUANTIZER = Quantizer("onnx.w8a8", "onnx", "w8a8", 1, StaticConfig, _quantize, calibrated=True)
