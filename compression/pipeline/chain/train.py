"""data -> head pose -> the networks of a chain and those they learn from. Each a stage of the run's store."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from pocketface.compression.chain_recipe import (
    LANDMARK_TEACHER,
    UNIFORMIZE_TEACHER,
    AlignSpec,
    RelocalizeSpec,
    StageSpec,
    UniformizeSpec,
)
from pocketface.compression.models.checkpoint import load_stage_network
from pocketface.compression.pipeline.chain.check import check_chain_recipe
from pocketface.compression.pipeline.context import ChainContext
from pocketface.compression.pipeline.store import Done
from pocketface.compression.shape.pose import HeadPose
from pocketface.compression.training.align import fit_aligner
from pocketface.compression.training.loop import HISTORY, WEIGHTS
from pocketface.compression.training.relocalize import fit_relocalizer
from pocketface.compression.training.uniformize import fit_uniformizer

RELOCALIZE_VERSION = 1
UNIFORMIZE_VERSION = 1
ALIGN_VERSION = 1
POSE_VERSION = 1


@dataclass(frozen=True)
class TrainedStage:
    """A trained network of a chain, on disk.

    Attributes:
        name: of the stage or row, e.g. ``"relocalize"``.
    """

    name: str
    spec: StageSpec
    done: Done
    points: int

    def load(self) -> nn.Module:
        """In evaluation mode, on the CPU."""
        return load_stage_network(self.spec.model, self.done.path / WEIGHTS, n_points=self.points)

    @property
    def history(self) -> list[dict[str, Any]]:
        """One entry an epoch."""
        return json.loads((self.done.path / HISTORY).read_text())


def pose_stage(context: ChainContext) -> Done:
    """Fit the mean 3D face, which head poses are measured with, to the training landmarks."""

    def build(folder: Path) -> None:
        HeadPose.fit(context.train_cache.points.numpy()).save(folder / "pose.npz")

    return context.store.stage("pose", POSE_VERSION, {"faces": context.training_hash}, build)


def head_pose(context: ChainContext) -> HeadPose:
    """The run's measure of head pose."""
    return HeadPose.load(pose_stage(context).path / "pose.npz")


def relocalizer(context: ChainContext, name: str, spec: RelocalizeSpec) -> TrainedStage:
    """Train stage R."""

    def build(folder: Path) -> None:
        fit_relocalizer(
            spec, context.train_cache, context.validation_cache, folder, seed=context.recipe.seed, **_common(context)
        )

    return _stage(context, name, RELOCALIZE_VERSION, spec, build)


def uniformizer(
    context: ChainContext,
    name: str,
    spec: UniformizeSpec,
    *,
    teacher: TrainedStage | None = None,
    landmarks: TrainedStage | None = None,
) -> TrainedStage:
    """Train stage U, or a smaller one that learns from another; pictures may be compared by a landmark teacher."""
    used = teacher if spec.teacher_weight > 0 else None
    seen = landmarks if _sees_landmarks(spec) else None

    def build(folder: Path) -> None:
        fit_uniformizer(
            spec,
            context.train_cache,
            context.validation_cache,
            folder,
            seed=context.recipe.seed,
            teacher=None if used is None else used.load(),
            landmarks=None if seen is None else seen.load(),
            **_common(context),
        )

    return _stage(context, name, UNIFORMIZE_VERSION, spec, build, _done(used), _done(seen))


def _sees_landmarks(spec: UniformizeSpec) -> bool:
    return spec.features == LANDMARK_TEACHER and bool(spec.perceptual or spec.identity)


def aligner(context: ChainContext, name: str, spec: AlignSpec, teacher: TrainedStage | None = None) -> TrainedStage:
    """Train stage LE: the cascade, or a student with its hints."""
    pose = pose_stage(context) if "pose" in spec.markups else None
    used = teacher if spec.lambda_kd > 0 else None

    def build(folder: Path) -> None:
        fit_aligner(
            spec,
            context.train_cache,
            context.validation_cache,
            folder,
            seed=context.recipe.seed_of(name),
            pose=None if pose is None else HeadPose.load(pose.path / "pose.npz"),
            teacher=None if used is None else used.load(),
            **_common(context),
        )

    return _stage(context, name, ALIGN_VERSION, spec, build, _done(used), pose)


def chain_networks(context: ChainContext, only: Sequence[str] = ()) -> dict[str, TrainedStage]:
    """Train the networks of a chain recipe, what they learn from first.

    Args:
        only: names instead of all; their teachers come too.

    Raises:
        ConfigError: the recipe's networks do not fit together; see `check_chain_recipe`.
    """
    recipe = context.recipe
    check_chain_recipe(recipe, context.split.scheme)
    stages, teachers = recipe.stages, recipe.teachers
    wanted = set(only or recipe.networks())
    found: dict[str, TrainedStage] = {}

    if stages.relocalize is not None and "relocalize" in wanted:
        found["relocalize"] = relocalizer(context, "relocalize", stages.relocalize)

    students = {name: spec for name, spec in recipe.students().items() if name in wanted}
    generators = {UNIFORMIZE_TEACHER: teachers.uniformize, "uniformize": stages.uniformize}
    shown = {name: spec for name, spec in generators.items() if spec is not None and name in wanted}
    small = shown.get("uniformize")
    if small is not None and small.teacher_weight > 0 and teachers.uniformize is not None:
        shown = {UNIFORMIZE_TEACHER: teachers.uniformize, **shown}
    taught = any(spec.lambda_kd > 0 for spec in students.values()) or any(map(_sees_landmarks, shown.values()))
    if teachers.landmarks is not None and (taught or LANDMARK_TEACHER in wanted):
        found[LANDMARK_TEACHER] = aligner(context, LANDMARK_TEACHER, teachers.landmarks)
    for name, generator in shown.items():
        found[name] = uniformizer(
            context, name, generator, teacher=found.get(UNIFORMIZE_TEACHER), landmarks=found.get(LANDMARK_TEACHER)
        )
    for name, spec in students.items():
        found[name] = aligner(context, name, spec, found.get(LANDMARK_TEACHER))
    return found


def _common(context: ChainContext) -> dict[str, Any]:
    scheme = context.split.scheme
    return {"flip": scheme.flip, "normaliser": scheme.normaliser, "progress": context.progress}


def _done(trained: TrainedStage | None) -> Done | None:
    return None if trained is None else trained.done


def _stage(
    context: ChainContext,
    name: str,
    version: int,
    spec: StageSpec,
    build: Callable[[Path], None],
    *upstream: Done | None,
) -> TrainedStage:
    scheme = context.split.scheme
    inputs = {
        "network": spec,
        "faces": context.training_hash,
        "flip": scheme.flip,
        "normaliser": scheme.normaliser,
        "seed": context.recipe.seed_of(name),
        "upstream": [done.key for done in upstream if done is not None],
    }
    folder = re.sub(r"[^a-z0-9-]+", "_", name.lower())
    return TrainedStage(name, spec, context.store.stage(folder, version, inputs, build), scheme.points)
