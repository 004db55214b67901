"""A results page, generated from what a run stored; the figures lie beside it as JSON, from which it can be written
again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import msgspec

from pocketface.benchmarks.checkout import git_commit
from pocketface.benchmarks.machine import this_machine
from pocketface.benchmarks.reports.markdown import header, mean_and_range, table, tied
from pocketface.compression.pipeline.ablation import Trial
from pocketface.compression.recipe import Recipe
from pocketface.compression.recipe_file import load_recipe, recipe_sha256
from pocketface.sdk.errors import BadInputError
from pocketface.sdk.files import write_atomic
from pocketface.sdk.manifest import Manifest, decode

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
    networks = results.run["networks"]
    *_, student = networks.values()  # what ships comes last
    said = (
        f"{student['model']['name']} at {student['model']['input_size']} px, on "
        f"{student['accuracy']['faces']} test faces of {results.recipe.data.name}; written by `pocketface results`:"
    )
    block = f"{begin}\n{said}\n\n{_variants(results)}{end}"
    write_atomic(readme, (before + block + after).encode(), force=True)


def render(results: Results, page: Path) -> str:
    """The page as Markdown; what people have to say about the figures stands beside it, in ``NAME.notes.md``."""
    parts = [
        _head(results, page),
        "## The student in the bundle and its teachers\n",
        _networks(results),
        "## Its variants\n",
        _variants(results),
        _score(results),
    ]
    if results.trials:
        parts += ["## Ablation: one student, one budget, the loss alone changes\n", _ablation(results)]
        parts += [f"Budget: {_budget(results)}\n", verdict(results.trials)]
    recipe = results.recipe
    weights = results.manifest.weights_licence
    parts += ["## Recipe\n", f"`{recipe.name}`, SHA-256 `{recipe_sha256(recipe)}`. Weights: {weights}.\n"]
    notes = page.with_suffix(".notes.md")
    if notes.exists():
        parts += ["## What surprised us\n", notes.read_text("utf-8")]
    return "\n".join(part for part in parts if part)


def verdict(trials: Sequence[Trial]) -> str:
    """Whether KD beats L2 and L1, in words that follow from the figures alone.

    A gap inside the range of the seeds is a tie.
    """
    rows = {name: [trial.test.nme for trial in found] for name, found in by_row(trials).items()}
    lines = []
    for name in (name for name in rows if name.startswith("KD")):
        for base in (base for base in ("L2", "L1") if base in rows):
            gap = fmean(rows[base]) - fmean(rows[name])
            share = 100 * gap / fmean(rows[base])
            figures = f"{gap:+.3f} points of NME, {share:+.1f} %"
            if tied(rows[name], rows[base]):
                lines.append(f"- **{name} ties with {base}**: the gap ({figures}) lies inside the range of the seeds.")
            else:
                lines.append(f"- **{name} {'beats' if gap > 0 else 'loses to'} {base}** ({figures}).")
    return "\n".join(lines) + "\n"


def by_row(trials: Sequence[Trial]) -> dict[str, list[Trial]]:
    """Row -> its trials, in the order of the rows."""
    found: dict[str, list[Trial]] = {}
    for trial in trials:
        found.setdefault(trial.row, []).append(trial)
    return found


def ablation_rows(trials: Sequence[Trial]) -> list[dict[str, object]]:
    """One row per loss, for a table: mean and range over its seeds."""
    return [
        {
            "loss": name,
            "seeds": len(found),
            "validation NME %": mean_and_range([trial.validation.nme for trial in found], 3),
            "test NME %": mean_and_range([trial.test.nme for trial in found], 3),
            "FR@0.1 %": mean_and_range([trial.test.fr for trial in found], 2),
            "AUC@0.1": mean_and_range([trial.test.auc for trial in found], 4),
            "minutes": fmean(trial.seconds for trial in found) / 60,
        }
        for name, found in by_row(trials).items()
    ]


def _head(results: Results, page: Path) -> str:
    recipe = results.recipe
    data = "; ".join(
        f"{source.split} {source.faces} (`{source.sha256[:12]}`)" for source in results.manifest.provenance.data
    )
    file = f"compression/recipes/{page.stem}.yaml"
    command = (
        f"pocketface compress {file} --data DIR --out RUN\n"
        f"pocketface ablate   {file} --data DIR --out RUN\n"
        f"pocketface results  RUN --page {page.as_posix()}   # or the page again from {page.stem}.json"
    )
    facts = {
        "commit": f"`{results.commit[:12]}`",
        "data": f"{recipe.data.name}: faces and hashes: {data}",
        "seed": str(recipe.seed) + (", and those of the ablation's rows" if results.trials else ""),
        "machine": f"{results.machine}, {results.cores} cores, shared with other work: compare the ratios of one table",
        "NME": "mean over faces of the mean landmark distance over the distance of the outer eye corners, in percent; "
        "ground-truth boxes (1.25 x the landmarks' bounding box), no flip, no ensemble",
        "choices": "all made on the validation faces; the test faces were read at the end",
    }
    return header(f"{recipe.name}: results", command=command, facts=facts)


_ACCURACY = {
    "NME %": "nme",
    "median %": "median",
    "FR@0.1 %": "fr",
    "landmark FR@0.1 %": "landmark_fr",
    "AUC@0.1": "auc",
}
_DIGITS = {"NME %": 3, "median %": 3, "AUC@0.1": 4, "test NME %": 3, "minutes": 0}


def _networks(results: Results) -> str:
    rows = [
        {
            "network": name,
            "model": f"{found['model']['name']} at {found['model']['input_size']} px",
            "loss": found["loss"]["name"],
            "epochs": found["epochs"],
            "minutes": found["seconds"] / 60,
            **{title: float(found["accuracy"][key]) for title, key in _ACCURACY.items()},
        }
        for name, found in results.run["networks"].items()
    ]
    return table(rows, digits=_DIGITS)


def _variants(results: Results) -> str:
    rows = []
    for variant in results.manifest.stages[0].variants:
        parity = variant.parity
        row: dict[str, object] = {
            "variant": variant.id,
            "MB": variant.total_bytes / 1e6,
            "test NME %": variant.metrics.get("nme"),
            "max tensor error": f"{next(iter(parity.outputs.values())).max_error:.1e}" if parity else None,
            "max px": parity.max_pixel_error if parity else None,
        }
        for latency in variant.latency:
            threads = f"{latency.threads} thread{'s' if latency.threads > 1 else ''}"
            row[f"p50 ms, {threads}"] = latency.p50_ms
            row[f"ratio, {threads}"] = latency.ratio
        rows.append({**row, "status": variant.status})
    columns = [*dict.fromkeys(key for row in rows for key in row if key != "status"), "status"]
    return table(rows, columns, digits={**_DIGITS, "max px": 3})


def _score(results: Results) -> str:
    score = results.run["score"]
    return (
        f"Face score: AUROC {score['auroc']:.4f}, expected calibration error {score['ece']:.4f}, on "
        f"{score['faces']} test faces and {score['others']} crops of the same photos without a well-placed face.\n"
    )


def _ablation(results: Results) -> str:
    teachers = [
        {
            "loss": f"teacher: {name}",
            "seeds": 1,
            "test NME %": f"{found['accuracy']['nme']:.3f}",
            "FR@0.1 %": f"{found['accuracy']['fr']:.2f}",
            "AUC@0.1": f"{found['accuracy']['auc']:.4f}",
            "minutes": found["seconds"] / 60,
        }
        for name, found in results.run["networks"].items()
        if name in results.recipe.teachers
    ]
    return table([*ablation_rows(results.trials), *teachers], digits=_DIGITS)


def _budget(results: Results) -> str:
    spec = results.recipe.ablation
    if spec is None:
        raise BadInputError("the results have trials, but their recipe has no ablation")
    model, train = spec.model, spec.train
    return (
        f"{model.name}, width {model.width:g}, {model.input_size} px, from {model.init}; {train.epochs} epochs, batch "
        f"{train.batch_size}, AdamW {train.lr:g}, a pool of {train.views} views an image, one core; the same for every "
        "row. Figures in brackets are the range over the seeds. The teachers are the run's own."
    )
