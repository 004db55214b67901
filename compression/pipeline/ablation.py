"""The ablation: students that differ in their loss alone, at one shared budget, seed by seed.

Rows are stages of the same run, so they share its teachers and what those saw, and a killed ablation goes on where
it was.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from pocketface.benchmarks.metrics import Accuracy
from pocketface.compression.pipeline.accuracy import accuracy_stage
from pocketface.compression.pipeline.context import Context
from pocketface.compression.pipeline.train import Trained, train_stage
from pocketface.compression.recipe import NetworkSpec, Row
from pocketface.sdk.errors import ConfigError


class Trial(msgspec.Struct, frozen=True):
    """One training of one row."""

    row: str
    seed: int
    key: str
    seconds: float
    validation: Accuracy
    test: Accuracy


def run_ablation(context: Context, only: Sequence[str] = ()) -> list[Trial]:
    """Train every row with every seed, and measure all of them on the test faces once the last is trained.

    Args:
        context: a run whose recipe has an ablation.
        only: names of rows; all by default.

    Raises:
        ConfigError: the recipe has no ablation, or no row of a name in ``only``.
    """
    spec = context.recipe.ablation
    if spec is None:
        raise ConfigError(f"recipe {context.recipe.name!r} has no ablation", next="Add one, see recipes/face68-kd.yaml")
    names = [row.name for row in spec.rows]
    for name in only:
        if name not in names:
            raise ConfigError(f"the ablation has no row {name!r}", choices=names)
    todo = [(row, seed) for row in spec.rows if not only or row.name in only for seed in row.seeds]
    # Seed by seed, so that an interrupted ablation has complete rows of the first seed.
    todo.sort(key=lambda item: item[1])
    trained = [(row, seed, _train(context, row, seed)) for row, seed in todo]
    return [_measured(context, row, seed, done) for row, seed, done in trained]


def _train(context: Context, row: Row, seed: int) -> Trained:
    spec = context.recipe.ablation
    if spec is None:
        raise ConfigError("no ablation")
    name = "row-" + "".join(c if c.isalnum() else "_" for c in row.name.lower())
    network = NetworkSpec(model=spec.model, loss=row.loss, train=spec.train, augment=context.recipe.student.augment)
    return train_stage(context, name, network, seed=seed)


def _measured(context: Context, row: Row, seed: int, trained: Trained) -> Trial:
    return Trial(
        row.name,
        seed,
        trained.done.key,
        trained.done.seconds,
        accuracy_stage(context, trained, "validation").accuracy,
        accuracy_stage(context, trained, "test").accuracy,
    )
