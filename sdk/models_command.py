"""The subcommand ``models``: which bundles come with the package, and on what terms."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from pocketface.sdk.bundle import open_bundle
from pocketface.sdk.manifest import Manifest
from pocketface.sdk.shipped import bundle_path, shipped_names
from pocketface.sdk.terminal import console, size_text, write_json

MODELS_EXAMPLE = "Example: pocketface models"


def models(
    json: Annotated[str | None, typer.Option(help="Write the list as JSON; - is standard output.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace files that exist.")] = False,
) -> None:
    """List the bundles that come with the package: what they find, their size, figures and licence."""
    found = []
    for name in shipped_names():
        path = bundle_path(name)
        with open_bundle(path) as bundle:
            found.append(_told(bundle.manifest, path.stat().st_size))
    if json is not None:
        write_json({"models": found}, json, force=force)
    if json != "-":
        _print(found)


def _told(manifest: Manifest, size: int) -> dict[str, Any]:
    stage = manifest.stages[-1]
    return {
        "name": manifest.name,
        "task": stage.task,
        "input": stage.preprocess.size,
        "bytes": size,
        "default": manifest.default,
        "variants": list(manifest.chains),
        "metrics": dict(manifest.metrics),
        "data": [source.name for source in manifest.provenance.data],
        "weights_licence": manifest.weights_licence,
    }


def _print(found: list[dict[str, Any]]) -> None:
    from rich.table import Table

    table = Table("name", "finds", "input", "size", "variants (default first)", "on the test set")
    for row in found:
        variants = [row["default"], *(id for id in row["variants"] if id != row["default"])]
        figures = ", ".join(f"{name} {value:.3g}" for name, value in row["metrics"].items())
        side = f"{row['input']} x {row['input']}"
        table.add_row(row["name"], row["task"], side, size_text(row["bytes"]), ", ".join(variants), figures)
    out = console()
    out.print(table if found else "no bundle comes with this installation")
    for row in found:
        out.print(f"{row['name']}: licence of the weights: {row['weights_licence']}", markup=False, soft_wrap=True)
    out.print("use: pocketface run photo.jpg --out out.png; load(NAME) in Python", markup=False)
