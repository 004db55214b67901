"""Results pages in Markdown: tables, the header every page begins with, and means over seeds.

A page says first how to regenerate it: command, commit, data and its hash, seeds, machine; then the table; then what
surprised us.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean

from pocketface.benchmarks.reports.text import DASH, number
from pocketface.sdk.errors import BadInputError


def table(
    rows: Sequence[Mapping[str, object]],
    columns: Sequence[str] | None = None,
    *,
    digits: Mapping[str, int] | int = 2,
    best: Mapping[str, str] | None = None,
) -> str:
    """A Markdown table.

    Args:
        rows: column -> value; a missing one or None is a dash. Floats are rounded, all else is written as it is.
        columns: which, in which order; default: as they first occur in the rows.
        digits: after the point, for all columns or by column (2 where one is not named).
        best: column -> ``"min"`` or ``"max"``: the best number of that column, as written, is set bold; so are ties.

    Returns:
        Lines, each ending with a newline. Columns with nothing but numbers are aligned to the right.

    Raises:
        BadInputError: no row, a column that no row has, or another word than min and max.
    """
    if not rows:
        raise BadInputError("a table without rows", expected="at least one")
    known = list(dict.fromkeys(key for row in rows for key in row))
    columns = list(columns) if columns is not None else known
    for name in (*columns, *(best or {})):
        if name not in known:
            raise BadInputError(f"column {name!r} is in no row", choices=known)
    texts = [[_text(row.get(name), _digits(digits, name)) for name in columns] for row in rows]
    for name, kind in (best or {}).items():
        if name in columns:
            _embolden(texts, columns.index(name), [row.get(name) for row in rows], kind)
    right = [all(_is_number(row.get(name)) or row.get(name) is None for row in rows) for name in columns]
    lines = [
        [_escape(name) for name in columns],
        ["---:" if numeric else "---" for numeric in right],
        *texts,
    ]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def header(title: str, *, command: str, facts: Mapping[str, str]) -> str:
    """The beginning of a results page.

    Args:
        title: without the ``#``.
        command: that regenerates the page.
        facts: label -> text, e.g. commit, data, seeds, machine, time.
    """
    lines = [f"# {title}", "", "Regenerate:", "", "```", command, "```", ""]
    lines += [f"- {label}: {text}" for label, text in facts.items()]
    return "\n".join(lines) + "\n\n"


def mean_and_range(values: Sequence[float], digits: int = 2) -> str:
    """Mean and range over seeds: ``4.12 (4.05 to 4.20)``; a single value stands alone, none is a dash."""
    if not values or not all(math.isfinite(value) for value in values):
        return DASH
    mean = number(fmean(values), digits)
    return mean if len(values) == 1 else f"{mean} ({number(min(values), digits)} to {number(max(values), digits)})"


def tied(one: Sequence[float], other: Sequence[float]) -> bool:
    """Whether the gap between two means is no larger than the range over seeds of either: such a gap is a tie.

    Args:
        one, other: a figure for each seed, at least one each. Single seeds have no range: they tie only if equal.

    Raises:
        BadInputError: one is empty, or a figure is not finite.
    """
    for values in (one, other):
        if not values or not all(math.isfinite(value) for value in values):
            raise BadInputError(f"figures {list(values)}", expected="at least one, all finite")
    return abs(fmean(one) - fmean(other)) <= max(max(one) - min(one), max(other) - min(other))


def _digits(digits: Mapping[str, int] | int, column: str) -> int:
    return digits if isinstance(digits, int) else digits.get(column, 2)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _text(value: object, digits: int) -> str:
    if value is None:
        return DASH
    return number(value, digits) if isinstance(value, float) else _escape(str(value))


def _escape(text: str) -> str:
    """A bar would end the cell, a line break the row."""
    return " ".join(text.replace("|", "\\|").split())


def _embolden(texts: list[list[str]], column: int, values: Sequence[object], kind: str) -> None:
    if kind not in ("min", "max"):
        raise BadInputError(f"best {kind!r}", choices=["min", "max"])
    # By the figure as written: what looks the same is the same.
    shown = [
        float(row[column]) if _is_number(value) and row[column] != DASH else None
        for row, value in zip(texts, values, strict=True)
    ]
    numbers = [value for value in shown if value is not None]
    if not numbers:
        return
    top = min(numbers) if kind == "min" else max(numbers)
    for row, value in zip(texts, shown, strict=True):
        if value == top:
            row[column] = f"**{row[column]}**"
