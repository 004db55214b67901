"""The `.pts` format, and the reader for any tree of images with a `.pts` beside them.

With header (iBUG):            without:
    version: 1                     74.574 96.069
    n_points: 68                   71.954 114.990
    {                              ...
    74.574 96.069
    ...
    }

Coordinates are 1-based (the left-top pixel is 1, 1); faces have them 0-based. `X.pts` belongs to `X.jpg`; where there
is no such image, `X_2.pts` is the second face of `X.jpg` (as in AFW's own download).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pocketface.benchmarks.data.face import Face, OnSkip, Reader, checked_points, collect
from pocketface.sdk.errors import AnnotationError, BadInputError
from pocketface.sdk.manifest import Scheme

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
ORIGIN = 1.0
"""Position of the left-top pixel's centre in a `.pts` file."""
_BYTES = 1 << 20
"""More than this is no annotation: some thousand points fit in it."""
_HEADER = re.compile(r"(version|n_points)\s*:\s*(\S+)\s*", re.IGNORECASE)
_MEND = "Fix the file or leave it out with --skip-bad"


def read_points(path: str | Path, scheme: Scheme, *, root: str | Path | None = None) -> NDArray[np.float32]:
    """Read one `.pts` file.

    Args:
        path: the file.
        scheme: the mark-up it must have.
        root: errors name the file relative to this folder.

    Returns:
        (n, 2) float32 pixels, 0-based.

    Raises:
        AnnotationError: the file is missing, empty, no text, has a line that is not two numbers, a header that
            contradicts it, another number of points than the scheme, or a coordinate that is not finite.
    """
    path = Path(path)
    where = _relative(path, root)
    try:
        with path.open("rb") as file:
            raw = file.read(_BYTES + 1)
    except OSError as error:
        raise AnnotationError(f"{where}: cannot be read ({error.strerror})", next="Check --data") from error
    return checked_points(np.asarray(parse_points(raw, where)).reshape(-1, 2) - ORIGIN, scheme, where)


def parse_points(raw: bytes, where: str) -> list[tuple[float, float]]:
    """The points of a `.pts` file as written, 1-based.

    Args:
        raw: the file's bytes.
        where: name of the file, for errors.

    Raises:
        AnnotationError: as in ``read_points``, except what a scheme asks for.
    """
    if not raw.strip():
        raise AnnotationError(f"{where}: the file is empty", expected="one x y pair a line", next=_MEND)
    if len(raw) > _BYTES or b"\0" in raw:
        raise AnnotationError(f"{where}: not a text file of landmarks", expected="one x y pair a line", next=_MEND)
    points: list[tuple[float, float]] = []
    declared: int | None = None
    opened = closed = False
    for number, line in enumerate(raw.decode("utf-8-sig", errors="replace").splitlines(), 1):
        text = line.strip()
        header = _HEADER.fullmatch(text)
        if not text:
            continue
        if header and not points and not opened:
            if header[1].lower() == "n_points":
                declared = _count(header[2], f"{where} line {number}")
        elif text == "{" and not points and not opened:
            opened = True
        elif text == "}" and opened and not closed:
            closed = True
        elif closed:
            raise AnnotationError(f"{where} line {number}: {_shown(text)} after the closing brace", next=_MEND)
        else:
            points.append(_pair(text, f"{where} line {number}"))
    if opened and not closed:
        raise AnnotationError(f"{where}: the closing brace is missing", expected="a complete file", next=_MEND)
    if declared is not None and declared != len(points):
        raise AnnotationError(
            f"{where}: {len(points)} points", expected=f"{declared}, as its own n_points says", next=_MEND
        )
    return points


def format_points(points: ArrayLike) -> str:
    """The text of a `.pts` file with header, for (n, 2) 0-based pixels; three decimals."""
    xy = np.asarray(points, np.float64).reshape(-1, 2) + ORIGIN
    lines = "".join(f"{x:.3f} {y:.3f}\n" for x, y in xy)
    return f"version: 1\nn_points: {len(xy)}\n{{\n{lines}}}\n"


