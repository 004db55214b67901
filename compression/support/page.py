"""docs/support.md out of the stored table."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from pocketface.benchmarks.reports.markdown import table as markdown
from pocketface.compression.support.cases import N_CLASSES, STAGE_SIZE, STORED, WITH_PREVIOUS, absent
from pocketface.compression.support.table import Row, Table
from pocketface.compression.trial import MAX_RELATIVE_ERROR, MIN_SQNR
from pocketface.sdk.files import write_atomic

_MARKS = {"verified": "yes", "failed": "**no**", "unverified": "not run"}


def write_table(table: Table, page: Path) -> None:
    """Write the page, and its figures as JSON beside it."""
    figures = msgspec.json.format(msgspec.json.encode(table), indent=1) + b"\n"
    write_atomic(page.with_suffix(".json"), figures, force=True)
    write_atomic(page, render(table).encode(), force=True)


def render(table: Table) -> str:
    """The page as Markdown."""
    parts = [
        "# What converts to what\n",
        f"Made by `{table.command}` from [support.json](support.json); a test fails when a row is stale.\n",
        "Every registered network with random weights, converted to every format and precision that exists there, run, "
        "and compared with torch on the same random pictures. *yes*: it converts, its contents are what the precision "
        "promises, and its outputs agree with torch: "
        f"{_bounds()}. "
        "Accuracy of trained networks is in docs/results.\n",
        f"Input {table.input_size} px, of the stages of a chain and of networks of masks {STAGE_SIZE} px. "
        f"Python {table.python}; " + ", ".join(f"{name} {version}" for name, version in table.tools.items()) + ".\n",
        f"Masks have {N_CLASSES} classes. {_settings()}\n",
        "## Overview\n",
        markdown(_overview(table.rows)),
        "`mil-reference` executes the saved Core ML package on any machine; it is proof of what the file holds, not a "
        "result of a device.\n",
        "## Not verified, and why\n",
        _failures(table.rows),
        "## Combinations that do not exist\n",
        markdown([{"format": name, "precision": kind, "reason": reason} for name, kind, reason in absent()]),
        "## Every row\n",
        markdown([_row(row) for row in table.rows], digits={"MB": 2, "SQNR, dB": 1}),
    ]
    return "\n".join(parts)


def _bounds() -> str:
    errors = ", ".join(f"{name} {bound:g}" for name, bound in MAX_RELATIVE_ERROR.items())
    ratios = ", ".join(f"{name} {bound:g}" for name, bound in MIN_SQNR.items())
    return (
        f"max\\|a-b\\| / max\\|a\\| of each output at most ({errors}), or a signal-to-quantization-noise ratio of at "
        f"least ({ratios}) dB"
    )


def _settings() -> str:
    """What is not at its default, as a recipe would say it."""
    options = [
        f"`{name}` with a previous mask has `options: {_yaml({**values, 'previous': True})}`"
        for name, values in WITH_PREVIOUS.items()
    ]
    stored = [
        f"weights of `{name}` are rounded with `{_yaml(values)}` (`export.quantize` of a recipe): by default the "
        "quantizers leave more of its values in float32 than the precision may"
        for name, values in STORED.items()
    ]
    return "; ".join([*options, *stored]) + "."


def _yaml(values: Mapping[str, object]) -> str:
    return "{" + ", ".join(f"{name}: {msgspec.json.encode(value).decode()}" for name, value in values.items()) + "}"


_INPUTS = {"normalised": [], "pixels": ["uint8 pixels in"], "previous": ["previous mask in"]}


def _name(row: Row) -> str:
    extra = [row.head] * (row.head != "pooled") + _INPUTS[row.input]
    return row.network + (f" ({', '.join(extra)})" if extra else "")


def _overview(rows: tuple[Row, ...]) -> list[dict[str, object]]:
    """One line a network and format; columns are precisions."""
    lines: dict[tuple[str, str], dict[str, object]] = {}
    for row in rows:
        line = lines.setdefault((_name(row), row.trial.format), {"network": _name(row), "format": row.trial.format})
        line[row.trial.precision] = _MARKS[row.trial.status]
    return list(lines.values())


def _failures(rows: tuple[Row, ...]) -> str:
    found = [
        {
            "network": _name(row),
            "variant": f"{row.trial.precision}.{row.trial.format}",
            "operation": row.trial.operation or None,
            "reason": row.trial.reason,
        }
        for row in rows
        if row.trial.status != "verified"
    ]
    return markdown(found) if found else "None.\n"


def _row(row: Row) -> dict[str, object]:
    trial = row.trial
    return {
        "network": _name(row),
        "variant": f"{trial.precision}.{trial.format}",
        "status": trial.status,
        "executor": trial.executor or None,
        "relative error": None if trial.error is None else f"{trial.error:.1e}",
        "SQNR, dB": trial.sqnr,
        "MB": trial.bytes / 1e6 if trial.bytes else None,
        "hash": row.hash,
    }
