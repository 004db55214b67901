"""Sections of tables, written once and set twice: as Markdown for a results page, as HTML for a run's report."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pocketface.benchmarks.reports.markdown import table
from pocketface.benchmarks.reports.tables import Cell, Table
from pocketface.benchmarks.reports.template import template
from pocketface.benchmarks.reports.text import DASH, number

Row = Mapping[str, Any]
"""Column -> value; floats are rounded, a missing value or None is a dash."""


@dataclass(frozen=True)
class Section:
    """A heading, what its figures are, and a table.

    Attributes:
        rows: at least one.
        digits: after the point, by column (2 where one is not named).
        verdict: sentences that follow from the figures.
    """

    title: str
    text: str
    rows: Sequence[Row]
    digits: Mapping[str, int] = field(default_factory=dict)
    verdict: tuple[str, ...] = ()


def section_markdown(section: Section) -> str:
    """One section of a page."""
    parts = [f"## {section.title}\n"]
    if section.text:
        parts.append(f"{section.text}\n")
    parts.append(table(section.rows, digits=section.digits))
    if section.verdict:
        parts.append("".join(f"- {line}\n" for line in section.verdict))
    return "\n".join(parts)


def sections_html(
    title: str,
    sections: Sequence[Section],
    *,
    summary: str,
    facts: Mapping[str, str],
    pictures: Mapping[str, bytes],
    recipe: str,
) -> str:
    """A whole report.

    Args:
        title: its heading.
        sections: tables, in order.
        summary: a sentence below the title.
        facts: label -> text: where the figures come from.
        pictures: caption -> PNG.
        recipe: of the run, YAML.

    Raises:
        MissingExtraError: the extra ``bench`` is not installed.
    """
    return template("sections.html.j2").render(
        title=title,
        summary=summary,
        sections=[(f"s{place}", section, _table(section)) for place, section in enumerate(sections)],
        facts=facts,
        pictures={caption: base64.b64encode(png).decode() for caption, png in pictures.items()},
        recipe=recipe,
    )


def _table(section: Section) -> Table:
    columns = list(dict.fromkeys(name for row in section.rows for name in row))
    return Table(
        tuple(columns),
        [[_cell(row.get(name), section.digits.get(name, 2)) for name in columns] for row in section.rows],
    )


def _cell(value: object, digits: int) -> Cell:
    if value is None:
        return Cell(DASH, "num")
    if isinstance(value, float):
        return Cell(number(value, digits), "num")
    return Cell(str(value), "num" if isinstance(value, int) else "")
