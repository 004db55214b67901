"""A registry is a table: name -> "module:object". Listing it imports nothing; an entry is resolved when it is used.

Other distributions add entries through the entry-point group ``pocketface.<kind>s``.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from pocketface.sdk.errors import MissingExtraError, UnknownNameError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoints


def entry_points(*, group: str) -> EntryPoints:
    """As that of ``importlib.metadata``, which is imported when a registry is asked: it brings half of ``email``."""
    from importlib import metadata

    return metadata.entry_points(group=group)


class Registry(Mapping[str, Any]):
    """Names of one kind of thing, each resolved to an object on use.

    Args:
        kind: what the entries are, singular, e.g. ``"model"``; the entry-point group is ``pocketface.models``.
        table: name -> ``"module:object"``.
        extra: the pip extra that the entries need, named in the error when an import fails.
        extras: name -> extra, where one entry differs from ``extra``.
    """

    def __init__(
        self, kind: str, table: Mapping[str, str], *, extra: str | None = None, extras: Mapping[str, str] | None = None
    ) -> None:
        self.kind, self.group = kind, f"pocketface.{kind}{'es' if kind.endswith('s') else 's'}"
        self._table, self._extra, self._extras = dict(table), extra, dict(extras or {})

    def _entries(self) -> dict[str, str]:
        found = {point.name: point.value for point in entry_points(group=self.group)}
        return {**found, **self._table}

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._entries()))

    def __len__(self) -> int:
        return len(self._entries())

    def __contains__(self, name: object) -> bool:
        return name in self._entries()

    def __getitem__(self, name: str) -> Any:
        """Resolve an entry.

        Raises:
            UnknownNameError: if nothing is registered under this name.
            MissingExtraError: if the entry's module needs a package that is not installed.
        """
        entries = self._entries()
        if name not in entries:
            raise UnknownNameError(
                self.kind, name, entries, next=f"Add your own through the entry-point group {self.group}"
            )
        module, _, attribute = entries[name].partition(":")
        try:
            return getattr(importlib.import_module(module), attribute)
        except ModuleNotFoundError as error:
            extra = self._extras.get(name, self._extra)
            # A missing module of our own is a defect, not a missing extra: let it show.
            if extra is None or (error.name or "").startswith("pocketface"):
                raise
            raise MissingExtraError(f"{self.kind} {name!r}", extra, str(error)) from error

    def register(self, name: str, target: str) -> None:
        """Add an entry at run time (for tests and notebooks); a library adds a line or an entry point instead."""
        self._table[name] = target

    def unregister(self, name: str) -> None:
        """Take back what ``register`` added."""
        del self._table[name]
