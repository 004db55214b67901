"""A recipe for masks: hair, or the parts of a face. Export, gates and bench are those of any recipe; the parts here say
which pictures there are and how each network is trained (Face AR thesis, chapters 6 and 7).

Read it top down from `SegmentRecipe`, at the end.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from pocketface.compression.augment.label_spec import HAIR, LabelAugment, PreviousAugment
from pocketface.compression.distill.segment import SegmentHintSpec
from pocketface.compression.losses.segmentation import SegmentationLossSpec
from pocketface.compression.models.registry import ModelSpec
from pocketface.compression.recipe import (
    SCHEMA,
    BenchSpec,
    Config,
    ExportSpec,
    GateSpec,
    TrainSpec,
    check_repeats,
    check_row_names,
    check_split,
)
from pocketface.compression.shape.distance_map import DistanceSpec
from pocketface.sdk.errors import ConfigError

TEACHER, STUDENT = "teacher", "student"


class LabelDataSpec(Config, frozen=True, kw_only=True):
    """Which labelled pictures.

    Attributes:
        name: what pages and manifests call the data.
        format: a reader of ``LABELLED`` (benchmarks/data/registry.py).
        classes: a class set of the sdk.
        frame: views are taken around the whole ``"image"``, or around the ``"face"`` that its labels show.
        train, test: folders below ``--data``; the test folders are read only after every choice is made.
        val_share: share of the training pictures kept for validation, chosen by a hash of their name.
        limit: take only so many training pictures (0: all); for trials.
        max_side: pictures larger than this are halved for training until they fit.
    """

    name: str
    format: str
    classes: str
    frame: Literal["image", "face"] = "image"
    train: tuple[str, ...]
    test: tuple[str, ...]
    val_share: float = 0.1
    limit: int = 0
    max_side: int = 400

    def __post_init__(self) -> None:
        check_split(self.train, self.test, self.val_share)


class SegmentSpec(Config, frozen=True, kw_only=True):
    """One network.

    Attributes:
        augment: views of the pictures.
        loss: against the labels; ``loss.prior`` counts where the model has a prior.
        prior: the distance map that a prior is trained with (eqs 6.1-6.3).
        hints: what is learnt from the recipe's teacher; None learns from the labels alone.
        previous: the fake mask of the frame before, for a model with this input (7.4.2).
    """

    model: ModelSpec
    train: TrainSpec
    augment: LabelAugment = HAIR
    loss: SegmentationLossSpec = SegmentationLossSpec()
    prior: DistanceSpec = DistanceSpec()
    hints: SegmentHintSpec | None = None
    previous: PreviousAugment = PreviousAugment()


class SegmentRecipe(Config, frozen=True, kw_only=True):
    """A whole run: see `Recipe`, whose parts mean the same here.

    Attributes:
        teacher: what the student's hints come from; it does not ship.
        student: what ships.
        rows: further networks, which differ in what the tables compare: a prior, border refinement, hints.
        timed: name -> further networks, of which nothing but the time is measured, with random weights.
        repeats: row -> further seeds that it is trained with; ``teacher`` and ``student`` may be repeated too.
    """

    schema: int = SCHEMA
    name: str
    seed: int = 0
    data: LabelDataSpec
    teacher: SegmentSpec | None = None
    student: SegmentSpec
    rows: dict[str, SegmentSpec] = msgspec.field(default_factory=dict)
    repeats: dict[str, tuple[int, ...]] = msgspec.field(default_factory=dict)
    timed: dict[str, ModelSpec] = msgspec.field(default_factory=dict)
    export: ExportSpec
    gates: GateSpec = GateSpec()
    bench: BenchSpec = BenchSpec()
    weights_licence: str

    def networks(self) -> dict[str, SegmentSpec]:
        """Every network by name, in the order in which they are trained: ``teacher``, ``student``, rows as
        ``row-NAME``, repeats as ``NETWORK seed SEED``."""
        found = {} if self.teacher is None else {TEACHER: self.teacher}
        found |= {STUDENT: self.student, **{f"row-{name}": spec for name, spec in self.rows.items()}}
        return found | {network: found[name] for network, (name, _) in self.repeated.items()}

    @property
    def repeated(self) -> dict[str, tuple[str, int]]:
        """Network -> the one that it repeats, and with which seed."""
        found: dict[str, tuple[str, int]] = {}
        for name, seeds in self.repeats.items():
            network = name if name in (TEACHER, STUDENT) else f"row-{name}"
            found |= {f"{network} seed {seed}": (network, seed) for seed in seeds}
        return found

    def seed_of(self, network: str) -> int:
        """What a network is trained with."""
        return self.repeated[network][1] if network in self.repeated else self.seed

    def __post_init__(self) -> None:
        known = [*([TEACHER] if self.teacher is not None else []), STUDENT, *self.rows]
        check_repeats(self.repeats, known, self.seed)
        check_row_names([TEACHER, STUDENT, *self.rows, *self.timed])
        hinted = [name for name, spec in self.networks().items() if spec.hints is not None]
        if hinted and (self.teacher is None or self.teacher.hints is not None):
            raise ConfigError(
                f"{hinted[0]}: hints, and no teacher that learns from labels alone",
                expected="teacher without hints",
                next="Add it, or leave the hints out",
            )