def read_tree(
    root: Path, *, folders: Sequence[str] = (), scheme: Scheme, skip_bad: bool = False, on_skip: OnSkip | None = None
) -> list[Face]:
    """Every `.pts` under the folders (all of ``root`` by default), with its image."""
    makers = (
        partial(_face, folder / name, images, scheme, root)
        for start in (existing_folders(root, folders) if folders else [root])
        for folder, names, images in _walk(start)
        for name in names
    )
    return list(collect(makers, skip_bad, on_skip))


def existing_folders(root: Path, folders: Sequence[str]) -> list[Path]:
    """The folders of a data set that the user named, none of them inside another.

    Raises:
        BadInputError: one does not exist, or leads out of the root.
    """
    found: list[Path] = []
    for name in dict.fromkeys(folder.strip("/") or "." for folder in folders):
        folder = root / name
        if ".." in Path(name).parts or not folder.is_dir():
            raise BadInputError(
                f"folder {name!r} is not in {root}",
                choices=annotated_folders(root),
                next="Name folders relative to --data",
            )
        found.append(folder)
    return [one for one in found if not any(other != one and one.is_relative_to(other) for other in found)]


def annotated_folders(root: Path) -> list[str]:
    """Folders under the root that hold `.pts` files, relative to it with forward slashes."""
    return sorted(folder.relative_to(root).as_posix() for folder, names, _ in _walk(root) if names)


def _walk(start: Path) -> Iterator[tuple[Path, list[str], dict[str, list[str]]]]:
    """Each folder with its `.pts` files and its images by lower-case name, without what macOS leaves in archives."""
    for here, inner, files in os.walk(start):
        inner[:] = sorted(name for name in inner if not name.startswith(".") and name != "__MACOSX")
        images: dict[str, list[str]] = {}
        names = []
        for name in sorted(files):
            suffix = os.path.splitext(name)[1].lower()
            if name.startswith("."):
                continue
            if suffix == ".pts":
                names.append(name)
            elif suffix in IMAGE_SUFFIXES:
                images.setdefault(name.lower(), []).append(name)
        yield Path(here), names, images


def _face(path: Path, images: dict[str, list[str]], scheme: Scheme, root: Path) -> Face:
    image = path.parent / _image_of(path, images, root)
    return Face(
        name=path.relative_to(root).with_suffix("").as_posix(),
        image=image,
        points=read_points(path, scheme, root=root),
    )


def _image_of(path: Path, images: dict[str, list[str]], root: Path) -> str:
    shared = re.fullmatch(r"(.+)_\d+", path.stem)
    for stem in (path.stem, shared[1] if shared else None):
        if stem is None:
            continue
        found = [name for suffix in IMAGE_SUFFIXES for name in images.get((stem + suffix).lower(), [])]
        # Where names differ only in case, the one spelt like the annotation is meant.
        exact = [name for name in found if os.path.splitext(name)[0] == stem]
        found = exact or found
        if len(found) > 1:
            raise AnnotationError(
                f"{_relative(path, root)}: {len(found)} images fit ({', '.join(found)})",
                expected="one",
                next="Remove the others",
            )
        if found:
            return found[0]
    wanted = ", ".join(path.stem + suffix for suffix in IMAGE_SUFFIXES) + (f" or {shared[1]}.jpg" if shared else "")
    raise AnnotationError(
        f"{_relative(path, root)}: its image is missing",
        expected=f"{wanted} beside it",
        next="Add the image or leave it out with --skip-bad",
    )


def _relative(path: Path, root: str | Path | None) -> str:
    if root is not None and path.is_relative_to(root):
        return path.relative_to(root).as_posix()
    return str(path)


def _count(text: str, where: str) -> int:
    if not text.isdecimal():
        raise AnnotationError(f"{where}: n_points is {_shown(text)}", expected="a number", next=_MEND)
    return int(text)


def _pair(text: str, where: str) -> tuple[float, float]:
    try:
        x, y = (float(word) for word in text.split())
    except ValueError as error:
        raise AnnotationError(f"{where}: {_shown(text)}", expected="two numbers, x y", next=_MEND) from error
    return x, y


def _shown(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:37] + "...")


READER = Reader(
    name="pts",
    title="a tree of images, each with a .pts file beside it",
    licence="unknown: the terms of the data you gave apply",
    function=read_tree,
)
