"""The report's tables as rows of text, ready to be set in HTML."""

from __future__ import annotations

from dataclasses import dataclass, field

from pocketface.benchmarks.reports.data import Figures, ReportData, VariantResult, finite
from pocketface.benchmarks.reports.text import DASH, bytes_text, count, error, ms, number, signed


@dataclass(frozen=True)
class Cell:
    """A cell.

    Attributes:
        text: what it says.
        kind: ``"num"`` (right-aligned), ``"code"``, ``"badge"`` or ``""``.
        tone: a badge's colour: ``"good"``, ``"bad"``, ``"warn"`` or ``""``.
        title: shows when the mouse rests on it.
    """

    text: str
    kind: str = ""
    tone: str = ""
    title: str = ""


@dataclass(frozen=True)
class Table:
    """Column heads, rows, and a word on each head where one is needed."""

    heads: tuple[str, ...]
    rows: list[list[Cell]] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.rows)


def accuracy(data: ReportData) -> Table:
    """Networks in torch fp32, then every variant; the change is against the student, on the same faces."""
    at = f"@{data.threshold:g}"
    table = Table(("", "what", "NME %", "change", "median %", f"FR{at} %", f"FR{at} landmarks %", f"AUC{at}", "faces"))
    student = data.student.accuracy if data.student else None
    for network in data.networks:
        if network.accuracy is not None:
            table.rows.append(_accuracy_row(network.name, f"{network.role}, torch fp32", network.accuracy, None))
    for result in data.variants:
        if result.accuracy is not None:
            what = f"{result.variant.format} {result.variant.precision}"
            table.rows.append(_accuracy_row(result.variant.id, what, result.accuracy, student))
    return table


def networks(data: ReportData) -> Table:
    """Size and effort of the networks."""
    table = Table(("", "role", "parameters", "FLOPs", "epochs", "best val NME %"))
    for network in data.networks:
        measured = [finite(epoch.val_nme) for epoch in network.history]
        values = [value for value in measured if value is not None]
        table.rows.append(
            [
                Cell(network.name),
                Cell(network.role),
                _num(count(network.parameters)),
                _num(count(network.flops)),
                _num(str(len(network.history)) if network.history else DASH),
                _num(number(min(values, default=None))),
            ]
        )
    return table


def variants(data: ReportData) -> Table:
    """One line a variant: what it weighs, how right and how fast it is, whether it ships."""
    counts = thread_counts(data)
    heads = ("variant", "size", "of fp32", "NME %", "change", *(f"p50 ms, {n} thr." for n in counts), "status")
    table = Table(heads)
    largest = {
        result.variant.format: result.variant.total_bytes
        for result in data.variants
        if result.variant.precision == "fp32"
    }
    student = data.student.accuracy if data.student else None
    for result in data.variants:
        variant, whole = result.variant, largest.get(result.variant.format)
        times = {item.threads: item.p50_ms for item in variant.latency}
        table.rows.append(
            [
                Cell(variant.id, "code"),
                _num(bytes_text(variant.total_bytes)),
                _num(f"{variant.total_bytes / whole:.0%}" if whole else DASH),
                _num(number(result.accuracy.nme if result.accuracy else None, 3)),
                _num(signed(change(result.accuracy, student))),
                *(_num(ms(times.get(n))) for n in counts),
                status(result),
            ]
        )
    return table


def parity(data: ReportData) -> Table:
    """What every variant differs from torch fp32, by whom it was run, against which bound."""
    heads = ("variant", "executor", "faces", "max error", "mean error", "max px", "mean px", "NME change", "gate")
    table = Table((*heads, "status"))
    for result in data.variants:
        variant, found = result.variant, result.variant.parity
        bounds = variant.tolerances
        gates = [f"error {bounds.max_tensor_error:g}"] if bounds.max_tensor_error is not None else []
        gates += [f"NME +{bounds.max_nme_increase:g}"] if bounds.max_nme_increase is not None else []
        gate = Cell(", ".join(gates) or DASH)
        if found is None:
            blank = [_num(DASH) for _ in heads[2:-1]]
            table.rows.append([Cell(variant.id, "code"), Cell("none here"), *blank, gate, status(result)])
            continue
        errors = found.outputs.values()
        parts = found.outputs.items()
        detail = "; ".join(f"{name}: max {error(o.max_error)}, mean {error(o.mean_error)}" for name, o in parts)
        table.rows.append(
            [
                Cell(variant.id, "code"),
                Cell(found.executor),
                _num(str(found.faces)),
                Cell(error(max((o.max_error for o in errors), default=None)), "num", title=detail),
                Cell(error(max((o.mean_error for o in errors), default=None)), "num", title=detail),
                _num(error(found.max_pixel_error)),
                _num(error(found.mean_pixel_error)),
                _num(signed(difference(found.nme, found.nme_reference))),
                gate,
                status(result),
            ]
        )
    return table


