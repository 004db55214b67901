"""A sweep: its students trained and exported, all their variants timed in one run, the front, and one bundle of it.

students (side by side where asked for) -> latency of everything together -> front -> the chosen student's bundle
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import msgspec

from pocketface.benchmarks.machine import this_machine
from pocketface.benchmarks.metrics import Accuracy
from pocketface.benchmarks.papers.common import RESULTS
from pocketface.benchmarks.papers.sweep import (
    SearchedLayer,
    SearchedVariant,
    SweepResults,
    SweepStudent,
    SweepVariant,
    TriedSettings,
)
from pocketface.benchmarks.papers.sweep_front import front_html
from pocketface.benchmarks.papers.sweep_page import report
from pocketface.benchmarks.pareto import dominated_by
from pocketface.benchmarks.side_by_side import measure_together
from pocketface.compression.models.flops import count_parameters, flops
from pocketface.compression.pipeline import gates
from pocketface.compression.pipeline.check import check_recipe
from pocketface.compression.pipeline.context import Context
from pocketface.compression.pipeline.lineage import told
from pocketface.compression.pipeline.measure import LatencyTable, variant_accuracy_stage
from pocketface.compression.pipeline.mixed import sensitivity_of
from pocketface.compression.pipeline.provenance import provenance
from pocketface.compression.pipeline.qat import QAT
from pocketface.compression.pipeline.result import RunResult
from pocketface.compression.pipeline.run import run_recipe
from pocketface.compression.pipeline.store import Store
from pocketface.compression.pipeline.tune import Tuning, tuning_of
from pocketface.compression.pipeline.workers import prepare_together
from pocketface.compression.quantize.sensitivity import Sensitivity
from pocketface.compression.sweep_recipe import ChooseSpec, Sweep
from pocketface.converters.bundle import Candidate
from pocketface.converters.subset import subset_bundle
from pocketface.sdk.backends.registry import has_executor
from pocketface.sdk.bundle import open_bundle
from pocketface.sdk.errors import GateFailedError
from pocketface.sdk.files import write_atomic
from pocketface.sdk.progress import say

LATENCY_VERSION = 1

REPORT, FRONT = "report.html", "front.html"


class Student(NamedTuple):
    """A student's run, and what it ended with.

    Attributes:
        context: without the decoded faces of its training.
        result: its gates are those that hold once latency is known.
        validation: variant -> accuracy on the validation faces.
    """

    context: Context
    result: RunResult
    validation: dict[str, Accuracy]

    @property
    def kept(self) -> list[Candidate]:
        """What its bundle holds and no gate refuses."""
        failed = {gate.variant for gate in self.result.gates if gate.passed is False}
        if self.result.bundle is None or "student" in failed:
            return []
        return [item for item in self.result.candidates if item.id not in failed and item.id in self.validation]


def run_sweep(
    sweep: Sweep,
    data: Path,
    run: Path,
    *,
    jobs: int = 1,
    threads: int = 0,
    skip_bad: bool = False,
    progress: bool = True,
) -> SweepResults:
    """Run a sweep to its end; what is done already is not done again.

    Args:
        sweep: see `load_sweep`.
        data: root of the data set.
        run: the sweep's folder: ``students/NAME`` is a run of its own, the stages are shared.
        jobs: students that are trained side by side, each in a process.
        threads: of each of these; 0 shares the cores among them.
        skip_bad, progress: see `Context`.

    Returns:
        The figures, which are also RUN/results.json, RUN/report.html and, to point at, RUN/front.html. A student or a
        variant that fails a gate is told there, and is not on the front. What is on it, and what ships, is decided on
        validation faces.

    Raises:
        ConfigError, UnknownNameError: a student's recipe does not fit together; nothing was trained.
        GateFailedError: no variant of the front keeps the bounds of ``choose``; everything but the bundle is written.
    """
    for recipe in sweep.students.values():
        check_recipe(recipe)
    contexts = {}
    for name, recipe in sweep.students.items():
        folder = run / "students" / name
        folder.mkdir(parents=True, exist_ok=True)
        contexts[name] = Context(recipe, data, folder, skip_bad=skip_bad, progress=progress, stages=run / "stages")
    if jobs > 1:
        prepare_together(list(contexts.values()), jobs, threads or max(1, (os.cpu_count() or 1) // jobs))
    students = {}
    for name, context in contexts.items():
        say(f"student {name}", show=progress)
        students[name] = _run(context)
    table = _latency(sweep, students, run, progress=progress)
    students = {name: _with_latency(student, name, table) for name, student in students.items()}
    variants = _variants(sweep.spec.choose, students)
    chosen = _choose(sweep.spec.choose, variants)
    figures = _figures(sweep, students, variants, chosen, table.warning)
    write_atomic(run / RESULTS, msgspec.json.format(msgspec.json.encode(figures), indent=1), force=True)
    write_atomic(run / REPORT, report(figures).encode(), force=True)
    write_atomic(run / FRONT, front_html(figures).encode(), force=True)
    if chosen is None:
        raise GateFailedError(
            "; ".join([f"no variant of the front keeps {_bounds(sweep.spec.choose)}", *_failures(figures)]),
            next=f"See {run / REPORT}; {run / 'bundle'}, if it is there, is of an earlier run",
        )
    _ship(students[chosen.student], figures, chosen.id, run / "bundle")
    return figures


def _run(context: Context) -> Student:
    result = run_recipe(context, timed=False)
    own = replace(context)  # the faces that training decoded would stay in memory, student by student
    if result.bundle is None:
        return Student(own, result, {})
    files = sorted({item.exported.path.parent.name for item in result.candidates})
    with open_bundle(result.bundle) as bundle:
        ids = [variant.id for variant in bundle.manifest.stages[0].variants]
        found = variant_accuracy_stage(context, bundle, ids, files, split="validation")
    return Student(own, result, {id: item.accuracy for id, item in found.items()})


def _latency(sweep: Sweep, students: Mapping[str, Student], run: Path, *, progress: bool) -> LatencyTable:
    """All variants of all students in one interleaved run: ``STUDENT ID`` -> one entry a thread count."""
    spec = sweep.spec.bench
    timed = {
        f"{name} {item.id}": (student.result.bundle, item)
        for name, student in students.items()
        for item in student.kept
        if has_executor(item.exported.format)
    }

    def make(_folder: Path) -> LatencyTable:
        with ExitStack() as stack:
            opened = {path: stack.enter_context(open_bundle(path)) for path, _ in timed.values() if path is not None}
            entries = {name: (opened[path], item.id) for name, (path, item) in timed.items() if path is not None}
            if not entries:
                return LatencyTable({}, "nothing was timed: no student kept its gates, or none runs here")
            say(f"latency of {len(entries)} variants, {spec.runs} runs each", show=progress)
            found = measure_together(entries, threads=spec.threads, runs=spec.runs, warmup=spec.warmup)
            return LatencyTable({name: found.of(name) for name in entries}, found.warning)

    inputs = {
        "timed": {name: item.exported.path.parent.name for name, (_, item) in timed.items()},
        "bench": spec,
        "cpu": this_machine().cpu,
    }
    return Store(run).figures("sweep-latency", LATENCY_VERSION, inputs, make, LatencyTable)


def _with_latency(student: Student, name: str, table: LatencyTable) -> Student:
    """The student with its own latency, ratios against its own default variant, and the gates that this decides."""
    context, result, _ = student
    rows = {item.id: table.rows.get(f"{name} {item.id}", ()) for item in result.candidates}
    default = f"fp32.{next(iter(context.recipe.export.formats))}"
    base = {latency.threads: latency.inference_ms for latency in rows.get(default, ())}
    candidates = [
        replace(
            item,
            latency=tuple(
                msgspec.structs.replace(latency, ratio=latency.inference_ms / base[latency.threads])
                for latency in rows[item.id]
                if base.get(latency.threads)
            ),
        )
        for item in result.candidates
    ]
    # Parity, contents and size were judged already, and say the same again.
    checked = [gate for gate in result.gates if gate.variant == "student"]
    checked += gates.check_variants(context.recipe.gates, candidates)
    return student._replace(result=replace(result, candidates=candidates, gates=checked))


def _ship(student: Student, figures: SweepResults, default: str, path: Path) -> None:
    """RUN/bundle: the chosen student's variants that nothing beats."""
    latency = {item.id: item.latency for item in student.result.candidates}
    if student.result.bundle is None:
        raise GateFailedError("the chosen student has no bundle", next="Run the sweep again")
    with open_bundle(student.result.bundle) as bundle:
        subset_bundle(bundle, path, figures.shipped, default=default, latency=latency, force=True)


