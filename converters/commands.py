"""The subcommand of this package: ``verify``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from pocketface.sdk.errors import BadInputError, GateFailedError
from pocketface.sdk.files import refuse_existing
from pocketface.sdk.options import BundlePath, DataFolders, DataFormat, Force, Json, example
from pocketface.sdk.signing_command import (
    IdentityIssuer,
    IdentityName,
    PublicKeyPath,
    Staging,
    TrustConfig,
    verifier,
)
from pocketface.sdk.terminal import console, write_json

if TYPE_CHECKING:
    from torch import nn

    from pocketface.benchmarks.data.face import Face
    from pocketface.benchmarks.data.labelled import Labelled
    from pocketface.converters.layers.bundle import BundleLayers
    from pocketface.converters.verdict import ParityResult
    from pocketface.converters.verify_report import ChainCheck, VariantCheck, VerifyReport
    from pocketface.sdk.bundle import Bundle
    from pocketface.sdk.manifest import Manifest
    from pocketface.sdk.signing import Identity, PublicKey


T = TypeVar("T")

_COLOURS = {"passed": "green", "failed": "bold red", "unchecked": "yellow"}


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
            help="The network that the bundle was made from, for --layers (default: student.safetensors beside it); "
            "of a chain, the folder of STAGE.safetensors (default: the bundle's own).",
            show_default=False,
        ),
    ] = None,
    public_key: PublicKeyPath = None,
    identity: IdentityName = None,
    identity_issuer: IdentityIssuer = None,
    staging: Staging = False,
    trust_config: TrustConfig = None,
    json: Json = None,
    force: Force = False,
) -> None:
    """Check hashes, contract, golden cases and, with --data, accuracy of every variant; with --layers, say where; with
    --public-key or --identity, before anything else, who signed the bundle."""
    signed_by = verifier(public_key, identity, identity_issuer, staging, trust_config)
    if limit < 0:
        raise BadInputError(f"--limit {limit}", expected="a number of faces, or 0 for all")
    # Whatever would be refused at the end is refused before the work.
    if json is not None and json != "-":
        refuse_existing(Path(json), force)
    if checkpoint is not None and not layers:
        raise BadInputError("--checkpoint without --layers", next="Add --layers")
    with _opened(bundle, signed_by) as opened:
        from pocketface.converters.verify import chosen, verify_bundle, work
        from pocketface.sdk.progress import track
        from pocketface.sdk.shipped import bundle_path

        ids = chosen(opened.manifest, variant or ())
        nets = _networks(checkpoint, bundle_path(bundle).resolve().parent, opened.manifest, ids) if layers else None
        faces = [] if data is None else _faces(data, format, folder or (), opened.manifest, limit)
        with track("verifying", work(opened.manifest, ids, faces=bool(faces)), show=json != "-") as progress:
            report = verify_bundle(opened, variants=ids, faces=faces, progress=progress)
        found = None if nets is None else _localise(opened, nets, ids)
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


def _opened(path: Path, signed_by: PublicKey | Identity | None) -> Bundle:
    """The bundle; where a signature is asked for, nothing of it is read before that holds."""
    if signed_by is None:
        from pocketface.sdk.bundle import open_bundle

        return open_bundle(path)
    from pocketface.sdk.signing import PublicKey, open_signed

    opened = open_signed(path, signed_by)
    who = f"with the key of {signed_by.path}" if isinstance(signed_by, PublicKey) else f"by {signed_by.name}"
    typer.echo(f"signed {who}, as it is now", err=True)  # standard output may be the figures
    return opened


def _networks(given: Path | None, beside: Path, manifest: Manifest, ids: Sequence[str]) -> dict[str, nn.Module]:
    """Stage name -> the network of its checkpoint, for the stages of these variants; asked for before the work.

    Args:
        given: the file, or, of a chain, the folder; None takes ``beside``.
        beside: the folder that the bundle is in.
        manifest: of the bundle.
        ids: of variants.
    """
    from pocketface.converters.networks import load_network

    stages = list(dict.fromkeys(manifest.variant(id)[0].name for id in ids))
    if len(manifest.stages) == 1:
        paths = {stages[0]: given or beside / "student.safetensors"}
        how = "Give the network that the bundle was made from with --checkpoint PATH"
    else:
        paths = {name: (given or beside) / f"{name}.safetensors" for name in stages}
        how = "Give the folder of the networks that the chain was made from with --checkpoint FOLDER"
    for path in paths.values():
        if not path.is_file():
            raise BadInputError(f"{path}: no such checkpoint", next=how)
    return {name: load_network(path) for name, path in paths.items()}


def _localise(bundle: Bundle, nets: dict[str, nn.Module], ids: Sequence[str]) -> BundleLayers:
    from pocketface.converters.layers.bundle import localise_bundle

    return localise_bundle(bundle, nets, variants=ids)


def _faces(
    data: Path, format: str, folders: Sequence[str], manifest: Manifest, limit: int
) -> list[Face] | list[Labelled]:
    """Annotated faces, or, for masks, labelled pictures; at most ``limit`` (0: all), spread evenly over the names."""
    from pocketface.benchmarks.data.registry import DATASETS, LABELLED

    if manifest.stages[-1].task == "segmentation":
        return _spread(LABELLED[format](data, folders=folders, classes=manifest.stages[-1].class_set), limit)
    return _spread(DATASETS[format](data, folders=folders, scheme=manifest.landmarks.marks), limit)


def _spread(items: list[T], limit: int) -> list[T]:
    if not limit or len(items) <= limit:
        return items
    return [items[index * len(items) // limit] for index in range(limit)]


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
        colour = _COLOURS[check.status]
        table.add_row(
            check.id,
            check.executor or "none",
            _golden_text(check),
            _task_text(check.task),
            f"[{colour}]{check.status}[/]",
        )
    out = console()
    out.print(table)
    if report.chains:
        _print_chains(report.chains)
    for problem in report.problems:
        out.print(f"bundle: {problem}", markup=False)
    for check in report.variants:
        for reason in (*check.reasons, *check.notes):
            out.print(f"{check.id}: {reason}", markup=False)
    for chain in report.chains:
        for reason in chain.reasons:
            out.print(f"{chain.id}: {reason}", markup=False)


def _print_chains(chains: Sequence[ChainCheck]) -> None:
    from rich.table import Table

    table = Table(title="whole chains, against the fp32 chain", title_justify="left")
    for column in ("chain", "annotated faces", "result"):
        table.add_column(column, overflow="fold")
    for chain in chains:
        text = "-"
        if chain.nme is not None and chain.nme_reference is not None:
            rise = f"{chain.nme - chain.nme_reference:+.3f}, bound {chain.bound:+.2f}"
            text = f"NME {chain.nme_reference:.3f} -> {chain.nme:.3f} ({rise})"
        table.add_row(chain.id, text, f"[{_COLOURS[chain.status]}]{chain.status}[/]")
    console().print(table)


def _print_layers(found: BundleLayers) -> None:
    from rich.table import Table

    out = console()
    for where, check in found.places():
        out.print(f"{where}{check}", markup=False, highlight=False)
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
    from pocketface.converters.kinds import main_output

    found = check.golden
    if found is None:
        return "-"
    bound, (_, kind) = found.tolerances.max_tensor_error, main_output(found.kinds)
    if bound is not None:
        return f"max {found.main.max_error:.2g} (bound {bound:g}), {found.max_pixel_error:.2g} {kind.pixel}"
    of = "" if check.golden_bound is None else f" (bound {check.golden_bound:.2g})"
    mean = float("nan") if found.golden_error is None else found.golden_error
    return f"mean {mean:.2g}{of}, {found.mean_pixel_error:.2g} {kind.pixel}"


def _task_text(found: ParityResult | None) -> str:
    from pocketface.converters.kinds import main_output

    if found is None or found.nme is None or found.nme_reference is None:
        return "-"
    bound, (_, kind) = found.tolerances.max_nme_increase, main_output(found.kinds)
    gate = "" if bound is None else f", bound {bound:+.2f}"
    return f"{kind.task} {found.nme_reference:.3f} -> {found.nme:.3f} ({found.nme - found.nme_reference:+.3f}{gate})"
