"""Locks that a killed build of a torch extension left behind.

torch marks a build by a file named ``lock`` that only the builder removes; whoever comes later waits for that without
end. A build that was killed leaves it, and nncf, which builds on first use, then hangs for ever. Nothing is removed
here: whether no build is running only the user knows.
"""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from pocketface.sdk.doctor.base import Check, Finding, Step

BUILD_S = 1800
"""A lock older than this is taken for left behind; nncf's extension takes a minute or two."""


def extension_folders() -> list[Path]:
    """Where torch keeps the extensions it builds: ``$TORCH_EXTENSIONS_DIR``, and the user's cache."""
    folders = []
    if chosen := os.environ.get("TORCH_EXTENSIONS_DIR"):
        folders.append(Path(chosen))
    if sys.platform == "darwin":
        cache = Path.home() / "Library" / "Caches"
    elif os.name == "nt":
        base = os.environ.get("LOCALAPPDATA")
        cache = (Path(base) if base else Path.home() / "AppData" / "Local") / "torch_extensions"
        folders.append(cache / "torch_extensions" / "Cache")
        return folders
    else:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return [*folders, cache / "torch_extensions"]


def locks(folders: Sequence[Path]) -> list[Path]:
    """Every file named ``lock`` in these folders, each once, sorted; a folder that is not there has none."""
    found = {}
    for folder in folders:
        for root, _, names in os.walk(folder):
            if "lock" in names:
                path = Path(root) / "lock"
                found[path.resolve()] = path
    return sorted(found.values())


def run(case: str, step: Step) -> Sequence[Finding]:
    """One finding for each lock; one that says so if there is none."""
    folders = extension_folders()
    findings = [finding for path in locks(folders) if (finding := describe(path, time.time())) is not None]
    if findings:
        return findings
    where = ", ".join(str(folder) for folder in folders)
    return [Finding(subject="torch extensions", level="ok", state="no locks", values={"folder": where})]


def describe(path: Path, now: float) -> Finding | None:
    """What to say of a lock.

    Args:
        path: the lock.
        now: seconds since the epoch.

    Returns:
        None if it is gone meanwhile.
    """
    try:
        age = max(0.0, now - path.stat().st_mtime)
    except FileNotFoundError:
        return None
    left = age > BUILD_S
    return Finding(
        subject=path.parent.name,
        level="problem" if left else "note",
        state="lock left behind" if left else "locked",
        values={"folder": str(path.parent), "age": age_text(age)},
        reason="the next build of this extension waits for it without end"
        if left
        else "a build may be running; if none is, the next one waits without end",
        mend=remove_command(path),
    )


def remove_command(path: Path) -> str:
    """The command that removes a file, quoted for the shell of this system."""
    return f'del "{path}"' if os.name == "nt" else f"rm {shlex.quote(str(path))}"


def age_text(seconds: float) -> str:
    """How long ago: 40 s, 12 min, 3.5 h, 21 days."""
    for unit, size in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= (2 * size if unit == "days" else size):
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.0f} s"


CHECK = Check(title="torch's extension cache", run=run, order=40)