def _bounds(choose: ChooseSpec) -> str:
    asked = {"max_mb": choose.max_mb, "max_ms": choose.max_ms}
    return ", ".join(f"{name} {value:g}" for name, value in asked.items() if value) or "its gates"


def _failures(figures: SweepResults) -> list[str]:
    return [f"{student.name}: {student.failed}" for student in figures.students if student.failed]


def _variants(bounds: ChooseSpec, students: Mapping[str, Student]) -> tuple[SweepVariant, ...]:
    """Every variant that keeps its gates, with what beats it on the validation faces."""
    found = [
        SweepVariant(
            student=name,
            id=item.id,
            parent=f"fp32.{item.exported.format}",
            bytes=item.exported.total_bytes,
            accuracy=student.result.variants[item.id].accuracy,
            validation=student.validation[item.id],
            latency=item.latency,
        )
        for name, student in students.items()
        for item in student.kept
    ]
    timed = {
        variant.name: (variant.validation.nme, ms, float(variant.bytes))
        for variant in found
        if (ms := variant.ms(bounds.threads)) is not None
    }
    beaten = dominated_by(timed)
    return tuple(msgspec.structs.replace(variant, beaten_by=beaten.get(variant.name, "")) for variant in found)


def _choose(bounds: ChooseSpec, variants: tuple[SweepVariant, ...]) -> SweepVariant | None:
    """The most accurate variant of the front within the bounds; None if there is none."""
    fit = [
        variant
        for variant in variants
        if not variant.beaten_by
        and (ms := variant.ms(bounds.threads)) is not None
        and (not bounds.max_ms or ms <= bounds.max_ms)
        and (not bounds.max_mb or variant.bytes <= 1e6 * bounds.max_mb)
    ]
    return min(fit, key=lambda variant: (variant.validation.nme, variant.bytes), default=None)


