"""TFLite with int8 weights (w8), and with int8 weights and activations (w8a8), through ai-edge-quantizer.

Weights are symmetric per output channel. In w8a8 the heads keep float arithmetic with int8 weights: a coordinate in 8
bits would step by half a pixel.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pocketface.compression.quantize.base import (
    Calibration,
    Quantizer,
    StaticConfig,
    WeightsConfig,
    check_modules,
)
from pocketface.compression.quantize.inputs import feeds, shapes_of
from pocketface.converters.formats.base import INPUT, Exported
from pocketface.converters.module_paths import tflite_pattern, tflite_weight_path
from pocketface.converters.tflite_sharing import share_vectors
from pocketface.sdk.errors import ConfigError


class TfliteWeightsConfig(WeightsConfig, frozen=True, kw_only=True):
    """As for ONNX, depthwise kernels included: LiteRT expands them once, when it loads the file."""

    depthwise: bool = True


WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "FULLY_CONNECTED")
"""Operations whose second input is a weight."""


@dataclass(frozen=True)
class TfliteGraph:
    """Names in a TFLite file: outputs of operations with weights, in order, of the whole graph, and of the operations
    before the first one with weights.
    """

    weighted: tuple[str, ...]
    outputs: tuple[str, ...]
    before: tuple[str, ...]

    @classmethod
    def of(cls, data: bytes) -> TfliteGraph:
        from ai_edge_litert.tools import flatbuffer_utils

        model = flatbuffer_utils.read_model_from_bytearray(bytearray(data))
        builtin = flatbuffer_utils.schema_fb.BuiltinOperator
        codes = {getattr(builtin, name) for name in WEIGHTED}
        graph = model.subgraphs[0]
        every = [
            (graph.tensors[op.outputs[0]].name.decode(), model.operatorCodes[op.opcodeIndex].builtinCode in codes)
            for op in graph.operators
        ]
        return cls(
            tuple(name for name, weighted in every if weighted),
            tuple(graph.tensors[index].name.decode() for index in graph.outputs),
            tuple(name for name, _ in itertools.takewhile(lambda item: not item[1], every)),
        )

    def check(self, modules: tuple[str, ...], key: str) -> None:
        """Refuse names of modules that have no weights here."""
        missing = tuple(
            module for module in modules if not any(re.search(tflite_pattern(module), name) for name in self.weighted)
        )
        check_modules(missing, sorted({tflite_weight_path(name) for name in self.weighted}), key)


def _quantize_weights(source: Exported, path: Path, calibration: Calibration, config: WeightsConfig) -> None:
    from ai_edge_quantizer import qtyping
    from ai_edge_quantizer.qtyping import TFLOperationName as Op
    from ai_edge_quantizer.quantizer import AlgorithmName
    from ai_edge_quantizer.recipe_manager import RecipeManager

    data = source.path.read_bytes()
    TfliteGraph.of(data).check(config.keep_float, "keep_float")
    int8 = qtyping.TensorQuantizationConfig(
        num_bits=8, symmetric=True, granularity=qtyping.QuantGranularity.CHANNELWISE
    )
    recipe = RecipeManager()
    recipe.add_quantization_config(
        ".*",
        Op.ALL_SUPPORTED,
        qtyping.OpQuantizationConfig(
            weight_tensor_config=int8,
            compute_precision=qtyping.ComputePrecision.FLOAT,
            explicit_dequantize=True,
            min_weight_elements=config.min_elements,
        ),
    )
    if not config.depthwise:
        recipe.add_quantization_config(".*", Op.DEPTHWISE_CONV_2D, algorithm_key=AlgorithmName.NO_QUANTIZE)
    for module in config.keep_float:
        recipe.add_quantization_config(
            tflite_pattern(module), Op.ALL_SUPPORTED, algorithm_key=AlgorithmName.NO_QUANTIZE
        )
    write_quantized(data, recipe, None, path)


def _quantize_static(source: Exported, path: Path, calibration: Calibration, config: StaticConfig) -> None:
    # The cast and the normalisation: in 8 bits they would round the pixels once more.
    write_static(source, path, calibration, config, bits=8, float_before=source.inputs[INPUT].dtype == "uint8")


def write_static(
    source: Exported,
    path: Path,
    calibration: Calibration,
    config: StaticConfig,
    *,
    bits: int,
    float_before: bool,
    mend: Callable[[dict[str, Any]], None] = lambda ranges: None,
) -> None:
    """Write a file with int8 weights and integer activations.

    Args:
        source: the fp32 file.
        path: what is written: float32 (or uint8) in, float32 out, as the source.
        calibration: (N, 3, S, S), float32 or uint8 as the source takes it.
        config: with the network's heads filled in.
        bits: of the activations, 8 or 16.
        float_before: keep what lies before the first operation with weights in float32.
        mend: changes the ranges that calibration found, in place: tensor name -> ``min`` and ``max``.

    Raises:
        ConfigError: a module that has no weights here, or nothing is left to quantize.
        BadInputError: further inputs of the network are missing from the calibration images.
    """
    from ai_edge_quantizer.calibrator import Calibrator
    from ai_edge_quantizer.qtyping import TFLOperationName as Op
    from ai_edge_quantizer.quantizer import AlgorithmName
    from ai_edge_quantizer.recipe_manager import RecipeManager
    from ai_edge_quantizer.utils import qsv_utils

    data = source.path.read_bytes()
    graph = TfliteGraph.of(data)
    graph.check(config.keep_float, "keep_float")
    heads = config.weights_only or ()
    graph.check(heads, "weights_only")
    recipe = RecipeManager()
    recipe.add_static_config(".*", Op.ALL_SUPPORTED, activation_num_bits=bits, weight_num_bits=8)
    # float32 at the border: the file itself quantizes its input, and gives its outputs in float32.
    for operation in (Op.INPUT, Op.OUTPUT):
        recipe.add_quantization_config(".*", operation, algorithm_key=AlgorithmName.NO_QUANTIZE)
    for module in heads:
        for operation in (Op.FULLY_CONNECTED, Op.CONV_2D):
            recipe.add_weight_only_config(tflite_pattern(module), operation, num_bits=8)
    kept = [tflite_pattern(module) for module in config.keep_float]
    if heads or config.keep_float:
        # A reshape behind the heads would round their float32 results.
        kept += [f"^{re.escape(name)}" for name in graph.outputs]
    if config.float_first and graph.weighted:
        kept.append(f"^{re.escape(graph.weighted[0])}")
    if float_before:
        kept += [f"^{re.escape(name)};?$" for name in graph.before]
    for pattern in kept:
        recipe.add_quantization_config(pattern, Op.ALL_SUPPORTED, algorithm_key=AlgorithmName.NO_QUANTIZE)
    update = qsv_utils.min_max_update if config.calibration == "minmax" else qsv_utils.moving_average_update
    calibrator = Calibrator(data, num_threads=1, qsv_update_func=update)
    shown: list[dict[str, Any]] = [
        {name: np.ascontiguousarray(value.transpose(0, 2, 3, 1)) for name, value in feed.items()}
        for feed in feeds(calibration, shapes_of(source.inputs))
    ]
    calibrator.calibrate({None: shown}, recipe)
    ranges = calibrator.get_model_qsvs()
    mend(ranges)
    write_quantized(data, recipe, ranges, path)


def write_quantized(data: bytes, recipe: Any, ranges: Any, path: Path) -> None:
    """Apply a recipe of ai-edge-quantizer and write the file, equal vectors stored once.

    Args:
        data: the fp32 file's content.
        recipe: a ``RecipeManager``.
        ranges: of the activations; None where the recipe has none.
        path: what is written.

    Raises:
        ConfigError: no weight fits the recipe.
    """
    from ai_edge_quantizer.quantizer import Quantizer as EdgeQuantizer

    quantizer = EdgeQuantizer(data, recipe.get_quantization_recipe())
    result = quantizer.quantize(ranges, enable_progress_bar=False, enable_progress_report=False).quantized_model
    # Where no operation fits the recipe it gives the same network back, if not the same bytes.
    if result is None or not _has_int8(bytes(result)):
        raise ConfigError("no weight is left to quantize", next="Lower min_elements or shorten keep_float")
    path.write_bytes(share_vectors(bytes(result)))


def _has_int8(data: bytes) -> bool:
    from ai_edge_litert.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model_from_bytearray(bytearray(data))
    int8 = flatbuffer_utils.schema_fb.TensorType.INT8
    return any(tensor.type == int8 for graph in model.subgraphs for tensor in graph.tensors)


WEIGHTS = Quantizer("tflite.w8", "tflite", "w8", 3, TfliteWeightsConfig, _quantize_weights, calibrated=False)
STATIC = Quantizer("tflite.w8a8", "tflite", "w8a8", 4, StaticConfig, _quantize_static, calibrated=True)
