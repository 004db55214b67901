"""Which faces are kept for validation: a hash of the photo's name decides, so that several faces of one photo stay
together and adding data moves no face across."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

from pocketface.benchmarks.data.face import Face


def hash_share(name: str) -> float:
    """A number in [0, 1) that depends on the name alone, so that adding data moves nothing across a split."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2**64


def split_by_photo(faces: Sequence[Face], share: float) -> tuple[list[Face], list[Face]]:
    """(training, validation): a photo goes to validation if the hash of its name, as a number in [0, 1), is below
    ``share``."""
    train: list[Face] = []
    validation: list[Face] = []
    for face in faces:
        photo = re.sub(r"_\d{1,2}$", "", face.name)  # AFW and HELEN number the faces of a photo: X_1, X_2
        (validation if hash_share(photo) < share else train).append(face)
    return train, validation
