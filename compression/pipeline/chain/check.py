"""What must hold of a chain's recipe beyond its types: refused by name before anything is trained."""

from __future__ import annotations

from typing import Any

from pocketface.benchmarks.data.degrade import degradation
from pocketface.compression.chain_recipe import (
    LANDMARK_TEACHER,
    AlignSpec,
    ChainRecipe,
    RelocalizeSpec,
    StageSpec,
    UniformizeSpec,
)
from pocketface.compression.losses.registry import FEATURES
from pocketface.compression.models.features import build_features
from pocketface.compression.models.registry import build_network
from pocketface.sdk.errors import ConfigError, UnknownNameError
from pocketface.sdk.manifest import Scheme

LANDMARK_LAYERS = 2
"""Maps that a landmark teacher gives where it compares pictures."""

TASKS: dict[type[Any], str] = {RelocalizeSpec: "relocalize", UniformizeSpec: "uniformize", AlignSpec: "landmarks"}


def check_chain_recipe(recipe: ChainRecipe, scheme: Scheme) -> None:
    """Refuse a recipe whose networks do not exist, do not do what their place asks for, or do not fit together.

    Raises:
        ConfigError: naming the network.
        UnknownNameError: no such model or feature network.
    """
    for name, spec in recipe.networks().items():
        _check_network(name, spec, scheme)
    picture, landmarks = recipe.stages.uniformize, recipe.stages.landmarks
    if picture is not None and picture.model.input_size % landmarks.model.input_size:
        raise ConfigError(
            f"stage landmarks takes {landmarks.model.input_size} px, stage uniformize gives {picture.model.input_size}",
            expected="an input that the picture is a whole multiple of",
            next="Change model.input_size of one of them",
        )
    _check_teachers(recipe)


def _check_network(name: str, spec: StageSpec, scheme: Scheme) -> None:
    net: Any = build_network(spec.model, n_points=scheme.points)
    wanted = TASKS[type(spec)]
    if getattr(net, "task", "") != wanted or (wanted == "landmarks" and not hasattr(net, "stages")):
        raise ConfigError(f"{name}: model {spec.model.name!r}", expected=f"a network of stages for {wanted}")
    if isinstance(spec, AlignSpec) and scheme.points != 68:
        raise ConfigError(f"{name}: scheme {scheme.name!r} of {scheme.points} points", expected="68, iBUG's")
    if isinstance(spec, RelocalizeSpec) and not {"scale", "translation"} & set(degradation(spec.degrade).to_dict()):
        raise ConfigError(
            f"{name}: degrade {spec.degrade!r} moves no box", expected="a preset with scale or translation"
        )
    if isinstance(spec, UniformizeSpec) and (spec.perceptual or spec.identity):
        _check_features(name, spec)


def _check_features(name: str, spec: UniformizeSpec) -> None:
    kind, layers = spec.features.partition(":")[0], LANDMARK_LAYERS
    if kind != LANDMARK_TEACHER:
        if kind not in FEATURES:
            raise UnknownNameError("feature network", spec.features, [*FEATURES, LANDMARK_TEACHER])
        if spec.layer_weights:
            layers = len(build_features(spec.features, input_size=spec.model.input_size).taps)
    if spec.layer_weights and len(spec.layer_weights) != layers:
        raise ConfigError(
            f"{name}: {len(spec.layer_weights)} layer_weights",
            expected=f"{layers}, one for each layer of {kind}; or none, for 1 each",
        )


def _check_teachers(recipe: ChainRecipe) -> None:
    for name, spec in recipe.students().items():
        if spec.lambda_kd > 0 and recipe.teachers.landmarks is None:
            raise ConfigError(
                f"{name}: lambda_kd {spec.lambda_kd:g} without a teacher",
                expected="teachers.landmarks, whose hints it weighs",
                next="Add the teacher, or set lambda_kd: 0.0 to train on annotations alone",
            )
    _check_landmark_features(recipe)
    student, teacher = recipe.stages.uniformize, recipe.teachers.uniformize
    if student is None or not student.teacher_weight:
        return
    if teacher is None or teacher.model.input_size != student.model.input_size:
        got = "no teacher" if teacher is None else f"one at {teacher.model.input_size} px"
        raise ConfigError(
            f"uniformize: teacher_weight {student.teacher_weight:g} and {got}",
            expected=f"teachers.uniformize at {student.model.input_size} px",
            next="Add it, or set teacher_weight: 0.0",
        )


def _check_landmark_features(recipe: ChainRecipe) -> None:
    """Where pictures are compared by the landmark teacher, there must be one, a cascade, that takes such pictures."""
    teacher = recipe.teachers.landmarks
    for name, spec in recipe.networks().items():
        if not isinstance(spec, UniformizeSpec) or spec.features != LANDMARK_TEACHER:
            continue
        size = spec.model.input_size
        if teacher is None or teacher.model.input_size != size or teacher.model.name != "acdc":
            got = "no teachers.landmarks"
            if teacher is not None:
                got = f"a teacher {teacher.model.name!r} at {teacher.model.input_size} px"
            raise ConfigError(
                f"{name}: features {LANDMARK_TEACHER!r} and {got}",
                expected=f"an acdc at {size} px",
                next="Add it, or name another feature network",
            )
