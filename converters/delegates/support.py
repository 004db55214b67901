"""How much of a file each delegate takes: its operations against the lists beside this file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

import msgspec

from pocketface.converters.readers.base import Operation


class Delegate(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A list of operations that something runs, and where the list comes from.

    Attributes:
        name: e.g. ``"XNNPACK"``.
        format: of the files it runs.
        source: page or source file the list was taken from.
        version: of that source.
        fallback: what runs everything else.
        silent: what the source does not say, or what is not checked here.
        operations: type -> dtypes of the activations, none for any; None: there is no list.
        constant: types whose weights have to be constants in the type that they compute in, where that is float.
        expanded: how those may be stored besides: this is expanded on loading.
        fused: type -> types of operations that take it in when it follows them in the file (computed in float).
        notes: type -> conditions that are not checked here.
    """

    name: str
    format: str
    source: str
    version: str
    fallback: str
    silent: str
    operations: dict[str, tuple[str, ...]] | None
    constant: tuple[str, ...] = ()
    expanded: tuple[str, ...] = ()
    fused: dict[str, tuple[str, ...]] = {}
    notes: dict[str, str] = {}

    def takes(self, operation: Operation, before: Operation | None = None) -> bool:
        """Whether it runs an operation, as far as its list tells.

        Args:
            operation: to be run.
            before: what stands before it in the file.
        """
        fixed = operation.type in self.constant and operation.compute.startswith("float")
        if fixed and operation.weights not in ("", operation.compute, *self.expanded):
            return False
        dtypes = (self.operations or {}).get(operation.type)
        if dtypes is not None and (not dtypes or not operation.compute or operation.compute in dtypes):
            return True
        if before is None or before.type not in self.fused.get(operation.type, ()):
            return False
        return before.compute == operation.compute and self.takes(before)


class Unsupported(msgspec.Struct, frozen=True, kw_only=True):
    """Operations of one type that a delegate leaves to its fallback.

    Attributes:
        type, compute: as in `Operation`.
        places: module path of each, or its name where the file says no path.
        note: what its list says of this type for other dtypes.
    """

    type: str
    compute: str
    places: tuple[str, ...]
    note: str = ""

    def __str__(self) -> str:
        shown = [place if len(place) <= 40 else f"...{place[-37:]}" for place in self.places[:3]]
        more = f" and {len(self.places) - 3} more" if len(self.places) > 3 else ""
        dtype = f" {self.compute}" if self.compute else ""
        return f"{self.type}{dtype} ({', '.join(shown)}{more})"


class Support(msgspec.Struct, frozen=True, kw_only=True):
    """How much of one file one delegate takes.

    Attributes:
        delegate: its name.
        source, version, fallback, silent: see `Delegate`.
        operations: how many the file has, without conversions of type.
        supported: how many of them it takes; None where no list exists.
        unsupported: the others, by type.
        conditions: types in this file that it takes under conditions that were not checked -> conditions.
    """

    delegate: str
    source: str
    version: str
    fallback: str
    silent: str
    operations: int
    supported: int | None
    unsupported: tuple[Unsupported, ...] = ()
    conditions: dict[str, str] = {}

    @property
    def share(self) -> float | None:
        """In [0, 1]; None where no list exists."""
        return None if self.supported is None else self.supported / max(1, self.operations)

    def __str__(self) -> str:
        if self.share is None:
            return f"{self.delegate}: not documented. {self.silent}"
        left = "; not: " + ", ".join(map(str, self.unsupported)) if self.unsupported else ""
        return f"{self.delegate}: {self.supported} of {self.operations} operations ({100 * self.share:.0f} %){left}"


@cache
def delegates() -> tuple[Delegate, ...]:
    """All lists, by format and name."""
    found = []
    for file in files("pocketface.converters.delegates").iterdir():
        if file.name.endswith(".json"):
            found.append(msgspec.json.decode(file.read_bytes(), type=Delegate))
    return tuple(sorted(found, key=lambda item: (item.format, item.name)))


def support(format: str, operations: Sequence[Operation]) -> tuple[Support, ...]:
    """What every delegate of a format takes of a file's operations. Conversions of type are not counted."""
    plain = [operation for operation in operations if not operation.converts]
    return tuple(_support(item, plain) for item in delegates() if item.format == format)


def _support(delegate: Delegate, operations: Sequence[Operation]) -> Support:
    common: dict[str, Any] = {
        "delegate": delegate.name,
        "source": delegate.source,
        "version": delegate.version,
        "fallback": delegate.fallback,
        "silent": delegate.silent,
        "operations": len(operations),
    }
    if delegate.operations is None:
        return Support(supported=None, **common)
    left: dict[tuple[str, str], list[str]] = {}
    for before, operation in zip((None, *operations), operations, strict=False):
        if not delegate.takes(operation, before):
            left.setdefault((operation.type, operation.compute), []).append(operation.module or operation.name)
    unsupported = tuple(
        Unsupported(type=type, compute=compute, places=tuple(places), note=_other(delegate.operations, type))
        for (type, compute), places in sorted(left.items())
    )
    taken = {operation.type for operation in operations} & set(delegate.operations)
    return Support(
        supported=len(operations) - sum(len(item.places) for item in unsupported),
        unsupported=unsupported,
        conditions={type: text for type, text in delegate.notes.items() if type in taken},
        **common,
    )


def _other(listed: Mapping[str, tuple[str, ...]], type: str) -> str:
    return f"listed for {', '.join(listed[type])}" if type in listed else "not listed"
