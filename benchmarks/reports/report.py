"""The report of a run: one HTML file that holds everything it shows and loads nothing.

ReportData --tables, charts--> report.html.j2 --jinja2--> report.html
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path

from pocketface.benchmarks.reports import charts, tables
from pocketface.benchmarks.reports.data import Gate, ReportData, finite
from pocketface.benchmarks.reports.template import template
from pocketface.benchmarks.reports.text import bytes_text, count, ms, number, signed
from pocketface.benchmarks.reports.thumbnails import PREDICTED, TRUTH
from pocketface.sdk.files import write_atomic

SECTIONS = (
    ("headline", "Headline"),
    ("accuracy", "Accuracy"),
    ("faces", "Faces"),
    ("training", "Training"),
    ("parity", "Parity and gates"),
    ("latency", "Latency"),
    ("face-score", "Face score"),
    ("provenance", "Provenance"),
)


@dataclass(frozen=True)
class Tile:
    """A figure of the headline."""

    label: str
    value: str
    unit: str = ""
    detail: str = ""


@dataclass(frozen=True)
class Verdict:
    """Whether the gates held, in a line, and what did not."""

    text: str
    tone: str
    lines: tuple[str, ...] = ()


def write_report(data: ReportData, out: str | Path, *, force: bool = False) -> Path:
    """Write the report.

    Args:
        data: what to show; parts that are missing are left out, with a line that says so.
        out: the file, ``report.html`` by habit.
        force: replace a file that is already there.

    Returns:
        The file.

    Raises:
        MissingExtraError: the extra ``bench`` (jinja2, matplotlib) is not installed.
        BadInputError: the file exists and ``force`` is not set.
    """
    path = Path(out)
    write_atomic(path, render(data).encode(), force=force)
    return path


def render(data: ReportData) -> str:
    """The report's HTML."""
    faces: dict[str, list[dict[str, str]]] = {}
    for shot in data.faces:
        png = base64.b64encode(shot.png).decode()
        faces.setdefault(shot.group, []).append({"title": shot.title, "png": png})
    score = data.face_score
    cpus = {item.cpu: None for result in data.variants for item in result.variant.latency}
    return template("report.html.j2").render(
        data=data,
        sections=SECTIONS,
        verdict=verdict(data),
        tiles=tiles(data),
        tables={
            "variants": tables.variants(data),
            "accuracy": tables.accuracy(data),
            "networks": tables.networks(data),
            "parity": tables.parity(data),
            "gates": tables.gates(data),
            "latency": tables.latency(data),
            "data": tables.data_sources(data),
            "provenance": tables.labels(("provenance", ""), data.provenance),
            "machine": tables.labels(("machine", ""), data.machine),
            "tools": tables.labels(("package", "version"), data.tools),
        },
        charts={
            "networks_ced": charts.networks_ced(data),
            "variants_ced": charts.variants_ced(data),
            "training_loss": charts.training_loss(data),
            "validation_nme": charts.validation_nme(data),
            "latency_bars": charts.latency_bars(data),
            "trade_off": charts.trade_off(data),
            "reliability": charts.reliability(data),
        },
        faces=faces,
        truth=",".join(map(str, TRUTH)),
        predicted=",".join(map(str, PREDICTED)),
        threshold=f"{data.threshold:g}",
        cpu=" and ".join(cpus),
        auroc=number(score.auroc, 4) if score else "",
        ece=number(score.ece, 4) if score else "",
        crops=_crops(data),
    )


def verdict(data: ReportData) -> Verdict:
    """What the gates say: failed ones first, then what nobody checked."""
    failed = [gate for gate in data.gates if gate.passed is False]
    unchecked = [gate for gate in data.gates if gate.passed is None]
    lines = [f"{gate.variant}: {gate.gate} {_against(gate)}{_note(gate.note)}" for gate in failed]
    lines += [f"{gate.variant}: {gate.gate} was not checked" + _note(gate.note) for gate in unchecked]
    told = {gate.variant for gate in unchecked}
    lines += [
        f"{result.variant.id} is unverified" + _note(result.variant.reason)
        for result in data.variants
        if result.variant.status == "unverified" and result.variant.id not in told
    ]
    if failed:
        return Verdict(f"{len(failed)} of {len(data.gates)} gates failed.", "bad", tuple(lines))
    if not data.gates:
        return Verdict("No gate was checked.", "warn", tuple(lines))
    passed = len(data.gates) - len(unchecked)
    if lines:
        return Verdict(f"{passed} of {len(data.gates)} gates passed, none failed.", "warn", tuple(lines))
    return Verdict(f"All {len(data.gates)} gates passed." if passed > 1 else "The gate passed.", "good")


def tiles(data: ReportData) -> list[Tile]:
    """The headline's figures: the student, the variant the bundle loads by default, the teachers."""
    found: list[Tile] = []
    student, chosen = data.student, data.headline
    if chosen is not None:
        variant, figures = chosen.variant, chosen.accuracy
        if figures is not None:
            moved = tables.change(figures, student.accuracy if student else None)
            against = f", {signed(moved)} against torch" if moved is not None else ""
            found.append(Tile("NME, shipped model", number(figures.nme), "%", f"{figures.faces} faces{against}"))
        found.append(Tile("Size", bytes_text(variant.total_bytes), "", variant.id))
        for item in sorted(variant.latency, key=lambda item: item.threads)[:1]:
            plural = "s" * (item.threads != 1)
            detail = f"{item.threads} thread{plural}, p90 {ms(item.p90_ms)} ms"
            found.append(Tile("Latency, p50", ms(item.p50_ms), "ms", detail))
    if student is not None and student.accuracy is not None and (chosen is None or chosen.accuracy is None):
        detail = f"{student.accuracy.faces} faces, torch fp32"
        found.insert(0, Tile("NME, student", number(student.accuracy.nme), "%", detail))
    if student is not None and student.parameters is not None:
        detail = f"{count(student.flops, 'FLOPs')} a face" if student.flops else student.name
        found.append(Tile("Parameters", count(student.parameters), "", detail))
    measured = [(finite(n.accuracy.nme), n.name) for n in data.networks if n.role == "teacher" and n.accuracy]
    taught = [(nme, name) for nme, name in measured if nme is not None]
    if taught:
        nme, name = min(taught)
        found.append(Tile("Best teacher", number(nme), "%", name))
    return found


def _crops(data: ReportData) -> str:
    score = data.face_score
    if score is None or score.faces is None or score.others is None:
        return ""
    return f"{score.faces} faces and {score.others} other crops"


def _note(text: str) -> str:
    return f" ({text})" if text else ""


def _against(gate: Gate) -> str:
    """Figure and bound of a gate that failed; one without a bound failed for the reason in its note alone."""
    if gate.bound is None:
        return "failed"
    figure = "no number" if finite(gate.figure) is None else f"{gate.figure:.4g}"
    return f"is {figure}, bound {gate.bound:g}"
