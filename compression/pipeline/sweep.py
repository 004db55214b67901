"""A sweep: its students trained and exported, all their variants timed in one run, the front, and one bundle of it.

students (side by side where asked for) -> latency of everything together -> front -> the chosen student's bundle
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import msgspec

from pocketface.benchmarks.machine import this_machine
from pocketface.benchmarks.papers.common import RESULTS
from pocketface.benchmarks.papers.sweep import SearchedLayer, SearchedVariant, SweepResults, SweepStudent, SweepVariant
from pocketface.benchmarks.papers.sweep_front import front_html
from pocketface.benchmarks.papers.sweep_page import report
from pocketface.benchmarks.pareto import dominated_by
from pocketface.benchmarks.side_by_side import measure_together
from pocketface.compression.models.flops import count_parameters, flops
from pocketface.compression.pipeline import gates
from pocketface.compression.pipeline.context import Context
from pocketface.compression.pipeline.measure import LatencyTable
from pocketface.compression.pipeline.mixed import sensitivity_of
from pocketface.compression.pipeline.provenance import provenance
from pocketface.compression.pipeline.prune import prune_report
from pocketface.compression.pipeline.result import RunResult
from pocketface.compression.pipeline.run import run_recipe
from pocketface.compression.pipeline.store import Store
from pocketface.compression.quantize.sensitivity import Sensitivity
from pocketface.compression.sweep_recipe import ChooseSpec, Sweep
from pocketface.converters.subset import subset_bundle
from pocketface.sdk.backends.registry import has_executor
from pocketface.sdk.bundle import open_bundle
from pocketface.sdk.errors import GateFailedError
from pocketface.sdk.files import write_atomic
from pocketface.sdk.progress import say

LATENCY_VERSION = 1

REPORT, FRONT = "report.html", "front.html"


class Student(NamedTuple):
    """A student's run, and what it ended with."""

    context: Context
    result: RunResult

    @property
    def bundle(self) -> Path | None:
        return self.result.bundle


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
        threads: of each of these; 0 takes all cores.
        skip_bad, progress: see `Context`.

    Returns:
        The figures, which are also RUN/results.json, RUN/report.html and, to point at, RUN/front.html. A student or a
        variant that fails a gate is told there, and is not on the front.

    Raises:
        GateFailedError: no variant of the front keeps the bounds of ``choose``; everything but the bundle is written.
    """
    contexts = {}
    for name, recipe in sweep.students.items():
        folder = run / "students" / name
        folder.mkdir(parents=True, exist_ok=True)
        contexts[name] = Context(recipe, data, folder, skip_bad=skip_bad, progress=progress, stages=run / "stages")
    if jobs > 1:
        # Here the stages are only made; what follows finds them done.
        with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
            list(pool.map(_prepare, contexts.values(), [threads] * len(contexts)))
    students = {}
    for name, context in contexts.items():
        say(f"student {name}", show=progress)
        students[name] = Student(context, run_recipe(context, timed=False))
    table = _latency(sweep, students, run, progress=progress)
    variants = _variants(sweep.spec.choose, students, table)
    chosen = _choose(sweep.spec.choose, variants)
    figures = _figures(sweep, students, variants, chosen, table.warning)
    write_atomic(run / RESULTS, msgspec.json.format(msgspec.json.encode(figures), indent=1), force=True)
    write_atomic(run / REPORT, report(figures).encode(), force=True)
    write_atomic(run / FRONT, front_html(figures).encode(), force=True)
    source = None if chosen is None else students[chosen.student].bundle
    if chosen is None or source is None:
        bounds = {key: value for key, value in msgspec.to_builtins(sweep.spec.choose).items() if value}
        raise GateFailedError(
            f"no variant of the front keeps {bounds}", next=f"See {run / RESULTS}; loosen choose, or add students"
        )
    with open_bundle(source) as bundle:
        latency = {variant.id: variant.latency for variant in variants if variant.student == chosen.student}
        subset_bundle(bundle, run / "bundle", figures.shipped, default=chosen.id, latency=latency, force=True)
    return figures


def _prepare(context: Context, threads: int) -> None:
    """Run one student in a process of its own, silently: several bars would overwrite each other."""
    import torch

    if threads:
        torch.set_num_threads(threads)
    run_recipe(replace(context, progress=False), timed=False)


def _latency(sweep: Sweep, students: Mapping[str, Student], run: Path, *, progress: bool) -> LatencyTable:
    """All variants of all students in one interleaved run: ``STUDENT ID`` -> one entry a thread count."""
    spec = sweep.spec.bench
    bundles = {name: student.bundle for name, student in students.items() if student.bundle is not None}

    def make(_folder: Path) -> LatencyTable:
        with ExitStack() as stack:
            entries = {}
            for name, path in bundles.items():
                bundle = stack.enter_context(open_bundle(path))
                for variant in bundle.manifest.stages[0].variants:
                    if has_executor(variant.format):
                        entries[f"{name} {variant.id}"] = (bundle, variant.id)
            if not entries:
                return LatencyTable({}, "nothing was timed: no student kept its gates, or none runs here")
            say(f"latency of {len(entries)} variants, {spec.runs} runs each", show=progress)
            found = measure_together(entries, threads=spec.threads, runs=spec.runs, warmup=spec.warmup)
            return LatencyTable({name: found.of(name) for name in entries}, found.warning)

    files = {
        name: sorted({f"{item.exported.path.parent.name}/{item.id}" for item in students[name].result.candidates})
        for name in bundles
    }
    inputs = {"files": files, "bench": spec, "cpu": this_machine().cpu}
    return Store(run).figures("sweep-latency", LATENCY_VERSION, inputs, make, LatencyTable)


def _variants(bounds: ChooseSpec, students: Mapping[str, Student], table: LatencyTable) -> tuple[SweepVariant, ...]:
    """Every variant that its student ships, with what beats it."""
    found = []
    for name, (_, result) in students.items():
        failed = {gate.variant for gate in result.gates if gate.passed is False}
        found += [
            SweepVariant(
                student=name,
                id=item.id,
                parent=f"fp32.{item.exported.format}",
                bytes=item.exported.total_bytes,
                accuracy=result.variants[item.id].accuracy,
                latency=table.rows.get(f"{name} {item.id}", ()),
            )
            for item in result.candidates
            if result.bundle is not None and item.id not in failed and item.id in result.variants
        ]
    timed = {
        variant.name: (variant.accuracy.nme, ms, float(variant.bytes))
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
    return min(fit, key=lambda variant: (variant.accuracy.nme, variant.bytes), default=None)


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
    context, result = student
    trained = result.networks[-1]
    whole = next(item for item in result.networks if item.name == "student")
    net, model = trained.load(context.split.scheme.points), trained.spec.model
    own = [whole] if trained is whole else [whole, trained]
    mixed = [item.exported for item in result.candidates if item.exported.precision == "mixed"]
    return SweepStudent(
        name=name,
        changes=sweep.changes[name],
        model=model.name,
        width=model.width,
        input_size=model.input_size,
        parameters=count_parameters(net),
        flops=flops(net),
        epochs=sum(item.spec.train.epochs for item in own),
        minutes=sum(item.done.seconds for item in own) / 60,
        accuracy=result.accuracy[trained.name].accuracy,
        pruned="" if trained is whole else str(prune_report(trained)),
        whole=None if trained is whole else result.accuracy[whole.name].accuracy,
        failed=gates.failures(result.gates),
        mixed={exported.format: _searched(sensitivity_of(exported)) for exported in mixed},
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
