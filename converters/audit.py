"""What is really in an exported file, against what its precision promises: after the export, before anything is
measured or shipped.

- weights: how they are stored, against the bounds of the precision (`BOUNDS`);
- layers: whether convolutions and matrix products compute on integers where the precision says so;
- shapes: static, of one batch, unless asked for otherwise;
- operations: against the list of every delegate of the format (converters/delegates), for information.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgspec

from pocketface.converters.delegates.support import Support, support
from pocketface.converters.formats.base import Exported
from pocketface.converters.readers.base import DYNAMIC, INTEGERS, Contents, Operation, Signature
from pocketface.converters.readers.registry import read_contents
from pocketface.sdk.errors import UnknownNameError

_FLOATS = ("float32", "float16", "bfloat16")
_EIGHT = ("int8", "uint8")


@dataclass(frozen=True)
class Bounds:
    """What a file of one precision holds.

    Attributes:
        stored: how its weights are stored.
        share: least share of the weight values (integer biases left out) stored so.
        others: how weights of a layer may be stored besides.
        integers: types that its layers compute in; empty where they compute in float, and none may be on integers.
        layers: least share of the layers with weights that compute in ``integers``.
        why: where the slack comes from.
    """

    stored: tuple[str, ...]
    share: float
    others: tuple[str, ...] = ()
    integers: tuple[str, ...] = ()
    layers: float = 0.0
    why: str = ""


_SMALL = (
    "biases, scales and small weights stay in float: 6 % of the values of face68.w8.onnx, 10 % of a network a hundred "
    "times as small"
)
_HEADS = (
    "biases, scales and the first layer stay in float: at most 1.2 % of the values of face68; the heads keep float "
    "arithmetic on 8-bit weights: 4 of its 52 layers, 3 of 7 in a network made for tests; the soft-argmax of "
    "AC-DC-s-sep, which stays in float, is 15 % of its values"
)
_DYNAMIC = (
    "as for w8; only layers with large weights round their activations, neither depthwise ones nor the heads: 1 of 7 "
    "in a network made for tests"
)
_MIXED = "weights of medium size have 8 bits: 17 % of the values of a MobileNetV2 0.35, 5 % at full width"

BOUNDS: Mapping[str, Bounds] = {
    "fp32": Bounds(("float32",), 1.0, why="nothing to explain: a float file has float weights"),
    "fp16": Bounds(("float16",), 0.85, ("float32",), why="TFLite keeps biases and added constants in float32"),
    "w8": Bounds(_EIGHT, 0.8, _FLOATS, why=_SMALL),
    "dynamic": Bounds(_EIGHT, 0.8, _FLOATS, (DYNAMIC,), 0.1, why=_DYNAMIC),
    "w4": Bounds(("int4", "uint4"), 0.75, (*_FLOATS, *_EIGHT), why=_MIXED),
    "pal4": Bounds(("uint4-lut",), 0.85, _FLOATS, why=_SMALL),
    "pal6": Bounds(("uint6-lut",), 0.85, _FLOATS, why=_SMALL),
    "w8a8": Bounds(_EIGHT, 0.8, _FLOATS, _EIGHT, 0.5, why=_HEADS),
    "w8a16": Bounds(_EIGHT, 0.8, _FLOATS, ("int16", "uint16"), 0.5, why=_HEADS),
    # A mixture promises nothing that could be checked without its recipe.
    "mixed": Bounds((), 0.0),
}
"""Precision -> bounds; the real files they were chosen for keep them with the slack given. Data, to be changed here."""


@dataclass(frozen=True)
class Audit:
    """What was found in one file.

    Attributes:
        file: its name.
        format, precision: what it is said to be.
        version: of its operations (see `Contents`).
        weights: dtype as stored -> number of values.
        operations: dtype of the activations -> number of operations, without conversions of type.
        layers: convolutions and matrix products with weights: ``"int8 x int8"`` (activations x weights) -> number.
        delegates: what each delegate of the format takes.
        problems: what does not fit the precision or the request; empty if all does.
    """

    file: str
    format: str
    precision: str
    version: str
    weights: Mapping[str, int]
    operations: Mapping[str, int]
    layers: Mapping[str, int]
    delegates: tuple[Support, ...]
    problems: tuple[str, ...]

    @property
    def passed(self) -> bool:
        return not self.problems

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        plain = asdict(self)
        return {
            **plain,
            "delegates": [
                {**msgspec.to_builtins(item), "share": None if item.share is None else round(item.share, 4)}
                for item in self.delegates
            ],
            "problems": list(self.problems),
            "passed": self.passed,
        }

    def __str__(self) -> str:
        lines = [
            f"Audit  {self.file}  {self.format} {self.precision}  {'passed' if self.passed else 'FAILED'}",
            f"  weights     {_shares(self.weights)}",
            f"  layers      {_counts(self.layers)}",
            f"  operations  {_counts(self.operations)}{f'; {self.version}' if self.version else ''}",
            *(f"  {item}" for item in self.delegates),
            *(f"  problem: {problem}" for problem in self.problems),
        ]
        return "\n".join(lines)


def audit(
    exported: Exported | Path, format: str, precision: str, *, dynamic: bool = False, batch: int | None = 1
) -> Audit:
    """Look into an exported file.

    Args:
        exported: the file, or where it is.
        format: a name of ``READERS``.
        precision: a name of ``BOUNDS``.
        dynamic: whether sides of its tensors may be dynamic.
        batch: the batch its inputs should have; None: any.

    Returns:
        What was found, problems included: nothing is raised for a file that does not keep its promise.

    Raises:
        UnknownNameError: no such format or precision.
        MissingExtraError: the format's package is not installed.
        BundleError: the file cannot be read.
    """
    if precision not in BOUNDS:
        raise UnknownNameError("precision", precision, BOUNDS)
    path = exported.path if isinstance(exported, Exported) else Path(exported)
    contents = read_contents(format, path)
    plain = [operation for operation in contents.operations if not operation.converts]
    layers = [operation for operation in plain if is_layer(operation)]
    problems = [
        *_shape_problems(contents.signature, dynamic, batch),
        *_weight_problems(contents, layers, precision),
        *_compute_problems(layers, precision),
    ]
    return Audit(
        file=path.name,
        format=format,
        precision=precision,
        version=contents.version,
        weights=_most_first(Counter(contents.weights)),
        operations=_most_first(Counter(operation.compute or "shapes" for operation in plain)),
        layers=_most_first(Counter(f"{layer.compute or 'unknown'} x {layer.weights}" for layer in layers)),
        delegates=support(format, contents.operations),
        problems=tuple(problems),
    )


_LAYERS = ("conv", "gemm", "matmul", "linear", "fullyconnected", "addmm")


def is_layer(operation: Operation) -> bool:
    """Whether it is a convolution or a matrix product with weights in the file."""
    kind = operation.type.lower().replace("_", "")
    return bool(operation.weights) and not operation.converts and any(part in kind for part in _LAYERS)


def _shape_problems(signature: Signature, dynamic: bool, batch: int | None) -> list[str]:
    problems = []
    for kind, tensors in (("input", signature.inputs), ("output", signature.outputs)):
        for name, tensor in tensors.items():
            if not dynamic and any(_is_dynamic(side) for side in tensor.shape):
                problems.append(
                    f"{kind} {name!r} is {tensor}: a dynamic shape. Export it with fixed sizes, or ask for dynamic "
                    "shapes (dynamic=True)"
                )
            first = tensor.shape[0] if len(tensor.shape) > 1 else None
            if kind == "input" and batch is not None and isinstance(first, int) and first not in (-1, batch):
                problems.append(
                    f"input {name!r} is {tensor}: batch {first}, asked for {batch}. Export it with batch {batch}, or "
                    f"ask for this one (batch={first})"
                )
    return problems


def _is_dynamic(side: int | str) -> bool:
    return isinstance(side, str) or side < 0


def _weight_problems(contents: Contents, layers: Sequence[Operation], precision: str) -> list[str]:
    bounds = BOUNDS[precision]
    if not bounds.stored:
        return []
    counted = {dtype: count for dtype, count in contents.weights.items() if dtype != "int32"}  # integer biases
    total = sum(counted.values())
    if total == 0:
        return ["no weights are in the file: it was exported without them. Export it again"]
    share = sum(counted.get(dtype, 0) for dtype in bounds.stored) / total
    problems = []
    if share < bounds.share:
        problems.append(
            f"weights: {_percent(share)} of the values are {' or '.join(bounds.stored)}, {precision} has at least "
            f"{_percent(bounds.share)} (found: {_shares(counted)}). {_NEXT}"
        )
    odd = [layer for layer in layers if layer.weights not in (*bounds.stored, *bounds.others)]
    if odd:
        found = ", ".join(sorted({layer.weights for layer in odd}))
        problems.append(
            f"layers: {len(odd)} of {len(layers)} have {found} weights, {precision} has "
            f"{' or '.join((*bounds.stored, *bounds.others))} ({_places(odd)}). {_NEXT}"
        )
    return problems


def _compute_problems(layers: Sequence[Operation], precision: str) -> list[str]:
    bounds = BOUNDS[precision]
    if not bounds.stored:
        return []
    if not bounds.integers:
        odd = [layer for layer in layers if layer.compute in (*INTEGERS, DYNAMIC)]
        if not odd:
            return []
        return [
            f"layers: {len(odd)} of {len(layers)} compute on {odd[0].compute}, {precision} computes in float "
            f"({_places(odd)}). Export it again, or call it what it is"
        ]
    known = [layer for layer in layers if layer.compute]
    share = sum(layer.compute in bounds.integers for layer in known) / max(1, len(known))
    if share >= bounds.layers:
        return []
    left = [layer for layer in known if layer.compute not in bounds.integers]
    return [
        f"layers: {_percent(share)} of {len(known)} compute on {' or '.join(bounds.integers)}, {precision} has at "
        f"least {_percent(bounds.layers)} (in float: {_places(left)}). {_NEXT}"
    ]


_NEXT = "Look at the log of the conversion, shorten keep_float, or call the file what it is"


def _places(layers: Sequence[Operation]) -> str:
    names = [layer.module or layer.name[-40:] for layer in layers]
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _percent(share: float) -> str:
    """Two digits behind the point where it would otherwise look like all or nothing."""
    text = f"{100 * share:.1f}"
    return f"{100 * share:.3g} %" if text in ("0.0", "100.0") and share not in (0, 1) else f"{text} %"


def _most_first(counts: Counter[str]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _shares(counts: Mapping[str, int]) -> str:
    total = max(1, sum(counts.values()))
    return _joined(f"{dtype} {_percent(count / total)}" for dtype, count in counts.items())


def _counts(counts: Mapping[str, int]) -> str:
    return _joined(f"{count} {name}" for name, count in counts.items())


def _joined(parts: Iterable[str]) -> str:
    return ", ".join(parts) or "none"
