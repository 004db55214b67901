"""Core ML: the model's specification, which coremltools reads on any system."""

from __future__ import annotations

import math
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pocketface.converters.chatter import chatter_to
from pocketface.converters.module_paths import coreml_weight_paths
from pocketface.converters.readers.base import INTEGERS, Contents, Operation, Signature, TensorInfo
from pocketface.converters.readers.qdq import Node, quantized
from pocketface.sdk.errors import BundleError

# ArrayFeatureType.ArrayDataType: 65536 is a flag for floating point, the rest the number of bits.
_ARRAYS = {65568: "float32", 65552: "float16", 65600: "float64", 131104: "int32", 131080: "int8"}

_SYSTEMS = {
    "CoreML5": "iOS 15, macOS 12",
    "CoreML6": "iOS 16, macOS 13",
    "CoreML7": "iOS 17, macOS 14",
    "CoreML8": "iOS 18, macOS 15",
    "CoreML9": "iOS 26, macOS 26",
}
"""Set of operations -> the oldest systems that know it (the deployment targets of coremltools)."""


class CoreMLReader:
    """Reads ``.mlpackage`` folders."""

    format = "coreml"

    def signature(self, path: Path) -> Signature:
        return _signature(_load(path).description)

    def contents(self, path: Path) -> Contents:
        spec = _load(path)
        if spec.WhichOneof("Type") != "mlProgram":
            raise BundleError(
                f"{path.name} holds a {spec.WhichOneof('Type')}", expected="an ML program", next="Export it again"
            )
        operations: list[Operation] = []
        weights: Counter[str] = Counter()
        modules = coreml_weight_paths(spec.description.metadata.userDefined)
        for function in spec.mlProgram.functions.values():
            program = _Program(function, modules)
            operations += program.operations
            weights += program.weights
        sets = {function.opset for function in spec.mlProgram.functions.values()}
        version = ", ".join(f"{name} ({_SYSTEMS.get(name, 'unknown system')})" for name in sorted(sets))
        return Contents(_signature(spec.description), tuple(operations), dict(weights), version)


def _load(path: Path) -> Any:
    # On import it warns of everything that is missing on this machine, which reading a file does not need.
    with tempfile.TemporaryDirectory() as folder, chatter_to(Path(folder) / "coremltools.log"):
        import coremltools

        return coremltools.utils.load_spec(str(path))


def _signature(description: Any) -> Signature:
    def tensors(features: Any) -> dict[str, TensorInfo]:
        return {feature.name: _tensor(feature.type) for feature in features}

    return Signature(tensors(description.input), tensors(description.output))


def _tensor(type: Any) -> TensorInfo:
    if type.WhichOneof("Type") == "imageType":
        image = type.imageType
        # FeatureTypes.proto: GRAYSCALE, GRAYSCALE_FLOAT16; the others are RGB and BGR.
        channels = 1 if image.colorSpace in (10, 40) else 3
        sides: list[int] = [1, channels, image.height, image.width]
        if image.WhichOneof("SizeFlexibility"):
            sides[2:] = [-1, -1]
        return TensorInfo(tuple(sides), "float16" if image.colorSpace == 40 else "uint8")
    array = type.multiArrayType
    sides = [int(side) for side in array.shape]
    match array.WhichOneof("ShapeFlexibility"):
        case "shapeRange":
            ranges = array.shapeRange.sizeRanges
            sides = [
                side if span.lowerBound == span.upperBound else -1 for side, span in zip(sides, ranges, strict=True)
            ]
        case "enumeratedShapes":
            shapes = [list(shape.shape) for shape in array.enumeratedShapes.shapes]
            sides = [side if all(shape[axis] == side for shape in shapes) else -1 for axis, side in enumerate(sides)]
        case None:
            pass
    return TensorInfo(tuple(sides), _ARRAYS.get(array.dataType, str(array.dataType)))


