"""Python, the operating system, threads, memory, disk space and the folder for temporary files."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from pocketface.sdk.doctor.base import Check, Finding, Step
from pocketface.sdk.doctor.versions import TestedSet, compare, load_tested, satisfies
from pocketface.sdk.terminal import size_text

MEMORY = 3_000_000_000
"""Bytes that exporting a network to any format fits in, with room to spare."""

DISK = 2_000_000_000
"""Bytes of disk that a run's files and the converters' temporary ones fit in."""

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def run(case: str, step: Step) -> Sequence[Finding]:
    """One finding a topic."""
    return [
        python(platform.python_version(), load_tested()),
        Finding(subject="system", level="ok", state="found", values={"found": platform.platform()}),
        *threads(os.environ, cores()),
        memory(available_memory()),
        disk("disk, current folder", Path.cwd(), "cd into a folder on a larger disk"),
        temporary(),
    ]


def python(found: str, tested: TestedSet) -> Finding:
    """The interpreter's version against those that pocketface supports and was tested with."""
    minor = ".".join(found.split(".")[:2])
    values: dict[str, str | float | None] = {"found": found, "tested": tested.tested_python}
    if not satisfies(found, tested.python):
        return Finding(
            subject="Python",
            level="problem",
            state="not supported",
            values=values,
            reason=f"pocketface asks for Python {tested.python}",
            mend=f"python{tested.tested_python} -m venv .venv",
        )
    state = "as tested" if compare(minor, tested.tested_python) == "as tested" else "supported"
    return Finding(subject="Python", level="ok", state=state, values=values)


def cores() -> int:
    """CPUs this process may use; a container often may use fewer than there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def threads(environment: Mapping[str, str], available: int) -> list[Finding]:
    """Thread settings that numeric libraries read when they start.

    Args:
        environment: as ``os.environ``.
        available: CPUs this process may use.
    """
    findings = []
    for name in THREAD_VARIABLES:
        text = environment.get(name)
        if text is None:
            continue
        values: dict[str, str | float | None] = {"found": text}
        first = text.split(",")[0].strip()  # OpenMP takes one number a nesting level
        if not first.isdecimal() or int(first) < 1:
            reason, mend = "libraries ignore it or fail: it is no number from 1 on", f"unset {name}"
        elif int(first) > available:
            reason, mend = f"more threads than the {available} CPUs are slower", f"export {name}={available}"
        else:
            findings.append(Finding(subject=name, level="ok", state="set", values=values))
            continue
        findings.append(Finding(subject=name, level="note", state="unusual", values=values, reason=reason, mend=mend))
    if not findings:
        found = f"not set: libraries take one thread a CPU, {available} here"
        findings.append(Finding(subject="threads", level="ok", state="default", values={"found": found}))
    return findings


def available_memory(meminfo: Path = Path("/proc/meminfo"), group: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Bytes that programs may still take, the container's limit included; None where the system does not tell."""
    found = []
    try:
        for line in meminfo.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                found.append(int(line.split()[1]) * 1024)
        limit = (group / "memory.max").read_text().strip()
        if limit != "max":
            found.append(max(0, int(limit) - int((group / "memory.current").read_text())))
    except (OSError, ValueError):
        pass  # not Linux, or no container: what was found so far counts
    return min(found, default=None)


def memory(free: int | None) -> Finding:
    """Whether there is enough memory to export."""
    if free is None:
        return Finding(subject="memory", level="ok", state="unknown", values={"found": "the system does not tell"})
    values: dict[str, str | float | None] = {"found": f"{size_text(free)} available"}
    if free >= MEMORY:
        return Finding(subject="memory", level="ok", state="enough", values=values)
    return Finding(
        subject="memory",
        level="note",
        state="little",
        values=values,
        reason=f"an export may need {size_text(MEMORY)} and is killed without them",
        mend="ps aux --sort=-rss | head",
    )


def disk(subject: str, folder: Path, mend: str) -> Finding:
    """Whether there is enough space on the disk of a folder."""
    try:
        free = shutil.disk_usage(folder).free
    except OSError as error:
        return Finding(subject=subject, level="note", state="unknown", reason=str(error), mend=mend)
    values: dict[str, str | float | None] = {"found": f"{size_text(free)} free"}
    if free >= DISK:
        return Finding(subject=subject, level="ok", state="enough", values=values)
    reason = f"a run and its converters may need {size_text(DISK)}"
    return Finding(subject=subject, level="note", state="little", values=values, reason=reason, mend=mend)


def temporary() -> Finding:
    """Whether temporary files can be written, and on how large a disk."""
    mend = "export TMPDIR=$HOME/tmp && mkdir -p $TMPDIR"
    try:
        folder = Path(tempfile.gettempdir())
        with tempfile.NamedTemporaryFile(dir=folder) as file:
            file.write(bytes(4096))
            file.flush()
    except OSError as error:
        reason = f"temporary files cannot be written ({error.strerror or error}); every export needs them"
        return Finding(subject="temporary files", level="problem", state="not writable", reason=reason, mend=mend)
    return disk("temporary files", folder, mend)


CHECK = Check(title="system", run=run, order=10)
