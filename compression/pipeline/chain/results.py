"""A chain's run as small figures: RUN/results.json, which pages are generated from (benchmarks/papers/rule.py)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from rich.table import Table

from pocketface.benchmarks.data.fingerprint import dataset_hash
from pocketface.benchmarks.head_pose import PoseAccuracy, summarise_pose
from pocketface.benchmarks.machine import this_machine
from pocketface.benchmarks.metrics import Accuracy, summarise
from pocketface.benchmarks.papers.common import facts
from pocketface.benchmarks.papers.rule import NetworkRow, RuleResults, Speed
from pocketface.benchmarks.papers.rule_page import sections, title
from pocketface.benchmarks.reports.data import Gate
from pocketface.benchmarks.reports.sections import sections_html
from pocketface.compression.chain_recipe import AlignSpec, ChainRecipe
from pocketface.compression.models.flops import count_parameters, flops
from pocketface.compression.pipeline.chain.inputs import fed
from pocketface.compression.pipeline.chain.measure import Measured
from pocketface.compression.pipeline.chain.restored import Restored
from pocketface.compression.pipeline.chain.train import TrainedStage, head_pose
from pocketface.compression.pipeline.context import ChainContext
from pocketface.compression.pipeline.gates import gate_sections, held
from pocketface.compression.pipeline.provenance import provenance
from pocketface.compression.recipe_file import dump_recipe
from pocketface.sdk.files import write_atomic

ALIGNED_VERSION = 1


class Aligned(msgspec.Struct, frozen=True):
    """A landmark network in torch, on the clean test faces."""

    accuracy: Accuracy
    pose: PoseAccuracy | None


def aligned_stage(context: ChainContext, trained: TrainedStage) -> Aligned:
    """NME, and the error of its head pose against the 3D fit of the annotated landmarks."""
    faces, scheme = context.split.test, context.split.scheme
    posed = isinstance(trained.spec, AlignSpec) and "pose" in trained.spec.markups

    def make(_folder: Path) -> Aligned:
        import torch

        net: Any = trained.load()
        shown = fed(faces, trained.spec, net, normaliser=scheme.normaliser)
        with torch.inference_mode():
            parts = [net(part) for part in torch.from_numpy(shown.inputs).split(64)]
        points = np.concatenate([part[0].numpy() for part in parts])
        pose = None
        if posed:
            angles = 90 * np.concatenate([part[1].numpy() for part in parts])
            pose = summarise_pose(angles, head_pose(context).angles(np.stack([face.points for face in faces])))
        return Aligned(summarise(points, shown.truth, scheme.normaliser), pose)

    inputs = {"network": trained.done.key, "faces": dataset_hash(faces)}
    return context.store.figures(f"aligned-{trained.done.name}", ALIGNED_VERSION, inputs, make, Aligned)


def collect(
    context: ChainContext,
    networks: Mapping[str, TrainedStage],
    measured: Measured,
    speed: Speed,
    restored: Restored | None,
) -> RuleResults:
    """Everything that the page shows."""
    rows = []
    for name, trained in networks.items():
        net = trained.load()
        aligned = aligned_stage(context, trained) if isinstance(trained.spec, AlignSpec) else None
        rows.append(
            NetworkRow(
                name=name,
                row=_row(context.recipe, name),
                seed=context.recipe.seed_of(name),
                model=trained.spec.model.name,
                width=trained.spec.model.width,
                input_size=trained.spec.model.input_size,
                parameters=count_parameters(net),
                flops=flops(net),
                epochs=trained.spec.train.epochs,
                minutes=trained.done.seconds / 60,
                hints=trained.spec.lambda_kd if isinstance(trained.spec, AlignSpec) else None,
                accuracy=None if aligned is None else aligned.accuracy,
                pose=None if aligned is None else aligned.pose,
                last=trained.history[-1],
            )
        )
    origin, machine = provenance(context), this_machine()
    return RuleResults(
        name=context.recipe.name,
        seed=context.recipe.seed,
        recipe=dump_recipe(context.recipe),
        recipe_sha256=origin.recipe_sha256,
        commit=origin.git_commit,
        data=origin.data,
        machine=f"{machine}",
        networks=tuple(rows),
        default=measured.default,
        chains=measured.accuracy,
        degraded=measured.degraded,
        video=measured.video,
        runs=measured.runs,
        box_error=measured.box_error,
        restored={} if restored is None else restored.accuracy,
        speed=speed,
        warning=measured.warning,
    )


def _row(recipe: ChainRecipe, network: str) -> str:
    """The recipe's row that a network trains; empty if it trains none."""
    if network in recipe.repeated:
        return recipe.repeated[network][0]
    name = network.removeprefix("row-")
    return name if name != network and name in recipe.rows else ""


def write_chain_report(figures: RuleResults, restored: Restored | None, gates: Sequence[Gate], path: Path) -> None:
    """RUN/report.html: the page's tables, the gates, and pictures of stage U."""
    caption = "Stage U on test faces under all degradations: what it sees, what it makes of it, the clean crop"
    text = sections_html(
        title(figures),
        sections(figures) + gate_sections(gates),
        summary=f"{held(gates)} Default: {figures.default}.",
        facts=facts(figures),
        pictures={} if restored is None else {caption: restored.sheet},
        recipe=figures.recipe,
    )
    write_atomic(path, text.encode(), force=True)


def chain_table(measured: Measured) -> Table:
    """The chains, for the terminal."""
    table = Table("chain", title="chains on the test faces", title_justify="left")
    for name in ("NME\n%", "median\n%", "FR@0.1\n%"):
        table.add_column(name, justify="right")
    for id, found in measured.accuracy.items():
        table.add_row(id, f"{found.nme:.3f}", f"{found.median:.3f}", f"{found.fr:.2f}")
    return table
