"""ONNX: the border through onnxruntime, which everyone has; the rest through the onnx package."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from pocketface.converters.module_paths import onnx_path
from pocketface.converters.readers.base import INTEGERS, Contents, Operation, Signature, TensorInfo
from pocketface.converters.readers.qdq import Node, quantized

_FLOATS = frozenset({"float32", "float16", "float64", "bfloat16"})
_FOLDED = frozenset({"Relu", "Clip"})
_WITHOUT_WEIGHTS = frozenset({"QuantizeLinear", "DequantizeLinear", "Clip", "Pad", "Resize", "Reshape"})
"""Their constants are scales, bounds, sizes."""


class OnnxReader:
    """Reads ``.onnx`` files."""

    format = "onnx"

    def signature(self, path: Path) -> Signature:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

        def tensors(values: Any) -> dict[str, TensorInfo]:
            return {
                value.name: TensorInfo(tuple(-1 if side is None else side for side in value.shape), _dtype(value.type))
                for value in values
            }

        return Signature(tensors(session.get_inputs()), tensors(session.get_outputs()))

    def contents(self, path: Path) -> Contents:
        import onnx

        model = onnx.load(path)
        graph = _Graph(model)
        operations = tuple(graph.operation(node) for node in model.graph.node if node.op_type != "Constant")
        sets = (f"{item.domain or 'ai.onnx'} {item.version}" for item in model.opset_import)
        return Contents(self.signature(path), operations, dict(graph.stored()), ", ".join(sorted(sets)))


def _dtype(text: str) -> str:
    """``tensor(float)`` -> ``float32``."""
    name = text.removeprefix("tensor(").removesuffix(")")
    return {"float": "float32", "double": "float64"}.get(name, name)


class _Graph:
    """What has to be known of the whole graph to describe one node."""

    def __init__(self, model: Any) -> None:
        import onnx

        graph = onnx.shape_inference.infer_shapes(model).graph
        self._types: dict[str, str] = {}
        self._constants: dict[str, int] = {}
        for value in (*graph.input, *graph.value_info, *graph.output):
            self._types[value.name] = _type_name(value.type.tensor_type.elem_type)
        for tensor in graph.initializer:
            self._constant(tensor.name, tensor)
        for node in graph.node:
            for attribute in node.attribute if node.op_type == "Constant" else ():
                if attribute.HasField("t"):
                    self._constant(node.output[0], attribute.t)
        for node in graph.node:
            for name in node.output:
                # Of operations that inference does not know: most keep the type of what they read.
                self._types.setdefault(name, self._types.get(node.input[0], "") if node.input else "")
        self._qdq = quantized(
            [Node(node.op_type, tuple(node.input), tuple(node.output)) for node in graph.node],
            self._constants,
            self._types,
            quantize="QuantizeLinear",
            dequantize="DequantizeLinear",
            folded=_FOLDED,
            bounded=_WITHOUT_WEIGHTS,
        )
        self._read_by_dequantize = {
            name for node in graph.node if node.op_type == "DequantizeLinear" for name in node.input
        }

    def _constant(self, name: str, tensor: Any) -> None:
        self._types[name] = _type_name(tensor.data_type)
        self._constants[name] = int(np.prod(tensor.dims))

    def operation(self, node: Any) -> Operation:
        inputs = [name for name in node.input if name]
        outputs = tuple(name for name in node.output if name)
        constants = [name for name in inputs if name in self._constants or name in self._qdq.stored]
        stored = [self._qdq.stored.get(name, name) for name in constants if node.op_type not in _WITHOUT_WEIGHTS]
        weights = max((name for name in stored if self._counts(name)), key=self._constants.__getitem__, default="")
        return Operation(
            type=node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}",
            name=node.name or (outputs[0] if outputs else ""),
            module=_module(node.name, constants),
            compute=self._compute(node, [name for name in inputs if name not in constants], outputs),
            weights=self._types.get(weights, ""),
            outputs=outputs,
        )

    def _compute(self, node: Any, activations: list[str], outputs: tuple[str, ...]) -> str:
        if not activations or node.op_type in ("Shape", "Size"):
            return ""
        if outputs and outputs[0] in self._qdq.integers:
            return self._qdq.integers[outputs[0]]
        types = [self._types.get(name, "") for name in (*activations, *outputs)]
        return next((name for name in types if name in _FLOATS or name in INTEGERS), "")

    def _counts(self, name: str) -> bool:
        """Whether a constant is a weight: 64-bit integers are shapes, 32-bit ones too unless they are biases."""
        dtype = self._types.get(name, "")
        if dtype == "int32":
            return name in self._read_by_dequantize
        return dtype not in ("", "int64", "bool", "object")

    def stored(self) -> Counter[str]:
        """dtype -> number of constant values."""
        weights: Counter[str] = Counter()
        for name, count in self._constants.items():
            if self._counts(name):
                weights[self._types[name]] += count
        return weights


def _type_name(code: int) -> str:
    import onnx

    if code == onnx.TensorProto.UNDEFINED:
        return ""
    if code in (onnx.TensorProto.INT4, onnx.TensorProto.UINT4):  # before numpy has them
        return "int4" if code == onnx.TensorProto.INT4 else "uint4"
    return str(np.dtype(onnx.helper.tensor_dtype_to_np_dtype(code)).name)


def _module(name: str, constants: list[str]) -> str:
    """Module path, from the names of its weights, or else from its own."""
    for constant in constants:
        module, dot, parameter = constant.rpartition(".")
        # "features.0.0.weight", also with what a quantizer adds: "features.0.0.weight_DequantizeLinear_Output".
        if dot and parameter.split("_")[0] in ("weight", "bias"):
            return module
    # Other exporters write "/features/features.0/Conv".
    return onnx_path(name).strip("/").replace("/", ".")


READER = OnnxReader()
