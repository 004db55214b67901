"""The subcommand ``doctor``: its arguments, and the report as tables."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pocketface.sdk.errors import BadInputError, EnvironmentProblemError
from pocketface.sdk.files import refuse_existing
from pocketface.sdk.options import Force, Json, example
from pocketface.sdk.terminal import console, write_json

if TYPE_CHECKING:
    from rich.console import Console

    from pocketface.sdk.doctor.base import Finding
    from pocketface.sdk.doctor.report import Report, Section

_COLOURS = {"ok": "green", "note": "yellow", "problem": "bold red"}


@example("pocketface doctor --only onnx,tflite")
def doctor(
    context: typer.Context,
    only: Annotated[
        str | None,
        typer.Option(help="Checks or formats to look at, with commas: onnx,tflite or packages.", show_default=False),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Export nothing.")] = False,
    json: Json = None,
    force: Force = False,
) -> None:
    """Check what works here, and name what mends the rest.

    With --debug, show what the libraries print, too.
    """
    from pocketface.sdk.doctor.report import run_checks
    from pocketface.sdk.progress import say

    debug = bool((context.obj or {}).get("debug"))  # the command line's own option
    names = [] if only is None else [name.strip() for name in only.split(",") if name.strip()]
    if only is not None and not names:
        raise BadInputError(f"--only {only!r}", expected="names with commas", next="For example: --only onnx,tflite")
    # Whatever would be refused at the end is refused before the work.
    if json is not None and json != "-":
        refuse_existing(Path(json), force)
    report = run_checks(only=names, quick=quick, progress=say)
    if json is not None:
        write_json(report if debug else report.without_chatter(), json, force=force)
    if json != "-":
        print_report(report, debug=debug)
    if problems := report.problems:
        listed = "; ".join(f"{finding.subject}: {finding.state}" for finding in problems)
        raise EnvironmentProblemError(
            f"{len(problems)} of what is installed here {'do' if len(problems) > 1 else 'does'} not work ({listed})",
            next=f"Start with: {problems[0].mend}",
        )


def print_report(report: Report, *, debug: bool = False) -> None:
    """Print a report on standard output: a table a check, and below it what is to be done."""
    out = console()
    out.print(f"pocketface {report.pocketface or '(not installed)'}", markup=False)
    for section in report.sections:
        _print_section(out, section, debug)
    if report.left_out:
        out.print(f"not looked at: {', '.join(report.left_out)}", markup=False)
    if report.healthy:
        out.print("Everything that is installed and was looked at works here.", style="green")


def _print_section(out: Console, section: Section, debug: bool) -> None:
    from rich.table import Table
    from rich.text import Text

    columns = list(dict.fromkeys(name for finding in section.findings for name in finding.values))
    table = Table(title=section.title, title_justify="left")
    for column in ("", *columns, "result"):
        table.add_column(column, overflow="fold")
    for finding in section.findings:
        cells = [Text(_cell(finding.values.get(column))) for column in columns]
        table.add_row(Text(finding.subject), *cells, Text(finding.state, style=_COLOURS[finding.level]))
    out.print(table)
    # What one command mends is told once.
    to_mend = [finding for finding in section.findings if finding.level != "ok"]
    for (_, _, mend), group in itertools.groupby(sorted(to_mend, key=_remedy), key=_remedy):
        findings = list(group)
        subjects = ", ".join(finding.subject for finding in findings)
        out.print(f"{subjects}: {findings[0].state}: {findings[0].reason}", markup=False, soft_wrap=True)
        out.print(f"    {mend}", markup=False, soft_wrap=True)
    if debug:
        for finding in section.findings:
            for line in finding.chatter.splitlines():
                out.print(f"  {finding.subject} | {line}", markup=False, soft_wrap=True)


def _remedy(finding: Finding) -> tuple[str, str, str]:
    return (finding.state, finding.reason, finding.mend)


def _cell(value: str | float | None) -> str:
    if value is None:
        return "-"
    return value if isinstance(value, str) else f"{value:.3g}"
