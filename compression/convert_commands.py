"""The subcommands around conversion: ``export``, ``preflight`` and ``support``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pocketface.compression.commands import RecipePath, Set
from pocketface.sdk.errors import BadInputError, GateFailedError
from pocketface.sdk.files import refuse_existing
from pocketface.sdk.options import DataFolders, DataFormat, Force, Json, example
from pocketface.sdk.terminal import console, size_text, write_json

if TYPE_CHECKING:
    from pocketface.compression.export_folder import Exports
    from pocketface.compression.trial import Trial


@example("pocketface preflight compression/recipes/face68-kd.yaml")
def preflight(
    recipe: RecipePath,
    network: Annotated[
        list[str] | None,
        typer.Option(help="Only this network: student, a teacher, ablation. Give it again for several."),
    ] = None,
    format: Annotated[list[str] | None, typer.Option(help="Only this format. Give it again for several.")] = None,
    set: Set = None,
    json: Json = None,
    force: Force = False,
) -> None:
    """Try every network of a recipe in every format and precision, with random weights, before training."""
    import msgspec

    from pocketface.compression.preflight import preflight as run
    from pocketface.compression.recipe_file import load_any
    from pocketface.sdk.progress import say

    if json is not None and json != "-":
        refuse_existing(Path(json), force)
    loaded = load_any(recipe, tuple(set or ()))
    show = json != "-"
    trials = list(
        run(loaded, roles=tuple(network or ()), formats=tuple(format or ()), say=lambda text: say(text, show=show))
    )
    failed = [trial for trial in trials if trial.status == "failed"]
    if json is not None:
        write_json({"recipe": loaded.name, "trials": msgspec.to_builtins(trials)}, json, force=force)
    if show:
        _print_trials(trials)
    if failed:
        raise GateFailedError(
            f"{len(failed)} of {len(trials)} variants do not work: "
            + ", ".join(f"{trial.precision}.{trial.format} of {trial.network}" for trial in failed),
            next="Do what their lines say, or take them out of the recipe, before you train",
        )


@example("pocketface export runs/face68/student.safetensors --to onnx,tflite --precision fp32,w8 --out exported")
def export(
    checkpoint: Annotated[Path, typer.Argument(help="The .safetensors file of a network.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Folder for the files.", show_default=False)],
    to: Annotated[str, typer.Option(help="Formats, separated by commas.")] = "onnx,tflite,coreml,executorch",
    precision: Annotated[str, typer.Option(help="Precisions, separated by commas.")] = "fp32",
    pixels: Annotated[bool, typer.Option("--pixels", help="Take uint8 pixels and normalise inside.")] = False,
    data: Annotated[
        Path | None,
        typer.Option(help="Root of annotated faces: w8a8 is calibrated on them, NME measured.", show_default=False),
    ] = None,
    format: DataFormat = "pts",
    folder: DataFolders = None,
    set: Annotated[
        list[str] | None,
        typer.Option("--set", help="A setting, e.g. coreml.target=iOS16 or onnx.w8a8.float_first=false."),
    ] = None,
    json: Json = None,
    force: Force = False,
) -> None:
    """Convert a checkpoint to files, and compare each with torch."""
    from pocketface.compression.export import export_checkpoint
    from pocketface.sdk.progress import say

    show = json != "-"
    if json is not None and json != "-":
        refuse_existing(Path(json), force)
    done = export_checkpoint(
        checkpoint,
        out,
        formats=_split(to, "--to"),
        precisions=_split(precision, "--precision"),
        pixels=pixels,
        data=data,
        data_format=format,
        data_folders=tuple(folder or ()),
        settings=tuple(set or ()),
        say=lambda text: say(text, show=show),
        force=force,
    )
    if json is not None:
        write_json(done, json, force=force)
    if show:
        _print_exports(done, out)
    if done.failed:
        raise GateFailedError(
            f"{', '.join(done.failed)} do not give what torch gives, or were not made",
            next="See the reasons above; files that failed lie under the folder's failed/",
        )


@example("pocketface support --page docs/support.md")
def support(
    page: Annotated[Path, typer.Option(help="The page; its figures go beside it as .json.")] = Path("docs/support.md"),
    check: Annotated[bool, typer.Option("--check", help="Only say which rows are stale.")] = False,
) -> None:
    """Renew the table of what converts to what: rows that are missing or stale are tried again."""
    from pocketface.compression.support.page import write_table
    from pocketface.compression.support.table import COMMAND, make_table, read_table, stale
    from pocketface.sdk.progress import say

    path = page.with_suffix(".json")
    stored = read_table(path) if path.exists() else None
    if check:
        problems = ["no table"] if stored is None else stale(stored)
        if problems:
            raise GateFailedError(f"{page} is stale: {'; '.join(problems[:5])}", next=f"Run {COMMAND}")
        print(f"{page} is up to date")
        return
    for table in make_table(stored, say):
        write_table(table, page)
    print(f"wrote {page} and {path}")


def _split(text: str, option: str) -> tuple[str, ...]:
    words = tuple(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))
    if not words:
        raise BadInputError(f"{option} {text!r}", expected="at least one name")
    return words


def _print_trials(trials: Sequence[Trial]) -> None:
    from rich.table import Table

    table = Table(title="preflight, random weights", title_justify="left")
    for column in ("network", "variant", "result", "executor", "error", "size", "seconds"):
        table.add_column(column, overflow="fold")
    for trial in trials:
        colour = {"verified": "green", "failed": "bold red", "unverified": "yellow"}[trial.status]
        table.add_row(
            trial.network,
            f"{trial.precision}.{trial.format}",
            f"[{colour}]{trial.status}[/]",
            trial.executor or "none",
            "-" if trial.error is None else f"{trial.error:.1e}",
            size_text(trial.bytes) if trial.bytes else "-",
            f"{trial.seconds:.0f}",
        )
    out = console()
    out.print(table)
    for trial in trials:
        if trial.reason:
            out.print(f"{trial.precision}.{trial.format} of {trial.network}: {trial.reason}", markup=False)


def _print_exports(done: Exports, out: Path) -> None:
    from rich.table import Table

    table = Table(title=f"{done.network} in {out}", title_justify="left")
    for column in ("file", "size", "result", "executor", "max error, px", "NME"):
        table.add_column(column, overflow="fold")
    for row in done.rows:
        colour = {"passed": "green", "failed": "bold red", "unverified": "yellow"}.get(row.status, "dim")
        table.add_row(
            row.file or row.id,
            size_text(row.bytes) if row.bytes else "-",
            f"[{colour}]{row.status}[/]",
            row.executor or "-",
            "-" if row.max_pixel_error is None else f"{row.max_pixel_error:.2g}",
            "-" if row.nme is None else f"{row.nme_reference:.3f} -> {row.nme:.3f}",
        )
    screen = console()
    screen.print(table)
    for row in done.rows:
        if row.reason:
            screen.print(f"{row.id}: {row.reason}", markup=False)
