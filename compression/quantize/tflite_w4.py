"""TFLite with int4 weights and float arithmetic (w4), through ai-edge-quantizer: for the size of a download.

Large kernels have 4 bits, smaller ones 8, the smallest stay in float32; then the biases take back what the rounding
moves on average. On a trained EfficientNet-Lite0 at 144 px (NME of 202 validation faces 4.102, of 330 test faces 3.822)
that costs +0.20 and +0.24, with 2.42 MB (w8: +0.01 and +0.01, 4.18 MB). Other settings were worse:

- scales by OCTAV (Sakr et al. 2022), which clips the few largest weights, biases as they are: +0.80 and +0.69. Trained
  networks need those weights; on random ones OCTAV is the better (12.6 dB against 11.1 dB);
- rounded in torch, 96 validation faces: scales from the extremes, biases as they are +0.46 (27.5 dB), biases corrected
  +0.19 (32.8 dB). 8 bits for the heads, biases as they are: +0.38, for 0.15 MB; for all below 65536 values too: +0.26,
  for 0.30 MB.

A TFLite file cannot say scales by blocks of inputs but for fully connected layers on rounded activations, and LiteRT's
dequantize, forced, ignores blocks (0 dB). Depthwise kernels have no 4 bits there either. LiteRT 2.3 expands the weights
when it loads the file. XNNPACK takes no layer that reads them, LiteRT's own kernels do: the network above took
more than twice as long as in w8, beside other work.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np

from pocketface.compression.quantize.base import Calibration, Quantizer
from pocketface.compression.quantize.inputs import feeds, shapes_of
from pocketface.compression.quantize.tflite import WEIGHTED, TfliteGraph, TfliteWeightsConfig
from pocketface.compression.quantize.tflite_bias import correct_biases
from pocketface.converters.formats.base import Exported
from pocketface.converters.module_paths import tflite_pattern
from pocketface.sdk.errors import ConfigError


class TfliteW4Config(TfliteWeightsConfig, frozen=True, kw_only=True):
    """Which weights have 4 bits, and how their scales are found.

    Attributes:
        min_elements: weights with fewer values have 8 bits, or more.
        min_elements_8: of those, the ones with fewer values than this stay in float32.
        depthwise: quantize depthwise kernels too, to 8 bits.
        scales: of 4-bit weights: ``octav`` clips the largest ones where that is better for the others, ``minmax`` does
            not.
        correct_biases: see tflite_bias.py.
    """

    min_elements: int = 8192
    min_elements_8: int = 1024
    scales: Literal["octav", "minmax"] = "minmax"
    correct_biases: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.min_elements_8 < 1:
            raise ConfigError(f"min_elements_8: {self.min_elements_8}", expected="1 or more")


def _quantize(source: Exported, path: Path, calibration: Calibration, config: TfliteW4Config) -> None:
    """Write the quantized file.

    Args:
        source: the fp32 file.
        path: what is written: float32 (or uint8) in, float32 out, as the source.
        calibration: (N, 3, S, S), float32 or uint8 as the source takes it; for the biases.
        config: the settings.

    Raises:
        ConfigError: a module that has no weights here, or no weight is left for 4 bits.
        BadInputError: further inputs of the network are missing from the calibration images.
    """
    from ai_edge_quantizer import qtyping
    from ai_edge_quantizer.qtyping import TFLOperationName as Op
    from ai_edge_quantizer.quantizer import AlgorithmName
    from ai_edge_quantizer.quantizer import Quantizer as EdgeQuantizer
    from ai_edge_quantizer.recipe_manager import RecipeManager

    data = source.path.read_bytes()
    TfliteGraph.of(data).check(config.keep_float, "keep_float")
    names = {"TRANSPOSE_CONV": Op.CONV_2D_TRANSPOSE}
    found = AlgorithmName.OCTAV if config.scales == "octav" else AlgorithmName.MIN_MAX_UNIFORM_QUANT
    recipe, four = RecipeManager(), 0
    for name, kind, count in _layers(data):
        bits = _bits(kind, count, config)
        kept = any(re.search(tflite_pattern(module), name) for module in config.keep_float)
        if bits == 32 or kept:
            continue
        four += bits == 4
        weights = qtyping.TensorQuantizationConfig(
            num_bits=bits, symmetric=True, granularity=qtyping.QuantGranularity.CHANNELWISE
        )
        recipe.add_quantization_config(
            f"^{re.escape(name)};?$",
            names.get(kind) or Op[kind],
            qtyping.OpQuantizationConfig(
                weight_tensor_config=weights,
                compute_precision=qtyping.ComputePrecision.FLOAT,
                explicit_dequantize=True,
            ),
            algorithm_key=found if bits == 4 else AlgorithmName.MIN_MAX_UNIFORM_QUANT,
        )
    quantizer = EdgeQuantizer(data, recipe.get_quantization_recipe())
    # Without anything to do it gives the same network back.
    made = quantizer.quantize(None, enable_progress_bar=False, enable_progress_report=False) if four else None
    if made is None or made.quantized_model is None:
        raise ConfigError("no weight is left to quantize", next="Lower min_elements or shorten keep_float")
    result = bytes(made.quantized_model)
    if config.correct_biases:
        shown = (
            {name: np.ascontiguousarray(value.transpose(0, 2, 3, 1)) for name, value in feed.items()}
            for feed in feeds(calibration, shapes_of(source.inputs))
        )
        result = correct_biases(data, result, shown)
    path.write_bytes(result)


def _bits(kind: str, count: int, config: TfliteW4Config) -> Literal[4, 8, 32]:
    """Of the weights of a layer."""
    if kind in ("CONV_2D", "FULLY_CONNECTED") and count >= config.min_elements:
        return 4
    eight = count >= config.min_elements_8 and (config.depthwise or kind != "DEPTHWISE_CONV_2D")
    return 8 if eight else 32


def _layers(data: bytes) -> Iterator[tuple[str, str, int]]:
    """Of each operation with constant weights: name of its output, its kind, number of its weights."""
    from ai_edge_litert.tools import flatbuffer_utils

    model: Any = flatbuffer_utils.read_model_from_bytearray(bytearray(data))
    kinds = {getattr(flatbuffer_utils.schema_fb.BuiltinOperator, kind): kind for kind in WEIGHTED}
    tensors = model.subgraphs[0].tensors
    for op in model.subgraphs[0].operators:
        kind = kinds.get(model.operatorCodes[op.opcodeIndex].builtinCode)
        if kind is None:
            continue
        weight = tensors[op.inputs[1]]
        content = model.buffers[weight.buffer].data
        if content is not None and len(content):
            yield tensors[op.outputs[0]].name.decode(), kind, len(content) // 4  # float32


QUANTIZER = Quantizer("tflite.w4", "tflite", "w4", 1, TfliteW4Config, _quantize, calibrated=True)
