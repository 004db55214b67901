"""The whole run, in the order of its stages:

data -> teachers -> student [-> pruned] [-> qat] -> export -> quantize -> parity -> accuracy, latency -> gates -> bundle
-> report
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pocketface.benchmarks.reports.data import Gate
from pocketface.compression.losses.registry import build_loss
from pocketface.compression.models.checkpoint import save_network
from pocketface.compression.models.flops import count_parameters, flops
from pocketface.compression.models.heads import LandmarkNet
from pocketface.compression.pipeline import gates, measure
from pocketface.compression.pipeline.accuracy import NetworkAccuracy, ScoreQuality, accuracy_stage, score_stage
from pocketface.compression.pipeline.check import check_recipe
from pocketface.compression.pipeline.context import Context
from pocketface.compression.pipeline.export import export_stages, student_subject
from pocketface.compression.pipeline.inputs import shipped_network
from pocketface.compression.pipeline.lineage import lineage, told
from pocketface.compression.pipeline.provenance import model_card, provenance
from pocketface.compression.pipeline.report import write_run_report
from pocketface.compression.pipeline.result import RunResult
from pocketface.compression.pipeline.subject import Subject
from pocketface.compression.pipeline.train import Trained, train_stage
from pocketface.compression.recipe_file import dump_recipe
from pocketface.converters import reference
from pocketface.converters.bundle import Candidate, write_bundle
from pocketface.converters.formats.base import Exported
from pocketface.converters.golden_images import golden_images
from pocketface.converters.pixels import PixelInput
from pocketface.sdk.backends.registry import has_executor
from pocketface.sdk.bundle import open_bundle
from pocketface.sdk.errors import GateFailedError
from pocketface.sdk.files import write_atomic
from pocketface.sdk.manifest import OutputSpec, Preprocess, Stage, TensorSpec

log = logging.getLogger("pocketface")

STUDENT = "student.safetensors"

Cases = list[dict[str, np.ndarray]]


def compress(context: Context) -> RunResult:
    """Run a recipe to its end; what is done already is not done again.

    Raises:
        GateFailedError: a bound was not kept. Everything is in the run's folder, but what failed is not in the bundle.
    """
    result = run_recipe(context)
    failed = gates.failures(result.gates)
    if failed:
        raise GateFailedError(
            failed,
            next=f"See {context.run / 'report.html'}; the artefacts are kept under {context.store.root}",
        )
    return result


class Prepared(NamedTuple):
    """Everything of a run that takes long.

    Attributes:
        teachers: that the student's loss needs.
        lineage: the student and what was made of it; the last one ships.
        subject: what was exported.
        exported: the files.
    """

    teachers: list[Trained]
    lineage: list[Trained]
    subject: Subject
    exported: list[Exported]


def prepare(context: Context) -> Prepared:
    """Train and export what a recipe asks for; every part is a stage of the run's store."""
    recipe = context.recipe
    check_recipe(recipe)
    write_atomic(context.run / "recipe.yaml", dump_recipe(recipe).encode(), force=True)
    teachers = [
        train_stage(context, need, recipe.teachers[need]) for need in sorted(build_loss(recipe.student.loss).needs)
    ]
    line = lineage(context)
    subject = student_subject(context, line[-1])
    return Prepared(teachers, line, subject, export_stages(context, subject))


def run_recipe(context: Context, *, timed: bool = True) -> RunResult:
    """`compress`, which says in its result what gates failed instead of raising.

    Args:
        context: the run.
        timed: measure latency; a sweep does so for all its students together.
    """
    recipe = context.recipe
    teachers, line, subject, exported = prepare(context)
    networks, student = [*teachers, *line], line[-1]
    net = student.load(context.split.scheme.points)
    # Beside the bundle, for `verify --layers` and `pocketface export`: it says itself which network it is.
    save_network(net, context.run / STUDENT, recipe.student.model)
    shipped = shipped_network(net, recipe.export)
    stage, run = contract(context, net, shipped), reference.torch_run(shipped)
    cases = [reference.golden_case(run, image, box, stage) for image, box in golden_images(recipe.export.golden_faces)]
    torch = measure.torch_reference(context, run, shipped, cases)
    found = measure.candidates(context, exported, torch, subject.faces or (lambda count: torch.faces))

    # Every choice is made: from here on the test faces are read.
    accuracy = {trained.name: accuracy_stage(context, trained) for trained in networks}
    score = score_stage(context, student)
    found, variants, notes = _measured(context, found, stage, cases, timed=timed)
    own = accuracy[student.name]
    nmes = {trained.name: accuracy[trained.name].accuracy.nme for trained in line}
    checked = gates.check(recipe.gates, found, nmes)
    bundle = _ship(context, found, checked, stage, cases, own, score, told(context, line))
    result = RunResult(networks, line, accuracy, score, found, variants, checked, stage, notes, bundle)
    write_run_report(context, result)
    return result


