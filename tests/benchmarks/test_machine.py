"""The machine's description, on texts of real /proc/cpuinfo files and on a system that has none."""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path

import pytest

from pocketface.benchmarks.machine import FEATURES, parse_cpuinfo, this_machine

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
