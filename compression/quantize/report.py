"""What is inside a quantized file: its size, how its weights are stored, and which operations run on integers."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from pocketface.converters.formats.base import Exported
from pocketface.converters.readers.base import DYNAMIC, INTEGERS
from pocketface.converters.readers.registry import read_contents
from pocketface.sdk.terminal import size_text

_EIGHT = ("int8", "uint8")


@dataclass(frozen=True)
class QuantizationReport:
    """Contents of one model file.

    Attributes:
        name: of the file.
        bytes: its size.
        weights: dtype as stored (``"int8"``, ``"uint4-lut"``) -> number of constant values, the most first (shapes and
            the like are not counted).
        operations: how many the graph has, without those that only convert between types.
        quantized_operations: how many of them are done on integers: activations of 8 or 16 bits in and out, or floats
            that are rounded as it runs.
        weight_only_operations: how many compute in float on 8-bit weights.
    """

    name: str
    bytes: int
    weights: dict[str, int]
    operations: int
    quantized_operations: int
    weight_only_operations: int

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self)

    def __str__(self) -> str:
        total = max(1, sum(self.weights.values()))
        shares = ", ".join(f"{dtype} {100 * count / total:.1f} %" for dtype, count in self.weights.items())
        return (
            f"{self.name}: {size_text(self.bytes)}; weights {shares}; {self.operations} operations, "
            f"{self.quantized_operations} on integer activations, {self.weight_only_operations} on 8-bit weights alone"
        )


def report(exported: Exported) -> QuantizationReport:
    """Look into a file of any format that has a reader.

    Raises:
        UnknownNameError: a format without one.
        MissingExtraError: the reader's package is not installed.
        BundleError: the file cannot be read.
    """
    contents = read_contents(exported.format, exported.path)
    plain = [operation for operation in contents.operations if not operation.converts]
    on_integers = [operation for operation in plain if operation.compute in (*INTEGERS, DYNAMIC)]
    by_weights = [operation for operation in plain if operation not in on_integers and operation.weights in _EIGHT]
    return QuantizationReport(
        name=exported.path.name,
        bytes=exported.total_bytes,
        weights=dict(sorted(contents.weights.items(), key=lambda item: -item[1])),
        operations=len(plain),
        quantized_operations=len(on_integers),
        weight_only_operations=len(by_weights),
    )
