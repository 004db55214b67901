"""Core ML with small weights, through coremltools: int8 per output channel (w8), or palettes of 16 or 64 values (pal4,
pal6). Arithmetic stays in floating point; the file asks for iOS 16.

Neural engines expand such weights as they load or run the model: the file and its memory traffic shrink, the results
are those of the rounded weights on every device.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pocketface.compression.quantize.base import Calibration, Quantizer, WeightsConfig, check_modules, under
from pocketface.converters.formats.base import Exported
from pocketface.converters.formats.coreml import save_package
from pocketface.converters.module_paths import coreml_weight_paths
from pocketface.sdk.errors import ConfigError

WEIGHTED = ("conv", "conv_transpose", "linear", "matmul")


class CoreMLWeightsConfig(WeightsConfig, frozen=True, kw_only=True):
    """As for ONNX, depthwise kernels included: here they cost no time."""

    depthwise: bool = True


class PaletteConfig(CoreMLWeightsConfig, frozen=True, kw_only=True):
    """One table of values for each weight tensor, found by k-means over its values."""


def _quantize_weights(source: Exported, path: Path, calibration: Calibration, config: CoreMLWeightsConfig) -> None:
    import coremltools.optimize.coreml as optimize

    model, chosen = _opened(source, config)
    settings = optimize.OpLinearQuantizerConfig(mode="linear_symmetric", dtype="int8", weight_threshold=0)
    save_package(optimize.linear_quantize_weights(model, _only(chosen, settings)), path)


def _palettize(bits: int) -> Any:
    def quantize(source: Exported, path: Path, calibration: Calibration, config: PaletteConfig) -> None:
        import coremltools.optimize.coreml as optimize

        model, chosen = _opened(source, config)
        settings = optimize.OpPalettizerConfig(mode="kmeans", nbits=bits, weight_threshold=0)
        save_package(optimize.palettize_weights(model, _only(chosen, settings)), path)

    return quantize


def _only(names: list[str], settings: Any) -> Any:
    """These weights and no others."""
    import coremltools.optimize.coreml as optimize

    return optimize.OptimizationConfig(op_name_configs=dict.fromkeys(names, settings))


def _opened(source: Exported, config: CoreMLWeightsConfig) -> tuple[Any, list[str]]:
    """The fp32 package, and the names of the weights to store small.

    Raises:
        ConfigError: ``keep_float`` names a module that has no weight, or no weight is left.
    """
    import coremltools as ct

    model = ct.models.MLModel(str(source.path), skip_model_load=True)
    found = list(_weights(model))
    check_modules(config.keep_float, sorted({module for _, module, _, _ in found}), "keep_float")
    chosen = [
        name
        for name, module, size, depthwise in found
        if size >= config.min_elements and (config.depthwise or not depthwise) and not under(module, config.keep_float)
    ]
    if not chosen:
        raise ConfigError("no weight is left to quantize", next="Lower min_elements or shorten keep_float")
    return model, list(dict.fromkeys(chosen))


def _weights(model: Any) -> Iterator[tuple[str, str, int, bool]]:
    """Constants that convolutions and matrix products read: name, module path, number of values, depthwise or not."""
    spec = model.get_spec()
    paths = coreml_weight_paths(model.user_defined_metadata)
    (block,) = spec.mlProgram.functions["main"].block_specializations.values()
    shapes = {}
    for operation in block.operations:
        if operation.type == "const":
            (output,) = operation.outputs
            dimensions = output.type.tensorType.dimensions
            shapes[output.name] = tuple(dimension.constant.size for dimension in dimensions)
        elif operation.type in WEIGHTED:
            for argument in ("weight", "y"):
                for binding in operation.inputs[argument].arguments if argument in operation.inputs else ():
                    shape = shapes.get(binding.name)
                    if shape:
                        size = int(np.prod(shape))
                        depthwise = operation.type == "conv" and shape[1] == 1 and shape[0] > 1
                        yield binding.name, paths.get(operation.outputs[0].name, ""), size, depthwise


WEIGHTS = Quantizer("coreml.w8", "coreml", "w8", 1, CoreMLWeightsConfig, _quantize_weights, calibrated=False)
PALETTE4 = Quantizer("coreml.pal4", "coreml", "pal4", 1, PaletteConfig, _palettize(4), calibrated=False)
PALETTE6 = Quantizer("coreml.pal6", "coreml", "pal6", 1, PaletteConfig, _palettize(6), calibrated=False)
