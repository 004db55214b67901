"""``pocketface pack``: a bundle of files that were not trained here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pocketface.sdk.errors import BadInputError
from pocketface.sdk.files import refuse_existing, write_atomic
from pocketface.sdk.options import DataFolders, DataFormat, Force, Json, example
from pocketface.sdk.terminal import console, size_text, write_json

if TYPE_CHECKING:
    from pocketface.benchmarks.data.face import Face
    from pocketface.converters.pack import Packed
    from pocketface.sdk.manifest import Scheme


@example("pocketface pack model.onnx model.tflite --contract contract.yaml --out bundle")
def pack(
    models: Annotated[
        list[Path],
        typer.Argument(
            help="Model files: .onnx, .tflite, .pte, .mlpackage. The others are compared with the first.",
            show_default=False,
        ),
    ],
    contract: Annotated[
        Path | None, typer.Option(help="What the files cannot say themselves: docs/contract.md.", show_default=False)
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the bundle.", show_default=False)] = None,
    zip: Annotated[
        Path | None, typer.Option("--zip", help="Write the bundle as one .pface file, too.", show_default=False)
    ] = None,
    template: Annotated[
        bool,
        typer.Option("--template", help="Only print a contract to fill in, or write it to --contract."),
    ] = False,
    data: Annotated[
        Path | None,
        typer.Option(help="Root of annotated faces, where a precision is bounded by its NME.", show_default=False),
    ] = None,
    format: DataFormat = "pts",
    folder: DataFolders = None,
    allow_unverified: Annotated[
        bool, typer.Option("--allow-unverified", help="Ship files that nothing here can run.")
    ] = False,
    json: Json = None,
    force: Force = False,
) -> None:
    """Make a bundle of model files from elsewhere: golden cases from the first, the others compared with it."""
    from pocketface.converters.bundle import pack as zip_bundle
    from pocketface.converters.pack import pack_files, refuse_failed
    from pocketface.converters.pack_contract import load_contract
    from pocketface.sdk.progress import say

    if template:
        _write_template(models, contract, force)
        return
    if contract is None:
        raise BadInputError("no contract", next="Give --contract, or get one to fill in with --template")
    if out is None:
        raise BadInputError("no --out", expected="the folder of the bundle")
    # Whatever would be refused at the end is refused before the work.
    if json is not None and json != "-":
        refuse_existing(Path(json), force)
    if zip is not None:
        if zip.suffix != ".pface":
            raise BadInputError(f"{zip}: suffix {zip.suffix!r}", expected=".pface")
        refuse_existing(zip, force)
    show = json != "-"
    loaded = load_contract(contract)
    packed = pack_files(
        models,
        loaded,
        out,
        faces=_faces(data, format, folder or (), loaded.scheme),
        allow_unverified=allow_unverified,
        say=lambda text: say(text, show=show),
        force=force,
    )
    if json is not None:
        write_json(packed.to_dict(), json, force=force)
    if show:
        _print(packed)
    refuse_failed(packed)
    if zip is not None:
        zip_bundle(out, zip, force=force)
    if show:
        console().print(f"bundle {out}" + (f"\nzipped {zip}" if zip is not None else ""), markup=False, soft_wrap=True)


def _write_template(models: Sequence[Path], target: Path | None, force: bool) -> None:
    from pocketface.converters.pack_template import template

    if target is not None:
        refuse_existing(target, force)
    text = template(models)
    if target is None:
        print(text, end="")
        return
    write_atomic(target, text.encode(), force=force)
    print(f"wrote {target}: fill in what is empty")


def _faces(data: Path | None, format: str, folders: Sequence[str], scheme: Scheme) -> list[Face]:
    from pocketface.benchmarks.data.registry import DATASETS

    if data is None:
        return []
    faces: list[Face] = DATASETS[format](data, folders=folders, scheme=scheme)
    if not faces:
        raise BadInputError(f"{data} holds no faces", expected="at least one")
    return faces


def _print(packed: Packed) -> None:
    from rich.table import Table

    table = Table(title=f"{packed.name}, compared with {packed.reference}", title_justify="left")
    for column in ("variant", "file", "size", "executor", "max error, px", "NME", "result"):
        table.add_column(column, overflow="fold")
    for item in packed.candidates:
        found = item.parity
        colour = {"passed": "green", "failed": "bold red", "unverified": "yellow"}[item.status]
        table.add_row(
            item.id,
            item.exported.path.name,
            size_text(item.exported.total_bytes),
            "none" if found is None else found.executor,
            "reference" if item.id == packed.reference else "-" if found is None else f"{found.max_pixel_error:.2g}",
            "-" if found is None or found.nme is None else f"{found.nme_reference:.3f} -> {found.nme:.3f}",
            f"[{colour}]{item.status}[/]",
        )
    out = console()
    out.print(table)
    for note in packed.notes:
        out.print(note, markup=False)
