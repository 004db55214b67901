"""What is inside a quantized file: its size, how its weights are stored, and which operations run on integers."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pocketface.converters.formats.base import Exported
from pocketface.sdk.errors import UnknownNameError
from pocketface.sdk.terminal import size_text


@dataclass(frozen=True)
class QuantizationReport:
    """Contents of one model file.

    Attributes:
        name: of the file.
        bytes: its size.
        weights: numpy dtype name -> number of constant values stored in it (shapes and the like are not counted).
        operations: how many the graph has, without those that only convert between types.
        quantized_operations: how many of them are done on integers: 8-bit activations in, 8-bit activations out.
        weight_only_operations: how many compute in float on 8-bit weights.
    """

    name: str
    bytes: int
    weights: dict[str, int]
    operations: int
    quantized_operations: int
    weight_only_operations: int

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self)

    def __str__(self) -> str:
        total = max(1, sum(self.weights.values()))
        shares = ", ".join(f"{dtype} {100 * count / total:.1f} %" for dtype, count in self.weights.items())
        return (
            f"{self.name}: {size_text(self.bytes)}; weights {shares}; {self.operations} operations, "
            f"{self.quantized_operations} on 8-bit activations, {self.weight_only_operations} on 8-bit weights alone"
        )


def report(exported: Exported) -> QuantizationReport:
    """Look into an ONNX or TFLite file.

    Raises:
        UnknownNameError: another format.
    """
    readers = {"onnx": _onnx, "tflite": _tflite}
    if exported.format not in readers:
        raise UnknownNameError("format", exported.format, readers)
    weights, operations, quantized, weight_only = readers[exported.format](exported.path)
    ordered = dict(sorted(weights.items(), key=lambda item: -item[1]))
    return QuantizationReport(exported.path.name, exported.total_bytes, ordered, operations, quantized, weight_only)


def _onnx(path: Path) -> tuple[Counter[str], int, int, int]:
    import onnx

    graph = onnx.load(path).graph
    weights: Counter[str] = Counter()
    for tensor in graph.initializer:
        if tensor.data_type != onnx.TensorProto.INT64:
            weights[np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)).name] += int(np.prod(tensor.dims))
    constants = {tensor.name for tensor in graph.initializer}
    from_constants: set[str] = set()
    from_activations: set[str] = set()
    quantized_next: set[str] = set()
    for node in graph.node:
        if node.op_type == "DequantizeLinear":
            (from_constants if node.input[0] in constants else from_activations).update(node.output)
        elif node.op_type == "QuantizeLinear":
            quantized_next.add(node.input[0])
    plain = [node for node in graph.node if node.op_type not in ("QuantizeLinear", "DequantizeLinear", "Cast")]
    # Runtimes fuse an operation between two pairs; without one behind it, it stays in float.
    quantized = [
        node for node in plain if not from_activations.isdisjoint(node.input) and node.output[0] in quantized_next
    ]
    by_weights = [
        node for node in plain if node not in quantized and any(name in from_constants for name in node.input)
    ]
    return weights, len(plain), len(quantized), len(by_weights)


def _tflite(path: Path) -> tuple[Counter[str], int, int, int]:
    from ai_edge_litert.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model_from_bytearray(bytearray(path.read_bytes()))
    schema = flatbuffer_utils.schema_fb
    dtypes = {value: name for name, value in vars(schema.TensorType).items() if not name.startswith("_")}
    names = {value: name for name, value in vars(schema.BuiltinOperator).items() if not name.startswith("_")}
    eight = {schema.TensorType.INT8, schema.TensorType.UINT8}
    weights: Counter[str] = Counter()
    operations = quantized = weight_only = 0
    for graph in model.subgraphs:
        constant = {
            index
            for index, tensor in enumerate(graph.tensors)
            if model.buffers[tensor.buffer].data is not None and len(model.buffers[tensor.buffer].data)
        }
        counted: set[int] = set()
        # Weights only: what convolutions and matrix products read; shapes and paddings are constants too.
        expanded: dict[int, int] = {}
        for op in graph.operators:
            kind = names[model.operatorCodes[op.opcodeIndex].builtinCode]
            inputs = [int(index) for index in op.inputs if index >= 0]
            if kind == "DEQUANTIZE":
                if inputs[0] in constant:
                    expanded[int(op.outputs[0])] = inputs[0]
                continue
            if kind == "QUANTIZE":
                continue
            operations += 1
            activations = [index for index in inputs if index not in constant and index not in expanded]
            on_integers = any(graph.tensors[index].type in eight for index in activations)
            quantized += on_integers
            weight_only += not on_integers and any(
                graph.tensors[expanded.get(index, index)].type in eight
                for index in inputs
                if index in constant or index in expanded
            )
            if kind in ("CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "FULLY_CONNECTED"):
                counted |= {expanded.get(index, index) for index in inputs} & constant
        for index in counted:
            tensor = graph.tensors[index]
            weights[dtypes[tensor.type].lower()] += int(np.prod(tensor.shape))
    return weights, operations, quantized, weight_only