def latency(data: ReportData) -> Table:
    """Every latency figure."""
    heads = ("variant", "threads", "p50", "p90", "p99", "pre", "inference", "post", "ratio", "peak MB", "runs")
    table = Table((*heads, "executor"))
    for result in data.variants:
        for item in result.variant.latency:
            parts = (item.p50_ms, item.p90_ms, item.p99_ms, item.pre_ms, item.inference_ms, item.post_ms)
            peak = number(item.peak_rss_mb, 0) if item.peak_rss_mb > 0 else DASH
            table.rows.append(
                [
                    Cell(result.variant.id, "code"),
                    _num(str(item.threads)),
                    *(_num(ms(value)) for value in parts),
                    _num(number(item.ratio)),
                    _num(peak),
                    _num(str(item.runs)),
                    Cell(item.executor),
                ]
            )
    return table


def gates(data: ReportData) -> Table:
    """Every bound of the recipe, those that failed first."""
    table = Table(("gate", "variant", "figure", "bound", "result", ""))
    order = {False: 0, None: 1, True: 2}
    for gate in sorted(data.gates, key=lambda gate: order[gate.passed]):
        words = {True: ("passed", "good"), False: ("failed", "bad"), None: ("not checked", "warn")}[gate.passed]
        table.rows.append(
            [
                Cell(gate.gate, "code"),
                Cell(gate.variant, "code"),
                _num(f"{gate.figure:.4g}" if finite(gate.figure) is not None else DASH),
                _num(f"{gate.bound:g}" if finite(gate.bound) is not None else DASH),
                Cell(words[0], "badge", words[1]),
                Cell(gate.note),
            ]
        )
    return table


def data_sources(data: ReportData) -> Table:
    """The data sets, by name and hash."""
    table = Table(("data", "split", "faces", "SHA-256", "licence"))
    for source in data.data:
        digest = Cell(source.sha256[:16], "code", title=source.sha256)
        table.rows.append(
            [Cell(source.name), Cell(source.split), _num(str(source.faces)), digest, Cell(source.licence)]
        )
    return table


def labels(heads: tuple[str, str], values: dict[str, str]) -> Table:
    """Two columns: label and value."""
    return Table(heads, [[Cell(label), Cell(value, "code")] for label, value in values.items()])


def status(result: VariantResult) -> Cell:
    """The variant's status as a badge; its reason shows when the mouse rests on it."""
    tone = {"passed": "good", "failed": "bad", "unverified": "warn"}[result.variant.status]
    return Cell(result.variant.status, "badge", tone, result.variant.reason)


def change(figures: Figures | None, reference: Figures | None) -> float | None:
    """NME of one over the other, in percentage points; None where one is unknown or the faces are not the same."""
    if figures is None or reference is None or figures.faces != reference.faces:
        return None
    return difference(figures.nme, reference.nme)


def difference(value: float | None, reference: float | None) -> float | None:
    """``value - reference``; None where one is unknown."""
    value, reference = finite(value), finite(reference)
    return None if value is None or reference is None else value - reference


def thread_counts(data: ReportData) -> list[int]:
    """Thread counts that any variant was timed with."""
    return sorted({item.threads for result in data.variants for item in result.variant.latency})


def _accuracy_row(name: str, what: str, figures: Figures, reference: Figures | None) -> list[Cell]:
    return [
        Cell(name),
        Cell(what),
        _num(number(figures.nme, 3)),
        _num(signed(change(figures, reference))),
        _num(number(figures.median, 3)),
        _num(number(figures.fr)),
        _num(number(figures.landmark_fr)),
        _num(number(figures.auc, 4)),
        _num(str(figures.faces)),
    ]


def _num(text: str) -> Cell:
    return Cell(text, "num")
