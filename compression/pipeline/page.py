"""A results page, generated from what a run stored; the figures lie beside it as JSON, from which it can be written
again."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from rich.table import Table

from pocketface.benchmarks.machine import this_machine
from pocketface.compression.pipeline.ablation import Trial, spread
from pocketface.compression.pipeline.provenance import git_commit
from pocketface.compression.recipe import Recipe, load_recipe, recipe_sha256
from pocketface.sdk.errors import BadInputError
from pocketface.sdk.files import write_atomic
from pocketface.sdk.manifest import Manifest, Variant, decode

BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"


class Results(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a page is written from.

    Attributes:
        recipe: of the run.
        run: the run's results.json.
        trials: of the ablation; may be empty.
        manifest: of the shipped bundle, with parity and latency.
        machine, cores, commit: where and from what the figures were collected.
    """

    recipe: Recipe
    run: dict[str, Any]
    trials: list[Trial]
    manifest: Manifest
    machine: str
    cores: int
    commit: str


def collect(run: Path) -> Results:
    """Gather the stored outputs of a finished run.

    Raises:
        BadInputError: the run has no results yet.
    """
    for needed in ("results.json", "bundle/manifest.json", "recipe.yaml"):
        if not (run / needed).exists():
            raise BadInputError(f"{run}: no {needed}", next="Finish the run first: pocketface compress")
    ablation = run / "ablation.json"
    machine = this_machine()
    return Results(
        recipe=load_recipe(run / "recipe.yaml"),
        run=msgspec.json.decode((run / "results.json").read_bytes()),
        trials=msgspec.json.decode(ablation.read_bytes(), type=list[Trial]) if ablation.exists() else [],
        manifest=decode((run / "bundle" / "manifest.json").read_bytes()),
        machine=machine.cpu,
        cores=machine.cores,
        commit=git_commit(),
    )


def read_results(path: Path) -> Results:
    """Read what `write_page` put beside a page."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Results)
    except (OSError, msgspec.DecodeError) as error:
        raise BadInputError(f"{path}: {error}", next="Name the .json of a results page") from error


def write_page(results: Results, page: Path) -> None:
    """Write the page and its figures, each at once."""
    figures = msgspec.json.format(msgspec.json.encode(results), indent=1) + b"\n"
    text = render(results, page)
    write_atomic(page.with_suffix(".json"), figures, force=True)
    write_atomic(page, text.encode(), force=True)


def update_readme(results: Results, readme: Path) -> None:
    """Replace what stands between the markers of a README with the table of the variants.

    Raises:
        BadInputError: the markers are not there.
    """
    text = readme.read_text("utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise BadInputError(f"{readme}: no place for the table", expected=f"the lines {BEGIN} and {END}")
    student = results.run["networks"]["student"]
    said = (
        f"{student['model']['name']} at {student['model']['input_size']} px on "
        f"{student['accuracy']['faces']} test faces of {results.recipe.data.name}, written by `pocketface results`:"
    )
    block = f"{begin}\n{said}\n\n{_variants(results)}\n{end}"
    write_atomic(readme, (before + block + after).encode(), force=True)


def render(results: Results, page: Path) -> str:
    """The page as Markdown."""
    recipe, manifest = results.recipe, results.manifest
    parts = [
        f"# {recipe.name}: results",
        _head(results, page),
        "## The bundle's student, its teachers and its variants",
        _networks(results),
        _variants(results),
        _score(results),
    ]
    if results.trials:
        parts += [
            "## Ablation: one student, one budget, the loss alone changes",
            _ablation(results),
            verdict(results.trials),
        ]
    parts += ["## Recipe", f"`{recipe.name}`, SHA-256 `{recipe_sha256(recipe)}`; weights: {manifest.weights_licence}."]
    return "\n\n".join(part for part in parts if part) + "\n"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; the first column is text, the others figures."""
    rule = ["---"] + ["---:"] * (len(head) - 1)
    return "\n".join("| " + " | ".join(row) + " |" for row in [list(head), rule, *rows])


def ablation_table(trials: Sequence[Trial]) -> Table:
    """The ablation in the terminal."""
    shown = Table(title="ablation")
    for column in ("loss", "seeds", "validation NME %", "test NME %", "lowest", "highest", "FR@0.1 %", "AUC@0.1"):
        shown.add_column(column)
    for row in _rows(trials):
        shown.add_row(*row)
    return shown


def verdict(trials: Sequence[Trial]) -> str:
    """Whether KD beats L2, in words that follow from the figures alone."""
    by_row = _by_row(trials)
    if "L2" not in by_row:
        return ""
    base = [trial.test.nme for trial in by_row["L2"]]
    lines = []
    for name in (name for name in by_row if name.startswith("KD")):
        found = [trial.test.nme for trial in by_row[name]]
        gap = statistics.fmean(base) - statistics.fmean(found)
        apart = max(found) < min(base) or max(base) < min(found)
        share = 100 * gap / statistics.fmean(base)
        if not apart:
            lines.append(
                f"- **{name} and L2 tie**: the gap of the means, {gap:+.3f} points, lies inside the seeds' ranges."
            )
        else:
            word = "beats" if gap > 0 else "loses to"
            lines.append(
                f"- **{name} {word} L2** by {abs(gap):.3f} points of NME ({abs(share):.1f} %); "
                "the seeds' ranges do not overlap."
            )
        if "L1" in by_row:
            plain = by_row["L1"][0].test.nme
            inside = min(found) <= plain <= max(found)
            note = ", inside its range: a tie" if inside else ""
            lines.append(
                f"  Against L1 (one seed, {plain:.3f}) its mean differs by "
                f"{statistics.fmean(found) - plain:+.3f}{note}."
            )
    return "\n".join(lines)


