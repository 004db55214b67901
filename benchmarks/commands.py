"""The subcommands of this package: ``eval``, ``bench``, ``schemes`` and ``synth``."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pocketface.sdk.backends.delegates import AUTO
from pocketface.sdk.errors import BadInputError, EnvironmentProblemError, UnknownNameError
from pocketface.sdk.files import refuse_existing, write_atomic
from pocketface.sdk.manifest import Manifest
from pocketface.sdk.options import BundlePath, DataFolders, DataFormat, Delegate, Force, Json, example
from pocketface.sdk.terminal import console, write_json

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pocketface.benchmarks.accuracy import AccuracyResult
    from pocketface.benchmarks.data.face import Face
    from pocketface.benchmarks.metrics import Accuracy
    from pocketface.benchmarks.robustness import RobustnessResult
    from pocketface.sdk.predictor import Predictor

Progress = Callable[[int, int], None]

SHEET_FACES, SHEET_COLUMNS = 48, 8
REFRESH_SECONDS = 0.25
"""How often a progress bar is drawn."""


@example("pocketface eval runs/face68/bundle --data 300w --format 300w --folder helen/testset --variant all")
def evaluate(
    bundle: BundlePath,
    data: Annotated[
        Path | None, typer.Option(help="Root of the annotated faces.", envvar="POCKETFACE_DATA", show_default=False)
    ] = None,
    format: DataFormat = "pts",
    folder: DataFolders = None,
    variant: Annotated[
        list[str] | None,
        typer.Option(
            help="Variant to measure, or all. Give it again for several (default: the bundle's own choice).",
            show_default=False,
        ),
    ] = None,
    threads: Annotated[int, typer.Option(help="Threads the runtime may use.")] = 1,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave out faces that cannot be used, and say which.")
    ] = False,
    degrade: Annotated[
        list[str] | None,
        typer.Option(
            help="Measure under a degradation besides, or under each of the protocol 300w-degraded with protocol. "
            "Give it again for several.",
            show_default=False,
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the degraded faces.")] = 0,
    json: Json = None,
    ced: Annotated[
        Path | None, typer.Option(help="Draw the cumulative error distribution (.png, .svg or .pdf).")
    ] = None,
    force: Force = False,
) -> None:
    """Measure accuracy on annotated faces: NME, median, failure rate, AUC; of masks, mIoU, F1 and borders."""
    from pocketface.benchmarks.accuracy import evaluate as run
    from pocketface.benchmarks.ced import checked_plot, plot_ced
    from pocketface.benchmarks.data.fingerprint import data_source
    from pocketface.benchmarks.data.registry import DATASETS
    from pocketface.benchmarks.mask_eval import evaluate_bundle, print_masks, report
    from pocketface.sdk.bundle import open_bundle
    from pocketface.sdk.predictor import Predictor
    from pocketface.sdk.progress import track

    if data is None:
        raise BadInputError("no data to measure on", next="Give --data DIR, or set POCKETFACE_DATA")
    # Whatever would be refused at the end is refused before the work.
    _refuse_targets(json, ced, force=force)
    if ced is not None:
        checked_plot(ced)
    conditions = _conditions(degrade)
    skipped: list[str] = []

    def left_out(error: Exception) -> None:
        if str(error) not in skipped:
            skipped.append(str(error))
            console(error=True).print(f"left out: {error}", markup=False, soft_wrap=True)

    results: list[AccuracyResult] = []
    robust: list[RobustnessResult] = []
    with open_bundle(bundle) as opened:
        chosen, unable = _variants(opened.manifest, variant)
        if opened.manifest.stages[-1].task == "segmentation":
            _refuse_for_masks({"--ced": ced, "--degrade": degrade})
            found, more = evaluate_bundle(
                opened,
                chosen,
                data,
                format=format,
                folders=folder or (),
                threads=threads,
                skip_bad=skip_bad,
                on_skip=left_out,
            )
            more |= {"skipped": skipped, "not_run": unable}
            if json is not None:
                write_json(report(opened.manifest.name, found, more), json, force=force)
            if json != "-":
                print_masks(opened.manifest.name, found, unable)
            return
        reader, scheme = DATASETS[format], opened.manifest.landmarks.marks
        faces = reader(data, folders=folder or (), scheme=scheme, skip_bad=skip_bad, on_skip=left_out)
        for id in chosen:
            predictor = Predictor(opened, variant=id, threads=threads)
            with track(id, len(faces)) as step:
                results.append(
                    run(predictor, faces, progress=lambda done, _: step(done), on_skip=left_out if skip_bad else None)
                )
            if conditions:
                robust.append(_degraded(predictor, faces, conditions, seed, left_out if skip_bad else None))
        name = opened.manifest.name
    measured = set(results[0].names)
    faces = [face for face in faces if face.name in measured]
    if ced is not None:
        curves = {result.variant: result.errors for result in results}
        write_atomic(ced, plot_ced(curves, suffix=ced.suffix), force=force)
    if json is not None:
        source = data_source(faces, name=format, split=" ".join(folder or ()), licence=reader.licence)
        figures = {
            "bundle": name,
            "data": source,
            "skipped": skipped,
            "not_run": unable,
            "variants": [result.to_dict() for result in results],
        }
        if robust:
            figures["degraded"] = [result.to_dict() for result in robust]
        write_json(figures, json, force=force)
    if json != "-":
        _print_accuracy(name, faces, results, skipped, unable)
        for result in robust:
            console().print(result)


def _refuse_for_masks(given: Mapping[str, object]) -> None:
    for option, value in given.items():
        if value:
            raise BadInputError(
                f"{option} with a bundle of masks", expected="a bundle of landmarks", next="Leave it out"
            )


def _conditions(wanted: Sequence[str] | None) -> list[str]:
    """Names of degradations, each once, ``protocol`` replaced by all of its own.

    Raises:
        UnknownNameError: no such degradation.
    """
    from pocketface.benchmarks.data.degrade import DEGRADATIONS
    from pocketface.benchmarks.robustness import ROWS

    names = dict.fromkeys(row for name in wanted or () for row in (ROWS if name == "protocol" else (name,)))
    for name in names:
        if name not in DEGRADATIONS:
            raise UnknownNameError("degradation", name, [*DEGRADATIONS, "protocol"])
    return list(names)


def _degraded(
    predictor: Predictor,
    faces: Sequence[Face],
    names: Sequence[str],
    seed: int,
    on_skip: Callable[[BadInputError], None] | None,
) -> RobustnessResult:
    from pocketface.benchmarks.robustness import evaluate_degraded
    from pocketface.sdk.progress import track

    with track(f"{predictor.id}, degraded", len(names) * len(faces)) as step:

        def done(name: str, count: int, total: int) -> None:
            step(list(names).index(name) * total + count)

        return evaluate_degraded(predictor, faces, names=names, seed=seed, progress=done, on_skip=on_skip)


def _print_accuracy(
    name: str, faces: Sequence[Face], results: Sequence[AccuracyResult], skipped: Sequence[str], unable: dict[str, str]
) -> None:
    from rich.table import Table

    folders = sorted({face.folder for face in faces})
    out = console()
    table = Table(title=f"{name}: {len(faces)} faces of {', '.join(folders) or 'the folder'}", title_justify="left")
    table.add_column("variant", overflow="fold")
    # Narrow, and never cut: all the figures fit into 80 columns.
    for column in ("faces", "NME\n%", "median\n%", "FR@0.1\n%", "landmark\nFR@0.1 %", "AUC\n@0.1", "face\nscore"):
        table.add_column(column, justify="right", no_wrap=True)

    def add(first: str, figures: Accuracy, score: str, *, last: bool) -> None:
        rates = (figures.nme, figures.median, figures.fr, figures.landmark_fr)
        texts = [f"{rate:.{digits}f}" for rate, digits in zip(rates, (3, 3, 2, 2), strict=True)]
        table.add_row(first, str(figures.faces), *texts, f"{figures.auc:.4f}", score, end_section=last)

    for result in results:
        parts = result.by_folder() if len(folders) > 1 else {}
        score = f"{result.mean_score:.3f}" if result.has_score else "-"
        add(result.variant, result.accuracy, score, last=not parts)
        for folder, figures in parts.items():
            add(f"  {folder}", figures, "", last=folder == folders[-1])
    out.print(table)
    executors = sorted({result.executor for result in results})
    out.print(f"Run by {', '.join(executors)}, each face in its ground-truth box.", markup=False)
    if skipped:
        out.print(f"{len(skipped)} left out because they cannot be used.")
    for id, why in unable.items():
        out.print(f"{id} not measured: {why}", markup=False)


@example("pocketface bench runs/face68/bundle --threads 1,2 --json latency.json")
def bench(
    bundle: BundlePath,
    variant: Annotated[
        list[str] | None,
        typer.Option(help="Variant to measure. Give it again for several (default: all).", show_default=False),
    ] = None,
    threads: Annotated[str, typer.Option(help="Thread counts to measure, with commas between.")] = "1,2",
    delegate: Delegate = AUTO,
    runs: Annotated[int, typer.Option(help="Measured runs of each variant and thread count.")] = 100,
    json: Json = None,
    force: Force = False,
) -> None:
    """Measure latency of the variants on this machine, interleaved so that their ratios are fair."""
    from pocketface.benchmarks.latency import measure
    from pocketface.sdk.bundle import open_bundle

    counts = _counts(threads)
    _refuse_targets(json, force=force)
    everything = not variant or "all" in variant
    with open_bundle(bundle) as opened, _still_progress("bench") as progress:
        result = measure(
            opened,
            None if everything else variant,
            threads=counts,
            delegate=delegate,
            runs=runs,
            progress=progress,
        )
    if json is not None:
        write_json(result.to_dict(), json, force=force)
    if json != "-":
        console().print(result)


@example("pocketface schemes")
def schemes(json: Json = None, force: Force = False) -> None:
    """List the landmark schemes, and how many points each has."""
    from rich.table import Table

    from pocketface.sdk.schemes import SCHEMES, load_scheme

    _refuse_targets(json, force=force)
    found = [load_scheme(name) for name in SCHEMES]
    if json is not None:
        write_json(found, json, force=force)
    if json == "-":
        return
    table = Table()
    for column in ("scheme", "points", "parts", "errors in units of"):
        table.add_column(column, justify="right" if column == "points" else "left")
    for scheme in found:
        left, right = (scheme.names[index] if scheme.names else str(index) for index in scheme.normaliser)
        table.add_row(scheme.name, str(scheme.points), ", ".join(scheme.parts), f"{left} to {right}")
    console().print(table)


@example("pocketface synth faces --count 200 --seed 1 --size 192 --sheet")
def synth(
    folder: Annotated[Path, typer.Argument(help="Folder to make; it must be new or empty.", show_default=False)],
    count: Annotated[int, typer.Option(help="Number of faces.")] = 100,
    seed: Annotated[int, typer.Option(help="The same seed draws the same faces.")] = 0,
    size: Annotated[int, typer.Option(help="Side of the pictures, in pixels.")] = 192,
    sheet: Annotated[
        bool, typer.Option("--sheet", help="Add sheet.png: the first faces with their landmarks, side by side.")
    ] = False,
) -> None:
    """Draw synthetic faces with exact landmarks: images, each with a .pts beside it."""
    from pocketface.benchmarks.data.synthetic import write_dataset
    from pocketface.sdk.images import write_image
    from pocketface.sdk.progress import track

    with track("drawing", count) as step:
        write_dataset(folder, count=count, seed=seed, size=size, progress=step)
    print(f"{count} faces of {size} x {size} pixels, seed {seed}: {folder}")
    if sheet:
        write_image(folder / "sheet.png", _sheet(folder))
        print(f"contact sheet: {folder / 'sheet.png'}")


def _sheet(folder: Path) -> NDArray[np.uint8]:
    """The first faces of a data set as they are read back: (rows * size, columns * size, 3) uint8."""
    import numpy as np

    from pocketface.benchmarks.data.registry import DATASETS
    from pocketface.sdk.images import read_image
    from pocketface.sdk.overlay import PointsOverlay
    from pocketface.sdk.results import Landmarks
    from pocketface.sdk.schemes import load_scheme

    draw, tiles = PointsOverlay(), []
    for face in DATASETS["pts"](folder, scheme=load_scheme("ibug68"))[:SHEET_FACES]:
        tiles.append(draw(read_image(face.image), [Landmarks(face.points, 1.0, face.box, "ibug68")]))
    columns = min(len(tiles), SHEET_COLUMNS)
    blank = np.full_like(tiles[0], 255)
    tiles += [blank] * (-len(tiles) % columns)
    rows = [np.concatenate(tiles[start : start + columns], axis=1) for start in range(0, len(tiles), columns)]
    return np.concatenate(rows)


def _variants(manifest: Manifest, wanted: Sequence[str] | None) -> tuple[list[str], dict[str, str]]:
    """Ids of variants, or chains, to run, in the manifest's order, and those of "all" that cannot run here and why.

    Raises:
        BundleError: no such variant.
        EnvironmentProblemError: none of them can run here.
    """
    from pocketface.sdk.backends.registry import has_executor
    from pocketface.sdk.predictor import runnable

    if not wanted:
        return [manifest.default], {}
    if "all" not in wanted:
        for id in wanted:
            manifest.chain(id)
        return list(dict.fromkeys(wanted)), {}
    able = runnable(manifest)
    formats = {id: dict.fromkeys(variant.format for _, variant in manifest.chain(id)) for id in manifest.chains}
    if not able:
        raise EnvironmentProblemError(
            f"none of the variants of {manifest.name} can run here",
            expected="a runtime for " + " or ".join(sorted({format for each in formats.values() for format in each})),
            next="Install one, for example with pip install onnxruntime",
        )
    unable = {
        id: f"nothing here runs {' or '.join(format for format in each if not has_executor(format))}"
        for id, each in formats.items()
        if id not in able
    }
    return able, unable


def _counts(text: str) -> tuple[int, ...]:
    """``1,2`` -> (1, 2)."""
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise BadInputError(
            f"threads {text!r}", expected="whole numbers, as in 1,2", next="Correct --threads"
        ) from error


def _refuse_targets(json: str | None, *files: Path | None, force: bool) -> None:
    for path in (Path(json) if json is not None and json != "-" else None, *files):
        if path is not None:
            refuse_existing(path, force)


@contextmanager
def _still_progress(title: str) -> Iterator[Progress]:
    """A bar on standard error that is drawn between steps only.

    The usual one (``pocketface.sdk.progress``) is drawn by a thread of its own, which would take time from what is
    being measured.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    out = console(error=True)
    with Bars(*columns, console=out, transient=True, auto_refresh=False, disable=not out.is_terminal) as bars:
        task, drawn = bars.add_task(title, total=None), 0.0

        def step(done: int, total: int) -> None:
            nonlocal drawn
            now = time.monotonic()
            bars.update(task, completed=done, total=total, refresh=now - drawn > REFRESH_SECONDS)
            if now - drawn > REFRESH_SECONDS:
                drawn = now

        yield step
