"""Label files on disk: what readers of labelled pictures share. Sizes from a file's head, values, folders, pairs."""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pocketface.sdk.errors import AnnotationError, BadInputError, EnvironmentProblemError, ImageError
from pocketface.sdk.images import opened_image
from pocketface.sdk.manifest import DataSource

if TYPE_CHECKING:
    from pocketface.benchmarks.data.labelled import Labelled

_MEND = "Fix the file or leave it out with --skip-bad"
_ORIENTATION = 0x0112  # EXIF: 5 to 8 swap width and height


def named(path: Path, name: str) -> str:
    """A file as errors call it: in the folder of the entry's name, which is relative to the data set's root."""
    return str(PurePosixPath(name).parent / path.name)


def image_size(path: Path, where: str) -> tuple[int, int]:
    """(width, height) as seen, from the head of an image file.

    Raises:
        AnnotationError: the file is missing or no image.
    """
    try:
        with opened_image(path, "it") as image:
            turned = image.getexif().get(_ORIENTATION, 1) in (5, 6, 7, 8)
            return (image.height, image.width) if turned else (image.width, image.height)
    except (ImageError, EnvironmentProblemError) as error:
        raise _unreadable(path, where, error) from error


def read_values(path: Path, where: str) -> NDArray[np.uint8]:
    """The values of a label file, as stored: (H, W) uint8; of 1-bit files 0 and 1, of palette files the indices.

    Raises:
        AnnotationError: the file is missing, broken, too large, or has colours or more than 8 bits.
    """
    try:
        with opened_image(path, "it") as image:
            if image.mode not in ("1", "L", "P", "RGB"):
                raise _not_one_value(where, f"mode {image.mode}")
            values = np.array(image).astype(np.uint8, copy=False)
    except (ImageError, EnvironmentProblemError) as error:
        raise _unreadable(path, where, error) from error
    if values.ndim == 3:  # some tools store a grey mask in three equal channels
        if not (values == values[:, :, :1]).all():
            raise _not_one_value(where, "colours")
        values = values[:, :, 0]
    return values


def _not_one_value(where: str, got: str) -> AnnotationError:
    return AnnotationError(f"{where}: {got}", expected="one value of 8 bits or less a pixel", next=_MEND)


def _unreadable(path: Path, where: str, error: ImageError | EnvironmentProblemError) -> AnnotationError:
    if not path.exists():
        return AnnotationError(f"{where}: no such file", expected="an image file", next=_MEND)
    if path.is_file() and path.stat().st_size == 0:
        return AnnotationError(f"{where}: the file is empty", expected="an image file", next=_MEND)
    # An environment's problem names the file by its whole path.
    reason = error.what if isinstance(error, ImageError) else type(error.__cause__).__name__
    return AnnotationError(f"{where}: cannot be read as an image ({reason})", expected=error.expected, next=_MEND)


def inner_root(root: Path, parts: Sequence[str], *names: str) -> Path:
    """The data set's root, where the given folder may be the one that holds it.

    Args:
        root: what the user gave.
        parts: folders, relative to a root, of which it must have one.
        names: of the data set's own folder.
    """
    for here in (root, *(root / name for name in names)):
        if any((here / part).is_dir() for part in parts):
            return here
    return root


def chosen(root: Path, folders: Sequence[str], parts: Sequence[str], title: str) -> list[str]:
    """Which parts to read: those named, or all.

    Args:
        root: the data set's.
        folders: what the user named; empty for all.
        parts: those that there are.
        title: what the data set looks like, for the error.

    Raises:
        BadInputError: there are none, or one that is named is not among them.
    """
    if not parts:
        raise BadInputError(f"{root} holds no labelled pictures", expected=title, next="Give the data set's root")
    wanted = list(dict.fromkeys(folder.strip("/") for folder in folders)) or list(parts)
    for name in wanted:
        if name not in parts:
            raise BadInputError(
                f"folder {name!r} is not in {root}", choices=parts, next="Name folders relative to --data"
            )
    return wanted


def by_stem(folder: Path, suffixes: Iterable[str], ending: str = "") -> dict[str, Path]:
    """The files of a folder by stem, less ``ending``, without what macOS leaves in archives.

    Raises:
        AnnotationError: two files have one stem.
    """
    found: dict[str, Path] = {}
    if not folder.is_dir():
        return found
    for file in sorted(os.listdir(folder)):
        stem, suffix = os.path.splitext(file)
        if file.startswith(".") or suffix.lower() not in suffixes or not stem.endswith(ending):
            continue
        stem = stem.removesuffix(ending)
        if stem in found:
            raise AnnotationError(
                f"{folder.name}/{file} and {found[stem].name} are two files of one name",
                expected="one",
                next="Remove the others",
            )
        found[stem] = folder / file
    return found


def labelled_hash(entries: Iterable[Labelled]) -> str:
    """SHA-256, in hex, over names, image files, label files and the classes that their values become; the order does
    not matter.

    Raises:
        AnnotationError: a file cannot be read.
        BadInputError: there is no picture.
    """
    total = hashlib.sha256(b"pocketface labelled pictures 1\n")
    ordered = sorted(entries, key=lambda entry: entry.name)
    if not ordered:
        raise BadInputError("a data set without pictures has no hash", next="Check --data")
    for entry in ordered:
        name = entry.name.encode()
        # Lengths first: no two different lists run together into the same bytes.
        total.update(struct.pack("<QQQ", len(name), len(entry.files), entry.reduce) + name)
        total.update(entry.to_classes.astype("<i2").tobytes())
        total.update(bytes(value for value, _ in entry.layers))
        for path in (entry.image, *entry.files):
            total.update(_file_hash(path, named(path, entry.name)))
    return total.hexdigest()


def labelled_source(entries: Sequence[Labelled], *, name: str, split: str, licence: str) -> DataSource:
    """The manifest's line on a set of labelled pictures: named and hashed, never by path."""
    return DataSource(name=name, split=split, faces=len(entries), sha256=labelled_hash(entries), licence=licence)


def _file_hash(path: Path, where: str) -> bytes:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError as error:
        raise AnnotationError(f"{where}: cannot be read ({error.strerror})", next="Check the data folder") from error
