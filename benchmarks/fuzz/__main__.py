"""python -m pocketface.benchmarks.fuzz BUNDLE: try broken versions of a bundle, write what became of them."""

from __future__ import annotations

import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated

import typer

from pocketface.benchmarks.fuzz.campaign import Counts, campaign
from pocketface.sdk.bundle import open_bundle
from pocketface.sdk.errors import BadInputError, GateFailedError, PocketfaceError
from pocketface.sdk.files import refuse_existing, sha256
from pocketface.sdk.options import Force
from pocketface.sdk.progress import track
from pocketface.sdk.terminal import write_json


def fuzz(
    bundle: Annotated[Path, typer.Argument(help="Bundle folder; small files make it fast.", show_default=False)],
    mutants: Annotated[int, typer.Option(help="Broken bundles to try.")] = 20_000,
    mended: Annotated[int, typer.Option(help="And so many with mended hashes, so that a runtime sees them.")] = 300,
    seed: Annotated[int, typer.Option(help="Of the random numbers; equal ones give equal mutants.")] = 0,
    first: Annotated[int, typer.Option(help="Number of the first one, to try a single one again.")] = 0,
    workers: Annotated[int, typer.Option(help="Processes at a time.")] = 1,
    json: Annotated[Path | None, typer.Option(help="Write the counts as JSON.", show_default=False)] = None,
    force: Force = False,
) -> None:
    """Try broken versions of a bundle: each must be refused with a typed error, or do what it says."""
    if mutants < 0 or mended < 0 or first < 0:
        raise BadInputError("a negative number of mutants", expected="0 or more")
    if json is not None:
        refuse_existing(json, force)
    with open_bundle(bundle) as opened:
        about = {
            "bundle": opened.manifest.name,
            "manifest_sha256": sha256(opened.root / "manifest.json"),
            "formats": sorted({item.format for stage in opened.manifest.stages for item in stage.variants}),
        }
    with track("breaking", mutants + mended, show=sys.stderr.isatty()) as progress:
        plain = campaign(bundle, mutants=mutants, seed=seed, first=first, workers=workers, progress=progress)
        through = campaign(
            bundle,
            mutants=mended,
            seed=seed,
            first=first,
            mended=True,
            workers=workers,
            progress=lambda done: progress(mutants + done),
        )
    for name, counts in (("as they are", plain), ("with mended hashes", through)):
        _print(name, counts)
    if json is not None:
        write_json(
            {
                "schema": 1,
                "command": "python -m pocketface.benchmarks.fuzz BUNDLE "
                f"--mutants {mutants} --mended {mended} --seed {seed}",
                **about,
                "commit": _commit(),
                "seed": seed,
                "versions": _versions(),
                "plain": plain.to_dict(),
                "mended": through.to_dict(),
            },
            str(json),
            force=force,
        )
    # A native crash on a model whose hash is right is the runtime's; anything else is ours.
    ours = plain.findings + [item for item in through.findings if item["result"] not in ("crashed", "hung")]
    if ours:
        raise GateFailedError(
            f"{len(ours)} mutants were not refused as they should be", next="Try one again with --first"
        )


def _print(name: str, counts: Counts) -> None:
    print(f"{name}: {counts.mutants} mutants in {counts.seconds:.0f} s, up to {counts.largest_mb:.0f} MB")
    for result, count in counts.results.most_common():
        print(f"  {result:9} {count}")
    for item in counts.findings[:20]:
        print(f"  {item['result']}: number {item['number']} ({item['kind']}): {item['detail']}")


def _commit() -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"], capture_output=True, text=True, check=False
        )
    except OSError:
        return ""
    return done.stdout.strip()


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in ("pocketface", "numpy", "msgspec", "onnxruntime", "ai-edge-litert", "executorch"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def main() -> None:
    """The command: one line for an error, as everywhere."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(fuzz)
    try:
        app()
    except PocketfaceError as error:
        print(f"pocketface: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
