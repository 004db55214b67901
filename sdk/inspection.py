"""A bundle's manifest as tables for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pocketface.sdk import terminal
from pocketface.sdk.manifest import DataSource, Latency, Manifest, Stage, Variant
from pocketface.sdk.terminal import count_text, size_text

_COLOURS = {"passed": "green", "failed": "red", "unverified": "yellow"}
_ERRORS: dict[str, tuple[str, str]] = {
    "landmarks": ("landmarks off, px", "NME %"),
    "relocalize": ("corners off, px", "box error %"),
    "uniformize": ("grey levels off", "image error %"),
    "segmentation": ("grey levels off", "mask error %"),
    "detection": ("px off", "box error %"),
}
"""Task -> what ``Parity.max_pixel_error`` and ``nme`` are of it."""


def print_manifest(manifest: Manifest) -> None:
    """Print every stage, variant, measured figure, and where the bundle comes from, on standard output."""
    console = terminal.console()
    console.print(Text(f"{manifest.name}  schema {manifest.schema}, {len(manifest.golden)} golden cases", style="bold"))
    default = {variant.id for _, variant in manifest.chain()}
    if len(manifest.stages) > 1:
        chain = " -> ".join(stage.name for stage in manifest.stages)
        console.print(Text(f"chain {chain}: {', '.join(manifest.chains)} (default {manifest.default})"))
    for stage in manifest.stages:
        _print_stage(console, stage, default)
    _print_runs(console, manifest)
    console.print(_provenance(manifest))


def _print_runs(console: Console, manifest: Manifest) -> None:
    """What was measured of whole chains."""
    if any(run.metrics for run in manifest.runs):
        names = sorted({name for run in manifest.runs for name in run.metrics})
        console.print(_metrics("chain", {run.id: run.metrics for run in manifest.runs}, names))
    if any(run.latency for run in manifest.runs):
        stages = [stage.name for stage in manifest.stages]
        table = _latency_table("chain", *(f"{name} ms" for name in stages))
        for run in manifest.runs:
            for item in run.latency:
                each = (f"{item.stages[name]:.2f}" if name in item.stages else "" for name in stages)
                table.add_row(run.id, *_latency_row(item, *each))
        console.print(table)


def _metrics(first: str, rows: Mapping[str, Mapping[str, float]], names: Sequence[str]) -> Table:
    table = Table(first, *names, title="measured on the test set", title_justify="left")
    for id, values in rows.items():
        table.add_row(id, *(f"{values[name]:.4g}" if name in values else "" for name in names))
    return table


def _latency_table(first: str, *more: str) -> Table:
    return Table(first, "threads", "p50 ms", "p90 ms", "p99 ms", *more, "ratio", "peak MB", "on")


def _latency_row(item: Latency, *more: str) -> list[str | Text]:
    times = (f"{value:.2f}" for value in (item.p50_ms, item.p90_ms, item.p99_ms))
    on = Text(f"{item.executor}, {item.cpu}")
    return [str(item.threads), *times, *more, f"{item.ratio:.2f}", f"{item.peak_rss_mb:.0f}", on]


def _print_stage(console: Console, stage: Stage, default: Set[str]) -> None:
    size, fed = stage.preprocess.size, " of uint8 pixels" if stage.preprocess.inside else ""
    marks = "" if stage.scheme is None else f" ({stage.scheme.name}, {stage.scheme.points} points)"
    if stage.classes is not None:
        side, cells = stage.outputs[0].shape[-1], ", after the mask of the frame before" if stage.states else ""
        marks = f" ({stage.classes.name}, {len(stage.classes.names)} classes, {side} x {side}{cells})"
    pose = " and head pose" if any(spec.decode == "head_pose" for spec in stage.outputs) else ""
    console.print(
        Text(
            f"stage {stage.name}: {stage.task}{marks}{pose}, "
            f"input {size} x {size}{fed}, "
            f"{count_text(stage.parameters, 'parameters')}, "
            + (count_text(stage.flops, "FLOPs") if stage.flops else "FLOPs not known")
        )
    )
    columns = ("variant", "format", "precision", "size", "status", "max error", *_ERRORS[stage.task], "checked by")
    table = Table(*columns)
    for variant in stage.variants:
        table.add_row(*_variant_row(variant, default))
    console.print(table)
    for variant in stage.variants:
        if variant.reason:
            console.print(Text(f"{variant.id}: {variant.status}: {variant.reason}"))
    if any(variant.metrics for variant in stage.variants):
        names = sorted({name for variant in stage.variants for name in variant.metrics})
        console.print(_metrics("variant", {variant.id: variant.metrics for variant in stage.variants}, names))
    if any(variant.latency for variant in stage.variants):
        table = _latency_table("variant")
        for variant in stage.variants:
            for item in variant.latency:
                table.add_row(variant.id, *_latency_row(item))
        console.print(table)


def _variant_row(variant: Variant, default: Set[str]) -> list[str | Text]:
    parity = variant.parity
    error = f"{max(output.max_error for output in parity.outputs.values()):.2g}" if parity and parity.outputs else ""
    nme = ""
    if parity is not None and parity.nme is not None and parity.nme_reference is not None:
        nme = f"{parity.nme_reference:.3f} -> {parity.nme:.3f}"
    return [
        variant.id + (" (default)" if variant.id in default else ""),
        variant.format,
        variant.precision,
        size_text(variant.total_bytes),
        Text(variant.status, style=_COLOURS[variant.status]),
        error,
        f"max {parity.max_pixel_error:.3g}, mean {parity.mean_pixel_error:.3g}" if parity else "",
        nme,
        Text(f"{parity.executor}, {parity.faces} faces" if parity else "nobody"),
    ]


def _source(source: DataSource) -> str:
    if not source.sha256:  # of a network that was trained elsewhere
        return f"{source.name}: {source.licence}"
    return f"{source.name}: {source.faces} faces, {source.licence}, {source.sha256[:16]}"


def _provenance(manifest: Manifest) -> Table:
    table = Table("where it comes from", "", show_lines=False)
    rows = [
        ("weights' licence", manifest.weights_licence),
        *((f"data, {source.split}", _source(source)) for source in manifest.provenance.data),
        (
            "contract" if manifest.provenance.reference else "recipe",
            f"SHA-256 {manifest.provenance.recipe_sha256[:16]}",
        ),
        ("compared with", manifest.provenance.reference_text),
        ("git commit", manifest.provenance.git_commit or "not recorded"),
        ("tools", ", ".join(f"{name} {release}" for name, release in manifest.provenance.tools.items())),
        (
            f"{manifest.provenance.reference_text} on the test set",
            ", ".join(f"{name} {value:.4g}" for name, value in manifest.metrics.items()),
        ),
        ("may ship unverified", ", ".join(manifest.allow_unverified) or "none"),
    ]
    for name, value in rows:
        table.add_row(name, Text(value))
    return table
