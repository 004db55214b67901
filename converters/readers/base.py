"""What every reader finds in a model file: the tensors at its border, its operations, how its weights are stored.

Readers execute nothing and convert nothing: they say what is there.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from pocketface.sdk.errors import BundleError, MissingExtraError, PocketfaceError


@dataclass(frozen=True)
class TensorInfo:
    """Shape and numpy dtype name of one tensor, as the file declares them. A side that is a name, or -1, is dynamic.

    ``quantization`` is scale and zero point, of an integer tensor for which the file says them.
    """

    shape: tuple[int | str, ...]
    dtype: str
    quantization: tuple[float, int] | None = field(default=None, compare=False)

    def __str__(self) -> str:
        return f"{self.dtype} ({', '.join(str(side) for side in self.shape)})"


@dataclass(frozen=True)
class Signature:
    """Name in the file -> tensor."""

    inputs: Mapping[str, TensorInfo]
    outputs: Mapping[str, TensorInfo]


@dataclass(frozen=True)
class Operation:
    """One step of the graph. What only changes the type of a tensor (a cast, a quantize, a dequantize) is one too.

    Attributes:
        type: as the format spells it: ``"Conv"``, ``"CONV_2D"``, ``"conv"``.
        name: of the operation, or of its first output, in the file.
        module: path in the network (``"features.3.conv.0"``), of the module whose weights it reads where the file
            says so, else as the file names it, for fused ones the last; empty without (converters/module_paths.py).
        compute: numpy dtype name of its activations: ``"float32"``, ``"float16"``, ``"int8"``, ``"uint8"``; an
            operation that runtimes fuse between a dequantize and a quantize has the type of that quantize;
            `DYNAMIC` where the runtime itself rounds float activations to 8 bits. Of an operation that converts: what
            it reads. Empty for bookkeeping with shapes and constants.
        weights: dtype its constant weights are stored in (``"int8"``, ``"int4"``, ``"uint4-lut"``); empty without.
        outputs: names of its results.
    """

    type: str
    name: str
    module: str
    compute: str
    weights: str
    outputs: tuple[str, ...]

    @property
    def converts(self) -> bool:
        """Whether all it does is to change the type of a tensor."""
        return self.type in CONVERSIONS


CONVERSIONS = frozenset(
    {
        *("Cast", "CastLike", "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"),  # ONNX
        *("CAST", "QUANTIZE", "DEQUANTIZE"),  # TFLite
        *("cast", "quantize", "dequantize"),  # Core ML
        *("XNNConvert", "dim_order_ops::_to_dim_order_copy.out", "aten::_to_copy.out"),  # ExecuTorch
        *("quantized_decomposed::quantize_per_tensor.out", "quantized_decomposed::dequantize_per_tensor.out"),
    }
)
"""Types of operations that only change the type of a tensor, over all formats."""

INTEGERS = frozenset({"int8", "uint8", "int16", "uint16"})
"""What a quantized activation may be stored as."""

DYNAMIC = "dynamic-int8"
"""What an operation computes in that takes and gives float, and rounds its activations to 8 bits when it runs, each
time by their own range."""


@dataclass(frozen=True)
class Contents:
    """All of a file.

    Attributes:
        signature: its border.
        operations: in execution order.
        weights: stored dtype -> number of constant values. Shapes, axes, paddings and other int32 and int64 constants
            are not counted; integer biases are.
        version: of the operations that it is written in, which a runtime must know: ``"ai.onnx 18"``,
            ``"CoreML5 (iOS 15, macOS 12)"``; empty where the file does not say.
    """

    signature: Signature
    operations: tuple[Operation, ...]
    weights: Mapping[str, int]
    version: str = ""


class Reader(Protocol):
    """Reads one format. Needs that format's own package, and only when it is asked something; never torch."""

    format: str

    def signature(self, path: Path) -> Signature:
        """The inputs and outputs that a file (or folder) declares."""
        ...

    def contents(self, path: Path) -> Contents:
        """Everything that is in it."""
        ...


@contextlib.contextmanager
def reading(format: str, extra: str, path: Path) -> Iterator[None]:
    """Turn what a library raises over a file into our own errors.

    Raises:
        MissingExtraError: a package that the reader needs is not installed.
        BundleError: the file cannot be read.
    """
    try:
        yield
    except PocketfaceError:
        raise
    except ImportError as error:
        raise MissingExtraError(f"reading {format} files", extra, str(error)) from error
    except Exception as error:  # each library has its own exceptions for a broken file; the cause is chained
        raise BundleError(f"{path.name} cannot be read as {format} ({error})", next="Export it again") from error
