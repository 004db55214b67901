"""Which traced tensor is which module's output, how far off it is, and where it goes wrong first.

trace (one runtime) + reference (torch) --match by module path and shape--> errors --judge--> the first diverging tensor

A module is compared where an operation of its own makes its output, by the last one of them. Casts, quantizes and
dequantizes are not compared. The error of a tensor is |a - b| / |a|, Euclidean norms, a being torch's: rounding hits
single values of a trained network hard (0.73 of a layer's range, of a file that keeps its accuracy), and few of them.

A tensor diverges where its error is beyond the precision's bound *and* the precision's growth times the error of what
it was computed from: behind a fault, errors are large but grow no further, and rounding adds up slowly. So the first
tensor that does both is where it happens. Where errors pass the bound without any such jump, nothing is named: it
*drifts*, as quantized networks may, whose accuracy has a gate of its own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from pocketface.converters.layers.base import Inputs, Trace, TracedTensor, Tracer
from pocketface.converters.layers.registry import TRACERS
from pocketface.converters.layers.torch import Reference, reference_trace
from pocketface.sdk.errors import BadInputError
from pocketface.sdk.manifest import Variant

if TYPE_CHECKING:
    from torch import nn

Status = Literal["agrees", "diverges", "drifts"]


@dataclass(frozen=True)
class Bound:
    """Of one precision: error that a tensor may have, and how much more than its inputs' it may be."""

    error: float
    growth: float


EXACT = Bound(1e-4, 10.0)
HALF = Bound(1e-2, 5.0)
WEIGHTS = Bound(0.1, 3.0)
COARSE = Bound(0.2, 3.0)
FOUR_BITS = Bound(0.5, 3.0)  # one layer with 16 values for its weights is off by 0.16 already
BOUNDS = {"fp32": EXACT, "fp16": HALF, "w8": WEIGHTS, "w8a16": WEIGHTS, "pal4": FOUR_BITS, "w4": FOUR_BITS}
"""Every other precision: ``COARSE``."""

_RETYPED = {"Cast", "QuantizeLinear", "DequantizeLinear", "CAST", "QUANTIZE", "DEQUANTIZE", "cast", "quantize"}
_RETYPED |= {"dequantize"}
_MOVED = {"Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity", "TRANSPOSE", "RESHAPE", "SQUEEZE"}
_MOVED |= {"EXPAND_DIMS", "transpose", "reshape", "squeeze", "expand_dims", "identity"}