def contract(context: Context, net: LandmarkNet, shipped: LandmarkNet | PixelInput) -> Stage:
    """The stage of the manifest, before it has variants.

    Args:
        net: the student.
        shipped: what is exported of it, see ``shipped_network``.
    """
    size, points = net.input_size, net.n_points
    preprocess = Preprocess(size=size, mean=net.mean, std=net.std)
    if isinstance(shipped, PixelInput):
        preprocess = shipped.described(preprocess)
    return Stage(
        name="landmarks",
        task="landmarks",
        preprocess=preprocess,
        inputs=(TensorSpec(name="image", shape=(1, 3, size, size), dtype="uint8" if preprocess.inside else "float32"),),
        outputs=(
            OutputSpec(name="points", shape=(1, points, 2), decode="normalised_points"),
            OutputSpec(name="score", shape=(1,), decode="face_logit"),
        ),
        scheme=context.split.scheme,
        parameters=count_parameters(net),
        flops=flops(net),
        variants=(),
    )


def _default(context: Context) -> str:
    return f"fp32.{next(iter(context.recipe.export.formats))}"


def _measured(
    context: Context, found: list[Candidate], stage: Stage, cases: Cases, *, timed: bool
) -> tuple[list[Candidate], dict[str, NetworkAccuracy], list[str]]:
    """Candidates with latency and test accuracy, measured on a bundle that holds those which passed; and warnings."""
    passed = [candidate.id for candidate in found if candidate.status == "passed"]
    if _default(context) not in passed:
        return found, {}, ["nothing was measured: the default variant did not pass"]
    draft = context.run / ".measured"
    write_bundle(
        draft,
        name=context.recipe.name,
        stage=stage,
        candidates=found,
        default=_default(context),
        golden=cases,
        card="",
        provenance=provenance(context),
        weights_licence=context.recipe.weights_licence,
        allow_unverified=_allowed(context, found),
        force=True,
    )
    # The names of the stages' folders end in their keys.
    files = sorted({item.exported.path.parent.name for item in found})
    with open_bundle(draft) as bundle:
        variants = measure.variant_accuracy_stage(context, bundle, passed, files)
        # A reference executor's time means nothing.
        able = [item.id for item in found if item.id in passed and has_executor(item.exported.format)]
        latency = measure.latency_stage(context, bundle, able, files) if timed else measure.LatencyTable({}, "")
    measured = [
        replace(
            item,
            metrics=variants[item.id].figures if item.id in variants else {},
            latency=latency.rows.get(item.id, ()),
        )
        for item in found
    ]
    return measured, variants, [latency.warning] if latency.warning else []


def _allowed(context: Context, found: list[Candidate]) -> list[str]:
    """Of the variants that the recipe lets ship unverified, those there are."""
    return [item.id for item in found if item.id in context.recipe.gates.allow_unverified]


def _ship(
    context: Context,
    found: list[Candidate],
    checked: list[Gate],
    stage: Stage,
    cases: Cases,
    accuracy: NetworkAccuracy,
    score: ScoreQuality,
    told: Mapping[str, str],
) -> Path | None:
    """Write RUN/bundle with what kept its gates; nothing if the student or the default variant did not."""
    failed = {gate.variant for gate in checked if gate.passed is False}
    if "student" in failed or _default(context) in failed:
        log.warning("no bundle is written: %s", ", ".join(sorted(failed)))
        return None
    kept = [candidate for candidate in found if candidate.id not in failed]
    return write_bundle(
        context.run / "bundle",
        name=context.recipe.name,
        stage=stage,
        candidates=kept,
        default=_default(context),
        golden=cases,
        card=model_card(context, accuracy.accuracy, score.auroc, told=told),
        provenance=provenance(context),
        weights_licence=context.recipe.weights_licence,
        allow_unverified=_allowed(context, kept),
        metrics={**accuracy.figures, "score_auroc": score.auroc, "score_ece": score.ece},
        force=True,
    )