def _figures(
    sweep: Sweep,
    students: Mapping[str, Student],
    variants: tuple[SweepVariant, ...],
    chosen: SweepVariant | None,
    warning: str,
) -> SweepResults:
    """Everything that the page shows."""
    context = next(iter(students.values())).context
    origin = provenance(context)
    # Of the chosen student, what nothing of the whole sweep beats; what cannot be timed here has nothing against it.
    kept = [v.id for v in variants if chosen is not None and v.student == chosen.student and not v.beaten_by]
    return SweepResults(
        name=sweep.spec.name,
        seed=context.recipe.seed,
        recipe=sweep.text,
        recipe_sha256=hashlib.sha256(sweep.text.encode()).hexdigest(),
        commit=origin.git_commit,
        data=origin.data,
        machine=f"{this_machine()}",
        students=tuple(_student(sweep, name, student) for name, student in students.items()),
        variants=variants,
        threads=sweep.spec.choose.threads,
        chosen="" if chosen is None else chosen.name,
        shipped=tuple(kept),
        warning=warning,
    )


def _student(sweep: Sweep, name: str, student: Student) -> SweepStudent:
    context, result, _ = student
    trained = result.networks[-1]
    line = result.lineage
    net, model = trained.load(context.split.scheme.points), trained.spec.model
    mixed = [item.exported for item in result.candidates if item.exported.precision == "mixed"]
    return SweepStudent(
        name=name,
        changes=sweep.changes[name],
        model=model.name,
        width=model.width,
        input_size=model.input_size,
        parameters=count_parameters(net),
        flops=flops(net),
        epochs=sum(item.spec.train.epochs for item in line),
        minutes=sum(item.done.seconds for item in line) / 60,
        accuracy=result.accuracy[trained.name].accuracy,
        later=told(context, line),
        before={item.name: result.accuracy[item.name].accuracy for item in line[:-1]},
        key=line[0].done.key,
        curve=tuple(row["val_nme"] for row in trained.history) if trained.name == QAT else (),
        failed=gates.failures(result.gates),
        tuned={
            f"{item.exported.format}.{item.exported.precision}": _tried(tuning)
            for item in result.candidates
            if (tuning := tuning_of(item.exported)) is not None
        },
        mixed={exported.format: _searched(sensitivity_of(exported)) for exported in mixed},
    )


def _tried(tuning: Tuning) -> tuple[TriedSettings, ...]:
    return tuple(
        TriedSettings(settings=one.settings, increase=one.increase, taken=one is tuning.best) for one in tuning.tried
    )


def _searched(found: Sensitivity) -> SearchedVariant:
    return SearchedVariant(
        bound=found.bound,
        whole=found.whole,
        increase=found.increase,
        layers=tuple(
            SearchedLayer(
                module=effect.module,
                parameters=effect.parameters,
                relief=effect.relief,
                kept=effect.module in found.keep,
            )
            for effect in found.effects
        ),
    )
