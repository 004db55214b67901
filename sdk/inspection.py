"""A bundle's manifest as tables for the terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pocketface.sdk import terminal
from pocketface.sdk.manifest import DataSource, Manifest, Stage, Variant
from pocketface.sdk.terminal import count_text, size_text

_COLOURS = {"passed": "green", "failed": "red", "unverified": "yellow"}


def print_manifest(manifest: Manifest) -> None:
    """Print every stage, variant, measured figure, and where the bundle comes from, on standard output."""
    console = terminal.console()
    console.print(Text(f"{manifest.name}  schema {manifest.schema}, {len(manifest.golden)} golden cases", style="bold"))
    for stage in manifest.stages:
        _print_stage(console, stage, manifest.default)
    console.print(_provenance(manifest))


def _print_stage(console: Console, stage: Stage, default: str) -> None:
    size, fed = stage.preprocess.size, " of uint8 pixels" if stage.preprocess.inside else ""
    console.print(
        Text(
            f"stage {stage.name}: {stage.task} ({stage.scheme.name}, {stage.scheme.points} points), "
            f"input {size} x {size}{fed}, "
            f"{count_text(stage.parameters, 'parameters')}, "
            + (count_text(stage.flops, "FLOPs") if stage.flops else "FLOPs not known")
        )
    )
    table = Table(*("variant", "format", "precision", "size", "status", "max error", "pixels", "NME %", "checked by"))
    for variant in stage.variants:
        table.add_row(*_variant_row(variant, default))
    console.print(table)
    for variant in stage.variants:
        if variant.reason:
            console.print(Text(f"{variant.id}: {variant.status}: {variant.reason}"))
    if any(variant.metrics for variant in stage.variants):
        names = sorted({name for variant in stage.variants for name in variant.metrics})
        table = Table("variant", *names, title="measured on the test set", title_justify="left")
        for variant in stage.variants:
            table.add_row(variant.id, *(f"{variant.metrics[n]:.4g}" if n in variant.metrics else "" for n in names))
        console.print(table)
    if any(variant.latency for variant in stage.variants):
        table = Table("variant", "threads", "p50 ms", "p90 ms", "p99 ms", "ratio", "peak MB", "on")
        for variant in stage.variants:
            for item in variant.latency:
                times = (f"{value:.2f}" for value in (item.p50_ms, item.p90_ms, item.p99_ms, item.ratio))
                on = Text(f"{item.executor}, {item.cpu}")
                table.add_row(variant.id, str(item.threads), *times, f"{item.peak_rss_mb:.0f}", on)
        console.print(table)


def _variant_row(variant: Variant, default: str) -> list[str | Text]:
    parity = variant.parity
    error = f"{max(output.max_error for output in parity.outputs.values()):.2g}" if parity and parity.outputs else ""
    nme = ""
    if parity is not None and parity.nme is not None and parity.nme_reference is not None:
        nme = f"{parity.nme_reference:.3f} -> {parity.nme:.3f}"
    return [
        variant.id + (" (default)" if variant.id == default else ""),
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
