"""A sweep's page: every student, every variant beside its fp32 parent, the front, and the layers that 8 bits hurt."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from pocketface.benchmarks.papers import common
from pocketface.benchmarks.papers.common import threads_text, warned
from pocketface.benchmarks.papers.sweep import SweepResults, SweepStudent, SweepVariant
from pocketface.benchmarks.papers.sweep_curve import afterwards, curve_png, learning
from pocketface.benchmarks.papers.sweep_front import front_png
from pocketface.benchmarks.reports.sections import Row, Section, sections_html
from pocketface.sdk.files import write_atomic

SMALL = 4e6
"""Bytes of an fp32 file, below which a share of it says little: scales, names and the graph itself weigh too much."""

LAYERS = 8
"""Groups of layers that a table of sensitivity shows."""


def write(results: SweepResults, path: Path) -> None:
    """Write the page and its figures, see ``common.write``, and the front as a picture beside them."""
    pictures = {"The front": front_png(results)}
    pictures |= {f"{name}: training for 8 bits": curve_png(results, name) for name in learning(results)}
    files = {title: f"{path.stem}{f'-{number}' if number else ''}.png" for number, title in enumerate(pictures)}
    common.write(results, path, partial(page, pictures=files))
    for title, picture in pictures.items():
        write_atomic(path.with_name(files[title]), picture, force=True)


def page(results: SweepResults, *, command: str, notes: str = "", pictures: Mapping[str, str] | None = None) -> str:
    """The whole page, Markdown.

    Args:
        results: of the sweep.
        command: that writes it.
        notes: what people have to say about the figures.
        pictures: title -> a file beside the page.
    """
    text = common.page(results, title=title(results), sections=sections(results), command=command, notes=notes)
    head, rule, rest = text.partition("\n## ")
    shown = "".join(f"\n![{title}]({file})\n" for title, file in (pictures or {}).items())
    return f"{head}{shown}{rule}{rest}"


def report(results: SweepResults) -> str:
    """The same tables as HTML, with the front."""
    return sections_html(
        title(results),
        sections(results),
        summary=f"Default: {results.chosen or 'none, nothing keeps the bounds'}.",
        facts=common.facts(results),
        pictures={"Filled: on the front; hollow: beaten. Areas follow the size of the files.": front_png(results)},
        recipe=results.recipe,
    )


def title(results: SweepResults) -> str:
    """Of the page and of the report."""
    return f"{results.name}: accuracy, speed and size of compressed students"


def sections(results: SweepResults) -> list[Section]:
    """Tables, in order."""
    found = [_students(results), _front(results), _variants(results)]
    found += [_learning(results, name) for name in learning(results)]
    found += [_tried(student, name) for student in results.students for name in student.tuned]
    return found + [_sensitivity(student, format) for student in results.students for format in student.mixed]


def _students(results: SweepResults) -> Section:
    rows: list[Row] = [
        {
            "student": student.name,
            "changes": json.dumps(student.changes, ensure_ascii=False) if student.changes else "none",
            "network": f"{student.model} {student.width:g}, {student.input_size} px",
            "k parameters": student.parameters / 1e3,
            "M FLOPs": student.flops / 1e6,
            "NME %": student.accuracy.nme,
            "as first trained": student.before["student"].nme if student.before else None,
            "FR@0.1 %": student.accuracy.fr,
            "epochs": student.epochs,
            "minutes": student.minutes,
            "failed": student.failed or "nothing",
        }
        for student in results.students
    ]
    verdict = [
        f"{student.name}, {name}: {words}; {change:+.3f} points of NME."
        for student in results.students
        for (name, words), change in zip(student.later.items(), _changes(student), strict=True)
    ]
    faces = results.students[0].accuracy.faces
    return Section(
        "Students",
        f"In torch fp32 on {faces} test faces, ground-truth boxes.",
        rows,
        {"k parameters": 0, "M FLOPs": 1, "NME %": 3, "as first trained": 3, "minutes": 0},
        tuple(verdict),
    )


def _changes(student: SweepStudent) -> list[float]:
    """Points of NME that every later step cost."""
    line = [*student.before.values(), student.accuracy]
    return [after.nme - before.nme for before, after in itertools.pairwise(line)]


def _front(results: SweepResults) -> Section:
    variants = [variant for variant in results.variants if variant.latency and not variant.beaten_by]
    rows = [_row(results, variant) for variant in sorted(variants, key=lambda variant: variant.validation.nme)]
    smallest = min(variants, key=lambda variant: variant.bytes, default=None)
    timed = sum(bool(variant.latency) for variant in results.variants)
    verdict = [f"{len(variants)} of {timed} timed variants are on the front."]
    if smallest is not None:
        verdict.append(
            f"The smallest is {smallest.name}: {smallest.bytes / 1e6:.2f} MB, NME {smallest.accuracy.nme:.3f} %."
        )
    if results.chosen:
        verdict.append(f"The bundle's default is {results.chosen}; it ships {', '.join(results.shipped)}.")
    text = (
        "No other variant is at least as good in NME on the validation faces, milliseconds "
        f"({threads_text(results.threads)}) and bytes, and better in one. The test faces chose nothing."
    )
    return Section("The front", warned(text, results.warning), rows or [{"variant": "none"}], _DIGITS, tuple(verdict))


def _variants(results: SweepResults) -> Section:
    text = (
        "Every variant that kept its gates. NME through the runtime that ships, on the test faces; its change, time "
        "and size against fp32 of the same student and format, everything timed in one interleaved run. A variant that "
        f"another one beats is not shipped by default. Below {SMALL / 1e6:g} MB of fp32, bytes say more than a share."
    )
    rows = [_row(results, variant, full=True) for variant in results.variants]
    return Section("Variants", warned(text, results.warning), rows or [{"variant": "none"}], _DIGITS)


_DIGITS = {"NME %": 3, "validation NME %": 3, "change": 3, "over torch as first trained": 3, "KB": 0, "of fp32": 2}


def _row(results: SweepResults, variant: SweepVariant, *, full: bool = False) -> Row:
    parent = next((v for v in results.variants if v.student == variant.student and v.id == variant.parent), None)
    student = next(student for student in results.students if student.name == variant.student)
    row: dict[str, Any] = {
        "variant": variant.name,
        "NME %": variant.accuracy.nme,
        "validation NME %": variant.validation.nme,
        "change": None if parent is None else variant.accuracy.nme - parent.accuracy.nme,
        "over torch as first trained": variant.accuracy.nme - student.first.nme,
        "KB": variant.bytes / 1e3,
        "of fp32": None if parent is None or parent.bytes < SMALL else variant.bytes / parent.bytes,
    }
    for latency in variant.latency:
        threads = threads_text(latency.threads)
        before = None if parent is None else parent.ms(latency.threads)
        row |= {f"ms, {threads}": latency.p50_ms, f"of fp32, {threads}": latency.p50_ms / before if before else None}
    if full:
        row["beaten by"] = variant.beaten_by or ("" if variant.latency else "not timed here")
    return row


def _learning(results: SweepResults, name: str) -> Section:
    """What training for 8 bits did, epoch by epoch, beside what quantizing the same network afterwards gives."""
    student = next(student for student in results.students if student.name == name)
    rows: list[Row] = [{"epoch": epoch, "NME %": nme} for epoch, nme in enumerate(student.curve, start=1)]
    levels = [f"{what}: {nme:.3f} %." for what, nme in afterwards(results, student).items()]
    text = "NME on the validation faces while the training rounds as the 8-bit files do, weights and activations."
    return Section(f"{name}: training for 8 bits", text, rows, {"NME %": 3}, tuple(levels))


def _tried(student: SweepStudent, name: str) -> Section:
    rows: list[Row] = [
        {**{key: str(value) for key, value in one.settings.items()}, "points of NME": one.increase}
        | {"": "taken" if one.taken else "no file came of it" if one.increase is None else ""}
        for one in student.tuned[name]
    ]
    text = "On validation faces, over the same network in torch; the settings that cost least are taken."
    return Section(f"{student.name}: settings of {name} that were tried", text, rows, {"points of NME": 4})


def _sensitivity(student: SweepStudent, format: str) -> Section:
    found = student.mixed[format]
    rows: list[Row] = [
        {
            "layers": layer.module,
            "k parameters": layer.parameters / 1e3,
            "8 bits cost": layer.relief,
            "stays in float": "yes" if layer.kept else "",
        }
        for layer in found.layers[:LAYERS]
    ]
    kept = [layer.module for layer in found.layers if layer.kept]
    return Section(
        f"{student.name}: which layers 8 bits hurt, {format}",
        "On validation faces: points of NME that a group's 8 bits cost in the company of all others; the costliest "
        "stay in float, one after another, until the bound is kept.",
        rows,
        {"k parameters": 1, "8 bits cost": 4},
        (
            f"+{found.whole:.3f} points with everything in 8 bits, +{found.increase:.3f} with "
            f"{', '.join(kept) or 'nothing'} in float; bound {found.bound:g}.",
        ),
    )
