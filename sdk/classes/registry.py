"""Class sets are data: one JSON file a set in this folder, or anywhere on the user's disk."""

from __future__ import annotations

import os
from importlib import resources
from pathlib import Path

import msgspec

from pocketface.sdk.errors import ConfigError, UnknownNameError
from pocketface.sdk.files import os_problem
from pocketface.sdk.manifest import ClassSet

BACKGROUND = "background"
"""What class 0 is called, always."""

IGNORED = 255
"""The value of a label picture that stands for no class: such pixels are neither learned nor measured."""

_FOLDER = resources.files("pocketface.sdk.classes")
CLASS_SETS: tuple[str, ...] = tuple(sorted(file.name[:-5] for file in _FOLDER.iterdir() if file.name.endswith(".json")))
"""Names of the built-in class sets. To add one, write its file."""


def load_classes(name_or_path: str | os.PathLike[str]) -> ClassSet:
    """A built-in class set by name, or the user's own from a ``.json`` file.

    Raises:
        UnknownNameError: neither a built-in name nor the path of a ``.json`` file.
        ConfigError: the file is missing, not JSON, has an unknown key, or contradicts itself.
    """
    text = os.fspath(name_or_path)
    if text in CLASS_SETS:
        return _parse((_FOLDER / f"{text}.json").read_bytes(), text)
    if not text.endswith(".json"):
        raise UnknownNameError(
            "class set", text, CLASS_SETS, next="Name one of these, or the path of your own .json file"
        )
    try:
        return _parse(Path(text).read_bytes(), text)
    except FileNotFoundError as error:
        raise ConfigError(f"{text}: no such file", expected="a class set as JSON", choices=CLASS_SETS) from error
    except OSError as error:
        raise os_problem(error, text, "read") from error


def _parse(data: bytes, where: str) -> ClassSet:
    try:
        classes = msgspec.json.decode(data, type=ClassSet)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(
            f"class set {where}: {error}", next='Write it as {"name": …, "names": ["background", …]}'
        ) from error
    check_classes(classes, where)
    return classes


def check_classes(classes: ClassSet, where: str = "") -> None:
    """Refuse a class set that contradicts itself.

    Raises:
        ConfigError: less than two classes or more than 255, a name twice, a class 0 that is not the background, a flip
            that is no mirror (doing it twice must give the start, and the background stays), or colours that are not
            one per class in [0, 255].
    """
    n = len(classes.names)

    def wrong(what: str, expected: str) -> ConfigError:
        return ConfigError(f"class set {where or classes.name}: {what}", expected=expected, next="Correct the classes")

    if not 2 <= n <= IGNORED:
        raise wrong(f"{n} classes", f"2 to {IGNORED}")
    if classes.names[0] != BACKGROUND:
        raise wrong(f"class 0 is {classes.names[0]!r}", BACKGROUND)
    if "" in classes.names or len(set(classes.names)) != n:
        raise wrong(f"names {', '.join(classes.names)}", "a name for each class, all different")
    flip = classes.flip
    if flip and (sorted(flip) != list(range(n)) or flip[0] != 0 or any(flip[flip[i]] != i for i in range(n))):
        raise wrong("flip is no mirror", f"a permutation of 0 to {n - 1} that undoes itself and keeps the background")
    if classes.colours and len(classes.colours) != n:
        raise wrong(f"{len(classes.colours)} colours", f"{n}, or none")
    for colour in classes.colours:
        if not all(0 <= value <= 255 for value in colour):
            raise wrong(f"colour {colour}", "red, green and blue from 0 to 255")
