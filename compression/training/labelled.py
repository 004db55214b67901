"""The labelled pictures of a run: read, and split into training and validation by a hash of their name."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pocketface.benchmarks.data.labelled import Labelled
from pocketface.benchmarks.data.registry import LABELLED
from pocketface.compression.segment_recipe import LabelDataSpec
from pocketface.compression.training.faces import thin
from pocketface.sdk.classes import load_classes
from pocketface.sdk.errors import BadInputError
from pocketface.sdk.manifest import ClassSet


@dataclass(frozen=True)
class LabelledSplit:
    """Pictures of one run; ``test`` is only for the end."""

    classes: ClassSet
    train: list[Labelled]
    validation: list[Labelled]
    test: list[Labelled]
    licence: str


def read_labelled_split(
    spec: LabelDataSpec, root: Path, *, skip_bad: bool = False, on_skip: Callable[[Exception], None] | None = None
) -> LabelledSplit:
    """Read a data set and split it as the recipe says.

    Raises:
        AnnotationError, BadInputError: see the reader; also if a split would be empty, or a picture is in both
            ``data.train`` and ``data.test``.
    """
    classes, reader = load_classes(spec.classes), LABELLED[spec.format]
    both = reader(root, folders=spec.train, classes=classes, skip_bad=skip_bad, on_skip=on_skip)
    test = reader(root, folders=spec.test, classes=classes, skip_bad=skip_bad, on_skip=on_skip)
    shared = sorted({entry.name for entry in both} & {entry.name for entry in test})
    if shared:
        raise BadInputError(
            f"{len(shared)} pictures are in both data.train and data.test, for example {shared[0]}",
            expected="folders that share no picture",
            next="Change data.train or data.test in the recipe",
        )
    train = [entry for entry in both if _share(entry.name) >= spec.val_share]
    validation = [entry for entry in both if _share(entry.name) < spec.val_share]
    if spec.limit:
        train, validation = (
            thin(train, spec.limit),
            thin(validation, max(4, round(spec.limit * spec.val_share))),
        )
    if not train or not validation:
        raise BadInputError(
            f"{len(both)} training pictures give {len(train)} for training and {len(validation)} for validation",
            expected="at least one of each",
            next="Give more pictures or another data.val_share",
        )
    return LabelledSplit(classes, train, validation, test, reader.licence)


def _share(name: str) -> float:
    """A number in [0, 1) that depends on the name alone: adding pictures moves none across."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2**64
