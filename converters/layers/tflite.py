"""TFLite: an interpreter that preserves all tensors, with the built-in kernels and no delegate.

XNNPACK, which the runtime uses by default, takes the operations away from the interpreter and leaves no tensors; its
numbers may differ in the last digits from those traced here.
"""

from __future__ import annotations

import importlib.metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pocketface.converters.layers.base import Inputs, Trace, TracedTensor
from pocketface.converters.module_paths import tflite_path
from pocketface.sdk.backends.base import feed, read_model
from pocketface.sdk.errors import BundleError, MissingExtraError
from pocketface.sdk.manifest import Variant


class TfliteTracer:
    """Needs ai-edge-litert."""

    format = "tflite"

    def trace(self, path: Path, variant: Variant, inputs: Inputs) -> Trace:
        try:
            from ai_edge_litert.interpreter import Interpreter, OpResolverType
            from ai_edge_litert.tools import flatbuffer_utils
        except ImportError as error:
            raise MissingExtraError("tracing TFLite", "tflite", str(error)) from error
        data = read_model(path, variant)
        try:
            interpreter = Interpreter(
                model_content=data,
                num_threads=1,
                experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
                experimental_preserve_all_tensors=True,
            )
            interpreter.allocate_tensors()
            runner = interpreter.get_signature_runner()
            runner(**feed(inputs, variant))
        except (RuntimeError, ValueError) as error:
            first = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise BundleError(
                f"{path.name}: LiteRT's built-in kernels refuse it ({first})", next="Verify it without --layers"
            ) from error
        model = flatbuffer_utils.read_model_from_bytearray(bytearray(data))
        graph = _Graph(model, flatbuffer_utils.schema_fb)
        details = {item["index"]: item for item in interpreter.get_tensor_details()}
        found = []
        for operation, read, written in graph.operations():
            for index in written:
                value = interpreter.get_tensor(index)
                if not np.issubdtype(value.dtype, np.number):
                    continue
                scales, zeros = (details[index]["quantization_parameters"][key] for key in ("scales", "zero_points"))
                found.append(
                    TracedTensor(
                        graph.name(index),
                        tflite_path(graph.name(index)),
                        operation,
                        _dequantized(value, scales, zeros),
                        value.dtype.name,
                        scale=float(scales[0]) if len(scales) == 1 else None,
                        layout=graph.layouts.get(index, "NHWC"),
                        inputs=tuple(graph.name(item) for item in read),
                    )
                )
        return Trace(
            f"LiteRT {importlib.metadata.version('ai-edge-litert')}, built-in kernels without XNNPACK",
            tuple(found),
            graph.outputs({name: binding.tensor for name, binding in variant.outputs.items()}),
        )


class _Graph:
    """The main graph of a file: its operations, and which way round its tensors are."""

    def __init__(self, model: Any, schema: Any) -> None:
        self._model, self._graph = model, model.subgraphs[0]
        self._kinds = {code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)}
        self._constant = {
            index
            for index, tensor in enumerate(self._graph.tensors)
            if model.buffers[tensor.buffer].data is not None and len(model.buffers[tensor.buffer].data)
        }
        self.layouts: dict[int, str] = {}

    def name(self, index: int) -> str:
        found: str = self._graph.tensors[index].name.decode()
        return found

    def operations(self) -> list[tuple[str, list[int], list[int]]]:
        """(kind, tensors read but for constants, tensors written), in execution order; fills ``layouts``."""
        found = []
        for op in self._graph.operators:
            kind = self._kinds[self._model.operatorCodes[op.opcodeIndex].builtinCode]
            read = [int(index) for index in op.inputs if index >= 0 and index not in self._constant]
            written = [int(index) for index in op.outputs]
            layout = next((self.layouts[index] for index in read if index in self.layouts), "NHWC")
            if kind == "TRANSPOSE" and len(self._graph.tensors[written[0]].shape) == 4:
                order = self._integers(op.inputs[1])
                channels = order.index(3 if layout == "NHWC" else 1) if sorted(order) == [0, 1, 2, 3] else 3
                layout = "NCHW" if channels == 1 else "NHWC"
            elif kind.endswith(("CONV_2D", "POOL_2D")) or kind == "TRANSPOSE_CONV":
                layout = "NHWC"
            self.layouts.update(dict.fromkeys(written, layout))
            found.append((kind, read, written))
        return found

    def outputs(self, wanted: dict[str, str]) -> dict[str, str]:
        """Contract name -> the signature's name, to contract name -> the tensor's own name."""
        maps = self._model.signatureDefs[0].outputs if self._model.signatureDefs else []
        named = {item.name.decode(): self.name(item.tensorIndex) for item in maps}
        return {contract: named.get(name, name) for contract, name in wanted.items()}

    def _integers(self, index: int) -> list[int]:
        data = self._model.buffers[self._graph.tensors[index].buffer].data
        return [] if data is None else [int(value) for value in np.frombuffer(bytes(data), np.int32)]


def _dequantized(value: NDArray[Any], scales: NDArray[Any], zeros: NDArray[Any]) -> NDArray[np.float32]:
    if len(scales) != 1:
        return value.astype(np.float32)
    real: NDArray[np.float32] = (value.astype(np.float32) - np.float32(zeros[0])) * np.float32(scales[0])
    return real


TRACER = TfliteTracer()
