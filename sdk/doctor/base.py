"""What a check is, and what it finds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec

Level = Literal["ok", "note", "problem"]
"""``ok``: as it should be. ``note``: worth knowing, nothing is broken. ``problem``: what is installed does not work."""

Step = Callable[[str], None]
"""Told by a check what it does next, e.g. ``"exporting"``: named if the check crashes or hangs there."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the report.

    Attributes:
        subject: what was looked at: a package, a format, a folder.
        level: see ``Level``.
        state: the verdict in a word or two: ``"as tested"``, ``"newer"``, ``"works"``, ``"crashed"``.
        values: column -> figure or text, e.g. installed and tested version; seconds.
        reason: why it is not ok.
        mend: the command that mends it, as it is typed; every finding that is not ok has one.
        chatter: what the libraries printed meanwhile.
    """

    subject: str
    level: Level
    state: str
    values: dict[str, str | float | None] = {}
    reason: str = ""
    mend: str = ""
    chatter: str = ""

    def __post_init__(self) -> None:
        if self.level != "ok" and not self.mend:
            raise ValueError(f"{self.subject}: {self.state} without the command that mends it")


def _once() -> tuple[str, ...]:
    return ("",)


@dataclass(frozen=True)
class Check:
    """One kind of thing that ``pocketface doctor`` looks at; one table of its report.

    Attributes:
        title: of the table.
        run: (case, step) -> findings. It imports what it needs itself. An error that it raises becomes a problem.
        cases: what is looked at one by one, e.g. the export formats; ``--only`` takes their names. Imports nothing
            heavy. ``("",)``: all at once.
        timeout_s: with it, each case runs in a process of its own that may crash, and is stopped after that many
            seconds; without, the check runs in the command's own process and must not import libraries that can crash.
        mend: case -> the command that mends it if the check itself fails, crashes or hangs.
        slow: left out with ``--quick``.
        order: tables come by this number, then by name.
    """

    title: str
    run: Callable[[str, Step], Sequence[Finding]]
    cases: Callable[[], Sequence[str]] = _once
    timeout_s: float | None = None
    mend: Callable[[str], str] = lambda case: "pocketface doctor --debug"
    slow: bool = False
    order: int = 50
