"""What this package adds to ``pocketface doctor``: the CPU and those of its features that decide how fast inference
is.
"""

from __future__ import annotations

from collections.abc import Sequence

from pocketface.benchmarks.machine import this_machine
from pocketface.sdk.doctor.base import Check, Finding, Step


def run(case: str, step: Step) -> Sequence[Finding]:
    """The CPU, and what it can do."""
    machine = this_machine()
    features = " ".join(machine.features) or "unknown"
    cores = f"{machine.cores} core{'s' * (machine.cores != 1)} for this process"
    return [
        Finding(subject="CPU", level="ok", state="found", values={"found": f"{machine.cpu}, {cores}"}),
        Finding(subject="CPU features", level="ok", state="found", values={"found": features}),
    ]


CHECK = Check(title="machine", run=run, order=15)
