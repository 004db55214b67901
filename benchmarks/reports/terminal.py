"""The end of a run in the terminal: one line a variant, then what the gates say."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pocketface.benchmarks.reports import tables
from pocketface.benchmarks.reports.data import ReportData
from pocketface.benchmarks.reports.report import verdict
from pocketface.sdk import terminal

_STYLES = {"good": "green", "bad": "bold red", "warn": "yellow", "": ""}


def summary_table(data: ReportData) -> Table:
    """Variant, size, NME, change against torch, p50 by thread count, status."""
    rows = tables.variants(data)
    table = Table(title_justify="left")
    for i, head in enumerate(rows.heads):
        right = bool(rows.rows) and rows.rows[0][i].kind == "num"
        table.add_column(head, justify="right" if right else "left", no_wrap=i == 0)
    for row in rows.rows:
        cells = [Text(cell.text, style=_STYLES[cell.tone]) for cell in row]
        if row[0].text == data.default:
            cells[0].append(" (default)")
        table.add_row(*cells)
    return table


def print_summary(data: ReportData, console: Console | None = None) -> None:
    """Print the table and the gates' verdict, each failed or unchecked gate on its own line.

    Args:
        data: of the run; the same that the report shows.
        console: default: standard output.
    """
    console = console or terminal.console()
    if data.variants:
        console.print(summary_table(data))
    said = verdict(data)
    console.print(Text(said.text, style=_STYLES[said.tone]))
    for line in said.lines:
        console.print(Text(f"  {line}"))