def _head(results: Results, page: Path) -> str:
    recipe = results.recipe
    sources = {source.split: source for source in results.manifest.provenance.data}
    data = "; ".join(f"{s.split} {s.faces} faces (`{s.sha256[:12]}`)" for s in sources.values())
    return "\n".join(
        [
            "Generated; do not edit. The figures were made and the page was written by",
            "",
            "```",
            f"pocketface compress compression/recipes/{_file(recipe)} --data DIR --out RUN",
            f"pocketface ablate   compression/recipes/{_file(recipe)} --data DIR --out RUN",
            f"pocketface results  RUN --page {page.as_posix()}     # or again from {page.with_suffix('.json').name}",
            "```",
            "",
            f"Commit `{results.commit[:12]}`. Data: {recipe.data.name}: {data}. Seed {recipe.seed}. "
            f"Machine: {results.machine}, {results.cores} cores, shared with other work: times are of one interleaved "
            "run, compare the ratios.",
            "",
            "NME: mean over faces of the mean landmark distance over the distance of the outer eye corners, in "
            "percent, with ground-truth boxes (1.25 x the landmarks' bounding box), no flip or ensemble. Every choice "
            "was made on the validation faces.",
        ]
    )


def _file(recipe: Recipe) -> str:
    return f"{recipe.name}-kd.yaml" if recipe.name == "face68" else f"{recipe.name}.yaml"


def _networks(results: Results) -> str:
    rows = []
    for name, found in results.run["networks"].items():
        accuracy, model = found["accuracy"], found["model"]
        rows.append(
            [
                name,
                f"{model['name']} at {model['input_size']} px",
                found["loss"]["name"],
                str(found["epochs"]),
                f"{found['seconds'] / 60:.0f}",
                *(f"{accuracy[key]:.{digits}f}" for key, digits in _ACCURACY),
            ]
        )
    return table(["network", "model", "loss", "epochs", "minutes", *_ACCURACY_HEAD], rows)


_ACCURACY = (("nme", 3), ("median", 3), ("fr", 2), ("landmark_fr", 2), ("auc", 4))
_ACCURACY_HEAD = ("NME %", "median %", "FR@0.1 %", "landmark FR@0.1 %", "AUC@0.1")


def _variants(results: Results) -> str:
    rows = []
    for variant in results.manifest.stages[0].variants:
        parity, metrics = variant.parity, variant.metrics
        rows.append(
            [
                variant.id,
                f"{variant.total_bytes / 1e6:.2f}",
                f"{metrics['nme']:.3f}" if "nme" in metrics else "",
                f"{parity.outputs['points'].max_error:.1e}" if parity else "",
                f"{parity.max_pixel_error:.3f}" if parity else "",
                *(_time(variant, threads) for threads in results.recipe.bench.threads),
                variant.status,
            ]
        )
    threads = [f"p50 ms, {n} thread{'s' if n > 1 else ''} (ratio)" for n in results.recipe.bench.threads]
    return table(["variant", "MB", "test NME %", "max tensor error", "max px", *threads, "status"], rows)


def _time(variant: Variant, threads: int) -> str:
    found = [item for item in variant.latency if item.threads == threads]
    return f"{found[0].p50_ms:.2f} ({found[0].ratio:.2f})" if found else ""


def _score(results: Results) -> str:
    score = results.run["score"]
    return (
        f"Face score: AUROC {score['auroc']:.4f}, expected calibration error {score['ece']:.4f}, on "
        f"{score['faces']} test faces and {score['others']} crops of the same photos without a well-placed face."
    )


def _by_row(trials: Sequence[Trial]) -> dict[str, list[Trial]]:
    found: dict[str, list[Trial]] = {}
    for trial in trials:
        found.setdefault(trial.row, []).append(trial)
    return found


def _rows(trials: Sequence[Trial]) -> list[list[str]]:
    rows = []
    for name, found in _by_row(trials).items():
        nme, low, high = spread([trial.test.nme for trial in found])
        rows.append(
            [
                name,
                " ".join(str(trial.seed) for trial in found),
                f"{statistics.fmean(trial.validation.nme for trial in found):.3f}",
                f"{nme:.3f}",
                f"{low:.3f}",
                f"{high:.3f}",
                f"{statistics.fmean(trial.test.fr for trial in found):.2f}",
                f"{statistics.fmean(trial.test.auc for trial in found):.4f}",
            ]
        )
    return rows


def _ablation(results: Results) -> str:
    spec = results.recipe.ablation
    if spec is None:
        raise BadInputError("the results have trials but their recipe has no ablation")
    minutes = statistics.fmean(trial.seconds for trial in results.trials) / 60
    teachers = results.run["networks"]
    rows = _rows(results.trials) + [
        [f"teacher: {name}", str(results.recipe.seed), "", f"{teachers[name]['accuracy']['nme']:.3f}", "", "",
         f"{teachers[name]['accuracy']['fr']:.2f}", f"{teachers[name]['accuracy']['auc']:.4f}"]
        for name in teachers if name != "student"
    ]  # fmt: skip
    budget = (
        f"{spec.model.name}, width {spec.model.width:g}, {spec.model.input_size} px, {spec.model.init}; "
        f"{spec.train.epochs} epochs, batch {spec.train.batch_size}, AdamW {spec.train.lr:g}, "
        f"pool of {spec.train.views} views an image, the same for every row; "
        f"{minutes:.0f} minutes a training on one core. The teachers are the run's own."
    )
    head = ["loss", "seeds", "validation NME %", "test NME %", "lowest", "highest", "FR@0.1 %", "AUC@0.1"]
    return budget + "\n\n" + table(head, rows)
