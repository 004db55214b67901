"""The labelled pictures of a run: read, and split into training and validation by a hash of their name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pocketface.benchmarks.data.labelled import Labelled, usable
from pocketface.benchmarks.data.registry import LABELLED
from pocketface.compression.segment_recipe import LabelDataSpec
from pocketface.compression.training.faces import check_parts, hash_share, thin
from pocketface.sdk.classes import load_classes
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
    # Once, for every stage to come: none shall find out after the training. No choice is made by looking at the test's.
    both, test = (usable(part, classes, skip_bad=skip_bad, on_skip=on_skip) for part in (both, test))
    train = [entry for entry in both if hash_share(entry.name) >= spec.val_share]
    validation = [entry for entry in both if hash_share(entry.name) < spec.val_share]
    check_parts("picture", train, validation, test)
    if spec.limit:
        train, validation = (
            thin(train, spec.limit),
            thin(validation, max(4, round(spec.limit * spec.val_share))),
        )
    return LabelledSplit(classes, train, validation, test, reader.licence)
