"""Which machine a figure was measured on: a latency without its CPU is not a figure."""

from __future__ import annotations

import os
import platform
import time
from dataclasses import asdict, dataclass
from pathlib import Path

FEATURES = (
    # x86: vector width, half precision, 8-bit dot products, matrix units.
    *("sse4_1", "sse4_2", "avx", "f16c", "fma", "avx2", "avx_vnni", "avx_vnni_int8"),
    *("avx512f", "avx512bw", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_tile", "amx_int8", "amx_bf16"),
    # Arm: the same.
    *("neon", "asimd", "asimdhp", "asimddp", "i8mm", "bf16", "sve", "sve2", "sme"),
)
"""The CPU features that decide how fast inference is, as Linux names them."""

_ARM_PARTS = {
    "0x41": {"0xd05": "Cortex-A55", "0xd08": "Cortex-A72", "0xd0b": "Cortex-A76", "0xd0c": "Neoverse-N1"}
    | {"0xd40": "Neoverse-V1", "0xd49": "Neoverse-N2", "0xd4f": "Neoverse-V2"},
}


@dataclass(frozen=True)
class Machine:
    """Where something was measured.

    Attributes:
        cpu: the CPU's name.
        features: those of ``FEATURES`` that it has, in that order; empty where the system does not tell.
        cores: logical CPUs this process may use.
        system: operating system and architecture, e.g. ``"Linux x86_64"``.
        python: version of the interpreter.
    """

    cpu: str
    features: tuple[str, ...]
    cores: int
    system: str
    python: str

    def to_dict(self) -> dict[str, object]:
        """Plain values, for JSON."""
        return {**asdict(self), "features": list(self.features)}

    def labels(self) -> dict[str, str]:
        """Label -> text, for a report."""
        return {
            "CPU": self.cpu,
            "CPU features": " ".join(self.features) or "unknown",
            "cores": str(self.cores),
            "system": self.system,
            "Python": self.python,
        }

    def __str__(self) -> str:
        features = f" ({' '.join(self.features)})" if self.features else ""
        return f"{self.cpu}, {self.cores} core{'s' * (self.cores != 1)}{features}, {self.system}"


def this_machine(cpuinfo: Path = Path("/proc/cpuinfo")) -> Machine:
    """Describe the machine this runs on.

    Args:
        cpuinfo: where Linux describes its CPUs; where it cannot be read, name and architecture come from ``platform``.
    """
    try:
        name, features = parse_cpuinfo(cpuinfo.read_text(encoding="utf-8", errors="replace"))
    except OSError:  # not Linux
        name, features = "", ()
    return Machine(
        cpu=name or platform.processor() or platform.machine() or "unknown CPU",
        features=features,
        cores=_cores(),
        system=f"{platform.system()} {platform.machine()}".strip(),
        python=platform.python_version(),
    )


def parse_cpuinfo(text: str) -> tuple[str, tuple[str, ...]]:
    """Name and features of the first CPU in the text of ``/proc/cpuinfo``; ``""`` and ``()`` where it does not say.

    x86 has ``model name`` and ``flags``; Arm has ``Features`` and mostly only the numbers of its designer and part.
    """
    fields: dict[str, str] = {}
    for line in text.splitlines():
        key, separator, value = line.partition(":")
        if separator:
            fields.setdefault(key.strip(), value.strip())
    name = fields.get("model name") or fields.get("Hardware") or fields.get("Model") or ""
    if not name and "CPU part" in fields:
        designer, part = fields.get("CPU implementer", ""), fields["CPU part"]
        name = _ARM_PARTS.get(designer, {}).get(part, f"Arm designer {designer} part {part}")
    has = set((fields.get("flags") or fields.get("Features") or "").split())
    return name, tuple(feature for feature in FEATURES if feature in has)


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):  # a container often may use fewer than there are
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def busy_share(seconds: float = 0.3, stat: Path = Path("/proc/stat")) -> float | None:
    """Share of all CPU time that others use while this process sleeps.

    Unlike the load average it forgets at once, so work of our own that has just ended does not count.

    Args:
        seconds: how long to look.
        stat: where Linux counts CPU time.

    Returns:
        In [0, 1]; None where the system does not tell.
    """
    try:
        before = parse_stat(stat.read_text())
        time.sleep(seconds)
        after = parse_stat(stat.read_text())
    except OSError:  # not Linux
        return None
    total = after[1] - before[1]
    return min(1.0, max(0.0, (after[0] - before[0]) / total)) if total > 0 else None


def parse_stat(text: str) -> tuple[int, int]:
    """Busy and total ticks of all CPUs since the start, from the text of ``/proc/stat``.

    Busy is everything but idle and waiting for disks; time that a hypervisor gave to other guests counts as busy. Guest
    time, the last two columns, is part of user time already.
    """
    ticks = [int(value) for value in text.splitlines()[0].split()[1:9]]
    return sum(ticks) - sum(ticks[3:5]), sum(ticks)
