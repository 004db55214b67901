"""The subcommand ``subset``: a bundle with some of another bundle's variants."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from pocketface.converters.bundle import pack
from pocketface.converters.subset import subset_bundle
from pocketface.sdk.bundle import open_bundle
from pocketface.sdk.files import refuse_existing
from pocketface.sdk.options import BundlePath, Force, example
from pocketface.sdk.terminal import console, size_text


@example("pocketface subset runs/sweep68/bundle --variant w8a8.onnx --variant w8a8.tflite --out face68.pface")
def subset(
    bundle: BundlePath,
    variant: Annotated[
        list[str], typer.Option(help="Variant to keep; the first is the default. Give it again.", show_default=False)
    ],
    out: Annotated[Path, typer.Option(help="Folder to write, or NAME.pface.", show_default=False)],
    name: Annotated[str, typer.Option(help="Of the new bundle (default: the old one's).", show_default=False)] = "",
    golden: Annotated[int, typer.Option(help="Golden cases to keep, the first ones (0: all).", min=0)] = 0,
    force: Force = False,
) -> None:
    """Keep some variants of a bundle, with its golden cases, card and licence: what an app ships."""
    refuse_existing(out, force)
    zipped = out.suffix == ".pface"
    with open_bundle(bundle) as opened, tempfile.TemporaryDirectory(prefix="pocketface-") as scratch:
        folder = Path(scratch) / "bundle" if zipped else out
        subset_bundle(opened, folder, variant, default=variant[0], name=name, golden=golden, force=force)
        if zipped:
            pack(folder, out, force=force)
    size = out.stat().st_size if zipped else sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
    console().print(f"bundle {out} ({size_text(size)})", markup=False)
