"""The subcommand of this package: ``verify``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pocketface.sdk.errors import BadInputError, GateFailedError
from pocketface.sdk.files import refuse_existing
from pocketface.sdk.options import BundlePath, DataFolders, DataFormat, Force, Json, example
from pocketface.sdk.terminal import console, write_json

if TYPE_CHECKING:
    from torch import nn

    from pocketface.benchmarks.data.face import Face
    from pocketface.converters.layers.bundle import BundleLayers
    from pocketface.converters.verdict import ParityResult
    from pocketface.converters.verify import VariantCheck, VerifyReport
    from pocketface.sdk.bundle import Bundle
    from pocketface.sdk.manifest import Scheme


@example("pocketface verify runs/face68/bundle --data 300w --format 300w --folder helen/testset")
def verify(
    bundle: BundlePath,
    data: Annotated[
        Path | None, typer.Option(help="Root of annotated faces, to compare accuracy too.", show_default=False)
    ] = None,
    format: DataFormat = "pts",
    folder: DataFolders = None,
    limit: Annotated[int, typer.Option(help="Faces to take, spread evenly over the data; 0 for all.")] = 64,
    variant: Annotated[
        list[str] | None,
        typer.Option(help="Variant to check. Give it again for several (default: all).", show_default=False),
    ] = None,
    audit: Annotated[
        bool, typer.Option("--audit", help="Show what each file holds, and what each delegate takes of it.")
    ] = False,
    allow_unchecked: Annotated[
        bool, typer.Option("--allow-unchecked", help="Pass although some variants cannot be run here.")
    ] = False,
    layers: Annotated[
        bool, typer.Option("--layers", help="Compare intermediate tensors with torch: where does a file go wrong?")
    ] = False,
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            help="The network that the bundle was made from, for --layers (default: student.safetensors beside it).",
            show_default=False,
        ),
    ] = None,
    json: Json = None,
    force: Force = False,
) -> None:
    """Check hashes, contract, golden cases and, with --data, accuracy of every variant; with --layers, say where."""
    from pocketface.converters.verify import verify_bundle
    from pocketface.sdk.bundle import open_bundle
    from pocketface.sdk.progress import track

    if limit < 0:
        raise BadInputError(f"--limit {limit}", expected="a number of faces, or 0 for all")
    # Whatever would be refused at the end is refused before the work.
    if json is not None and json != "-":
        refuse_existing(Path(json), force)
    if checkpoint is not None and not layers:
        raise BadInputError("--checkpoint without --layers", next="Add --layers")
    net = _network(checkpoint or bundle.resolve().parent / "student.safetensors") if layers else None
    with open_bundle(bundle) as opened:
        stage, _ = opened.manifest.variant(variant[0] if variant else None)
        faces = [] if data is None else _faces(data, format, folder or (), stage.scheme, limit)
        count = len(variant or [item for part in opened.manifest.stages for item in part.variants])
        steps = 2 * count + 1 if faces else count
        with track("verifying", steps, show=json != "-") as progress:
            report = verify_bundle(opened, variants=tuple(variant or ()), faces=faces, progress=progress)
        found = None if net is None else _localise(opened, net, tuple(variant or ()))
    failures = report.failures(allow_unchecked=allow_unchecked)
    if found is not None:
        failures += found.failures()
    if json is not None:
        extra = {} if found is None else {"layers": found.to_dict()}
        write_json({**report.to_dict(), **extra, "passed": not failures, "failures": failures}, json, force=force)
    if json != "-":
        _print(report)
        for check in report.variants if audit else ():
            if check.audit is not None:
                console().print(str(check.audit), markup=False, highlight=False)
        if found is not None:
            _print_layers(found)
    if failures:
        located = found is not None and bool(found.failures())
        unchecked = all(check.status != "failed" for check in report.variants) and not report.problems and not located
        raise GateFailedError(
            f"{report.bundle} does not pass: {'; '.join(failures)}",
            next="Run it where these formats can be run, or accept it with --allow-unchecked"
            if unchecked and any(check.status == "passed" for check in report.variants)
            else "Do not ship this bundle; build it again, or leave the variant out",
        )


def _network(path: Path) -> nn.Module:
    """The checkpoint's network; asked for before the work."""
    from pocketface.converters.networks import load_network

    if not path.is_file():
        raise BadInputError(
            f"{path}: no such checkpoint", next="Give the network that the bundle was made from with --checkpoint PATH"
        )
    return load_network(path)


