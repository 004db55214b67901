"""TFLite with int8 weights whose layers round their own activations when they run (dynamic), through ai-edge-quantizer.

Nothing is calibrated: each image has its own range. Only convolutions and fully connected layers compute so, with
weights of ``min_elements`` or more; the heads and depthwise convolutions compute in float on int8 weights.

On a trained EfficientNet-Lite0 at 144 px (NME of 330 test faces in float32: 3.822): +0.011, as w8 has, with 52.2 dB of
its points (w8: 52.9 dB, w8a8: 45.5 dB); the file is that of w8, 4.17 MB.

Rounding costs time too. A MobileNetV2 0.35 at 96 px with random weights takes 0.7 of float32's on one thread (w8 1.0,
w8a8 0.9 of it); with all layers but depthwise ones on integers 1.1, with depthwise ones besides, which XNNPACK does not
take so, 2.5.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from pocketface.compression.quantize.base import Calibration, Quantizer, StaticConfig
from pocketface.compression.quantize.tflite import TfliteGraph, write_quantized
from pocketface.converters.formats.base import Exported
from pocketface.converters.module_paths import tflite_pattern
from pocketface.sdk.errors import ConfigError


class TfliteDynamicConfig(StaticConfig, frozen=True, kw_only=True):
    """Which layers round their activations, and which weights are in 8 bits.

    Attributes:
        calibration: there is none.
        min_elements: weights with fewer values stay in float32, arithmetic too. Small kernels belong to large maps:
            rounding these takes longer than 8 bits save, and costs most of the accuracy.
        depthwise: int8 weights for depthwise kernels too; their arithmetic stays float32.
    """

    calibration: Literal["none"] = "none"  # type: ignore[assignment]
    min_elements: int = 4096
    depthwise: bool = True

    def __post_init__(self) -> None:
        if self.min_elements < 1:
            raise ConfigError(f"min_elements: {self.min_elements}", expected="1 or more")


def _quantize(source: Exported, path: Path, calibration: Calibration, config: TfliteDynamicConfig) -> None:
    """Write the quantized file.

    Args:
        source: the fp32 file.
        path: what is written: float32 (or uint8) in, float32 out, as the source.
        calibration: ignored.
        config: with the network's heads filled in.

    Raises:
        ConfigError: a module that has no weights here, or nothing is left to quantize.
    """
    from ai_edge_quantizer import qtyping
    from ai_edge_quantizer.qtyping import TFLOperationName as Op
    from ai_edge_quantizer.quantizer import AlgorithmName
    from ai_edge_quantizer.recipe_manager import RecipeManager

    data = source.path.read_bytes()
    graph = TfliteGraph.of(data)
    graph.check(config.keep_float, "keep_float")
    heads = config.weights_only or ()
    graph.check(heads, "weights_only")

    def settings(on_integers: bool) -> qtyping.OpQuantizationConfig:
        precision = qtyping.ComputePrecision
        return qtyping.OpQuantizationConfig(
            weight_tensor_config=qtyping.TensorQuantizationConfig(
                num_bits=8, symmetric=True, granularity=qtyping.QuantGranularity.CHANNELWISE
            ),
            compute_precision=precision.INTEGER if on_integers else precision.FLOAT,
            explicit_dequantize=not on_integers,
            min_weight_elements=config.min_elements,
        )

    recipe = RecipeManager()
    for operation in (Op.CONV_2D, Op.FULLY_CONNECTED):
        recipe.add_quantization_config(".*", operation, settings(on_integers=True))
    for operation in (Op.CONV_2D_TRANSPOSE, *([Op.DEPTHWISE_CONV_2D] if config.depthwise else [])):
        recipe.add_quantization_config(".*", operation, settings(on_integers=False))
    for module in heads:
        for operation in (Op.FULLY_CONNECTED, Op.CONV_2D):
            recipe.add_quantization_config(tflite_pattern(module), operation, settings(on_integers=False))
    kept = [tflite_pattern(module) for module in config.keep_float]
    if config.float_first and graph.weighted:
        kept.append(f"^{re.escape(graph.weighted[0])}")
    for pattern in kept:
        recipe.add_quantization_config(pattern, Op.ALL_SUPPORTED, algorithm_key=AlgorithmName.NO_QUANTIZE)
    write_quantized(data, recipe, None, path)


QUANTIZER = Quantizer("tflite.dynamic", "tflite", "dynamic", 1, TfliteDynamicConfig, _quantize, calibrated=False)
