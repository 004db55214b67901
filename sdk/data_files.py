"""Things that are data: one JSON file each, in a folder of ours or anywhere on the user's disk."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Generic, TypeVar

import msgspec

from pocketface.sdk.errors import ConfigError, UnknownNameError
from pocketface.sdk.files import os_problem

D = TypeVar("D")


@dataclass(frozen=True)
class DataFiles(Generic[D]):
    """One kind of such things.

    Attributes:
        kind: for messages: ``"scheme"``.
        package: the folder of the built-in ones.
        type: what a file holds.
        check: (what was read, where) -> raises ConfigError if it contradicts itself.
        mend: what to do about a file that cannot be read.
    """

    kind: str
    package: str
    type: type[D]
    check: Callable[[D, str], None]
    mend: str

    @property
    def names(self) -> tuple[str, ...]:
        """Of the built-in ones, sorted."""
        files = resources.files(self.package).iterdir()
        return tuple(sorted(file.name[:-5] for file in files if file.name.endswith(".json")))

    def load(self, name_or_path: str | os.PathLike[str]) -> D:
        """A built-in one by name, or the user's own from a ``.json`` file.

        Raises:
            UnknownNameError: neither a built-in name nor the path of a ``.json`` file.
            ConfigError: the file is missing, not JSON, has an unknown key, or contradicts itself.
        """
        text, names = os.fspath(name_or_path), self.names
        if text in names:
            return self._parse(resources.files(self.package).joinpath(f"{text}.json").read_bytes(), text)
        if not text.endswith(".json"):
            raise UnknownNameError(self.kind, text, names, next="Name one of these, or the path of your own .json file")
        try:
            return self._parse(Path(text).read_bytes(), text)
        except FileNotFoundError as error:
            raise ConfigError(f"{text}: no such file", expected=f"a {self.kind} as JSON", choices=names) from error
        except OSError as error:
            raise os_problem(error, text, "read") from error

    def _parse(self, data: bytes, where: str) -> D:
        try:
            found = msgspec.json.decode(data, type=self.type)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ConfigError(f"{self.kind} {where}: {error}", next=self.mend) from error
        self.check(found, where)
        return found
