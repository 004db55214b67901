"""Landmark schemes are data: one JSON file a scheme in this folder, or anywhere on the user's disk."""

from __future__ import annotations

import os

from pocketface.sdk.data_files import DataFiles
from pocketface.sdk.errors import ConfigError
from pocketface.sdk.limits import MAX_POINTS
from pocketface.sdk.manifest import Scheme


def check_scheme(scheme: Scheme, where: str = "") -> None:
    """Refuse a scheme that contradicts itself.

    Raises:
        ConfigError: no points or more than ``MAX_POINTS``, an index out of range, a flip that is no mirror (doing it
            twice must give the start), a closed part that does not exist, or a wrong number of names.
    """
    n = scheme.points

    def wrong(what: str, expected: str) -> ConfigError:
        return ConfigError(f"scheme {where or scheme.name}: {what}", expected=expected, next="Correct the scheme")

    if not 1 <= n <= MAX_POINTS:
        raise wrong(f"{n} points", f"1 to {MAX_POINTS}")
    for part, indices in scheme.parts.items():
        if any(not 0 <= index < n for index in indices):
            raise wrong(f"part {part!r} names a landmark out of range", f"indices from 0 to {n - 1}")
    if scheme.flip and (
        len(scheme.flip) != n  # before anything is made that has n of something
        or sorted(scheme.flip) != list(range(n))
        or any(scheme.flip[scheme.flip[i]] != i for i in range(n))
    ):
        raise wrong("flip is no mirror", f"a permutation of 0 to {n - 1} that undoes itself")
    if unknown := [part for part in scheme.closed if part not in scheme.parts]:
        raise wrong(f"closed part {unknown[0]!r} does not exist", f"one of {', '.join(scheme.parts)}")
    a, b = scheme.normaliser
    if a == b or not (0 <= a < n and 0 <= b < n):
        raise wrong(f"normaliser {a}, {b}", f"two different landmarks from 0 to {n - 1}")
    if scheme.names and (len(scheme.names) != n or len(set(scheme.names)) != n):
        raise wrong(f"{len(set(scheme.names))} different names", f"{n}, or none")


_FILES = DataFiles(
    "scheme", "pocketface.sdk.schemes", Scheme, check_scheme, "Compare it with a built-in one: pocketface schemes"
)
SCHEMES = _FILES.names
"""Names of the built-in ones. To add one, write its file."""


def load_scheme(name_or_path: str | os.PathLike[str]) -> Scheme:
    """A built-in scheme by name, or the user's own from a ``.json`` file.

    Raises:
        UnknownNameError: neither a built-in name nor the path of a ``.json`` file.
        ConfigError: the file is missing, not JSON, has an unknown key, or contradicts itself.
    """
    return _FILES.load(name_or_path)
