"""TFLite: the border through the interpreter, the rest through LiteRT's own flatbuffer tools."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pocketface.converters.module_paths import tflite_path, tflite_weight_path
from pocketface.converters.readers.base import DYNAMIC, Contents, Operation, Signature, TensorInfo
from pocketface.sdk.errors import MissingExtraError

WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "FULLY_CONNECTED", "CONV_3D", "BATCH_MATMUL")
"""Operations with a kernel and a bias; an int32 constant that they read is a bias, elsewhere it is a shape."""

_HYBRID = frozenset({"int8", "uint8", "int4", "int2"})

_DATA = frozenset({"float32", "float16", "bfloat16", "int8", "uint8", "int16", "uint16"})


class TfliteReader:
    """Reads ``.tflite`` files."""

    format = "tflite"

    def signature(self, path: Path) -> Signature:
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError:
            from tflite_runtime.interpreter import Interpreter  # older boards have only this one

        interpreter = Interpreter(str(path), num_threads=1)

        def tensors(details: Mapping[str, Any]) -> dict[str, TensorInfo]:
            found = {}
            for name, tensor in details.items():
                # The shape has 1 where the signature has -1, a side that may change.
                sides = tensor["shape_signature"] if len(tensor.get("shape_signature", ())) else tensor["shape"]
                scale, zero = tensor.get("quantization", (0.0, 0))
                quantization = (float(scale), int(zero)) if scale else None
                shape = tuple(int(side) for side in sides)
                found[name] = TensorInfo(shape, np.dtype(tensor["dtype"]).name, quantization)
            return found

        if not interpreter.get_signature_list():  # of older converters: tensors have their own names
            named = [
                {item["name"]: item for item in details}
                for details in (interpreter.get_input_details(), interpreter.get_output_details())
            ]
            return Signature(tensors(named[0]), tensors(named[1]))
        runner = interpreter.get_signature_runner()
        return Signature(tensors(runner.get_input_details()), tensors(runner.get_output_details()))

    def contents(self, path: Path) -> Contents:
        try:
            from ai_edge_litert.tools import flatbuffer_utils
        except ImportError as error:
            raise MissingExtraError("looking into .tflite files", "tflite", str(error)) from error
        model = flatbuffer_utils.read_model_from_bytearray(bytearray(path.read_bytes()))
        schema = flatbuffer_utils.schema_fb
        dtypes = {value: name.lower() for name, value in vars(schema.TensorType).items() if not name.startswith("_")}
        kinds = {value: name for name, value in vars(schema.BuiltinOperator).items() if not name.startswith("_")}
        operations: list[Operation] = []
        weights: Counter[str] = Counter()
        for graph in model.subgraphs:
            view = _Graph(model, graph, dtypes)
            for op in graph.operators:
                code = model.operatorCodes[op.opcodeIndex]
                kind = kinds[code.builtinCode]
                if kind == "CUSTOM" and code.customCode:
                    kind = code.customCode.decode()
                operations.append(view.operation(op, kind))
            weights += view.weights
        return Contents(self.signature(path), tuple(operations), dict(weights), _version(model))


class _Graph:
    """One subgraph: describes its operations one after the other and counts the constants they read."""

    def __init__(self, model: Any, graph: Any, dtypes: Mapping[int, str]) -> None:
        self._tensors, self._dtypes = graph.tensors, dtypes
        self._constant = {
            index
            for index, tensor in enumerate(graph.tensors)
            if model.buffers[tensor.buffer].data is not None and len(model.buffers[tensor.buffer].data)
        }
        self._expanded: dict[int, int] = {}
        self._counted: set[int] = set()
        self.weights: Counter[str] = Counter()

    def dtype(self, index: int) -> str:
        return self._dtypes[self._tensors[index].type]

    def size(self, index: int) -> int:
        shape = self._tensors[index].shape
        return int(np.prod(shape)) if shape is not None else 1

    def operation(self, op: Any, kind: str) -> Operation:
        inputs = [int(index) for index in op.inputs if index >= 0]
        outputs = [int(index) for index in op.outputs]
        # The constant that is read, behind a dequantize where there is one.
        constants = [self._expanded.get(index, index) for index in inputs]
        constants = [index for index in constants if index in self._constant]
        if kind in ("DEQUANTIZE", "CAST") and constants:
            self._expanded[outputs[0]] = constants[0]
        weights = [index for index in constants if self._count(index, kind)]
        largest = max(weights, key=self.size, default=None)
        activations = [index for index in inputs if index not in self._constant and index not in self._expanded]
        types = [self.dtype(index) for index in (*activations, *(outputs if activations else ()))]
        compute = next((dtype for dtype in types if dtype in _DATA), "")
        direct = self.dtype(largest) if kind in WEIGHTED and largest is not None and largest in inputs else ""
        if compute == "float32" and direct in _HYBRID:
            compute = DYNAMIC  # no dequantize stands before the kernel: LiteRT brings the activations to its 8 bits
        name = self._tensors[outputs[0]].name.decode() if outputs else ""
        return Operation(
            type=kind,
            name=name,
            module=tflite_weight_path(name) if weights else tflite_path(name),
            compute=compute,
            weights="" if largest is None or kind in ("DEQUANTIZE", "CAST") else self.dtype(largest),
            outputs=tuple(self._tensors[index].name.decode() for index in outputs),
        )

    def _count(self, index: int, kind: str) -> bool:
        """Whether a constant is a weight (a bias counts as one); adds it to the count the first time."""
        dtype = self.dtype(index)
        weight = dtype in _DATA or dtype in ("int4", "uint4", "int2") or (dtype == "int32" and kind in WEIGHTED)
        if weight and index not in self._counted:
            self._counted.add(index)
            self.weights[dtype] += self.size(index)
        return weight


def _version(model: Any) -> str:
    """The oldest runtime that knows the file's operations, if the converter noted it."""
    for note in model.metadata or ():
        if note.name == b"min_runtime_version":
            text = bytes(model.buffers[note.buffer].data).rstrip(b"\0").decode()
            return f"runtime {text}" if text else ""
    return ""


READER = TfliteReader()