def _localise(bundle: Bundle, net: nn.Module, variants: tuple[str, ...]) -> BundleLayers:
    from pocketface.converters.layers.bundle import localise_bundle

    return localise_bundle(bundle, net, variants=variants)


def _faces(data: Path, format: str, folders: Sequence[str], scheme: Scheme, limit: int) -> list[Face]:
    """Annotated faces, at most ``limit`` (0: all), spread evenly over the sorted names."""
    from pocketface.benchmarks.data.registry import DATASETS

    faces: list[Face] = DATASETS[format](data, folders=folders, scheme=scheme)
    if not limit or len(faces) <= limit:
        return faces
    return [faces[index * len(faces) // limit] for index in range(limit)]


def _print(report: VerifyReport) -> None:
    from rich.table import Table

    title = f"{report.bundle}: {len(report.variants)} variants"
    if report.faces:
        title += f", {report.faces} annotated faces, reference {report.reference or 'none'}"
    table = Table(title=title, title_justify="left")
    golden = f"golden cases, against {report.source.removesuffix(' fp32')}"
    for column in ("variant", "executor", golden, "annotated faces", "result"):
        table.add_column(column, overflow="fold")
    for check in report.variants:
        colour = {"passed": "green", "failed": "bold red", "unchecked": "yellow"}[check.status]
        table.add_row(
            check.id,
            check.executor or "none",
            _golden_text(check),
            _task_text(check.task),
            f"[{colour}]{check.status}[/]",
        )
    out = console()
    out.print(table)
    for problem in report.problems:
        out.print(f"bundle: {problem}", markup=False)
    for check in report.variants:
        for reason in (*check.reasons, *check.notes):
            out.print(f"{check.id}: {reason}", markup=False)


def _print_layers(found: BundleLayers) -> None:
    from rich.table import Table

    out = console()
    out.print(str(found.preprocess), markup=False, highlight=False)
    for report in found.reports:
        out.print(str(report), markup=False, highlight=False)
        table = Table(title=f"{report.variant}: largest errors", title_justify="left")
        for column in ("module", "operation", "error", "of inputs", "mean, absolute", "range", "type"):
            table.add_column(column, overflow="fold")
        for item in report.worst():
            table.add_row(
                item.module,
                item.operation,
                f"{item.relative:.2g}",
                f"{item.inputs:.2g}",
                f"{item.mean_error:.2g}",
                f"{item.low:.3g}..{item.high:.3g}",
                item.dtype if item.scale is None else f"{item.dtype}, scale {item.scale:.2g}",
            )
        out.print(table)
    for id, reason in {**found.untraced, **found.broken}.items():
        out.print(f"{id}: no layers: {reason}", markup=False)


def _golden_text(check: VariantCheck) -> str:
    found = check.golden
    if found is None:
        return "-"
    points, bound = found.outputs["points"], found.tolerances.max_tensor_error
    if bound is not None:
        return f"max {points.max_error:.2g} (bound {bound:g}), {found.max_pixel_error:.2g} px"
    of = "" if check.golden_bound is None else f" (bound {check.golden_bound:.2g})"
    mean = float("nan") if found.golden_error is None else found.golden_error
    return f"mean {mean:.2g}{of}, {found.mean_pixel_error:.2g} px"


def _task_text(found: ParityResult | None) -> str:
    if found is None or found.nme is None or found.nme_reference is None:
        return "-"
    bound = found.tolerances.max_nme_increase
    gate = "" if bound is None else f", bound {bound:+.2f}"
    return f"NME {found.nme_reference:.3f} -> {found.nme:.3f} ({found.nme - found.nme_reference:+.3f}{gate})"
