"""A recipe for a chain: relocalize -> uniformize -> landmarks (RULe, Dapogny et al., FG 2023). Data, export, gates and
bench are those of any recipe; the parts here say how each stage is trained.

Read it top down from `ChainRecipe`, at the end.
"""

from __future__ import annotations

import math
from typing import Literal

import msgspec

from pocketface.benchmarks.data.degrade import DEGRADATIONS
from pocketface.compression.augment.spec import AugmentSpec
from pocketface.compression.models.registry import ModelSpec
from pocketface.compression.recipe import (
    SCHEMA,
    BenchSpec,
    Config,
    DataSpec,
    ExportSpec,
    GateSpec,
    TrainSpec,
    check_repeats,
    check_row_names,
)
from pocketface.sdk.errors import ConfigError, UnknownNameError

Markup = Literal["68", "19", "5", "pose"]
Stage = Literal["relocalize", "uniformize", "landmarks"]

LANDMARK_TEACHER, UNIFORMIZE_TEACHER = "teacher-landmarks", "teacher-uniformize"
"""Names of the networks that others learn from."""


def _known(degradation: str) -> None:
    if degradation not in DEGRADATIONS:
        raise UnknownNameError("degradation", degradation, DEGRADATIONS)


def _not_negative(where: str, **weights: float) -> None:
    for name, value in weights.items():
        if not (math.isfinite(value) and value >= 0):
            raise ConfigError(f"{where}.{name}: {value}", expected="a finite number, 0 or more")


class RelocalizeSpec(Config, frozen=True, kw_only=True):
    """Stage R (eqs 1-2): a network that corrects the box it is given.

    Attributes:
        degrade: preset of ``DEGRADATIONS`` for the training crops, box included.
        flip: probability of a mirrored crop.
    """

    model: ModelSpec
    train: TrainSpec
    degrade: str = "all"
    flip: float = 0.5

    def __post_init__(self) -> None:
        _known(self.degrade)


class UniformizeSpec(Config, frozen=True, kw_only=True):
    """Stage U (eqs 3-7): a network that gives the clean crop for a degraded one.

    Attributes:
        degrade: preset of ``DEGRADATIONS`` for the inputs; of its box only ``jitter`` counts, stage R has mended it.
        jitter: scale and shift of the crop, shares of its side: what stage R leaves.
        rotation: of the crop, degrees.
        adversarial, perceptual, identity: weights of eqs 4, 5 and 6. The paper prints 1 for the last two.
        layer_weights: lambda_l of eq 5, one for each map of ``features``; empty for 1 each, as the paper prints none.
        pixel: weight of an L1 term on pixels, which the paper has not; 0 leaves it out.
        features: the frozen network of eqs 5-6: a name of ``FEATURES``, or ``"teacher-landmarks"`` for the run's own
            landmark teacher (models/features_landmarks.py).
        discriminator_width: multiplier of its channels.
        teacher_weight: of the L1 distance to what ``teachers.uniformize`` makes of the same crop; 0 learns from none.
    """

    model: ModelSpec
    train: TrainSpec
    degrade: str = "all-and-ours"
    jitter: float = 0.05
    rotation: float = 15.0
    flip: float = 0.5
    adversarial: float = 1.0
    perceptual: float = 1.0
    identity: float = 1.0
    layer_weights: tuple[float, ...] = ()
    pixel: float = 0.0
    features: str = "efficientnet_lite0"
    discriminator_width: float = 1.0
    teacher_weight: float = 0.0

    def __post_init__(self) -> None:
        _known(self.degrade)
        _not_negative(
            "uniformize",
            adversarial=self.adversarial,
            perceptual=self.perceptual,
            identity=self.identity,
            pixel=self.pixel,
            teacher_weight=self.teacher_weight,
            jitter=self.jitter,
            **{f"layer_weights[{position}]": weight for position, weight in enumerate(self.layer_weights)},
        )


