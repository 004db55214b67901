"""A run of masks, in the order of its stages:

pictures -> networks -> export -> quantize -> parity, behind the softmax -> accuracy, video, latency -> gates -> bundle
-> results
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from pocketface.benchmarks.mask_accuracy import MaskAccuracy
from pocketface.benchmarks.papers.common import RESULTS
from pocketface.benchmarks.reports.data import Gate
from pocketface.compression.models.checkpoint import save_network
from pocketface.compression.pipeline import gates
from pocketface.compression.pipeline.drafts import bundle_of
from pocketface.compression.pipeline.measure import latency_stage
from pocketface.compression.pipeline.provenance import provenance
from pocketface.compression.pipeline.run import STUDENT as CHECKPOINT
from pocketface.compression.pipeline.segment.card import mask_card
from pocketface.compression.pipeline.segment.check import check_mask_export, check_segment_recipe, table_format
from pocketface.compression.pipeline.segment.context import SegmentContext
from pocketface.compression.pipeline.segment.files import MaskFiles, mask_files
from pocketface.compression.pipeline.segment.measure import accuracy_of
from pocketface.compression.pipeline.segment.results import collect, figures_of, write_mask_report
from pocketface.compression.pipeline.segment.table import OnDisk
from pocketface.compression.pipeline.segment.train import TrainedMasks, segment_networks
from pocketface.compression.recipe_file import dump_recipe
from pocketface.compression.segment_recipe import STUDENT
from pocketface.converters.bundle import write_bundle
from pocketface.converters.candidate import Candidate, StageFiles
from pocketface.sdk.backends.registry import has_executor
from pocketface.sdk.bundle import open_bundle
from pocketface.sdk.classes import load_classes
from pocketface.sdk.errors import GateFailedError
from pocketface.sdk.files import write_atomic
from pocketface.sdk.manifest import Tolerances

log = logging.getLogger("pocketface")

ROWS = Tolerances(max_tensor_error=1e-2)
"""Bound of the class probabilities of networks that only stand in tables."""


@dataclass(frozen=True)
class MaskResult:
    """What a run ends with.

    Attributes:
        networks: every network of the recipe, by name.
        files: the student's, with what was measured of them.
        accuracy: variant -> on the test pictures.
        gates: every bound and how it was kept.
        bundle: where it is.
    """

    networks: Mapping[str, TrainedMasks]
    files: StageFiles
    accuracy: Mapping[str, MaskAccuracy]
    gates: tuple[Gate, ...]
    bundle: Path


def compress_masks(context: SegmentContext) -> MaskResult:
    """Run a recipe of masks to its end; what is done already is not done again.

    Raises:
        ConfigError: formats or settings that do not exist, or that masks do not have.
        GateFailedError: a bound was not kept. Everything is in the run's folder, but what failed is not in the bundle.
    """
    recipe = context.recipe
    check_mask_export(recipe)
    check_segment_recipe(recipe, load_classes(recipe.data.classes))
    write_atomic(context.run / "recipe.yaml", dump_recipe(recipe).encode(), force=True)
    networks = segment_networks(context)
    student = networks[STUDENT]
    # Beside the bundle, for `verify --layers` and `pocketface export`.
    save_network(student.load(), context.run / CHECKPOINT, student.spec.model)
    made = mask_files(context, student)
    format = table_format(recipe.export)
    default = f"fp32.{next(iter(recipe.export.formats))}"
    _refuse_without(context, STUDENT, made, {default, f"fp32.{format}"})
    # What does not ship has no bounds of the recipe's; it has to say what torch says, or its figures mean nothing.
    others = {
        name: mask_files(context, item, {format: ("fp32",)}, bounds=ROWS)
        for name, item in networks.items()
        if name != STUDENT
    }
    for name, item in others.items():
        _refuse_without(context, name, item, {f"fp32.{format}"})
    draft = _draft(context, context.store.root / ".measured", made, default)
    disk = {
        name: OnDisk(
            draft if name == STUDENT else _draft(context, _folder(context, name), others[name], f"fp32.{format}"),
            f"fp32.{format}",
            "+".join(made_from((made if name == STUDENT else others[name]).files)),
        )
        for name in networks
    }
    # Every choice is made: from here on the test pictures are read.
    keys = made_from(made.files)
    passed = [item.id for item in made.files.candidates if item.status == "passed"]
    accuracy = accuracy_of(context, "variants", draft, passed, keys)
    with open_bundle(draft) as opened:
        timed = [id for id in passed if has_executor(id.rpartition(".")[2])]
        times = latency_stage(context, opened, timed, keys)
    found = [
        replace(
            item,
            metrics=figures_of(accuracy[item.id]) if item.id in accuracy else {},
            latency=times.rows.get(item.id, ()),
        )
        for item in made.files.candidates
    ]
    files = StageFiles(made.files.stage, found)
    checked = tuple(_gates(context, found, accuracy[default]))
    bundle = _ship(context, MaskFiles(files, made.cases), checked, default, accuracy[default])
    figures = collect(context, networks, files, disk, accuracy, checked, default, times.warning)
    write_atomic(context.run / RESULTS, msgspec.json.format(msgspec.json.encode(figures), indent=1), force=True)
    write_mask_report(context, figures, checked, disk[STUDENT], context.run / "report.html")
    failed = gates.failures(checked)
    if failed or bundle is None:
        raise GateFailedError(
            failed,
            next=f"See {context.run / 'report.html'}; the artefacts are kept under {context.store.root}"
            + ("" if bundle is not None else f"; {context.run / 'bundle'}, if it is there, is of an earlier run"),
        )
    return MaskResult(networks, files, accuracy, checked, bundle)


def _refuse_without(context: SegmentContext, name: str, made: MaskFiles, needed: set[str]) -> None:
    """End a run that cannot be measured, for the lack of files that everything else is held against.

    Raises:
        GateFailedError: a network's file that is needed has not passed.
    """
    failed = [item for item in made.files.candidates if item.id in needed and item.status != "passed"]
    if failed:
        raise GateFailedError(
            "; ".join(f"{name} {item.id}: {item.reason}" for item in failed),
            next=f"Nothing was measured; the artefacts are kept under {context.store.root}",
        )


def made_from(files: StageFiles) -> list[str]:
    """What every figure of some files depends on: the stages that made them, whose names end in their keys."""
    return sorted({item.exported.path.parent.name for item in files.candidates})


def _folder(context: SegmentContext, name: str) -> Path:
    return context.store.root / f".row-{name.replace(' ', '_')}"


def _draft(context: SegmentContext, path: Path, made: MaskFiles, default: str) -> Path:
    return bundle_of(context, path, [made.files], made.cases, default, allow_unverified=_allowed(context, made))


def _allowed(context: SegmentContext, made: MaskFiles) -> list[str]:
    """Of the variants that the recipe lets ship unverified, those there are."""
    return [item.id for item in made.files.candidates if item.id in context.recipe.gates.allow_unverified]


def _gates(context: SegmentContext, found: list[Candidate], accuracy: MaskAccuracy) -> list[Gate]:
    spec = context.recipe.gates
    own = [gates.bounded("100 - mIoU on the test pictures", STUDENT, 100 - accuracy.whole.miou, spec.max_nme)]
    return (own if spec.max_nme else []) + gates.check_variants(spec, found)


def _ship(
    context: SegmentContext, made: MaskFiles, checked: tuple[Gate, ...], default: str, accuracy: MaskAccuracy
) -> Path | None:
    """Write RUN/bundle with what kept its gates; nothing if the student or the default variant did not."""
    failed = {gate.variant for gate in checked if gate.passed is False}
    if failed & {STUDENT, default}:
        log.warning("no bundle is written: %s", ", ".join(sorted(failed)))
        return None
    kept = [item for item in made.files.candidates if item.id not in failed]
    return write_bundle(
        context.run / "bundle",
        name=context.recipe.name,
        stage=made.files.stage,
        candidates=kept,
        default=default,
        golden=made.cases,
        card=mask_card(context, accuracy),
        provenance=provenance(context),
        weights_licence=context.recipe.weights_licence,
        allow_unverified=_allowed(context, MaskFiles(StageFiles(made.files.stage, kept), made.cases)),
        metrics=figures_of(accuracy),
        force=True,
    )
