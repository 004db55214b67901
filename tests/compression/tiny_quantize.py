"""The tiny network in every quantized form, each made once a test run; ways to look into a file that are not ours."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

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


def mil_operations(path: Path) -> list[Any]:
    """All operations of a Core ML package in order, as coremltools' own loader gives them; constants are left out."""
    import coremltools as ct
    from coremltools.converters.mil.frontend.milproto.load import load

    spec = ct.utils.load_spec(str(path))
    weights = path / "Data" / "com.apple.CoreML" / "weights"
    program = load(spec, specification_version=spec.specificationVersion, file_weights_dir=str(weights))
    return [operation for operation in program.functions["main"].operations if operation.op_type != "const"]


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


class Layer(NamedTuple):
    """A convolution or fully connected layer of a TFLite file, types as the schema spells them.

    ``expanded``: a dequantize stands between the stored weights and the layer. ``bias`` is empty where it has none.
    """

    activations: str
    weights: str
    expanded: bool
    bias: str


def tflite_layers(item: Exported) -> dict[str, Layer]:
    """Module -> its layer, straight from the flatbuffer; the tiny network's modules in order."""
    from ai_edge_litert.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model(str(item.path))
    schema, graph = flatbuffer_utils.schema_fb, model.subgraphs[0]
    types = {value: name for name, value in vars(schema.TensorType).items() if not name.startswith("_")}
    kinds = {value: name for name, value in vars(schema.BuiltinOperator).items() if not name.startswith("_")}
    listed = [(kinds[model.operatorCodes[op.opcodeIndex].builtinCode], op) for op in graph.operators]
    stored = {op.outputs[0]: op.inputs[0] for kind, op in listed if kind == "DEQUANTIZE"}
    found = []
    for kind, op in listed:
        if kind in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"):
            image, weights, *bias = (int(index) for index in op.inputs)
            kept = stored.get(weights, weights)
            names = [types[graph.tensors[index].type] for index in (image, kept, *(i for i in bias if i >= 0))]
            found.append(Layer(names[0], names[1], weights in stored, names[2] if len(names) > 2 else ""))
    return dict(zip(modules(), found, strict=True))
