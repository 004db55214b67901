"""data -> shape model -> teachers -> their view of the pool -> student. Each a stage; a student that needs no
teacher has none."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from pocketface.compression.augment.crop import to_normalised
from pocketface.compression.augment.views import ViewRenderer, plain_views
from pocketface.compression.losses.registry import build_loss
from pocketface.compression.models.checkpoint import load_network
from pocketface.compression.models.heads import LandmarkNet
from pocketface.compression.pipeline.context import Context
from pocketface.compression.pipeline.store import Done, init_key
from pocketface.compression.recipe import NetworkSpec
from pocketface.compression.shape.asm import ShapeModel
from pocketface.compression.training.datamodule import FaceViews
from pocketface.compression.training.fit import fit
from pocketface.compression.training.loop import HISTORY, WEIGHTS
from pocketface.compression.training.teachers import CachedTeachers, LiveTeachers, Teachers, look_at_pool
from pocketface.sdk.errors import ConfigError
from pocketface.sdk.progress import track

TRAIN_VERSION = 1
SHAPE_VERSION = 1
POOL_VERSION = 1


@dataclass(frozen=True)
class Trained:
    """A trained network on disk."""

    name: str
    spec: NetworkSpec
    done: Done

    def load(self, n_points: int) -> LandmarkNet:
        return load_network(self.spec.model, self.done.path / WEIGHTS, n_points=n_points)

    @property
    def history(self) -> list[dict[str, Any]]:
        return json.loads((self.done.path / HISTORY).read_text())


def shape_stage(context: Context) -> Done:
    """Fit the shape model to the training faces in their own boxes (KD paper, eqs 1-3)."""

    def build(folder: Path) -> None:
        cache = context.train_cache
        truth = to_normalised(cache.points, cache.boxes[:, :2], cache.boxes[:, 2], torch.zeros(len(cache)))
        ShapeModel.fit(truth.numpy()).save(folder / "shape.npz")

    return context.store.stage("shape", SHAPE_VERSION, {"faces": context.training_hash}, build)


def soft_landmarks(context: Context, shape: Done) -> Tensor:
    """(N, n, 2) soft landmarks of the training faces, in canvas pixels."""
    cache, model = context.train_cache, ShapeModel.load(shape.path / "shape.npz")
    centres, sides = cache.boxes[:, :2], cache.boxes[:, 2]
    truth = to_normalised(cache.points, centres, sides, torch.zeros(len(cache)))
    soft = torch.as_tensor(model.soften(truth.numpy(), context.recipe.soft_share), dtype=torch.float32)
    return soft * sides[:, None, None] + centres[:, None]


@dataclass(frozen=True)
class Lesson:
    """What a network is taught.

    Attributes:
        inputs: all that the training depends on.
        seed: of initial weights and everything drawn.
        views: gives the batches.
    """

    inputs: dict[str, Any]
    seed: int
    views: Callable[[], FaceViews]


def train_stage(context: Context, name: str, spec: NetworkSpec, *, seed: int | None = None) -> Trained:
    """Train one network of the recipe, and before it whatever it needs.

    Args:
        context: the run.
        name: of the stage.
        spec: the network.
        seed: instead of the recipe's, for repetitions.
    """
    taught = lesson(context, spec, seed=seed)

    def build(folder: Path) -> None:
        learn(context, spec, taught, folder)

    return Trained(name, spec, context.store.stage(name, TRAIN_VERSION, taught.inputs, build))


def learn(
    context: Context,
    spec: NetworkSpec,
    taught: Lesson,
    folder: Path,
    *,
    net: LandmarkNet | None = None,
    around: Callable[[LandmarkNet], AbstractContextManager[Any]] = nullcontext,
) -> None:
    """Train a new network, or go on with ``net``; everything as ``fit``."""
    scheme = context.split.scheme
    fit(
        spec,
        taught.views(),
        folder,
        n_points=scheme.points,
        normaliser=scheme.normaliser,
        seed=taught.seed,
        net=net,
        around=around,
        progress=context.progress,
    )


def lesson(context: Context, spec: NetworkSpec, *, seed: int | None = None) -> Lesson:
    """The views and the teachers of a network, which are trained if they are not; arguments as `train_stage`."""
    recipe, seed = context.recipe, context.recipe.seed if seed is None else seed
    augment = spec.augment or recipe.augment
    needs = sorted(build_loss(spec.loss).needs)
    teachers = {need: _teacher(context, need) for need in needs}
    shape = shape_stage(context) if spec.target == "soft" else None
    pools = {need: pool_stage(context, teacher, spec) for need, teacher in teachers.items()} if spec.train.views else {}
    # Views of a pool are the same for every seed, so that teachers look at them once.
    view_seed = recipe.seed if spec.train.views else seed
    inputs = {
        "network": msgspec.structs.replace(spec, augment=None),
        "augment": augment,
        "faces": context.training_hash,
        "backgrounds": recipe.data.backgrounds,
        "flip": context.split.scheme.flip,
        "normaliser": context.split.scheme.normaliser,
        "seed": seed,
        "view_seed": view_seed,
        "soft_share": recipe.soft_share if shape else None,
        "upstream": [done.key for done in [*pools.values(), *([shape] if shape else [])]]
        or [teacher.done.key for teacher in teachers.values()],
        **init_key(spec.model),
    }

    def views() -> FaceViews:
        cache, scheme, size = context.train_cache, context.split.scheme, spec.model.input_size
        renderer = ViewRenderer(cache, augment, seed=view_seed, flip=scheme.flip)
        backgrounds = context.backgrounds
        return FaceViews(
            renderer,
            plain_views(context.validation_cache, size),
            spec.train,
            size=size,
            seed=seed,
            targets=soft_landmarks(context, shape) if shape else None,
            teachers=_ask(teachers, pools, renderer),
            backgrounds=ViewRenderer(backgrounds, augment, seed=seed, flip=scheme.flip) if backgrounds else None,
        )

    return Lesson(inputs, seed, views)


def pool_stage(context: Context, teacher: Trained, student: NetworkSpec) -> Done:
    """Let a teacher look once at every view of the student's pool."""
    recipe, views = context.recipe, student.train.views
    augment = student.augment or recipe.augment
    inputs = {"teacher": teacher.done.key, "views": views, "seed": recipe.seed, "augment": augment}

    def build(folder: Path) -> None:
        scheme = context.split.scheme
        renderer = ViewRenderer(context.train_cache, augment, seed=recipe.seed, flip=scheme.flip)
        live = LiveTeachers({teacher.name: teacher.load(scheme.points)}, renderer)
        total = len(context.train_cache) * views
        with track(f"teacher {teacher.name} looks at {total} views", total, show=context.progress) as step:
            save_file(look_at_pool(live, len(context.train_cache), views, progress=step), folder / "points.safetensors")

    return context.store.stage(f"pool-{teacher.name}", POOL_VERSION, inputs, build)


def _teacher(context: Context, name: str) -> Trained:
    spec = context.recipe.teachers.get(name)
    if spec is None:
        raise ConfigError(
            f"the recipe has no teacher {name!r}, which its loss needs",
            choices=sorted(context.recipe.teachers),
            next="Add it under teachers, or choose a loss that needs none: l1, l2, smooth_l1",
        )
    return train_stage(context, name, spec)


def _ask(teachers: dict[str, Trained], pools: dict[str, Done], renderer: ViewRenderer) -> Teachers | None:
    if pools:
        return CachedTeachers({name: load_file(d.path / "points.safetensors")[name] for name, d in pools.items()})
    if teachers:
        n_points = renderer.cache.points.shape[1]
        return LiveTeachers({name: teacher.load(n_points) for name, teacher in teachers.items()}, renderer)
    return None
