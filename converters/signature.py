"""Which tensors a model file really has at its border, and whether they are those its bindings name.

Needs the format's own reader and nothing else: onnxruntime, LiteRT, or coremltools.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pocketface.converters.chatter import chatter_to
from pocketface.sdk.errors import BundleError, MissingExtraError, UnknownNameError
from pocketface.sdk.manifest import Binding


@dataclass(frozen=True)
class TensorInfo:
    """Shape and numpy dtype name of one tensor, as the file declares them."""

    shape: tuple[int | str, ...]
    dtype: str

    def __str__(self) -> str:
        return f"{self.dtype} ({', '.join(str(side) for side in self.shape)})"


@dataclass(frozen=True)
class Signature:
    """Name in the file -> tensor."""

    inputs: Mapping[str, TensorInfo]
    outputs: Mapping[str, TensorInfo]


def read_signature(format: str, path: Path) -> Signature:
    """Read the inputs and outputs that a model file declares.

    Args:
        format: ``"onnx"``, ``"tflite"`` or ``"coreml"``.
        path: the file, or the ``.mlpackage`` folder.

    Raises:
        MissingExtraError: the format's reader is not installed.
        BundleError: the file cannot be read.
        UnknownNameError: no reader for this format.
    """
    if format not in READERS:
        raise UnknownNameError("format", format, READERS)
    try:
        return READERS[format](path)
    except ImportError as error:
        raise MissingExtraError(f"reading {format} files", format, str(error)) from error
    except Exception as error:  # each reader has its own exceptions for a broken file; the cause is chained
        raise BundleError(f"{path.name} cannot be read as {format} ({error})", next="Export it again") from error


def check_signature(found: Signature, inputs: Mapping[str, Binding], outputs: Mapping[str, Binding]) -> list[str]:
    """Every difference between a file's tensors and its bindings, in words; empty if there is none.

    Tensors that no binding names count too: an app could not know what to feed or expect.
    """
    problems: list[str] = []
    for kind, tensors, bindings in (("input", found.inputs, inputs), ("output", found.outputs, outputs)):
        for name, binding in bindings.items():
            tensor = tensors.get(binding.tensor)
            if tensor is None:
                known = ", ".join(sorted(tensors)) or "none"
                problems.append(f"{kind} {name!r} should be tensor {binding.tensor!r}, the file has {known}")
            elif tensor.shape != binding.shape or tensor.dtype != binding.dtype:
                want = TensorInfo(binding.shape, binding.dtype)
                problems.append(f"{kind} {name!r} is {tensor} in the file, {want} in its binding")
        for extra in sorted(set(tensors) - {binding.tensor for binding in bindings.values()}):
            problems.append(f"{kind} {extra!r} of the file is in no binding")
    return problems


def _onnx(path: Path) -> Signature:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def tensors(values: Any) -> dict[str, TensorInfo]:
        return {value.name: TensorInfo(tuple(value.shape), _onnx_dtype(value.type)) for value in values}

    return Signature(tensors(session.get_inputs()), tensors(session.get_outputs()))


def _onnx_dtype(text: str) -> str:
    """``tensor(float)`` -> ``float32``."""
    name = text.removeprefix("tensor(").removesuffix(")")
    return {"float": "float32", "double": "float64"}.get(name, name)


def _tflite(path: Path) -> Signature:
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        from tflite_runtime.interpreter import Interpreter  # older boards have only this one

    runner = Interpreter(str(path), num_threads=1).get_signature_runner()

    def tensors(details: Mapping[str, Any]) -> dict[str, TensorInfo]:
        return {
            name: TensorInfo(tuple(int(side) for side in tensor["shape"]), np.dtype(tensor["dtype"]).name)
            for name, tensor in details.items()
        }

    return Signature(tensors(runner.get_input_details()), tensors(runner.get_output_details()))


def _coreml(path: Path) -> Signature:
    # On import it warns of everything that is missing on this machine, which reading a file does not need.
    with tempfile.TemporaryDirectory() as folder, chatter_to(Path(folder) / "coremltools.log"):
        import coremltools

        description = coremltools.utils.load_spec(str(path)).description
    # ArrayFeatureType.ArrayDataType: 65536 is a flag for floating point, the rest the number of bits.
    names = {65568: "float32", 65552: "float16", 65600: "float64", 131104: "int32"}

    def tensors(features: Any) -> dict[str, TensorInfo]:
        arrays = {feature.name: feature.type.multiArrayType for feature in features}
        return {
            name: TensorInfo(tuple(int(side) for side in array.shape), names.get(array.dataType, str(array.dataType)))
            for name, array in arrays.items()
        }

    return Signature(tensors(description.input), tensors(description.output))


READERS: dict[str, Callable[[Path], Signature]] = {"onnx": _onnx, "tflite": _tflite, "coreml": _coreml}
