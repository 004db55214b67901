"""What the pages of all papers share: how they are written, where their figures come from, and the table of speed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from pocketface.benchmarks.reports.markdown import header
from pocketface.benchmarks.reports.sections import Row, Section, section_markdown
from pocketface.sdk.errors import BadInputError
from pocketface.sdk.files import write_atomic
from pocketface.sdk.manifest import DataSource, Latency

RESULTS = "results.json"
"""A run's figures, in its folder."""


class RunFigures(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind"):
    """What the figures of any run begin with; a kind of run adds its own, and a tag by which files are told apart.

    Attributes:
        name: of the recipe.
        recipe: its text.
        data: the last one is the test set.
    """

    name: str
    seed: int
    recipe: str
    recipe_sha256: str
    commit: str
    data: tuple[DataSource, ...]
    machine: str


R = TypeVar("R", bound=RunFigures)


def read(path: Path, type: type[R], *, what: str, made_by: str) -> R:
    """Read RUN/results.json, or a page's figures.

    Args:
        path: of the file.
        type: of the figures.
        what: kind of run, for the error.
        made_by: command that makes such a run, for the error.

    Raises:
        BadInputError: the file is missing, or of another kind.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=type)
    except (OSError, msgspec.DecodeError, msgspec.ValidationError) as error:
        raise BadInputError(f"{path}: no figures of {what} ({error})", next=f"Run {made_by}") from error


def write(results: RunFigures, path: Path, page: Callable[..., str]) -> None:
    """Write a page, and its figures beside it as ``.json``; what people have to say about them stands in
    ``NAME.notes.md``.

    Args:
        results: of the run.
        path: of the page.
        page: the paper's: (results, command=, notes=) -> Markdown.
    """
    command = f"pocketface results {path.with_suffix('.json')} --page {path}"
    notes = path.with_suffix(".notes.md")
    text = page(results, command=command, notes=notes.read_text("utf-8") if notes.exists() else "")
    write_atomic(path, text.encode(), force=True)
    figures = msgspec.json.format(msgspec.json.encode(results), indent=1) + b"\n"
    write_atomic(path.with_suffix(".json"), figures, force=True)


def page(results: RunFigures, *, title: str, sections: Sequence[Section], command: str, notes: str = "") -> str:
    """The whole page, Markdown."""
    parts = [header(title, command=command, facts=facts(results))]
    parts += [section_markdown(section) for section in sections]
    if notes:
        parts.append(f"## What surprised us\n\n{notes}")
    parts.append(f"## Recipe\n\n```yaml\n{results.recipe}```\n")
    return "\n".join(parts)


def facts(results: RunFigures) -> dict[str, str]:
    """Where the figures come from."""
    splits = ", ".join(f"{part.faces} {part.split}" for part in results.data)
    return {
        "data": f"{results.data[0].name}: {splits}; SHA-256 {results.data[-1].sha256[:16]} (test)",
        "seed": str(results.seed),
        "recipe": f"{results.name}, SHA-256 {results.recipe_sha256[:16]}",
        "commit": results.commit,
        "machine": results.machine,
    }


def warned(text: str, warning: str) -> str:
    """A section's text, with what speaks against its figures."""
    return f"{text} Warning: {warning}." if warning else text


def threads_text(count: int) -> str:
    """1 thread, 2 threads."""
    return f"{count} thread{'s' if count > 1 else ''}"


def speed_rows(
    latency: Mapping[str, Sequence[Latency]], label: str, more: Callable[[Latency], Mapping[str, Any]] | None = None
) -> list[Row]:
    """One row a network, columns by thread count: median of the whole, ratio of inference, and a chain's stages.

    Args:
        latency: network -> one entry a thread count.
        label: heading of the names.
        more: column -> further figure of an entry.
    """
    rows: list[Row] = []
    for name, found in latency.items():
        row: dict[str, Any] = {label: name}
        for item in found:
            threads = threads_text(item.threads)
            row |= {f"p50 ms, {threads}": item.p50_ms, f"ratio, {threads}": item.ratio}
            row |= {f"{column}, {threads}": value for column, value in (more(item) if more else {}).items()}
            row |= {f"{stage} ms, {threads}": value for stage, value in item.stages.items()}
        rows.append(row)
    return rows
