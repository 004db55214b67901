"""The subcommands of this package that train or read runs: ``compress``, ``train``, ``ablate`` and ``results``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pocketface.compression.logs import log_to
from pocketface.sdk.files import refuse_existing, write_atomic
from pocketface.sdk.options import Force, Json, example
from pocketface.sdk.terminal import console, write_json

if TYPE_CHECKING:
    from rich.table import Table

    from pocketface.compression.pipeline.context import ChainContext, Context
    from pocketface.compression.pipeline.segment.context import SegmentContext

RecipePath = Annotated[
    Path, typer.Argument(help="Recipe, e.g. compression/recipes/face68-kd.yaml.", show_default=False)
]
Data = Annotated[Path, typer.Option(help="Root of the annotated faces.", envvar="POCKETFACE_DATA", show_default=False)]
Out = Annotated[
    Path, typer.Option(help="The run's folder; what is done there already is not done again.", show_default=False)
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", help="Change a setting: key.subkey=value. Give it again for several.", show_default=False),
]
SkipBad = Annotated[bool, typer.Option("--skip-bad", help="Leave out annotations that cannot be used.")]
Threads = Annotated[int, typer.Option(help="Threads that training may use (0: all cores).", min=0)]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress bars.")]


@example("pocketface compress compression/recipes/face68-kd.yaml --data 300w --out runs/face68")
def compress(
    recipe: RecipePath,
    data: Data,
    out: Out,
    set: Set = None,
    skip_bad: SkipBad = False,
    threads: Threads = 0,
    quiet: Quiet = False,
    json: Json = None,
    force: Force = False,
) -> None:
    """Distil, export, quantize, verify and measure a model: from annotated faces or labelled pictures to a bundle and a
    report."""
    from pocketface.benchmarks.reports.data import load
    from pocketface.benchmarks.reports.terminal import print_summary
    from pocketface.compression.pipeline.context import ChainContext
    from pocketface.compression.pipeline.result import result_json
    from pocketface.compression.pipeline.run import compress as run
    from pocketface.compression.pipeline.segment.context import SegmentContext

    if json is not None and json != "-":
        refuse_existing(Path(json), force)  # before the hours, not after
    context = _context(recipe, data, out, set, skip_bad, threads, quiet)
    if isinstance(context, ChainContext):
        _compress_chain(context, json, force)
        return
    if isinstance(context, SegmentContext):
        _compress_masks(context, json, force)
        return
    result = run(_landmarks(context))
    if json is not None:
        import msgspec

        write_json(msgspec.json.decode(result_json(result)), json, force=force)
    if json != "-":
        print_summary(load(out / "report.json"))
        console().print(f"bundle {result.bundle}\nreport {context.run / 'report.html'}")


def _compress_chain(context: ChainContext, json: str | None, force: bool) -> None:
    from pocketface.compression.pipeline.chain.results import chain_table
    from pocketface.compression.pipeline.chain.run import compress_chain

    result = compress_chain(context)
    _tell(context.run, chain_table(result.measured), result.bundle, json, force)


def _compress_masks(context: SegmentContext, json: str | None, force: bool) -> None:
    from pocketface.compression.pipeline.segment.results import mask_table
    from pocketface.compression.pipeline.segment.run import compress_masks

    result = compress_masks(context)
    _tell(context.run, mask_table(result.accuracy), result.bundle, json, force)


def _tell(run: Path, table: Table, bundle: Path | None, json: str | None, force: bool) -> None:
    """What a run ended with: its figures as JSON, or a table and where everything is."""
    import msgspec

    from pocketface.benchmarks.papers.common import RESULTS

    if json is not None:
        write_json(msgspec.json.decode((run / RESULTS).read_bytes()), json, force=force)
    if json != "-":
        console().print(table)
        console().print(f"bundle {bundle}\nreport {run / 'report.html'}\nfigures {run / RESULTS}")


@example("pocketface train compression/recipes/rule68.yaml --network relocalize --data 300w --out runs/rule68")
def train(
    recipe: RecipePath,
    data: Data,
    out: Out,
    network: Annotated[
        list[str] | None, typer.Option(help="Only this network. Give it again for several (default: all).")
    ] = None,
    set: Set = None,
    skip_bad: SkipBad = False,
    threads: Threads = 0,
    quiet: Quiet = False,
) -> None:
    """Train networks of a recipe and stop there. Resumes; several networks may be trained side by side, one a
    process."""
    from pocketface.compression.pipeline.networks import train_networks

    context = _context(recipe, data, out, set, skip_bad, threads, quiet)
    for name, done in train_networks(context, tuple(network or ())).items():
        print(f"{name}: {done.path}  {'trained' if done.fresh else 'was there'}, {done.seconds / 60:.1f} min")


@example("pocketface ablate compression/recipes/face68-kd.yaml --data 300w --out runs/face68")
def ablate(
    recipe: RecipePath,
    data: Data,
    out: Out,
    row: Annotated[list[str] | None, typer.Option(help="Only this row. Give it again for several.")] = None,
    set: Set = None,
    skip_bad: SkipBad = False,
    threads: Threads = 0,
    quiet: Quiet = False,
) -> None:
    """Train the recipe's ablation: the same student with each loss and seed. Resumes; shares the run's teachers."""
    import msgspec

    from pocketface.benchmarks.reports.markdown import table
    from pocketface.compression.pipeline.ablation import run_ablation
    from pocketface.compression.pipeline.page import ablation_rows

    context = _landmarks(_context(recipe, data, out, set, skip_bad, threads, quiet))
    trials = run_ablation(context, row or ())
    write_atomic(out / "ablation.json", msgspec.json.format(msgspec.json.encode(trials), indent=1), force=True)
    print(table(ablation_rows(trials), digits={"minutes": 0}))


@example("pocketface results runs/face68 --page docs/results/face68-kd.md")
def results(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run, or a results .json.", show_default=False)],
    page: Annotated[Path, typer.Option(help="The Markdown page to write; its figures go beside it as .json.")],
    readme: Annotated[Path | None, typer.Option(help="Also renew the table between this file's markers.")] = None,
) -> None:
    """Write a results page from what a run stored, or again from its .json."""
    from pocketface.benchmarks.papers.registry import figures_file, paper_of
    from pocketface.compression.pipeline.page import collect, read_results, update_readme, write_page

    paper = paper_of(run)
    if paper is not None:
        paper.write(paper.read(figures_file(run)), page)
        print(f"wrote {page} and {page.with_suffix('.json')}")
        return
    source = read_results(run) if run.suffix == ".json" else collect(run)
    write_page(source, page)
    if readme is not None:
        update_readme(source, readme)
    print(f"wrote {page} and {page.with_suffix('.json')}")


def _context(
    recipe: Path, data: Path, out: Path, overrides: list[str] | None, skip_bad: bool, threads: int, quiet: bool
) -> Context | ChainContext | SegmentContext:
    from pocketface.compression.chain_recipe import ChainRecipe
    from pocketface.compression.pipeline.context import ChainContext, Context
    from pocketface.compression.pipeline.segment.context import SegmentContext
    from pocketface.compression.recipe_file import load_any
    from pocketface.compression.segment_recipe import SegmentRecipe

    loaded = load_any(recipe, tuple(overrides or ()))
    import torch

    if threads:
        torch.set_num_threads(threads)
    out.mkdir(parents=True, exist_ok=True)
    log_to(out / "log.txt")
    if isinstance(loaded, ChainRecipe):
        return ChainContext(loaded, data, out, skip_bad=skip_bad, progress=not quiet)
    if isinstance(loaded, SegmentRecipe):
        return SegmentContext(loaded, data, out, skip_bad=skip_bad, progress=not quiet)
    return Context(loaded, data, out, skip_bad=skip_bad, progress=not quiet)


def _landmarks(context: Context | ChainContext | SegmentContext) -> Context:
    """A run of one landmark network.

    Raises:
        ConfigError: the recipe is a chain's, or for masks.
    """
    from pocketface.compression.pipeline.context import ChainContext, Context
    from pocketface.sdk.errors import ConfigError

    if not isinstance(context, Context):
        kind = "a chain's" if isinstance(context, ChainContext) else "for masks"
        raise ConfigError(
            f"recipe {context.recipe.name!r} is {kind}",
            expected="a recipe of landmarks with a student",
            next="Networks of such a recipe are trained by pocketface train",
        )
    return context