class _Program:
    """Describes the operations of one function, in order, and counts its constants.

    Constants are no operations here, nor are ``constexpr_...``, which Core ML expands when it loads a package.
    """

    def __init__(self, function: Any, modules: Mapping[str, str]) -> None:
        self._modules = modules
        self._types: dict[str, str] = {item.name: _type_name(item.type) for item in function.inputs}
        self._constants: dict[str, int] = {}
        self._stored: dict[str, str] = {}
        found: list[tuple[Any, Node]] = []
        for block in function.block_specializations.values():
            self._walk(block, found)
        self._qdq = quantized(
            [node for _, node in found],
            self._constants,
            {**self._types, **self._stored},
            quantize="quantize",
            dequantize="dequantize",
            folded=_ACTIVATIONS,
            bounded=_WITHOUT_WEIGHTS | {"leaky_relu", "upsample_bilinear", "upsample_nearest_neighbor"},
        )
        self.operations = [self._operation(op, node) for op, node in found]
        self.weights: Counter[str] = Counter()
        for name, count in self._constants.items():
            if self._counts(name):
                self.weights[self._stored[name]] += count

    def _walk(self, block: Any, found: list[tuple[Any, Node]]) -> None:
        for op in block.operations:
            for output in op.outputs:
                self._types[output.name] = _type_name(output.type)
            if op.type == "const" or op.type.startswith("constexpr_"):
                name = op.outputs[0].name
                self._constants[name] = _size(op.outputs[0].type)
                self._stored[name] = self._types[name] if op.type == "const" else self._compressed(op)
                continue
            inputs = [argument.name for value in op.inputs.values() for argument in value.arguments if argument.name]
            read = next((op.inputs[name] for name in ("input", "x") if name in op.inputs), None)
            if read is not None and read.arguments and read.arguments[0].name:
                # Which tensor they read is said by name; a scale or a bound may be one too.
                tensor = read.arguments[0].name
                inputs = [tensor, *(name for name in inputs if name != tensor)]
            found.append((op, Node(op.type, tuple(inputs), tuple(output.name for output in op.outputs))))
            for inner in op.blocks:
                self._walk(inner, found)

    def _compressed(self, op: Any) -> str:
        """How the weight of a ``constexpr_...`` is stored. What it reads are attributes up to iOS 17, then inputs."""

        def dtype(name: str) -> str:
            if name in op.attributes:
                return _type_name(op.attributes[name].type)
            argument = op.inputs[name].arguments[0]
            if not argument.name:
                return _type_name(argument.value.type)
            # What it expands is one with this operation, not a weight of its own.
            self._constants.pop(argument.name, None)
            return self._stored.get(argument.name, self._types.get(argument.name, ""))

        match op.type:
            case "constexpr_lut_to_dense":
                indices = dtype("indices")
                if "lut" in op.attributes:  # packed into bytes, so the table's length has to tell
                    indices = f"uint{(_size(op.attributes['lut'].type) - 1).bit_length()}"
                else:
                    dtype("lut")
                return f"{indices}-lut"
            case "constexpr_affine_dequantize":
                return dtype("quantized_data")
            case "constexpr_blockwise_shift_scale":
                return dtype("data")
            case "constexpr_sparse_to_dense":
                return f"{dtype('nonzero_data')}-sparse"
            case "constexpr_cast":
                return dtype("source_val")
        return self._types[op.outputs[0].name]

    def _counts(self, name: str) -> bool:
        """Whether a constant is a weight; plain integers are shapes and indices, unless a dequantize reads them."""
        dtype = self._stored[name]
        return dtype.startswith("float") or "-" in dtype or self._integer_weight(name)

    def _integer_weight(self, name: str) -> bool:
        compressed = self._stored[name] != self._types[name]
        return compressed or (name in self._qdq.stored.values() and self._stored[name] != "int32")

    def _operation(self, op: Any, node: Node) -> Operation:
        constants = [self._qdq.stored.get(name, name) for name in node.inputs]
        weights = [name for name in constants if name in self._constants and self._counts(name)]
        largest = max(weights, key=self._constants.__getitem__, default="")
        with_weights = op.type not in _WITHOUT_WEIGHTS
        activations = [name for name in node.inputs if name not in self._constants and name not in self._qdq.stored]
        types = [self._types.get(name, "") for name in (*activations, *node.outputs)]
        compute = next((name for name in types if name.startswith("float") or name in INTEGERS), "")
        if node.outputs and node.outputs[0] in self._qdq.integers:
            compute = self._qdq.integers[node.outputs[0]]
        return Operation(
            type=op.type,
            name=_name(op),
            module=next((self._modules[output] for output in node.outputs if output in self._modules), ""),
            compute=compute if activations else "",
            weights=self._stored[largest] if largest and with_weights else "",
            outputs=node.outputs,
        )


_ACTIVATIONS = frozenset(
    {"relu", "relu6", "clip", "silu", "sigmoid", "sigmoid_hard", "tanh", "gelu", "elu", "leaky_relu"}
)
"""What coremltools' own quantizers leave between a layer and its quantize, as a part of the layer."""

_WITHOUT_WEIGHTS = frozenset({"cast", "quantize", "dequantize", "clip", "pad", "reshape"})
"""Their constants are scales, bounds, sizes."""


def _name(op: Any) -> str:
    values = op.attributes["name"].immediateValue.tensor.strings.values if "name" in op.attributes else ()
    return str(values[0]) if values else str(op.outputs[0].name if op.outputs else "")


def _type_name(type: Any) -> str:
    """``FLOAT16`` -> ``float16``."""
    from coremltools.proto import MIL_pb2

    return str(MIL_pb2.DataType.Name(type.tensorType.dataType)).lower()


def _size(type: Any) -> int:
    """Number of values of a constant's type; its sides are all known."""
    return math.prod(int(side.constant.size) for side in type.tensorType.dimensions)


READER = CoreMLReader()
