"""What every runtime backend does, and the conversions at a file's border that they share.

contract tensor (NCHW; float32 or pixels) --to_file--> file's layout and type --run--> --from_file--> contract tensor
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pocketface.sdk.errors import BadInputError, BundleError
from pocketface.sdk.files import os_problem
from pocketface.sdk.manifest import Binding, Variant

Tensor: TypeAlias = NDArray[np.float32] | NDArray[np.uint8]
"""A contract input: float32, or uint8 pixels where the network normalises them itself."""
Tensors = dict[str, NDArray[np.float32]]


class Backend(Protocol):
    """Runs one variant.

    Constructed as ``Backend(path, variant, threads=1, delegate="auto")`` with the path of the variant's file or folder,
    which it must not need any more once it is constructed: a zipped bundle's temporary folder is gone by then.
    """

    executor: str
    """Runtime and version, e.g. ``"onnxruntime 1.31.1"``; the delegate behind it, if another than ``auto`` was asked
    for."""

    def __init__(self, path: Path, variant: Variant, *, threads: int = 1, delegate: str = "auto") -> None: ...

    @classmethod
    def available(cls) -> bool:
        """Whether the runtime is installed here. Must not import it."""
        ...

    def run(self, inputs: Mapping[str, Tensor]) -> Tensors:
        """Contract input name -> float32 (or uint8 pixels) NCHW, to contract output name -> float32."""
        ...


def to_file(value: Tensor, name: str, binding: Binding) -> NDArray[Any]:
    """A contract tensor as the file wants it: layout, then quantization or type. Pixels stay what they are.

    Quantizing rounds half to even, as ONNX's QuantizeLinear does, and saturates.

    Raises:
        BadInputError: the shape is not the file's, or pixels meet a file that takes normalised values, or the reverse.
    """
    pixels = binding.dtype == "uint8" and binding.scale is None
    if pixels != (value.dtype == np.uint8):
        raise BadInputError(
            f"input {name!r} is {value.dtype}",
            expected="uint8 pixels, which the network normalises" if pixels else "normalised float32",
        )
    if binding.layout == "NHWC" and value.ndim == 4:
        value = value.transpose(0, 2, 3, 1)
    if value.shape != binding.shape:
        raise BadInputError(
            f"input {name!r} has shape {value.shape} (layout {binding.layout or 'as it is'})",
            expected=str(binding.shape),
        )
    if binding.scale is not None:
        limits = np.iinfo(binding.dtype)
        quantized = np.rint(value / np.float32(binding.scale)) + (binding.zero_point or 0)
        return np.ascontiguousarray(quantized.clip(limits.min, limits.max).astype(binding.dtype))
    return np.ascontiguousarray(value, binding.dtype)


def feed(inputs: Mapping[str, Tensor], variant: Variant) -> dict[str, NDArray[Any]]:
    """Contract inputs -> the file's own tensor names and types.

    Raises:
        BadInputError: an input is missing or has the wrong shape.
    """
    for name in variant.inputs:
        if name not in inputs:
            raise BadInputError(f"input {name!r} is missing", choices=sorted(variant.inputs), next="Give every input")
    return {binding.tensor: to_file(inputs[name], name, binding) for name, binding in variant.inputs.items()}


def from_file(value: NDArray[Any], name: str, binding: Binding) -> NDArray[np.float32]:
    """What the file gave, as a contract tensor.

    Raises:
        BundleError: the shape is not what the manifest says.
    """
    if value.shape != binding.shape:
        raise BundleError(
            f"output {name!r} has shape {value.shape}", expected=str(binding.shape), next="Build the bundle again"
        )
    result = value.astype(np.float32)
    if binding.scale is not None:
        result = (result - np.float32(binding.zero_point or 0)) * np.float32(binding.scale)
    if binding.layout == "NHWC" and result.ndim == 4:
        result = result.transpose(0, 3, 1, 2)
    return np.ascontiguousarray(result)


def read_model(path: Path, variant: Variant) -> bytes:
    """The bytes of a single-file model, checked once more, so that what was hashed is what the runtime gets.

    Raises:
        BundleError: the file changed since the bundle was opened.
        EnvironmentProblemError: it cannot be read.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise os_problem(error, path, "read") from error
    if len(variant.files) == 1 and hashlib.sha256(data).hexdigest() != variant.files[0].sha256:
        raise BundleError(f"{path} is not the file the manifest describes", next="Fetch or build the bundle again")
    return data


def checked_names(bindings: Mapping[str, Binding], names: set[str], kind: str, path: Path) -> None:
    """Refuse bindings to tensors that the file does not have.

    Raises:
        BundleError: naming the first such tensor and those there are.
    """
    for contract, binding in bindings.items():
        if binding.tensor not in names:
            raise BundleError(
                f"{path.name} has no {kind} {binding.tensor!r} (for {contract!r})",
                choices=sorted(names),
                next="Build the bundle again",
            )


def checked_input(name: str, binding: Binding, shape: Sequence[int | str | None], dtype: str, path: Path) -> None:
    """Refuse a binding whose shape or type is not that of the file's own input, before anything runs.

    Args:
        name: of the contract.
        binding: what the manifest says.
        shape: of the file; a side that is no number of 1 or more may be anything.
        dtype: of the file, numpy's name.
        path: of the file, for messages.

    Raises:
        BundleError: saying both.
    """
    fits = len(shape) == len(binding.shape) and all(
        not isinstance(side, int) or side < 1 or side == wanted
        for side, wanted in zip(shape, binding.shape, strict=True)
    )
    if not fits or dtype != binding.dtype:
        raise BundleError(
            f"{path.name}: input {name!r} is {dtype} {tuple(shape)}",
            expected=f"{binding.dtype} {binding.shape}",
            next="Build the bundle again",
        )
