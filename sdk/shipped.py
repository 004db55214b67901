"""Bundles that come with the package, by name: ``sdk/bundles/NAME.pface``. To ship another one, add its file.

face-detector is made by ``pocketface detector``, face68 by ``pocketface sweep`` and ``pocketface subset``.
"""

from __future__ import annotations

import os
from importlib.resources import files
from pathlib import Path

from pocketface.sdk.errors import BundleError

FOLDER = Path(str(files("pocketface.sdk.bundles")))
SUFFIX = ".pface"


def shipped_names() -> list[str]:
    """Names of the bundles that come with the package."""
    return sorted(path.stem for path in FOLDER.glob(f"*{SUFFIX}"))


def bundle_path(path: str | os.PathLike[str]) -> Path:
    """Where a bundle lies: a path as it is; a bare name that is no path here, in the package.

    Args:
        path: a bundle folder, a ``.pface`` file, or a name of ``shipped_names``.

    Raises:
        BundleError: a bare name that is neither.
    """
    given = Path(path)
    if given.exists() or given.name != os.fspath(path) or given.suffix:
        return given
    if (FOLDER / f"{given.name}{SUFFIX}").is_file():
        return FOLDER / f"{given.name}{SUFFIX}"
    raise BundleError(
        f"{given.name}: no such bundle, and none of that name comes with pocketface",
        choices=shipped_names(),
        next="Give the path of a bundle, or one of these names: pocketface models",
    )
