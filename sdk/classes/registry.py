"""Class sets are data: one JSON file a set in this folder, or anywhere on the user's disk."""

from __future__ import annotations

import os

from pocketface.sdk.data_files import DataFiles
from pocketface.sdk.errors import ConfigError
from pocketface.sdk.manifest import ClassSet

BACKGROUND = "background"
"""What class 0 is called, always."""

IGNORED = 255
"""The value of a label picture that stands for no class: such pixels are neither learned nor measured."""


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


_FILES = DataFiles(
    "class set",
    "pocketface.sdk.classes",
    ClassSet,
    check_classes,
    'Write it as {"name": …, "names": ["background", …]}',
)
CLASS_SETS = _FILES.names
"""Names of the built-in ones. To add one, write its file."""


def load_classes(name_or_path: str | os.PathLike[str]) -> ClassSet:
    """A built-in class set by name, or the user's own from a ``.json`` file.

    Raises:
        UnknownNameError: neither a built-in name nor the path of a ``.json`` file.
        ConfigError: the file is missing, not JSON, has an unknown key, or contradicts itself.
    """
    return _FILES.load(name_or_path)
