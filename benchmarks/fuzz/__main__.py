"""python -m pocketface.benchmarks.fuzz BUNDLE: try broken versions of a bundle, write what became of them."""

from __future__ import annotations

import platform
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from pocketface.benchmarks.checkout import git_commit
from pocketface.benchmarks.fuzz.campaign import NATIVE, Counts, campaign
from pocketface.benchmarks.module_command import ended
from pocketface.sdk.bundle import Bundle, open_bundle
from pocketface.sdk.chain import runnable
from pocketface.sdk.errors import BadInputError, GateFailedError
from pocketface.sdk.files import refuse_existing, sha256
from pocketface.sdk.options import BundlePath, Force
from pocketface.sdk.progress import track
from pocketface.sdk.terminal import write_json

SCHEMA = 2


def fuzz(
    bundle: BundlePath,
    mutants: Annotated[int, typer.Option(help="Broken bundles to try.")] = 20_000,
    mended: Annotated[
        int, typer.Option(help="And so many of the golden cases and of each variant, with mended hashes.")
    ] = 300,
    variant: Annotated[
        list[str] | None,
        typer.Option(help="Variant to run. Give it again for several (default: all that can).", show_default=False),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the random numbers; equal ones give equal mutants.")] = 0,
    first: Annotated[int, typer.Option(help="Number of the first one, to try a single one again.")] = 0,
    workers: Annotated[int, typer.Option(help="Processes at a time.")] = 1,
    json: Annotated[Path | None, typer.Option(help="Write the counts as JSON.", show_default=False)] = None,
    add: Annotated[
        bool, typer.Option("--add", help="Add to the runs that the file of --json holds, in place of the bundle's own.")
    ] = False,
    force: Force = False,
) -> None:
    """Try broken versions of a bundle: each must be refused with a typed error, or do what it says."""
    if mutants < 0 or mended < 0 or first < 0:
        raise BadInputError("a negative number of mutants", expected="0 or more")
    if add and json is None:
        raise BadInputError("--add without --json", next="Name the file to add to")
    if add and json is not None:
        _earlier(json)  # what would be refused at the end is refused before the work
    if json is not None and not add:
        refuse_existing(json, force)
    with open_bundle(bundle) as opened:
        ids = _variants(opened, variant)
        # What is broken, its files (none stand for the bundle as a whole), what is run of it, how many.
        # What is run of a mutant: None for whatever it says itself that it has.
        parts: list[tuple[str, tuple[str, ...], tuple[str, ...] | None, int]] = []
        if mutants:
            parts.append(("bundle", (), ids if variant else None, mutants))
        if mended:
            parts.append(("golden cases", tuple(entry.path for entry in opened.manifest.golden), (), mended))
            parts += [(id, _files(opened, id), (id,), mended) for id in ids]
        found: list[dict[str, Any]] = []
        ours = 0
        for broken, files, run, count in parts:
            with track(broken, count, show=sys.stderr.isatty()) as progress:
                counts = campaign(
                    opened.root,
                    mutants=count,
                    seed=seed,
                    first=first,
                    mended=files,
                    variants=run,
                    workers=workers,
                    progress=progress,
                )
            # A native crash on a model whose hash is right is the runtime's; anything else is ours.
            native = [item for item in counts.findings if broken in ids and item["result"] in NATIVE]
            ours += len(counts.findings) - len(native)
            _print(broken, counts)
            told = {"broken": broken, "variants": ids if run is None else run}
            found.append({**told, "ours": len(counts.findings) - len(native), **counts.to_dict()})
        record = {
            "command": "python -m pocketface.benchmarks.fuzz BUNDLE "
            f"--mutants {mutants} --mended {mended} --seed {seed}"
            + "".join(f" --variant {id}" for id in variant or ()),
            "bundle": opened.manifest.name,
            "manifest_sha256": sha256(opened.root / "manifest.json"),
            "commit": git_commit(),
            "seed": seed,
            "versions": _versions(),
            "campaigns": found,
        }
    if json is not None:
        earlier = [run for run in _earlier(json) if run["bundle"] != record["bundle"]] if add else []
        write_json({"schema": SCHEMA, "runs": [*earlier, record]}, str(json), force=force or add)
    if ours:
        raise GateFailedError(f"{ours} mutants were not refused as they should be", next="Try one again with --first")


def _earlier(path: Path) -> list[Any]:
    """The runs of a record; none where there is no such file yet.

    Raises:
        BadInputError: it is none of ours.
    """
    if not path.exists():
        return []
    try:
        record = msgspec.json.decode(path.read_bytes())
        if record["schema"] == SCHEMA:
            return list(record["runs"])
    except (OSError, msgspec.DecodeError, TypeError, KeyError) as error:
        raise BadInputError(
            f"{path}: no runs to add to ({error!r})", next="Leave --add out, or name another"
        ) from error
    raise BadInputError(f"{path} has schema {record['schema']}", expected=f"{SCHEMA}", next="Leave --add out")


def _variants(bundle: Bundle, wanted: Sequence[str] | None) -> tuple[str, ...]:
    """Ids of variants, or chains, to run.

    Raises:
        BundleError: no such variant.
        BadInputError: one that nothing here runs, or there is none that could be.
    """
    able = runnable(bundle.manifest)
    for id in wanted or ():
        bundle.manifest.chain(id)
        if id not in able:
            raise BadInputError(f"variant {id!r} cannot run here", choices=able)
    return tuple(wanted or able)


def _files(bundle: Bundle, id: str) -> tuple[str, ...]:
    return tuple(file.path for _, variant in bundle.manifest.chain(id) for file in variant.files)


def _print(name: str, counts: Counts) -> None:
    print(f"{name}: {counts.mutants} mutants in {counts.seconds:.0f} s, up to {counts.largest_mb:.0f} MB")
    for result, count in counts.results.most_common():
        print(f"  {result:9} {count}", flush=True)
    for item in counts.findings[:20]:
        print(f"  {item['result']}: number {item['number']} ({item['kind']}): {item['detail']}", flush=True)


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in ("pocketface", "numpy", "msgspec", "onnxruntime", "ai-edge-litert", "executorch"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def main() -> int:
    """The command; returns the exit code."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(fuzz)
    return ended(app)


if __name__ == "__main__":
    sys.exit(main())
