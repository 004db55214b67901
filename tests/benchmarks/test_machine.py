"""The machine's description, on texts of real /proc/cpuinfo files and on a system that has none."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from pocketface.benchmarks.machine import FEATURES, busy_share, parse_cpuinfo, parse_stat, this_machine

X86 = """processor\t: 0
vendor_id\t: GenuineIntel
model name\t: Intel(R) Xeon(R) Platinum 8375C CPU @ 2.90GHz
flags\t\t: fpu vme sse4_1 avx avx2 fma f16c avx512f avx512_vnni hypervisor

processor\t: 1
model name\t: another one
flags\t\t: amx_int8
"""
ARM = """processor\t: 0
BogoMIPS\t: 243.75
Features\t: fp asimd evtstrm asimdhp asimddp bf16 i8mm
CPU implementer\t: 0x41
CPU part\t: 0xd40
"""
UNKNOWN_ARM = "processor\t: 0\nCPU implementer\t: 0x99\nCPU part\t: 0x123\n"


def test_x86_names_the_first_cpu_and_only_what_matters():
    name, features = parse_cpuinfo(X86)
    assert name == "Intel(R) Xeon(R) Platinum 8375C CPU @ 2.90GHz"
    assert set(features) == {"sse4_1", "avx", "avx2", "fma", "f16c", "avx512f", "avx512_vnni"}
    assert list(features) == [feature for feature in FEATURES if feature in features]


@pytest.mark.parametrize(
    ("text", "name", "features"),
    [
        (ARM, "Neoverse-V1", {"asimd", "asimdhp", "asimddp", "bf16", "i8mm"}),
        (UNKNOWN_ARM, "Arm designer 0x99 part 0x123", set()),
        ("", "", set()),
        ("no colon here\n", "", set()),
    ],
)
def test_other_systems(text: str, name: str, features: set[str]):
    assert parse_cpuinfo(text) == (name, tuple(feature for feature in FEATURES if feature in features))


def test_without_cpuinfo_the_platform_module_names_it(tmp_path: Path):
    machine = this_machine(tmp_path / "absent")
    assert machine.cpu in (platform.processor(), platform.machine())
    assert machine.features == ()
    assert machine.labels()["CPU features"] == "unknown"


def test_this_machine_is_named_and_saves_as_json():
    machine = this_machine()
    assert machine.cpu
    assert 1 <= machine.cores <= (os.cpu_count() or 1)
    assert json.loads(json.dumps(machine.to_dict()))["cpu"] == machine.cpu
    assert machine.cpu in str(machine)
    assert platform.machine() in str(machine)


def test_busy_ticks_are_all_but_idle_and_waiting():
    # user nice system idle iowait irq softirq steal guest guest_nice
    assert parse_stat("cpu  10 2 3 100 20 1 1 5 7 1\ncpu0 1 1 1 1\n") == (10 + 2 + 3 + 1 + 1 + 5, 142)


def test_busy_share_where_nothing_is_known_and_where_nothing_moves(tmp_path: Path):
    assert busy_share(0, tmp_path / "absent") is None
    (tmp_path / "stat").write_text("cpu  1 1 1 1 1 1 1 1 1 1\n")
    assert busy_share(0, tmp_path / "stat") is None


@pytest.mark.skipif(not Path("/proc/stat").exists(), reason="Linux only")
def test_busy_share_sees_another_process():
    loop = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        share = busy_share(0.3)
    finally:
        loop.kill()
        loop.wait()
    assert share is not None
    assert share > 0.2 / (os.cpu_count() or 1)  # one process of one thread, even if it shares its core
