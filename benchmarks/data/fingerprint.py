"""A set of faces in one hash: the same on every machine, another once a name, an image byte or a point differs."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from pocketface.benchmarks.data.face import Face
from pocketface.sdk.errors import BadInputError, ImageError
from pocketface.sdk.manifest import DataSource


def dataset_hash(faces: Iterable[Face]) -> str:
    """SHA-256, in hex, over names, image files and points; the order of the faces does not matter.

    Raises:
        ImageError: an image cannot be read.
        BadInputError: there is no face.
    """
    image_hash = cache(_file_hash)  # several faces may share a photo
    total = hashlib.sha256(b"pocketface faces 1\n")
    ordered = sorted(faces, key=lambda face: face.name)
    if not ordered:
        raise BadInputError("a data set without faces has no hash", next="Check --data")
    for face in ordered:
        name = face.name.encode()
        # Lengths first: no two different lists of faces run together into the same bytes.
        total.update(struct.pack("<QQ", len(name), len(face.points)) + name)
        total.update(image_hash(face.image))
        total.update(face.points.astype("<f4").tobytes())
    return total.hexdigest()


def data_source(faces: list[Face], *, name: str, split: str, licence: str) -> DataSource:
    """The manifest's line on a set of faces: named and hashed, never by path."""
    return DataSource(name=name, split=split, faces=len(faces), sha256=dataset_hash(faces), licence=licence)


def _file_hash(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError as error:
        raise ImageError(f"{path}: cannot be read ({error.strerror})", next="Check the data folder") from error
