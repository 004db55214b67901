"""TFLite with int8 weights and int16 activations (w8a16), through ai-edge-quantizer: for hardware that computes so.

As w8a8, but activations have 65536 steps: what is left of the error is that of the weights. On a trained
EfficientNet-Lite0 at 144 px that is nearly all there was: 46.2 dB of its points over faces, 45.5 dB in w8a8. LiteRT
2.3 runs it with its reference kernels alone, XNNPACK takes none of its layers: the same network takes 20 times as long
as in float32 (processor time of one thread over 32 faces).
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np

from pocketface.compression.quantize.base import Calibration, Quantizer, StaticConfig
from pocketface.compression.quantize.inputs import feeds, shapes_of
from pocketface.compression.quantize.tflite import _Graph, _write
from pocketface.converters.formats.base import INPUT, Exported
from pocketface.converters.module_paths import tflite_pattern


def _quantize(source: Exported, path: Path, calibration: Calibration, config: StaticConfig) -> None:
    """Write the quantized file.

    Args:
        source: the fp32 file.
        path: what is written: float32 (or uint8) in, float32 out, as the source.
        calibration: (N, 3, S, S), float32 or uint8 as the source takes it.
        config: with the network's heads filled in.

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
    graph = _Graph.of(data)
    graph.check(config.keep_float, "keep_float")
    heads = config.weights_only or ()
    graph.check(heads, "weights_only")
    recipe = RecipeManager()
    recipe.add_static_config(".*", Op.ALL_SUPPORTED, activation_num_bits=16, weight_num_bits=8)
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
    if config.float_first or source.inputs[INPUT].dtype == "uint8":
        # The cast, the normalisation and the padding: no sense in rounding what the next one takes in float.
        kept += [f"^{re.escape(name)};?$" for name in graph.before]
    for pattern in kept:
        recipe.add_quantization_config(pattern, Op.ALL_SUPPORTED, algorithm_key=AlgorithmName.NO_QUANTIZE)
    update = qsv_utils.min_max_update if config.calibration == "minmax" else qsv_utils.moving_average_update
    calibrator = Calibrator(data, num_threads=1, qsv_update_func=update)
    shown = [
        {name: np.ascontiguousarray(value.transpose(0, 2, 3, 1)) for name, value in feed.items()}
        for feed in feeds(calibration, shapes_of(source.inputs))
    ]
    calibrator.calibrate({None: shown}, recipe)
    ranges = calibrator.get_model_qsvs()
    _avoid_powers_of_two(ranges)
    _write(data, recipe, ranges, path)


def _avoid_powers_of_two(ranges: dict[str, Any]) -> None:
    """Widen the ranges (``min`` and ``max``, in place) whose scale would be a power of two, as a clamp gives them.

    Where the scales of both terms and of the sum are, LiteRT 2.3 adds by shifting, and refuses the file when both terms
    would have to be shifted (kernels/add.cc).
    """
    for found in ranges.values():
        largest = max(float(np.abs(found[key]).max()) for key in ("min", "max"))
        if largest > 0 and abs(math.remainder(math.log2(largest / 32767), 1)) < 5e-3:  # its own tolerance is 1e-3
            found |= {key: 1.01 * found[key] for key in ("min", "max")}


QUANTIZER = Quantizer("tflite.w8a16", "tflite", "w8a16", 1, StaticConfig, _quantize, calibrated=True)
