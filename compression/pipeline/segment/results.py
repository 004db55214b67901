"""A run of masks as small figures: RUN/results.json, which pages are generated from (benchmarks/papers/masks.py)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
from rich.table import Table

from pocketface.benchmarks.machine import this_machine
from pocketface.benchmarks.mask_accuracy import MaskAccuracy
from pocketface.benchmarks.papers.common import facts
from pocketface.benchmarks.papers.masks import MaskNetworkRow, MaskResults, MaskVariantRow
from pocketface.benchmarks.papers.masks_page import sections, title
from pocketface.benchmarks.reports.data import Gate
from pocketface.benchmarks.reports.sections import sections_html
from pocketface.benchmarks.segmentation import DEFAULT_OVERALL
from pocketface.compression.models.flops import count_parameters, flops
from pocketface.compression.pipeline.gates import gate_sections, held
from pocketface.compression.pipeline.provenance import provenance
from pocketface.compression.pipeline.segment.context import SegmentContext
from pocketface.compression.pipeline.segment.measure import SETTLE, accuracy_of, video_of
from pocketface.compression.pipeline.segment.sheet import mask_sheet
from pocketface.compression.pipeline.segment.table import OnDisk, speed_of, steps_of
from pocketface.compression.pipeline.segment.train import TrainedMasks
from pocketface.compression.recipe_file import dump_recipe
from pocketface.compression.segment_recipe import STUDENT, SegmentRecipe, SegmentSpec
from pocketface.converters.candidate import Candidate, StageFiles
from pocketface.sdk.bundle import open_bundle
from pocketface.sdk.files import write_atomic


def collect(
    context: SegmentContext,
    networks: Mapping[str, TrainedMasks],
    files: StageFiles,
    disk: Mapping[str, OnDisk],
    accuracy: Mapping[str, MaskAccuracy],
    gates: Sequence[Gate],
    default: str,
    warning: str,
) -> MaskResults:
    """Everything that the page shows.

    Args:
        context: the run.
        networks: every network.
        files: the student's, as they were measured.
        disk: of every network, the bundle that stands for it.
        accuracy: the student's variants -> on the test pictures.
        gates: every bound and how it was kept.
        default: id of the bundle's default variant.
        warning: why not to trust the variants' latency.
    """
    recipe = context.recipe
    origin, machine, student = provenance(context), this_machine(), disk[STUDENT]
    once = {name: disk[name] for name in networks if name not in recipe.repeated}
    eight = {
        f"{STUDENT} {id}": OnDisk(student.path, id, student.key)
        for id in accuracy
        if id == student.id.replace("fp32.", "w8a8.")
    }
    shown = [name for name in once if _remembers(recipe, name)]
    filmed = {name: one for name, one in once.items() if name == STUDENT or _compared(recipe, name, shown)} | eight
    remembering = {name: once[name] for name in shown} | (eight if STUDENT in shown else {})
    return MaskResults(
        name=recipe.name,
        classes=context.split.classes.name,
        seed=recipe.seed,
        recipe=dump_recipe(recipe),
        recipe_sha256=origin.recipe_sha256,
        commit=origin.git_commit,
        data=origin.data,
        machine=f"{machine}",
        networks=tuple(
            _network(context, item, disk[name], accuracy.get(disk[name].id) if name == STUDENT else None)
            for name, item in networks.items()
        ),
        default=default,
        variants=tuple(_variant(item, accuracy[item.id], gates) for item in files.candidates if item.id in accuracy),
        left_out={item.id: item.reason for item in files.candidates if item.id not in accuracy},
        settled={name: _accuracy(context, name, one, settle=SETTLE) for name, one in remembering.items()},
        video={name: video_of(context, name, one.path, one.id, [one.key]) for name, one in filmed.items()},
        speed=speed_of(context, once | eight),
        steps=steps_of(context, {STUDENT: student} | eight),
        warning=warning,
    )


def figures_of(accuracy: MaskAccuracy) -> dict[str, float]:
    """As a manifest keeps them, percent."""
    whole = accuracy.whole
    found = {"miou": whole.miou, "miou_per_image": whole.miou_per_image, "accuracy": whole.accuracy}
    if accuracy.hair is not None and len(whole.classes) == 2:
        found["hair_f1"] = accuracy.hair.pooled.f1
    if DEFAULT_OVERALL in whole.overall:
        found["overall_f1"] = whole.overall[DEFAULT_OVERALL]
    return found


def _accuracy(context: SegmentContext, name: str, one: OnDisk, *, settle: int = 0) -> MaskAccuracy:
    stage = f"{name}-settled" if settle else name
    return accuracy_of(context, stage, one.path, [one.id], [one.key], settle=settle)[one.id]


def _network(context: SegmentContext, trained: TrainedMasks, one: OnDisk, known: MaskAccuracy | None) -> MaskNetworkRow:
    recipe, name, spec, net = context.recipe, trained.name, trained.spec, trained.load()
    model = spec.model
    with open_bundle(one.path) as bundle:
        size = bundle.manifest.variant(one.id)[1].total_bytes
    row = recipe.repeated[name][0] if name in recipe.repeated else name
    hints = {} if spec.hints is None else {key: getattr(spec.hints, key) for key in ("logits", "feature", "border")}
    return MaskNetworkRow(
        name=name,
        row=row,
        seed=recipe.seed_of(name),
        model=model.name,
        width=model.width,
        input_size=model.input_size,
        output_size=net.output_size,
        options=dict(model.options),
        previous=net.previous,
        hints={key: weight for key, weight in hints.items() if weight},
        parameters=count_parameters(net),
        flops=flops(net),
        epochs=spec.train.epochs,
        minutes=trained.done.seconds / 60,
        accuracy=known or _accuracy(context, name, one),
        bytes=size,
        last=trained.history[-1],
        settings=msgspec.to_builtins(spec),
    )


def _variant(item: Candidate, accuracy: MaskAccuracy, gates: Sequence[Gate]) -> MaskVariantRow:
    parity = item.parity
    return MaskVariantRow(
        id=item.id,
        bytes=item.exported.total_bytes,
        executor="" if parity is None else parity.executor,
        passed=all(gate.passed is not False for gate in gates if gate.variant == item.id),
        error=None if parity is None else parity.main.max_error,
        accuracy=accuracy,
        latency=item.latency,
    )


def _remembers(recipe: SegmentRecipe, name: str) -> bool:
    return bool(recipe.networks()[name].model.options.get("previous"))


def _compared(recipe: SegmentRecipe, name: str, shown: Sequence[str]) -> bool:
    """Whether a network, or another one, differs from it in nothing but the mask of the frame before."""
    specs = {key: _without_previous(spec) for key, spec in recipe.networks().items() if key not in recipe.repeated}
    twins = [key for key, spec in specs.items() if spec == specs[name]]
    return len({key in shown for key in twins}) == 2


def _without_previous(spec: SegmentSpec) -> SegmentSpec:
    options = {key: value for key, value in spec.model.options.items() if key != "previous"}
    return msgspec.structs.replace(spec, model=msgspec.structs.replace(spec.model, options=options))


def write_mask_report(
    context: SegmentContext, figures: MaskResults, gates: Sequence[Gate], one: OnDisk, path: Path
) -> None:
    """RUN/report.html: the page's tables, the gates, and pictures of the test set with the student's masks."""
    text = sections_html(
        title(figures),
        sections(figures) + gate_sections(gates),
        summary=f"{held(gates)} Default: {figures.default}.",
        facts=facts(figures),
        pictures={"Test pictures, their labels, and the student's masks": mask_sheet(context, one)},
        recipe=figures.recipe,
    )
    write_atomic(path, text.encode(), force=True)


def mask_table(accuracy: Mapping[str, MaskAccuracy]) -> Table:
    """The variants, for the terminal."""
    table = Table("variant", title="the student on the test pictures", title_justify="left")
    for name in ("mIoU\n%", "per image\n%", "accuracy\n%"):
        table.add_column(name, justify="right")
    for id, found in accuracy.items():
        whole = found.whole
        table.add_row(id, f"{whole.miou:.2f}", f"{whole.miou_per_image:.2f}", f"{whole.accuracy:.2f}")
    return table
