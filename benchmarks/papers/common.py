"""What the pages of all papers share: how they are written, where their figures come from, and the table of speed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec

from pocketface.benchmarks.reports.markdown import header
from pocketface.benchmarks.reports.sections import Row, Section, section_markdown
from pocketface.sdk.files import write_atomic
from pocketface.sdk.manifest import DataSource, Latency

RESULTS = "results.json"
"""A run's figures, in its folder."""


class Run(Protocol):
    """The figures of any run; the last of its data are the test set."""

    @property
    def name(self) -> str: ...
    @property
    def seed(self) -> int: ...
    @property
    def recipe(self) -> str: ...
    @property
    def recipe_sha256(self) -> str: ...
    @property
    def commit(self) -> str: ...
    @property
    def data(self) -> tuple[DataSource, ...]: ...
    @property
    def machine(self) -> str: ...


def write(results: Run, path: Path, page: Callable[..., str]) -> None:
    """Write a page, and its figures beside it as ``.json``; what people have to say about them stands in
    ``NAME.notes.md``.

    Args:
        results: of the run, a msgspec struct.
        path: of the page.
        page: the paper's: (results, command=, notes=) -> Markdown.
    """
    command = f"pocketface results {path.with_suffix('.json')} --page {path}"
    notes = path.with_suffix(".notes.md")
    text = page(results, command=command, notes=notes.read_text("utf-8") if notes.exists() else "")
    write_atomic(path, text.encode(), force=True)
    figures = msgspec.json.format(msgspec.json.encode(results), indent=1) + b"\n"
    write_atomic(path.with_suffix(".json"), figures, force=True)


def page(results: Run, *, title: str, sections: Sequence[Section], command: str, notes: str = "") -> str:
    """The whole page, Markdown."""
    parts = [header(title, command=command, facts=facts(results))]
    parts += [section_markdown(section) for section in sections]
    if notes:
        parts.append(f"## What surprised us\n\n{notes}")
    parts.append(f"## Recipe\n\n```yaml\n{results.recipe}```\n")
    return "\n".join(parts)


def facts(results: Run) -> dict[str, str]:
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
