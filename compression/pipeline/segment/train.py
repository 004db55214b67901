"""pictures -> the networks of a recipe of masks, the teacher first. Each a stage of the run's store."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from pocketface.compression.models.checkpoint import load_stage_network
from pocketface.compression.models.segment_blocks import SegmentNet
from pocketface.compression.pipeline.segment.check import check_segment_recipe
from pocketface.compression.pipeline.segment.context import SegmentContext
from pocketface.compression.pipeline.store import Done, init_key
from pocketface.compression.segment_recipe import TEACHER, SegmentSpec
from pocketface.compression.training.loop import HISTORY, WEIGHTS
from pocketface.compression.training.segment import fit_segmenter
from pocketface.sdk.manifest import ClassSet

SEGMENT_VERSION = 1


@dataclass(frozen=True)
class TrainedMasks:
    """A trained network of a run, on disk."""

    name: str
    spec: SegmentSpec
    done: Done
    classes: ClassSet

    def load(self) -> SegmentNet:
        """In evaluation mode, on the CPU."""
        found = load_stage_network(self.spec.model, self.done.path / WEIGHTS, n_classes=len(self.classes.names))
        return cast(SegmentNet, found)

    @property
    def history(self) -> list[dict[str, Any]]:
        """One entry an epoch."""
        return cast(list[dict[str, Any]], json.loads((self.done.path / HISTORY).read_text()))


def segment_networks(context: SegmentContext, only: Sequence[str] = ()) -> dict[str, TrainedMasks]:
    """Train the networks of a recipe, the teacher before those that learn from it.

    Args:
        only: names instead of all; the teacher comes too where one of them has hints.

    Raises:
        ConfigError: a network does not exist, or makes no such masks; see `check_segment_recipe`.
    """
    recipe = context.recipe
    check_segment_recipe(recipe, context.split.classes)
    wanted = {name: spec for name, spec in recipe.networks().items() if not only or name in only}
    if recipe.teacher is not None and any(spec.hints is not None for spec in wanted.values()):
        wanted = {TEACHER: recipe.teacher, **wanted}
    found: dict[str, TrainedMasks] = {}
    for name, spec in wanted.items():
        found[name] = _trained(context, name, spec, found.get(TEACHER) if spec.hints is not None else None)
    return found


def _trained(context: SegmentContext, name: str, spec: SegmentSpec, teacher: TrainedMasks | None) -> TrainedMasks:
    classes, seed = context.split.classes, context.recipe.seed_of(name)

    def build(folder: Path) -> None:
        fit_segmenter(
            spec,
            context.train_cache,
            context.validation_cache,
            folder,
            classes=classes,
            seed=seed,
            teacher=None if teacher is None else teacher.load(),
            progress=context.progress,
        )

    data = context.recipe.data
    inputs = {
        "network": spec,
        "pictures": context.training_hash,
        "frame": data.frame,
        "max_side": data.max_side,
        "classes": classes,
        "seed": seed,
        "upstream": [] if teacher is None else [teacher.done.key],
        **init_key(spec.model),
    }
    folder = re.sub(r"[^a-z0-9-]+", "_", name.lower())
    return TrainedMasks(name, spec, context.store.stage(folder, SEGMENT_VERSION, inputs, build), classes)
