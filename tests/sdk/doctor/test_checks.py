"""What the checks of the runtime's own package find, each against a situation made by hand."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from pocketface.sdk.backends.registry import BACKENDS
from pocketface.sdk.doctor import caches, layer, packages, runtimes, system, tiny_onnx
from pocketface.sdk.doctor.base import Finding
from pocketface.sdk.doctor.caches import age_text
from pocketface.sdk.doctor.registry import CHECKS
from pocketface.sdk.doctor.versions import TestedPackage, TestedSet


def quiet(text: str) -> None:
    pass


def test_a_finding_that_is_not_ok_must_name_the_command_that_mends_it() -> None:
    Finding(subject="x", level="ok", state="works")
    for level in ("note", "problem"):
        with pytest.raises(ValueError, match="without the command that mends it"):
            Finding(subject="x", level=level, state="odd", reason="why")  # type: ignore[arg-type]


# packages


@pytest.mark.parametrize(
    ("found", "level", "state", "mend"),
    [
        ("2.6.6", "ok", "as tested", ""),
        ("2.6.5", "note", "older", "pip install lightning==2.6.6"),
        ("2.7.0", "note", "newer", "pip install lightning==2.6.6"),
        ("2.5.0", "problem", "too old", "pip install lightning==2.6.6"),
        ("3.0.0", "problem", "too new", "pip install lightning==2.6.6"),
        (None, "note", "missing", "pip install 'pocketface[compress]'"),
    ],
)
def test_a_package_is_judged_by_what_was_tested_and_what_is_asked_for(
    found: str | None, level: str, state: str, mend: str
) -> None:
    entry = TestedPackage(tested="2.6.6", requires="<3,>=2.6", extras=("compress",))
    finding = packages.package("lightning", entry, found)
    assert (finding.level, finding.state, finding.mend) == (level, state, mend)


def test_a_package_that_is_always_needed_may_not_be_missing() -> None:
    finding = packages.package("numpy", TestedPackage(tested="2.4.6", requires=">=2.0"), None)
    assert (finding.level, finding.state, finding.mend) == ("problem", "missing", "pip install numpy==2.4.6")


def test_pocketface_without_its_entry_points_is_incomplete() -> None:
    assert packages.ourselves("0.1.0", True).level == "ok"
    assert packages.ourselves("0.1.0", False).state == "incomplete"
    assert packages.ourselves(None, False).state == "missing"


# caches


def everything(folder: Path) -> dict[str, float]:
    return {str(path): path.stat().st_mtime for path in folder.rglob("*")}


def test_planted_locks_are_found_and_nothing_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen, cache = tmp_path / "it's chosen", tmp_path / "cache"
    old = chosen / "nncf" / "quantized_functions_cpu" / "lock"
    fresh = cache / "torch_extensions" / "py311_cpu" / "other" / "lock"
    for path in (old, fresh, old.parent / "main.o", old.parent / "lock.txt", chosen / "lock_folder" / "blocker"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    (chosen / "lock").mkdir()  # a folder of that name is no lock
    three_days_ago = time.time() - 3 * 86400
    os.utime(old, (three_days_ago, three_days_ago))
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(chosen))
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    monkeypatch.setattr(caches.sys, "platform", "linux")
    before = everything(tmp_path)
    found = {finding.subject: finding for finding in caches.run("", quiet)}
    assert everything(tmp_path) == before
    assert set(found) == {"quantized_functions_cpu", "other"}
    left, running = found["quantized_functions_cpu"], found["other"]
    assert (left.level, left.state, left.values["age"]) == ("problem", "lock left behind", "3 days")
    assert (running.level, running.state) == ("note", "locked")
    # The command removes the lock and nothing else, quote and blank in its path notwithstanding.
    subprocess.run(["sh", "-c", left.mend], check=True, cwd=tmp_path)
    assert set(before) - set(everything(tmp_path)) == {str(old)}


def test_a_lock_in_both_places_is_listed_once(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "lock").write_text("")
    assert caches.locks([tmp_path, tmp_path / "a", tmp_path / "nothing"]) == [tmp_path / "a" / "lock"]


def test_a_lock_that_goes_away_meanwhile_is_none(tmp_path: Path) -> None:
    assert caches.describe(tmp_path / "lock", time.time()) is None


def test_no_locks_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("TORCH_EXTENSIONS_DIR", raising=False)
    monkeypatch.setattr(caches.sys, "platform", "linux")
    (finding,) = caches.run("", quiet)
    assert (finding.level, finding.values["folder"]) == ("ok", str(tmp_path / "torch_extensions"))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(40, "40 s"), (720, "12 min"), (3 * 3600, "3 h"), (30 * 3600, "30 h"), (21 * 86400, "21 days")],
)
def test_ages_read_well(seconds: float, text: str) -> None:
    assert age_text(seconds) == text


# system


@pytest.mark.parametrize(
    ("found", "state"),
    [("3.11.7", "as tested"), ("3.13.0", "supported"), ("3.10.9", "not supported"), ("3.14.0", "not supported")],
)
def test_python_versions(found: str, state: str) -> None:
    tested = TestedSet(python=">=3.11,<3.14", tested_python="3.11", packages={})
    finding = system.python(found, tested)
    assert finding.state == state
    assert (finding.level == "problem") == (state == "not supported")


@pytest.mark.parametrize(
    ("value", "state", "mend"),
    [
        ("2", "set", ""),
        ("2,4", "set", ""),
        ("64", "unusual", "export OMP_NUM_THREADS=4"),
        ("0", "unusual", "unset OMP_NUM_THREADS"),
        ("many", "unusual", "unset OMP_NUM_THREADS"),
        ("", "unusual", "unset OMP_NUM_THREADS"),
    ],
)
def test_thread_settings(value: str, state: str, mend: str) -> None:
    (finding,) = system.threads({"OMP_NUM_THREADS": value}, 4)
    assert (finding.state, finding.mend) == (state, mend)


def test_no_thread_setting_is_told_too() -> None:
    (finding,) = system.threads({}, 4)
    assert (finding.level, finding.state) == ("ok", "default")


def test_memory_is_the_least_of_the_machine_and_the_container(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal:       24684092 kB\nMemAvailable:   8000000 kB\n")
    assert system.available_memory(meminfo, tmp_path) == 8_192_000_000
    (tmp_path / "memory.max").write_text("4000000000\n")
    (tmp_path / "memory.current").write_text("3000000000\n")
    assert system.available_memory(meminfo, tmp_path) == 1_000_000_000
    (tmp_path / "memory.max").write_text("max\n")
    assert system.available_memory(meminfo, tmp_path) == 8_192_000_000
    assert system.available_memory(tmp_path / "nothing", tmp_path / "nothing") is None
    assert [system.memory(free).level for free in (None, 1_000_000_000, 8_192_000_000)] == ["ok", "note", "ok"]


def test_a_disk_that_is_nearly_full_is_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert system.disk("disk", tmp_path / "nothing", "cd /").state == "unknown"
    monkeypatch.setattr(system.shutil, "disk_usage", lambda folder: type("Usage", (), {"free": 5_000_000})())
    finding = system.disk("disk", tmp_path, "cd /")
    assert (finding.level, finding.state, finding.values) == ("note", "little", {"found": "5.0 MB free"})


def test_a_folder_for_temporary_files_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system.tempfile, "gettempdir", lambda: str(tmp_path / "gone"))
    finding = system.temporary()
    assert (finding.level, finding.state) == ("problem", "not writable")
    assert "TMPDIR" in finding.mend


def test_the_system_of_this_machine_is_described() -> None:
    assert {"Python", "system", "memory", "temporary files"} <= {finding.subject for finding in system.run("", quiet)}


# runtimes


def test_the_layer_in_numpy_agrees_with_a_slow_loop() -> None:
    picture, kernel, result = layer.image(), layer.weights(), layer.expected(layer.image())
    assert result.shape == layer.OUTPUT_SHAPE
    for channel, y, x in np.ndindex(*layer.OUTPUT_SHAPE[1:]):
        total = sum(
            float(picture[0, c, y + i, x + j]) * float(kernel[channel, c, i, j]) for c, i, j in np.ndindex(3, 2, 2)
        )
        assert result[0, channel, y, x] == pytest.approx(total, abs=1e-6)
    assert len(set(kernel.ravel().tolist())) == kernel.size  # so that a mix-up shows


def test_the_model_written_by_hand_is_what_onnx_itself_reads() -> None:
    model = onnx.load_from_string(tiny_onnx.model())
    onnx.checker.check_model(model, full_check=True)
    (found,) = ReferenceEvaluator(model).run(None, {layer.INPUT: layer.image()})
    np.testing.assert_allclose(found, layer.expected(layer.image()), atol=1e-6)
    assert len(tiny_onnx.model()) < 400


@pytest.mark.parametrize("format", sorted(runtimes.probes()))
def test_every_stored_model_runs_and_is_right(format: str) -> None:
    if not BACKENDS[format].available():
        pytest.skip(f"no runtime of {format} here")
    (finding,) = runtimes.run(format, quiet)
    assert (finding.level, finding.state) == ("ok", "works"), finding
    assert 0 <= float(finding.values["max error"] or 0) < 1e-5


def test_a_runtime_that_computes_something_else_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    probe = runtimes.probes()["onnx"]
    place = probe.data.index(layer.weights().tobytes()) + 3  # sign and exponent of the first weight
    other = runtimes.Probe(
        suffix=probe.suffix,
        layout=probe.layout,
        made_by="a test",
        data=probe.data[:place] + bytes([probe.data[place] ^ 0x80]) + probe.data[place + 1 :],
    )
    monkeypatch.setattr(runtimes, "probes", lambda: {"onnx": other})
    (finding,) = runtimes.run("onnx", quiet)
    assert (finding.level, finding.state) == ("problem", "wrong result")
    assert finding.mend.startswith("pip install ")


class Absent:
    @classmethod
    def available(cls) -> bool:
        return False


class Unseen:
    """A runtime for whose format there is no stored model: it refuses an empty file."""

    def __init__(self, path: Path, variant: object) -> None:
        from pocketface.sdk.errors import BundleError

        if not path.read_bytes():
            raise BundleError("empty")

    @classmethod
    def available(cls) -> bool:
        return True


def test_a_runtime_without_a_stored_model_is_at_least_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BACKENDS._table, "a-dummy", "pf_doctor_dummy:Backend")
    monkeypatch.setitem(__import__("sys").modules, "pf_doctor_dummy", type("m", (), {"Backend": Unseen}))
    (finding,) = runtimes.run("a-dummy", quiet)
    assert (finding.level, finding.state) == ("ok", "loads")


def test_a_runtime_that_is_not_installed_is_no_problem_but_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtimes, "BACKENDS", {"tflite": Absent, "onnx": Absent, "coreml": Absent})
    (finding,) = runtimes.run("tflite", quiet)
    assert (finding.level, finding.state, finding.mend) == ("note", "not installed", "pip install 'pocketface[tflite]'")
    (finding,) = runtimes.run("onnx", quiet)
    assert finding.level == "problem"  # this one always comes with pocketface
    monkeypatch.setattr(runtimes.sys, "platform", "linux")
    (finding,) = runtimes.run("coreml", quiet)
    assert (finding.level, finding.state) == ("ok", "not on this system")
    monkeypatch.setattr(runtimes.sys, "platform", "darwin")
    (finding,) = runtimes.run("coreml", quiet)
    assert (finding.state, finding.mend) == ("not installed", "pip install 'pocketface[coreml]'")


@pytest.mark.parametrize("name", list(CHECKS))
def test_every_check_lists_its_cases_once(name: str) -> None:
    check = CHECKS[name]
    cases = list(check.cases())
    assert cases
    assert len(set(cases)) == len(cases)
    assert check.mend(cases[0])
