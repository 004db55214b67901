"""Landmark mark-ups and what a training set that has only one of them shows: heterogeneous data (RULe paper, IV-B).

Every mark-up here is a linear function of the 68 points of iBUG, so each is one fixed matrix:

- ``"68"``: iBUG's own;
- ``"19"``: that of AFLW without the ears: both brows (outer end, middle, inner end), both eyes (corner, centre,
  corner), nose (left side, tip, right side), mouth (corner, centre, corner), chin; centres are means of outlines;
- ``"5"``: that of CelebA and most face detectors: eye centres, nose tip, mouth corners;
- ``"pose"``: no points at all, the head's angles (compression/shape/pose.py).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Sampler

from pocketface.compression.augment.hashing import permutation
from pocketface.sdk.errors import AnnotationError, BadInputError, UnknownNameError

POSE = "pose"

LEFT_EYE, RIGHT_EYE = tuple(range(36, 42)), tuple(range(42, 48))
"""As seen in the picture: the left one is the subject's right eye."""

INNER_LIPS = (62, 66)

_POINTS: dict[str, tuple[tuple[int, ...], ...]] = {
    "68": tuple((i,) for i in range(68)),
    "19": (
        *((17,), (19,), (21,)),  # left brow
        *((22,), (24,), (26,)),  # right brow
        *((36,), LEFT_EYE, (39,)),
        *((42,), RIGHT_EYE, (45,)),
        *((31,), (30,), (35,)),  # nose
        *((48,), INNER_LIPS, (54,)),
        (8,),  # chin
    ),
    "5": (LEFT_EYE, RIGHT_EYE, (30,), (48,), (54,)),
}
"""Each point of a mark-up is the mean of these points of the 68."""

POINT_MARKUPS = tuple(_POINTS)


@cache
def markup_matrix(markup: str) -> Tensor:
    """(n, 68) float32, rows of sum 1: a mark-up's points from those of iBUG.

    Raises:
        UnknownNameError: no such mark-up, or one without points.
    """
    if markup not in _POINTS:
        raise UnknownNameError("landmark mark-up", markup, _POINTS)
    rows = _POINTS[markup]
    matrix = torch.zeros(len(rows), 68)
    for row, points in enumerate(rows):
        matrix[row, list(points)] = 1 / len(points)
    return matrix


def derive(points: Tensor, wanted: str, *, have: str = "68", name: str = "the training set") -> Tensor:
    """Points of one mark-up from those of another.

    Args:
        points: (..., n, 2) in the mark-up ``have``.
        wanted, have: mark-ups; from 68 points all others follow, otherwise only the same.
        name: of the set, for the message.

    Returns:
        (..., m, 2).

    Raises:
        UnknownNameError: no such mark-up.
        AnnotationError: the set's mark-up does not hold what is wanted, or its points are not of that mark-up.
    """
    matrix, own = markup_matrix(wanted), markup_matrix(have)
    if points.shape[-2:] != (len(own), 2):
        raise AnnotationError(f"{name}: points {tuple(points.shape)}", expected=f"(..., {len(own)}, 2), mark-up {have}")
    if wanted == have:
        return points
    if have != "68":
        raise AnnotationError(
            f"{name}: annotated with mark-up {have}, which does not hold mark-up {wanted}",
            expected=f"mark-up {wanted} or 68",
            next=f"Give a set that has mark-up {wanted}, or train on {have} alone",
        )
    return matrix.to(points) @ points


@dataclass(frozen=True)
class MarkedSet:
    """Training faces that show one kind of annotation and hide all others.

    Attributes:
        name: of the set, for messages.
        markups: what its faces are annotated with.
        rows: (N,) int64, its faces' places in the cache.
    """

    name: str
    markups: tuple[str, ...]
    rows: NDArray[np.int64] = field(repr=False)

    def need(self, markup: str) -> None:
        """Refuse, by name, a set that is not annotated with a mark-up.

        Raises:
            AnnotationError: it is not.
        """
        if markup not in self.markups:
            raise AnnotationError(
                f"{self.name} has no annotations of mark-up {markup}",
                expected="a set that has them",
                choices=self.markups,
                next=f"Leave {markup} out of the recipe's markups, or give a set that has it",
            )

    def points(self, points: Tensor, markup: str) -> Tensor:
        """(B, 68, 2) of some of its faces -> (B, n, 2), if the set shows that mark-up.

        Raises:
            AnnotationError: it does not.
        """
        self.need(markup)
        return derive(points, markup, name=self.name)

    def visible(self, points: Tensor) -> dict[str, Tensor]:
        """(B, 68, 2) of some of its faces -> mark-up -> (B, n, 2): all point annotations that the set shows."""
        return {markup: self.points(points, markup) for markup in self.markups if markup != POSE}


def one_set(count: int, markups: Sequence[str]) -> list[MarkedSet]:
    """All faces in one set, each annotated with everything."""
    return [MarkedSet("the training set", tuple(markups), np.arange(count))]


def deal(names: Sequence[str], markups: Sequence[str]) -> list[MarkedSet]:
    """Faces dealt, by the hash of their name, into one set for each mark-up; a set shows its own mark-up only.

    It makes heterogeneous data out of faces that have everything, as a stand-in for databases with mark-ups of their
    own. Adding a face moves no other.
    """
    places = [int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") % len(markups) for name in names]
    dealt = np.array(places, np.int64)
    return [
        MarkedSet(f"training set {place + 1} of {len(markups)}", (markup,), np.flatnonzero(dealt == place))
        for place, markup in enumerate(markups)
    ]


class Turns(Sampler[int]):
    """Faces in an order in which the sets take turns, batch by batch (IV-B: "alternating updates").

    The order depends on the seed and the epoch alone, see `EpochOrder`. A turn gives every set one batch; an epoch ends
    when the smallest set has no full batch left, and the next one draws other faces of the larger sets.

    Args:
        sets: which faces.
        batch_size: of the loader, which must cut the order into batches of this size.
        seed: of the order.

    Raises:
        BadInputError: a set has fewer faces than a batch.
    """

    def __init__(self, sets: Sequence[MarkedSet], batch_size: int, seed: int) -> None:
        self.sets, self.batch_size, self.seed, self.epoch = list(sets), batch_size, seed, 0
        smallest = min(self.sets, key=lambda item: len(item.rows))
        if len(smallest.rows) < batch_size:
            raise BadInputError(
                f"{smallest.name} (mark-up {', '.join(smallest.markups)}) has {len(smallest.rows)} faces",
                expected=f"at least one batch of {batch_size}",
                next="Give more faces, a smaller train.batch_size or fewer markups",
            )
        self.turns = len(smallest.rows) // batch_size

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before every epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.turns * self.batch_size * len(self.sets)

    def __iter__(self) -> Iterator[int]:
        orders = [
            item.rows[permutation(self.seed + 7919 * place, self.epoch, len(item.rows))]
            for place, item in enumerate(self.sets)
        ]
        for turn in range(self.turns):
            for order in orders:
                yield from order[turn * self.batch_size : (turn + 1) * self.batch_size].tolist()
