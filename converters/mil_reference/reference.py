"""Executes a saved ``.mlpackage`` with numpy, operation by operation as its MIL program says.

package -> program, constants decoded and compressed weights unpacked once -> run: contract tensors in and out

A picture input (Core ML's image type) takes its pixels, 0 to 255, as planes in the file's order of colours.

Numbers: what the program declares as float16 is rounded to float16 after every operation; within an operation, and in
its sums, everything is float32. Weights have the values they are stored with. Apple's processors sum in other orders,
and some in float16: this executor says what the file means, not what a given device will print.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pocketface.converters.executors.errors import CannotRunError
from pocketface.converters.mil_reference.dtypes import NAMES, numpy_dtype
from pocketface.converters.mil_reference.kernels.elementwise import cast
from pocketface.converters.mil_reference.kernels.registry import KERNELS
from pocketface.converters.mil_reference.package import Package
from pocketface.converters.mil_reference.program import Operation, Program, TensorType, read_program, resolve
from pocketface.sdk.backends.base import Tensor, Tensors, checked_names, feed, from_file
from pocketface.sdk.errors import BundleError
from pocketface.sdk.manifest import Variant

VERSION = 1


class UnknownOperationError(CannotRunError):
    """The program uses an operation, or a parameter of one, that has no kernel here."""


@dataclass(frozen=True)
class Traced:
    """One intermediate tensor.

    Attributes:
        name: of the tensor in the program.
        operation: type of the operation that gave it, e.g. ``"conv"``.
        value: in float32, laid out as in the file.
        dtype: as the program declares it, e.g. ``"float16"``.
    """

    name: str
    operation: str
    value: NDArray[np.float32]
    dtype: str


class MilReference:
    """One variant, executed with numpy. Nothing is read any more once it is constructed.

    Args:
        path: the ``.mlpackage`` folder.
        variant: its bindings; where it lists files, those that are read must have the hashes listed.
        threads: accepted for the interface's sake: numpy's own library decides.

    Raises:
        MissingExtraError: coremltools, which reads the description, is not installed.
        BundleError: the package is broken, or has other tensors than its bindings.
        UnknownOperationError: it uses an operation that has no kernel here.
    """

    executor = f"mil-reference {VERSION}"

    def __init__(self, path: Path, variant: Variant, *, threads: int = 1) -> None:
        path = Path(path)
        program = read_program(Package(path, variant.files))
        self._name, self._variant, self._program = path.name, variant, program
        checked_names(variant.inputs, set(program.inputs), "input", path)
        checked_names(variant.outputs, set(program.outputs), "output", path)
        # Pictures that are fed with their channels last; the program gets planes.
        self._pictures = {
            binding.tensor
            for binding in variant.inputs.values()
            if binding.tensor in program.images and binding.layout == "NHWC" and len(binding.shape) == 4
        }
        self._check_inputs()
        self._constants: dict[str, Any] = {name: _computable(value) for name, value in program.constants.items()}
        steps = []
        for operation in program.operations:
            kernel = _kernel(operation, self._name)
            if operation.type.startswith("constexpr_"):
                self._constants.update(self._execute(operation, kernel, self._constants))
            else:
                steps.append((operation, kernel))
        self._check_references([operation for operation, _ in steps])
        self._steps = tuple(steps)
        self._last = _last_uses([operation for operation, _ in steps], program)

    @property
    def images(self) -> Mapping[str, str]:
        """Tensor names of the inputs that an app feeds with pictures -> ``"RGB"``, ``"BGR"`` or ``"GRAYSCALE"``.

        Core ML hands the program planes in this order. ``run`` takes them in this order, too: whether it is the
        contract's order is for the caller to check.
        """
        return self._program.images

    @classmethod
    def available(cls) -> bool:
        return find_spec("coremltools") is not None

    def run(self, inputs: Mapping[str, Tensor]) -> Tensors:
        """Contract input name -> float32 (or uint8 pixels) NCHW, to contract output name -> float32.

        Raises:
            BadInputError: an input is missing or has the wrong shape.
            BundleError: an operation cannot be executed, or gives another shape than it declares.
        """
        values = self._inputs(inputs)
        for number, (operation, kernel) in enumerate(self._steps):
            values.update(self._execute(operation, kernel, values))
            for name in self._last[number]:
                values.pop(name, None)
        bindings = self._variant.outputs
        return {
            name: from_file(self._output(values, binding.tensor), name, binding) for name, binding in bindings.items()
        }

    def trace(self, inputs: Mapping[str, Tensor]) -> list[Traced]:
        """Every tensor that an operation gives, in execution order; constants are left out.

        Raises:
            BadInputError, BundleError: as in ``run``.
        """
        values = self._inputs(inputs)
        traced: list[Traced] = []
        for operation, kernel in self._steps:
            given = self._execute(operation, kernel, values)
            values.update(given)
            traced.extend(
                Traced(name, operation.type, np.asarray(value, np.float32), operation.outputs[name].dtype)
                for name, value in given.items()
            )
        return traced

    def _inputs(self, inputs: Mapping[str, Tensor]) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for name, value in feed(inputs, self._variant).items():
            if name in self._pictures:
                value = value.transpose(0, 3, 1, 2)
            values[name] = _rounded(value, self._program.inputs[name].dtype)
        return values

    def _output(self, values: Mapping[str, Any], name: str) -> NDArray[Any]:
        return np.asarray(values[name] if name in values else self._constants[name])

    def _execute(self, operation: Operation, kernel: Callable[..., Any], values: Mapping[str, Any]) -> dict[str, Any]:
        """The outputs of one operation, of the declared types."""

        def lookup(name: str) -> Any:
            return values[name] if name in values else self._constants[name]

        try:
            parameters = {key: _computable(resolve(value, lookup)) for key, value in operation.parameters.items()}
            # An overflow to infinity, or 0 / 0, is a value like any other here, and the comparison's to judge.
            with np.errstate(all="ignore"):
                given = kernel(**parameters)
                results = given if isinstance(given, tuple) else (given,)
                if len(results) != len(operation.outputs):
                    raise ValueError(f"{len(results)} outputs where {len(operation.outputs)} are declared")
                return {
                    name: _declared(value, declared)
                    for (name, declared), value in zip(operation.outputs.items(), results, strict=True)
                }
        except KeyError as error:
            raise self._failed(operation, f"nothing gives the tensor {error}") from error
        except (ValueError, TypeError, IndexError, ArithmeticError, MemoryError) as error:
            raise self._failed(operation, str(error) or type(error).__name__) from error

    def _failed(self, operation: Operation, reason: str) -> BundleError:
        output = next(iter(operation.outputs), operation.name)
        return BundleError(
            f"{self._name}: operation {operation.type!r} ({output}) cannot be executed ({reason})",
            next="Fetch or build the bundle again",
        )

    def _check_inputs(self) -> None:
        for name, binding in self._variant.inputs.items():
            declared = self._program.inputs[binding.tensor]
            shape = binding.shape
            if binding.tensor in self._pictures:
                shape = (shape[0], shape[3], shape[1], shape[2])
            if not declared.admits(shape):
                raise BundleError(
                    f"{self._name}: input {name!r} is {declared.shape} in the file",
                    expected=f"{shape} as in its binding",
                    next="Build the bundle again",
                )
        fed = {binding.tensor for binding in self._variant.inputs.values()}
        for name in sorted(set(self._program.inputs) - fed):
            raise BundleError(
                f"{self._name}: input {name!r} of the file is in no binding", next="Build the bundle again"
            )

    def _check_references(self, operations: list[Operation]) -> None:
        known = {*self._program.inputs, *self._constants}
        for operation in operations:
            for name in operation.refs:
                if name not in known:
                    raise self._failed(operation, f"nothing before it gives the tensor {name!r}")
            known.update(operation.outputs)
        for name in self._program.outputs:
            if name not in known:
                raise BundleError(
                    f"{self._name}: no operation gives the output {name!r}", next="Fetch or build the bundle again"
                )


def _kernel(operation: Operation, name: str) -> Callable[..., Any]:
    output = next(iter(operation.outputs), operation.name)
    kernel = KERNELS.get(operation.type)
    if kernel is None:
        raise UnknownOperationError(
            f"{name}: operation {operation.type!r} ({output}) is unknown to mil-reference",
            choices=sorted(KERNELS),
            next="Build the network from these, or add a kernel in converters/mil_reference/kernels/registry.py",
        )
    accepted = inspect.signature(kernel).parameters
    for parameter in operation.parameters:
        if parameter not in accepted:
            raise UnknownOperationError(
                f"{name}: parameter {parameter!r} of {operation.type!r} ({output}) is unknown to mil-reference",
                choices=accepted,
                next="Convert for an older deployment target, or teach the kernel",
            )
    for declared in operation.outputs.values():
        if declared.dtype not in NAMES.values():
            raise UnknownOperationError(
                f"{name}: operation {operation.type!r} ({output}) gives something that is no tensor",
                next="Build the network without lists and dictionaries",
            )
    return kernel


def _last_uses(operations: list[Operation], program: Program) -> list[tuple[str, ...]]:
    """For each operation, the tensors that nothing needs after it."""
    kept, last = set(program.outputs), []
    for operation in reversed(operations):
        names = {*operation.refs, *operation.outputs} - kept
        kept |= names
        last.append(tuple(names))
    return last[::-1]


def _computable(value: Any) -> Any:
    """float16 as float32, which holds all of its values; everything else as it is."""
    if isinstance(value, tuple):
        return tuple(_computable(item) for item in value)
    if isinstance(value, np.ndarray) and value.dtype == np.float16:
        return value.astype(np.float32)
    return value


def _declared(value: Any, declared: TensorType) -> NDArray[Any]:
    result = np.asarray(value)
    if not declared.admits(result.shape):
        raise ValueError(f"it gives {result.shape} where {declared.shape} is declared")
    return _rounded(result, declared.dtype)


def _rounded(value: NDArray[Any], dtype: str) -> NDArray[Any]:
    """In the declared type; float16 is kept in float32 after rounding."""
    if dtype == "float16":
        return value.astype(np.float16).astype(np.float32)
    target = numpy_dtype(dtype)
    if value.dtype == target:
        return value
    return cast(value, dtype) if target.kind in "iub" else value.astype(target)
