"""What the commands share: tables and JSON, kept apart so that ``--json -`` leaves only JSON on standard output."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import msgspec

from pocketface.sdk.files import write_atomic

if TYPE_CHECKING:
    from rich.console import Console


def write_json(data: Any, target: str, *, force: bool = False) -> None:
    """Write plain data, or a msgspec struct or dataclass, as indented JSON.

    Args:
        data: what to write.
        target: a file, or ``-`` for standard output.
        force: replace a file that is already there.
    """
    text = msgspec.json.format(msgspec.json.encode(data), indent=2) + b"\n"
    if target == "-":
        sys.stdout.write(text.decode())
    else:
        write_atomic(target, text, force=force)


def size_text(count: int) -> str:
    """A number of bytes as people read it: 812 B, 1.2 kB, 3.4 MB (powers of 1000)."""
    value, units = float(count), ["B", "kB", "MB", "GB"]
    while value >= 999.5 and len(units) > 1:
        value /= 1000
        units.pop(0)
    return f"{value:.0f} {units[0]}" if units[0] == "B" or value >= 99.95 else f"{value:.1f} {units[0]}"


def count_text(count: int, unit: str) -> str:
    """A count as people read it: 950 FLOPs, 2.2 M parameters."""
    for factor, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= factor:
            return f"{count / factor:.3g} {prefix} {unit}"
    return f"{count} {unit}"


def console(*, error: bool = False) -> Console:
    """A rich console on standard output, or on standard error: for tables and progress bars.

    A pipe or a file has no width, so tables get 200 columns there. A pipe whose reader went away raises
    ``BrokenPipeError``, as every other write does.
    """
    from rich.console import Console

    class PocketfaceConsole(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError

    stream = sys.stderr if error else sys.stdout
    return PocketfaceConsole(file=stream, highlight=False, width=None if stream.isatty() else 200)
