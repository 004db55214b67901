"""The tiny network in every quantized form, each made once a test run; ways to look into a file that are not ours."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from executorch_files import method
from numpy.typing import NDArray
from tiny_export import exported, inputs, tiny_net, torch_outputs
from torch import nn

from pocketface.compression.quantize.registry import QUANTIZERS
from pocketface.converters.formats.base import Exported
from pocketface.converters.parity import backend_of

FIRST = "features.0.0"
DEPTHWISE = ("features.1.0", "features.3.0")
HEADS = ("points", "score")
LARGE = ("features.4.0", "points")
"""The modules whose weights have 4096 values or more, the default's bound."""

Run = Callable[[NDArray[np.float32]], tuple[NDArray[np.float32], NDArray[np.float32]]]


@functools.cache
def quantized(name: str) -> Exported:
    """As the quantizer's defaults have it. Nothing may change these files."""
    source = exported(QUANTIZERS[name].format)
    path = source.path.with_name(f"tiny.{QUANTIZERS[name].precision}{source.path.suffix}")
    result: Exported = QUANTIZERS[name](source, path, inputs(8, seed=1), net=tiny_net())
    return result


def modules() -> dict[str, nn.Conv2d | nn.Linear]:
    """The modules that have weights a quantizer may touch, in order."""
    return {name: part for name, part in tiny_net().named_modules() if isinstance(part, (nn.Conv2d, nn.Linear))}


def values(*names: str) -> int:
    """How many weights these modules have together (biases are not counted)."""
    return sum(modules()[name].weight.numel() for name in names)


def outputs(*names: str) -> int:
    """How many output channels these modules have together."""
    return sum(modules()[name].weight.shape[0] for name in names)


def runner(item: Exported) -> Run:
    """Images (N, 3, S, S), one by one through the format's runtime, without our backends."""
    if item.format == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(str(item.path), providers=["CPUExecutionProvider"])

        def one(image: NDArray[np.float32]) -> Any:
            return session.run(list(HEADS), {"image": image[None]})
    elif item.format == "executorch":
        forward = method(item.path)

        def one(image: NDArray[np.float32]) -> Any:
            return forward(image[None])
    elif item.format == "tflite":
        from ai_edge_litert.interpreter import Interpreter

        signature = Interpreter(str(item.path), num_threads=1).get_signature_runner()

        def one(image: NDArray[np.float32]) -> Any:
            found = signature(image=np.ascontiguousarray(image.transpose(1, 2, 0)[None]))
            return found["points"], found["score"]
    else:
        backend = backend_of(item)  # nothing else on this machine runs it

        def one(image: NDArray[np.float32]) -> Any:
            found = backend.run({"image": image[None]})
            return found["points"], found["score"]

    def run(images: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        points, score = zip(*(one(image) for image in images), strict=True)
        return np.concatenate(points), np.concatenate(score)

    return run


def errors(item: Exported, count: int = 4) -> tuple[float, float]:
    """Largest difference of points (crop sides) and of the score's logit to torch, on images not used before."""
    images = inputs(count)
    points, score = runner(item)(images)
    truth = torch_outputs(images)
    return float(np.abs(points - truth[0]).max()), float(np.abs(score - truth[1]).max())


@dataclass(frozen=True)
class Operation:
    """One operation of a TFLite file, as LiteRT lists it. Tensors are LiteRT's own descriptions."""

    kind: str
    inputs: tuple[dict[str, Any], ...]
    constants: tuple[dict[str, Any], ...]
    output: dict[str, Any]

    @property
    def on_integers(self) -> bool:
        return self.inputs[0]["dtype"] == np.int8 and self.output["dtype"] == np.int8


def tflite_operations(item: Exported) -> list[Operation]:
    """All operations in order; what LiteRT says of the file, without any delegate that would fuse them."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    kernels = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter = Interpreter(str(item.path), experimental_op_resolver_type=kernels)
    tensors = {tensor["index"]: tensor for tensor in interpreter.get_tensor_details()}
    listed = interpreter._get_ops_details()
    computed = {index for op in listed for index in op["outputs"]}
    computed |= {tensor["index"] for tensor in interpreter.get_input_details()}
    return [
        Operation(
            op["op_name"],
            tuple(tensors[index] for index in op["inputs"] if index in computed),
            tuple(tensors[index] for index in op["inputs"] if index >= 0 and index not in computed),
            tensors[op["outputs"][0]],
        )
        for op in listed
    ]
