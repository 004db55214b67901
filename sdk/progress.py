"""One progress bar, the same everywhere: on a terminal it moves, elsewhere it is silent."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from pocketface.sdk.terminal import console


@contextmanager
def track(title: str, total: int | None, *, show: bool = True) -> Iterator[Callable[[int], None]]:
    """Show progress on standard error.

    Args:
        title: what is going on.
        total: how many steps it has; None if nobody knows.
        show: draw it at all.

    Yields:
        A function that takes the number of steps done so far.
    """
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    out = console(error=True)
    with Progress(*columns, console=out, transient=True, disable=not (show and out.is_terminal)) as bar:
        task = bar.add_task(title, total=total)
        yield lambda done: bar.update(task, completed=done)


def say(text: str, *, show: bool = True) -> None:
    """Tell what begins now, on standard error if that is a terminal: for steps during which no bar may be drawn."""
    out = console(error=True)
    if show and out.is_terminal:
        out.print(text, markup=False, highlight=False)
