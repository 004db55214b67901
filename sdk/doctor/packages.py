"""Installed packages against those this release was tested with. Reads their metadata; imports none of them."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import entry_points

from pocketface.sdk.doctor.base import Check, Finding, Level, Step
from pocketface.sdk.doctor.registry import CHECKS
from pocketface.sdk.doctor.versions import TestedPackage, compare, installed, load_tested, satisfies


def run(case: str, step: Step) -> Sequence[Finding]:
    """One finding for pocketface itself, then one for each package it asks for."""
    own = ourselves(installed("pocketface"), bool(entry_points(group=CHECKS.group)))
    return [own, *(package(name, entry, installed(name)) for name, entry in load_tested().packages.items())]


def ourselves(found: str | None, complete: bool) -> Finding:
    """What to say of pocketface itself.

    Args:
        found: its version; None if it is not installed.
        complete: its entry points are there, by which its packages find each other.
    """
    if found is not None and complete:
        return Finding(subject="pocketface", level="ok", state="installed", values={"installed": found})
    return Finding(
        subject="pocketface",
        level="problem",
        state="missing" if found is None else "incomplete",
        values={"installed": found},
        reason="it runs from a folder, not as installed: without its entry points, commands and checks are missing",
        mend="pip install --force-reinstall --no-deps pocketface",
    )


def package(name: str, entry: TestedPackage, found: str | None) -> Finding:
    """What to say of one package.

    Args:
        name: of the distribution.
        entry: what was tested.
        found: the installed version; None if it is not installed.
    """
    extra = ", ".join(entry.extras)
    values: dict[str, str | float | None] = {"installed": found, "tested": entry.tested, "extra": extra or "always"}
    if found is None:
        mend = f"pip install 'pocketface[{entry.extras[0]}]'" if entry.extras else f"pip install {name}=={entry.tested}"
        why = f"the extra {entry.extras[0]!r} brings it" if entry.extras else "pocketface always needs it"
        level: Level = "note" if entry.extras else "problem"
        return Finding(subject=name, level=level, state="missing", values=values, reason=why, mend=mend)
    state = compare(found, entry.tested)
    if state == "as tested":
        return Finding(subject=name, level="ok", state=state, values=values)
    mend = f"pip install {name}=={entry.tested}"
    if not satisfies(found, entry.requires):
        why = f"pocketface asks for {name}{entry.requires}"
        return Finding(subject=name, level="problem", state=f"too {_age(state)}", values=values, reason=why, mend=mend)
    why = "this release was not tested with it; it may well work"
    return Finding(subject=name, level="note", state=state, values=values, reason=why, mend=mend)


def _age(state: str) -> str:
    return {"newer": "new", "older": "old"}.get(state, "different")


CHECK = Check(title="packages", run=run, order=20)