@dataclass(frozen=True)
class TensorError:
    """One tensor of a file against torch's.

    Attributes:
        name: in the file.
        module: path in the network; ``"output NAME"`` for an output of the network.
        operation: as the format spells it.
        max_error, mean_error: of |a - b|, in the tensor's own unit.
        relative: |a - b| / |a|, Euclidean norms; infinite for NaN and infinity.
        inputs: relative error of what it was computed from, the largest.
        low, high: range of the file's tensor.
        dtype, scale: as the file has it.
    """

    name: str
    module: str
    operation: str
    max_error: float
    mean_error: float
    relative: float
    inputs: float
    low: float
    high: float
    dtype: str
    scale: float | None = None

    def beyond(self, bound: Bound) -> bool:
        """Whether the error is larger than rounding explains, whatever the inputs."""
        return not self.relative <= bound.error

    def jumps(self, bound: Bound) -> bool:
        """Whether this is where it becomes large."""
        return self.beyond(bound) and not self.relative <= bound.growth * self.inputs

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; what is not finite becomes None."""
        return {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in vars(self).items()
        }

    def __str__(self) -> str:
        scale = "" if self.scale is None else f", scale {self.scale:.2g}"
        return (
            f"{self.module}  (relative error {self.relative:.2g}, {self.inputs:.2g} before it; "
            f"range {self.low:.3g}..{self.high:.3g}, {self.dtype}{scale}, {self.operation})"
        )


@dataclass(frozen=True)
class LayerReport:
    """One file against torch, tensor by tensor.

    Attributes:
        variant, precision: of the manifest.
        executor: what ran it, with settings that may change numbers.
        bound: what was asked.
        compared: in execution order.
        unmatched: tensors of the file that no module's output was compared with.
        uncovered: modules that no tensor of the file was compared with: fused into another one, mostly.
        notes: what cannot be seen in this format.
    """

    variant: str
    precision: str
    executor: str
    bound: Bound
    compared: tuple[TensorError, ...]
    unmatched: tuple[str, ...] = ()
    uncovered: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def first(self) -> TensorError | None:
        """Where the file leaves torch, if it does."""
        return next((item for item in self.compared if item.jumps(self.bound)), None)

    @property
    def status(self) -> Status:
        if self.first is not None:
            return "diverges"
        return "drifts" if any(item.beyond(self.bound) for item in self.compared) else "agrees"

    def worst(self, count: int = 5) -> list[TensorError]:
        """The largest errors, largest first."""
        return sorted(self.compared, key=lambda item: -item.relative)[:count]

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            "variant": self.variant,
            "precision": self.precision,
            "executor": self.executor,
            "status": self.status,
            "bound": vars(self.bound),
            "first_diverging": None if self.first is None else self.first.to_dict(),
            "compared": [item.to_dict() for item in self.compared],
            "unmatched": list(self.unmatched),
            "uncovered_modules": list(self.uncovered),
            "notes": list(self.notes),
        }

    def __str__(self) -> str:
        lines = [f"LayerReport  {self.variant}  by {self.executor}   {self.status.upper()}"]
        lines.append(
            f"  compared {len(self.compared)} tensors, bound {self.bound.error:g} and {self.bound.growth:g} times the "
            f"inputs' error; {len(self.unmatched)} others, {len(self.uncovered)} modules fused or not named"
        )
        if self.first is not None:
            lines.append(f"  first diverging tensor: {self.first}")
        elif self.status == "drifts":
            lines.append("  errors pass the bound slowly: no tensor is the place")
        return "\n".join([*lines, *(f"  note: {note}" for note in self.notes)])


def localise(net: nn.Module, path: Path, variant: Variant, inputs: Inputs, *, fed: Inputs | None = None) -> LayerReport:
    """Compare every intermediate tensor of a file with torch's.

    Args:
        net: the network that the file was made from.
        path: the file, or the folder.
        variant: its bindings and precision.
        inputs: contract inputs of batch 1, as ``net`` takes them.
        fed: as the file takes them, where that is something else: uint8 pixels that it normalises itself.

    Raises:
        BundleError: the runtime refuses the file.
        BadInputError: torch itself gives NaN, or no tensor could be compared.
        MissingExtraError: a package is not installed.
        UnknownNameError: no tracer for the format.
    """
    tracer: Tracer = TRACERS[variant.format]
    reference = reference_trace(net, inputs)
    return compare_layers(reference, tracer.trace(path, variant, inputs if fed is None else fed), variant)


def _no_modules(trace: Trace) -> tuple[str, ...]:
    named = any(tensor.module for tensor in trace.tensors)
    return () if named else ("the file names no modules: export it again to see more than its outputs",)


def compare_layers(reference: Reference, trace: Trace, variant: Variant) -> LayerReport:
    """Match and judge. See `localise`."""
    for name, wanted in {**reference.modules, **reference.outputs}.items():
        if not np.isfinite(wanted).all():
            raise BadInputError(f"torch's own {name} holds NaN or infinity", next="Check the network's weights")
    targets = dict(_matched(reference, trace))
    for name, tensor in trace.outputs.items():
        targets.setdefault(tensor, (f"output {name}", reference.outputs[name]))
    # Error that reaches a tensor: its own where it is compared, else its inputs'.
    known: dict[str, float] = {}
    compared: list[TensorError] = []
    unmatched: list[str] = []
    for item in trace.tensors:
        before = _before(item, known, compared)
        target = targets.get(item.name)
        value = None if target is None else item.in_shape(target[1].shape)
        if target is None or value is None:
            known[item.name] = before
            unmatched.append(item.name)
            continue
        compared.append(_error(item, target[0], value, target[1], before))
        known[item.name] = compared[-1].relative
    if not compared:
        raise BadInputError(
            f"{variant.id}: no tensor of the file could be matched with a module",
            next="Export it again, and give the checkpoint that it was exported from",
        )
    covered = {item.module for item in compared}
    return LayerReport(
        variant.id,
        variant.precision,
        trace.executor,
        BOUNDS.get(variant.precision, COARSE),
        tuple(compared),
        tuple(unmatched),
        tuple(path for path in reference.modules if path not in covered and path not in reference.passed_on),
        trace.notes or _no_modules(trace),
    )


def _matched(reference: Reference, trace: Trace) -> Iterator[tuple[str, tuple[str, NDArray[np.float32]]]]:
    """Tensor name -> the module whose output it is, and that output."""
    of: dict[str, list[TracedTensor]] = {}
    for item in trace.tensors:
        if item.module and item.operation not in _RETYPED:
            of.setdefault(item.module, []).append(item)
    for path, items in of.items():
        wanted = reference.modules.get(path)
        if wanted is None or path in reference.passed_on:
            continue
        for item in reversed(items):
            if item.in_shape(wanted.shape) is None:
                break
            yield item.name, (path, wanted)
            # What only moves values is compared together with what it moves, so that a wrong layout is told from
            # wrong weights.
            if item.operation not in _MOVED:
                break


def _before(item: TracedTensor, known: dict[str, float], compared: list[TensorError]) -> float:
    if item.inputs is None:
        return compared[-1].relative if compared and item.operation != "output" else 0.0
    # The network's own inputs are not in the trace; they are exact.
    return max((known.get(name, 0.0) for name in item.inputs), default=0.0)


def _error(
    item: TracedTensor, module: str, value: NDArray[np.float32], wanted: NDArray[np.float32], before: float
) -> TensorError:
    length = float(np.linalg.norm(wanted.astype(np.float64)))
    difference = np.abs(value.astype(np.float64) - wanted)
    finite = bool(np.isfinite(value).all())
    error = float(difference.max()) if finite and value.size else (0.0 if finite else math.inf)
    distance = float(np.linalg.norm(difference)) if finite else math.inf
    return TensorError(
        name=item.name,
        module=module,
        operation=item.operation,
        max_error=error,
        mean_error=float(difference.mean()) if finite and value.size else error,
        # Torch's tensor may be all zeros; then any difference is beyond every bound.
        relative=distance / length if length else (0.0 if error == 0 else math.inf),
        inputs=before,
        low=float(np.nanmin(value)) if value.size and not np.isnan(value).all() else math.nan,
        high=float(np.nanmax(value)) if value.size and not np.isnan(value).all() else math.nan,
        dtype=item.dtype,
        scale=item.scale,
    )