class AlignSpec(Config, frozen=True, kw_only=True):
    """Stage LE (eqs 8-10): a network with a geometry transfer network at each of its four stages.

    Attributes:
        augment: views of the faces; ``degrade`` besides, for the row that is trained with degradations.
        degrade: preset of ``DEGRADATIONS``, the box's moves included; ``"none"`` is the paper's clean training.
        markups: what the training faces are annotated with; see compression/training/markups.py.
        heterogeneous: deal the faces into one set for each mark-up, which shows nothing else: a stand-in for databases
            with mark-ups of their own. Sets take turns, update by update (IV-B).
        stage_weights: lambda_1 .. lambda_4.
        lambda_kd: share of the hints in eqs 8-9; 0 trains without a teacher.
        pose_weight: of the head pose term, whose unit is degrees / 90.
    """

    model: ModelSpec
    train: TrainSpec
    augment: AugmentSpec = AugmentSpec()
    degrade: str = "none"
    markups: tuple[Markup, ...] = ("68", "19", "5", "pose")
    heterogeneous: bool = False
    stage_weights: tuple[float, float, float, float] = (0.125, 0.25, 0.5, 1.0)
    lambda_kd: float = 0.75
    pose_weight: float = 1.0

    def __post_init__(self) -> None:
        _known(self.degrade)
        if not 0 <= self.lambda_kd <= 1:
            raise ConfigError(f"lambda_kd: {self.lambda_kd}", expected="a share in [0, 1]")
        _not_negative("landmarks", pose_weight=self.pose_weight)
        if "68" not in self.markups:
            raise ConfigError(
                f"markups: {', '.join(self.markups) or 'none'}", expected="68 among them: the landmarks that ship"
            )
        for position, weight in enumerate(self.stage_weights):
            _not_negative("landmarks", **{f"stage_weights[{position}]": weight})


class ChainStages(Config, frozen=True, kw_only=True):
    """The networks of a chain, in the order in which they run; a stage that is None is left out."""

    relocalize: RelocalizeSpec | None = None
    uniformize: UniformizeSpec | None = None
    landmarks: AlignSpec


class ChainTeachers(Config, frozen=True, kw_only=True):
    """Networks that stages learn from: a cascade for the hints, a large generator for the small one."""

    landmarks: AlignSpec | None = None
    uniformize: UniformizeSpec | None = None


StageSpec = RelocalizeSpec | UniformizeSpec | AlignSpec


class ChainRecipe(Config, frozen=True, kw_only=True):
    """A whole run: see `Recipe`, whose parts mean the same here.

    Attributes:
        rows: further landmark networks, which differ in what the tables compare: size, hints, degraded training.
        gates: bounds of every stage and row; ``max_nme_increase`` is in percent of the box's side for stage R (its
            corners), and in percent of full scale for stage U (its values).
        stage_gates: stage -> bounds that take the place of ``gates`` there.
        repeats: row -> further seeds that it is trained with, for differences that are no larger than chance.
    """

    schema: int = SCHEMA
    name: str
    seed: int = 0
    data: DataSpec
    teachers: ChainTeachers = ChainTeachers()
    stages: ChainStages
    rows: dict[str, AlignSpec] = msgspec.field(default_factory=dict)
    repeats: dict[str, tuple[int, ...]] = msgspec.field(default_factory=dict)
    export: ExportSpec
    gates: GateSpec = GateSpec()
    stage_gates: dict[Stage, GateSpec] = msgspec.field(default_factory=dict)
    bench: BenchSpec = BenchSpec()
    weights_licence: str

    def networks(self) -> dict[str, StageSpec]:
        """Every network by name, in the order in which they are trained: stages by their task, teachers as
        ``teacher-STAGE``, rows as ``row-NAME``, repeats as ``row-NAME seed SEED``."""
        known: dict[str, StageSpec | None] = {
            "relocalize": self.stages.relocalize,
            LANDMARK_TEACHER: self.teachers.landmarks,
            UNIFORMIZE_TEACHER: self.teachers.uniformize,
            "uniformize": self.stages.uniformize,
            "landmarks": self.stages.landmarks,
            **{f"row-{name}": spec for name, spec in self.rows.items()},
            **{network: self.rows[name] for network, (name, _) in self.repeated.items()},
        }
        return {name: spec for name, spec in known.items() if spec is not None}

    def students(self) -> dict[str, AlignSpec]:
        """The landmark networks that may learn from the teacher, by name."""
        return {
            name: spec
            for name, spec in self.networks().items()
            if isinstance(spec, AlignSpec) and name != LANDMARK_TEACHER
        }

    @property
    def repeated(self) -> dict[str, tuple[str, int]]:
        """Network -> the row that it repeats, and with which seed."""
        return {f"row-{name} seed {seed}": (name, seed) for name, seeds in self.repeats.items() for seed in seeds}

    def gates_of(self, network: str) -> GateSpec:
        """The bounds that a network's files must keep."""
        return {str(stage): own for stage, own in self.stage_gates.items()}.get(network, self.gates)

    def seed_of(self, network: str) -> int:
        """What a network is trained with."""
        return self.repeated[network][1] if network in self.repeated else self.seed

    def __post_init__(self) -> None:
        check_row_names(self.rows)
        check_repeats(self.repeats, self.rows, self.seed)
