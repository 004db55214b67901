"""TFLite with int8 weights (w8), and with int8 weights and activations (w8a8), through ai-edge-quantizer.

Weights are symmetric per output channel. In w8a8 the heads keep float arithmetic with int8 weights: a coordinate in 8
bits would step by half a pixel.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

import numpy as np

from pocketface.compression.quantize.base import Calibration, QuantizeConfig, Quantizer, check_modules
from pocketface.converters.formats.base import INPUT, Exported
from pocketface.sdk.errors import ConfigError

# litert-torch names an operation's output after the modules it comes from, outermost first, each CLASS_ATTRIBUTE, with
# a slash between; after a semicolon follow those that were fused into it.
_ROOT = "_net"
"""Attribute under which the exporter holds the network (converters/formats/tflite.py)."""


class WeightsConfig(QuantizeConfig, frozen=True, kw_only=True):
    """Weights in 8 bits, arithmetic in float32."""


class StaticConfig(QuantizeConfig, frozen=True, kw_only=True):
    """Weights and activations in 8 bits.

    Attributes:
        weights_only: modules whose weights are int8 while their arithmetic stays float32.
        float_pooling: average the last feature map in float32; it is then as exact as the feature map's own 8 bits
            allow.
        calibration: how an activation's range follows from the images: their extremes, or a moving average of each
            image's extremes.
    """

    weights_only: tuple[str, ...] = ("points", "score")
    float_pooling: bool = True
    calibration: Literal["minmax", "moving_average"] = "minmax"


def _module(name: str) -> str:
    """Module path of an operation, from its output's name; empty for one outside every module."""
    first = name.split(";", 1)[0]
    _, found, below = first.partition(_ROOT + "/")
    return ".".join(part.rsplit("_", 1)[-1] for part in below.split("/")) if found else ""


def _pattern(module: str) -> str:
    """A regular expression for the outputs of a module and all below it. Attribute names may hold underscores,
    class names too.
    """
    steps = "".join(rf"/[^/;]*_{re.escape(part)}" for part in module.split("."))
    return rf"^[^;]*?{_ROOT}{steps}(?=[/;]|$)"


def _names_with_weights(data: bytes) -> list[str]:
    """Output names of the convolutions and matrix products."""
    from ai_edge_litert.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model_from_bytearray(bytearray(data))
    operators = {flatbuffer_utils.schema_fb.BuiltinOperator.__dict__[name] for name in _WEIGHTED}
    graph = model.subgraphs[0]
    return [
        graph.tensors[op.outputs[0]].name.decode()
        for op in graph.operators
        if model.operatorCodes[op.opcodeIndex].builtinCode in operators
    ]


_WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "FULLY_CONNECTED")


def _check(modules: tuple[str, ...], names: list[str], key: str) -> None:
    missing = tuple(module for module in modules if not any(re.search(_pattern(module), name) for name in names))
    check_modules(missing, sorted({_module(name) for name in names}), key)


def _quantize_weights(source: Exported, path: Path, calibration: Calibration, config: WeightsConfig) -> None:
    from ai_edge_quantizer.qtyping import TFLOperationName as Op
    from ai_edge_quantizer.quantizer import AlgorithmName
    from ai_edge_quantizer.quantizer import Quantizer as EdgeQuantizer

    data = source.path.read_bytes()
    _check(config.keep_float, _names_with_weights(data), "keep_float")
    quantizer = EdgeQuantizer(data)
    quantizer.add_weight_only_config(".*", Op.ALL_SUPPORTED, num_bits=8)
    for module in config.keep_float:
        quantizer.update_quantization_recipe(
            _pattern(module), Op.ALL_SUPPORTED, algorithm_key=AlgorithmName.NO_QUANTIZE
        )
    _write(path, quantizer.quantize(enable_progress_bar=False, enable_progress_report=False))


def _quantize_static(source: Exported, path: Path, calibration: Calibration, config: StaticConfig) -> None:
    from ai_edge_quantizer.calibrator import Calibrator
    from ai_edge_quantizer.qtyping import TFLOperationName as Op
    from ai_edge_quantizer.quantizer import AlgorithmName
    from ai_edge_quantizer.quantizer import Quantizer as EdgeQuantizer
    from ai_edge_quantizer.recipe_manager import RecipeManager
    from ai_edge_quantizer.utils import qsv_utils

    data = source.path.read_bytes()
    names = _names_with_weights(data)
    _check(config.keep_float, names, "keep_float")
    _check(config.weights_only, names, "weights_only")
    recipe = RecipeManager()
    recipe.add_static_config(".*", Op.ALL_SUPPORTED, activation_num_bits=8, weight_num_bits=8)
    # float32 at the border: the file itself quantizes its input and dequantizes its outputs.
    operations = [Op.INPUT, Op.OUTPUT]
    # What follows the heads only moves numbers around; in 8 bits it would undo their float arithmetic.
    operations += [Op.RESHAPE] if config.weights_only or config.keep_float else []
    operations += [Op.MEAN, Op.SUM] if config.float_pooling else []
    for operation in operations:
        recipe.add_quantization_config(".*", operation, algorithm_key=AlgorithmName.NO_QUANTIZE)
    for module in config.weights_only:
        recipe.add_weight_only_config(_pattern(module), Op.FULLY_CONNECTED, num_bits=8)
    for module in config.keep_float:
        recipe.add_quantization_config(_pattern(module), Op.ALL_SUPPORTED, algorithm_key=AlgorithmName.NO_QUANTIZE)
    update = qsv_utils.min_max_update if config.calibration == "minmax" else qsv_utils.moving_average_update
    calibrator = Calibrator(data, num_threads=1, qsv_update_func=update)
    feeds: list[dict[str, Any]] = [
        {INPUT: np.ascontiguousarray(image.transpose(1, 2, 0)[None])} for image in calibration
    ]
    calibrator.calibrate({None: feeds}, recipe)
    quantizer = EdgeQuantizer(data, recipe.get_quantization_recipe())
    ranges = calibrator.get_model_qsvs()
    _write(path, quantizer.quantize(ranges, enable_progress_bar=False, enable_progress_report=False))


def _write(path: Path, result: Any) -> None:
    if result.quantized_model is None:
        raise ConfigError("nothing is left to quantize", next="Shorten keep_float")
    path.write_bytes(bytes(result.quantized_model))


WEIGHTS = Quantizer("tflite.w8", "tflite", "w8", 1, WeightsConfig, _quantize_weights, calibrated=False)
STATIC = Quantizer("tflite.w8a8", "tflite", "w8a8", 1, StaticConfig, _quantize_static, calibrated=True)
