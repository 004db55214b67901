"""The faces of a run: read, split into training and validation, decoded into caches.

The split is that of ``benchmarks/data/split.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
import torch

from pocketface.benchmarks.data.face import Face
from pocketface.benchmarks.data.registry import DATASETS
from pocketface.benchmarks.data.split import hash_share as hash_share
from pocketface.benchmarks.data.split import split_by_photo
from pocketface.benchmarks.data.synthetic import render_background
from pocketface.compression.cache import FaceCache
from pocketface.compression.recipe import DataSpec
from pocketface.sdk.errors import BadInputError
from pocketface.sdk.manifest import Scheme
from pocketface.sdk.schemes.registry import load_scheme

BACKGROUND_SIDE = 192

T = TypeVar("T")


class Named(Protocol):
    """Anything of a data set that has a name."""

    @property
    def name(self) -> str: ...


@dataclass(frozen=True)
class Split:
    """Faces of one run; ``test`` is only for the end."""

    scheme: Scheme
    train: list[Face]
    validation: list[Face]
    test: list[Face]
    licence: str


def read_split(
    spec: DataSpec, root: Path, *, skip_bad: bool = False, on_skip: Callable[[Exception], None] | None = None
) -> Split:
    """Read a data set and split it as the recipe says.

    Raises:
        AnnotationError, BadInputError: see the reader; also if a split would be empty.
    """
    scheme = load_scheme(spec.scheme)
    reader = DATASETS[spec.format]
    both = reader(root, folders=spec.train, scheme=scheme, skip_bad=skip_bad, on_skip=on_skip)
    test = reader(root, folders=spec.test, scheme=scheme, skip_bad=skip_bad, on_skip=on_skip)
    train, validation = split_by_photo(both, spec.val_share)
    check_parts("face", train, validation, test)
    if spec.limit:
        train, validation = thin(train, spec.limit), thin(validation, max(8, round(spec.limit * spec.val_share)))
    return Split(scheme, train, validation, test, reader.licence)


def check_parts(what: str, train: Sequence[Named], validation: Sequence[Named], test: Sequence[Named]) -> None:
    """Refuse a split that tests on what is trained on, or that leaves nothing to train or validate on.

    Args:
        what: they are, in the singular, for messages.

    Raises:
        BadInputError: see above.
    """
    learnt = [item.name for item in (*train, *validation)]
    shared = sorted({*learnt} & {item.name for item in test})
    if shared:
        raise BadInputError(
            f"{len(shared)} {what}s are in both data.train and data.test, for example {shared[0]}",
            expected=f"folders that share no {what}",
            next="Change data.train or data.test in the recipe",
        )
    if not train or not validation:
        raise BadInputError(
            f"{len(learnt)} training {what}s give {len(train)} for training and {len(validation)} for validation",
            expected="at least one of each",
            next=f"Give more {what}s or another data.val_share",
        )


def thin(faces: Sequence[T], count: int) -> list[T]:
    """About ``count`` of the faces, or of whatever else a set holds, evenly spread over the list."""
    if count >= len(faces):
        return list(faces)
    return [faces[int(i)] for i in np.linspace(0, len(faces) - 1, count).round()]


def background_cache(count: int, *, seed: int, n_points: int) -> FaceCache:
    """Synthetic pictures without faces, as a cache whose "boxes" are most of each picture; the points mean nothing."""
    side = BACKGROUND_SIDE
    images = np.stack([render_background(seed * 100_003 + i, side) for i in range(count)])
    return FaceCache(
        names=[f"background/{i}" for i in range(count)],
        images=torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(),
        points=torch.zeros((count, n_points, 2)),
        boxes=torch.tensor([[(side - 1) / 2, (side - 1) / 2, 0.7 * side]]).repeat(count, 1),
    )
