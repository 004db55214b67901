"""A package's MIL program as plain data: operations in order, with every constant already decoded.

An operation's parameter is a `Ref` (the name of another operation's output or of an input), a constant, or a tuple of
these. Constants keep the type they are stored in; float16 becomes exact in float32 when it is computed with.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pocketface.converters.mil_reference.dtypes import NAMES, numpy_dtype, stored_bytes, unpack
from pocketface.converters.mil_reference.package import Package
from pocketface.sdk.errors import BundleError

_AGAIN = "Fetch or build the bundle again"
# Parameters that are tuples of tensors, even of one only.
_SEVERAL = ("values", "ref_tensors", "begins", "ends", "end_masks")
_FIELDS = ("floats", "ints", "bools", "longInts", "doubles")


@dataclass(frozen=True)
class TensorType:
    """Type of a tensor as the program declares it; None is a side that it leaves open."""

    dtype: str
    shape: tuple[int | None, ...]

    def admits(self, shape: tuple[int, ...]) -> bool:
        """Whether a tensor of this shape is as declared."""
        return len(shape) == len(self.shape) and all(
            want in (None, got) for got, want in zip(shape, self.shape, strict=True)
        )


@dataclass(frozen=True)
class Ref:
    """The tensor of this name."""

    name: str


@dataclass(frozen=True)
class Operation:
    """One operation.

    Attributes:
        type: as MIL spells it, e.g. ``"conv"``.
        name: of the operation in the file; its outputs may be called differently.
        parameters: name -> `Ref`, constant (array or str), or a tuple of these.
        outputs: name -> declared type, in order.
    """

    type: str
    name: str
    parameters: Mapping[str, Any]
    outputs: Mapping[str, TensorType]

    @property
    def refs(self) -> tuple[str, ...]:
        """Names of the tensors that it reads."""
        values: list[Any] = []
        for value in self.parameters.values():
            values.extend(value if isinstance(value, tuple) else (value,))
        return tuple(value.name for value in values if isinstance(value, Ref))


@dataclass(frozen=True)
class Program:
    """The function ``main``.

    Attributes:
        inputs: name -> declared type.
        images: names of the inputs that are pictures for the app -> ``"RGB"``, ``"BGR"`` or ``"GRAYSCALE"``: which
            planes the program gets.
        outputs: names.
        constants: name -> array or str, of the plain constants.
        operations: everything else, in order; ``constexpr_`` operations among them.
    """

    inputs: Mapping[str, TensorType]
    images: Mapping[str, str]
    outputs: tuple[str, ...]
    constants: Mapping[str, Any]
    operations: tuple[Operation, ...]


def read_program(package: Package) -> Program:
    """Read a package's program and all of its constants.

    Raises:
        BundleError: the model is no MIL program, or a constant is not where and what the program says.
        MissingExtraError: coremltools is not installed.
    """
    spec, name = package.spec(), package.path.name
    if spec.WhichOneof("Type") != "mlProgram":
        raise BundleError(
            f"{name} holds a {spec.WhichOneof('Type') or 'model of no kind'}",
            expected="an ML program",
            next="Convert it again, with convert_to='mlprogram'",
        )
    function = spec.mlProgram.functions.get("main")
    block = function.block_specializations.get(function.opset) if function is not None else None
    if function is None or block is None:
        raise BundleError(
            f"{name} has no function 'main'", choices=sorted(spec.mlProgram.functions), next="Export it again"
        )
    constants: dict[str, Any] = {}
    operations: list[Operation] = []
    for item in block.operations:
        outputs = {output.name: _tensor_type(output.type) for output in item.outputs}
        attributes = {key: value for key, value in item.attributes.items() if key != "name"}
        if item.type == "const":
            constants[item.outputs[0].name] = _value(attributes["val"], package)
            continue
        title = _value(item.attributes["name"], package) if "name" in item.attributes else next(iter(outputs), "")
        parameters = {key: _value(value, package) for key, value in attributes.items()}
        for key, argument in item.inputs.items():
            bound = tuple(_bound(binding, package) for binding in argument.arguments)
            parameters[key] = bound if key in _SEVERAL or len(bound) != 1 else bound[0]
        operations.append(Operation(item.type, str(title), parameters, outputs))
    return Program(
        {item.name: _tensor_type(item.type) for item in function.inputs},
        _images(spec),
        tuple(block.outputs),
        constants,
        tuple(operations),
    )


def _images(spec: Any) -> dict[str, str]:
    layouts = {10: "GRAYSCALE", 20: "RGB", 30: "BGR"}  # ImageFeatureType.ColorSpace
    found: dict[str, str] = {}
    for feature in spec.description.input:
        if feature.type.WhichOneof("Type") == "imageType":
            space = feature.type.imageType.colorSpace
            if space not in layouts:
                raise BundleError(
                    f"input {feature.name!r} is an image of colour space {space}",
                    choices=layouts.values(),
                    next="Export it again with another one",
                )
            found[feature.name] = layouts[space]
    return found


def _tensor_type(value: Any) -> TensorType:
    if value.WhichOneof("type") != "tensorType":
        # Lists and dictionaries belong to operations without a kernel; those are refused by name.
        return TensorType("", ())
    tensor = value.tensorType
    dtype = NAMES.get(tensor.dataType)
    if dtype is None:
        raise BundleError(f"the program has a tensor of type {tensor.dataType}", choices=NAMES.values(), next=_AGAIN)
    sides = (
        int(side.constant.size) if side.WhichOneof("dimension") == "constant" else None for side in tensor.dimensions
    )
    return TensorType(dtype, tuple(sides))


def _bound(binding: Any, package: Package) -> Any:
    return Ref(binding.name) if binding.WhichOneof("binding") == "name" else _value(binding.value, package)


def _value(value: Any, package: Package) -> Any:
    """A constant: array of its declared shape, str, or a tuple of constants for a list."""
    if value.WhichOneof("value") == "immediateValue" and value.immediateValue.WhichOneof("value") == "list":
        return tuple(_value(item, package) for item in value.immediateValue.list.values)
    declared = _tensor_type(value.type)
    if declared.dtype == "" or None in declared.shape:
        raise BundleError(f"{package.path.name} has a constant of an open type", next=_AGAIN)
    shape = tuple(side for side in declared.shape if side is not None)
    if value.WhichOneof("value") == "blobFileValue":
        place = value.blobFileValue
        return package.weights(place.fileName).read(place.offset, declared.dtype, shape)
    return _immediate(value.immediateValue.tensor, declared.dtype, shape, package.path)


def _immediate(tensor: Any, dtype: str, shape: tuple[int, ...], path: Path) -> Any:
    kind, count = tensor.WhichOneof("value"), math.prod(shape)
    try:
        if kind == "strings":
            texts = list(tensor.strings.values)
            return texts[0] if shape == () else tuple(texts)
        if kind == "bytes":
            data = tensor.bytes.values
            if len(data) != stored_bytes(dtype, count):
                raise ValueError(f"{len(data)} bytes for {count} numbers of {dtype}")
            return unpack(data, dtype, count).reshape(shape)
        if kind in _FIELDS:
            return np.array(getattr(tensor, kind).values, numpy_dtype(dtype)).reshape(shape)
        if kind is None and count == 0:
            return np.zeros(shape, numpy_dtype(dtype))
        raise ValueError(f"no {dtype} value")
    except (ValueError, IndexError, TypeError, OverflowError) as error:
        raise BundleError(f"{path.name} has a constant that cannot be read ({error})", next=_AGAIN) from error


def resolve(value: Any, lookup: Callable[[str], Any]) -> Any:
    """A parameter with its references replaced by what ``lookup`` gives for their names."""
    if isinstance(value, tuple):
        return tuple(resolve(item, lookup) for item in value)
    return lookup(value.name) if isinstance(value, Ref) else value
