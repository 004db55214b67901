"""ONNX with int8 weights: each one is stored in 8 bits per output channel behind a DequantizeLinear; arithmetic stays
float32.

A file of about a quarter of the size, that computes what the float network computes with rounded weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from pocketface.compression.quantize.base import Calibration, Quantizer, WeightsConfig, check_modules, under
from pocketface.converters.formats.base import Exported
from pocketface.sdk.errors import ConfigError


@dataclass(frozen=True)
class Weight:
    """A weight of the graph: the initializer's name (its module path + ``.weight``), and the axis of its output
    channels.
    """

    name: str
    axis: int
    node: onnx.NodeProto
    shape: tuple[int, ...]

    @property
    def module(self) -> str:
        return self.name.rsplit(".", 1)[0]

    @property
    def depthwise(self) -> bool:
        """Whether each output channel reads one input channel."""
        groups = next((item.i for item in self.node.attribute if item.name == "group"), 1)
        return groups > 1 and self.node.op_type == "Conv" and self.shape[1] == 1


def weights(graph: onnx.GraphProto) -> Iterator[Weight]:
    """The weights of every convolution and matrix product whose second input is a constant float32 tensor."""
    constants = {tensor.name: tensor for tensor in graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT}
    for node in graph.node:
        if len(node.input) > 1 and node.input[1] in constants:
            name = node.input[1]
            shape = tuple(constants[name].dims)
            if node.op_type == "Conv":
                yield Weight(name, 0, node, shape)
            elif node.op_type == "ConvTranspose":
                yield Weight(name, 1, node, shape)
            elif node.op_type == "Gemm":
                transposed = any(item.name == "transB" and item.i for item in node.attribute)
                yield Weight(name, 0 if transposed else 1, node, shape)
            elif node.op_type == "MatMul" and len(shape) == 2:
                yield Weight(name, 1, node, shape)


def quantize_channels(weight: NDArray[np.float32], axis: int) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Symmetric int8 per channel: q = round(w / s), s = max |w| / 127.

    Args:
        weight: any shape.
        axis: of the channels.

    Returns:
        (q of the same shape in [-127, 127], s of shape (channels,)). A channel of zeros has s = 1.
    """
    others = tuple(index for index in range(weight.ndim) if index != axis)
    scale = np.abs(weight).max(axis=others) / np.float32(127)
    scale = np.where(scale > 0, scale, np.float32(1)).astype(np.float32)
    shape = [1] * weight.ndim
    shape[axis] = -1
    rounded = np.rint(weight / scale.reshape(shape))
    return rounded.clip(-127, 127).astype(np.int8), scale


def store_as_int8(model: onnx.ModelProto, chosen: list[Weight]) -> None:
    """Replace these weights by int8 ones behind a DequantizeLinear each, in place."""
    graph = model.graph
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    nodes = []
    for name, axis in dict.fromkeys((weight.name, weight.axis) for weight in chosen):
        tensor = tensors[name]
        quantized, scale = quantize_channels(numpy_helper.to_array(tensor), axis)
        # The nodes go on reading the weight under its own name: now it is what DequantizeLinear gives.
        tensor.CopyFrom(numpy_helper.from_array(quantized, f"{name}.int8"))
        graph.initializer.append(numpy_helper.from_array(scale, f"{name}.scale"))
        nodes.append(
            helper.make_node(
                "DequantizeLinear", [f"{name}.int8", f"{name}.scale"], [name], f"{name}.dequantize", axis=axis
            )
        )
    for node in reversed(nodes):
        graph.node.insert(0, node)


def _quantize(source: Exported, path: Path, calibration: Calibration, config: WeightsConfig) -> None:
    model = onnx.load(source.path)
    found = list(weights(model.graph))
    check_modules(config.keep_float, sorted({weight.module for weight in found}), "keep_float")
    chosen = [
        weight
        for weight in found
        if np.prod(weight.shape) >= config.min_elements
        and (config.depthwise or not weight.depthwise)
        and not under(weight.module, config.keep_float)
    ]
    if not chosen:
        raise ConfigError("no weight is left to quantize", next="Lower min_elements or shorten keep_float")
    store_as_int8(model, chosen)
    onnx.checker.check_model(model, full_check=True)
    onnx.save_model(model, path, save_as_external_data=False)


QUANTIZER = Quantizer("onnx.w8", "onnx", "w8", 1, WeightsConfig, _quantize, calibrated=False)
