"""data -> head pose -> the networks of a chain and those they learn from. Each a stage of the run's store."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from pocketface.compression.chain_recipe import AlignSpec, RelocalizeSpec, StageSpec, UniformizeSpec
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
    context: ChainContext, name: str, spec: UniformizeSpec, teacher: TrainedStage | None = None
) -> TrainedStage:
    """Train stage U, or a smaller one that learns from another."""

    def build(folder: Path) -> None:
        fit_uniformizer(
            spec,
            context.train_cache,
            context.validation_cache,
            folder,
            seed=context.recipe.seed,
            teacher=None if teacher is None else teacher.load(),
            **_common(context),
        )

    return _stage(context, name, UNIFORMIZE_VERSION, spec, build, teacher)


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

    return _stage(context, name, ALIGN_VERSION, spec, build, used, pose)


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

    small = stages.uniformize
    taught = small is not None and "uniformize" in wanted and small.teacher_weight > 0
    if teachers.uniformize is not None and (taught or "teacher-uniformize" in wanted):
        found["teacher-uniformize"] = uniformizer(context, "teacher-uniformize", teachers.uniformize)
    if small is not None and "uniformize" in wanted:
        teacher = found.get("teacher-uniformize") if small.teacher_weight > 0 else None
        found["uniformize"] = uniformizer(context, "uniformize", small, teacher)

    students = {name: spec for name, spec in recipe.students().items() if name in wanted}
    hinted = any(spec.lambda_kd > 0 for spec in students.values())
    if teachers.landmarks is not None and (hinted or "teacher-landmarks" in wanted):
        found["teacher-landmarks"] = aligner(context, "teacher-landmarks", teachers.landmarks)
    for name, spec in students.items():
        found[name] = aligner(context, name, spec, found.get("teacher-landmarks"))
    return found


def _common(context: ChainContext) -> dict[str, Any]:
    scheme = context.split.scheme
    return {"flip": scheme.flip, "normaliser": scheme.normaliser, "progress": context.progress}


def _stage(
    context: ChainContext,
    name: str,
    version: int,
    spec: StageSpec,
    build: Callable[[Path], None],
    teacher: TrainedStage | None = None,
    pose: Done | None = None,
) -> TrainedStage:
    scheme = context.split.scheme
    inputs = {
        "network": spec,
        "faces": context.training_hash,
        "flip": scheme.flip,
        "normaliser": scheme.normaliser,
        "seed": context.recipe.seed_of(name),
        "upstream": [done.key for done in (teacher.done if teacher else None, pose) if done is not None],
    }
    folder = re.sub(r"[^a-z0-9-]+", "_", name.lower())
    return TrainedStage(name, spec, context.store.stage(folder, version, inputs, build), scheme.points)
