"""Landmark schemes are data: one JSON file a scheme in this folder, or anywhere on the user's disk."""

from __future__ import annotations

import os
from importlib import resources
from pathlib import Path

import msgspec

from pocketface.sdk.errors import ConfigError, UnknownNameError
from pocketface.sdk.files import os_problem
from pocketface.sdk.manifest import Scheme

_FOLDER = resources.files("pocketface.sdk.schemes")
SCHEMES: tuple[str, ...] = tuple(sorted(file.name[:-5] for file in _FOLDER.iterdir() if file.name.endswith(".json")))
"""Names of the built-in schemes. To add one, write its file."""


def load_scheme(name_or_path: str | os.PathLike[str]) -> Scheme:
    """A built-in scheme by name, or the user's own from a ``.json`` file.

    Raises:
        UnknownNameError: neither a built-in name nor the path of a ``.json`` file.
        ConfigError: the file is missing, not JSON, has an unknown key, or contradicts itself.
    """
    text = os.fspath(name_or_path)
    if text in SCHEMES:
        return _parse((_FOLDER / f"{text}.json").read_bytes(), text)
    if not text.endswith(".json"):
        raise UnknownNameError("scheme", text, SCHEMES, next="Name one of these, or the path of your own .json file")
    try:
        return _parse(Path(text).read_bytes(), text)
    except FileNotFoundError as error:
        raise ConfigError(f"{text}: no such file", expected="a scheme as JSON", choices=SCHEMES) from error
    except OSError as error:
        raise os_problem(error, text, "read") from error


def _parse(data: bytes, where: str) -> Scheme:
    try:
        scheme = msgspec.json.decode(data, type=Scheme)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(
            f"scheme {where}: {error}", next="Compare it with a built-in one: pocketface schemes"
        ) from error
    check_scheme(scheme, where)
    return scheme


def check_scheme(scheme: Scheme, where: str = "") -> None:
    """Refuse a scheme that contradicts itself.

    Raises:
        ConfigError: no points, an index out of range, a flip that is no mirror (doing it twice must give the start), a
            closed part that does not exist, or a wrong number of names.
    """
    n = scheme.points

    def wrong(what: str, expected: str) -> ConfigError:
        return ConfigError(f"scheme {where or scheme.name}: {what}", expected=expected, next="Correct the scheme")

    if n < 1:
        raise wrong(f"{n} points", "at least 1")
    for part, indices in scheme.parts.items():
        if any(not 0 <= index < n for index in indices):
            raise wrong(f"part {part!r} names a landmark out of range", f"indices from 0 to {n - 1}")
    if scheme.flip and (
        sorted(scheme.flip) != list(range(n)) or any(scheme.flip[scheme.flip[i]] != i for i in range(n))
    ):
        raise wrong("flip is no mirror", f"a permutation of 0 to {n - 1} that undoes itself")
    if unknown := [part for part in scheme.closed if part not in scheme.parts]:
        raise wrong(f"closed part {unknown[0]!r} does not exist", f"one of {', '.join(scheme.parts)}")
    a, b = scheme.normaliser
    if a == b or not (0 <= a < n and 0 <= b < n):
        raise wrong(f"normaliser {a}, {b}", f"two different landmarks from 0 to {n - 1}")
    if scheme.names and (len(scheme.names) != n or len(set(scheme.names)) != n):
        raise wrong(f"{len(set(scheme.names))} different names", f"{n}, or none")
