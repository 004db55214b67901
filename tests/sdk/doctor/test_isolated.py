"""A check that crashes, hangs, or fails takes nobody with it: its end is a finding."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from pocketface.sdk.doctor.base import Finding
from pocketface.sdk.doctor.isolated import examine
from pocketface.sdk.doctor.registry import CHECKS
from pocketface.sdk.doctor.report import run_checks

CODE = """
import os, pathlib, signal, subprocess, sys, time
from pocketface.sdk.doctor.base import Check, Finding
from pocketface.sdk.errors import BadInputError, MissingExtraError

def run(case, step):
    step(f"doing {case}")
    print("from python")
    os.write(2, b"from a library\\n")
    if case == "segfault":
        os.kill(os.getpid(), signal.SIGSEGV)
    if case == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if case == "hang":
        sleeper = subprocess.Popen(["sleep", "600"])
        pathlib.Path(os.environ["PF_SLEEPER"]).write_text(str(sleeper.pid))
        time.sleep(600)
    if case == "exit":
        os._exit(0)
    if case == "raise":
        raise RuntimeError("no kernel\\nand more")
    if case == "extra":
        raise MissingExtraError("running x", "tflite")
    if case == "ours":
        raise BadInputError("odd", next="Install it: pip install odd")
    return [Finding(subject=case, level="ok", state="works", values={"folder": os.getcwd()})]

CASES = ["works", "segfault", "killed", "hang", "exit", "raise", "extra", "ours"]
CHECK = Check(title="fakes", run=run, cases=lambda: CASES, timeout_s=8, mend=lambda case: f"pip install mends-{case}")
"""


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another distribution with a check, found by this process and by its children."""
    info = tmp_path / "fake_checks-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: fake-checks\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[pocketface.checks]\nfake = pf_fake_checks:CHECK\nbroken = pf_fake_checks:NOTHING\n"
    )
    (tmp_path / "pf_fake_checks.py").write_text(CODE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("PF_SLEEPER", str(tmp_path / "sleeper"))


def look(case: str) -> Finding:
    (finding,) = examine("fake", case, CHECKS["fake"])
    return finding


@pytest.mark.usefixtures("fake")
def test_a_check_that_works_runs_elsewhere_and_its_chatter_is_kept(capfd: pytest.CaptureFixture[str]) -> None:
    finding = look("works")
    assert (finding.level, finding.state) == ("ok", "works")
    assert sorted(finding.chatter.splitlines()) == ["from a library", "from python"]
    assert capfd.readouterr() == ("", "")
    folder = Path(str(finding.values["folder"]))
    assert folder != Path.cwd()
    assert not folder.exists()


@pytest.mark.usefixtures("fake")
@pytest.mark.parametrize(
    ("case", "state", "reason"),
    [
        ("segfault", "crashed", "ended by SIGSEGV while doing segfault"),
        ("killed", "crashed", "ended by SIGKILL (the system may have run out of memory) while doing killed"),
        ("exit", "crashed", "ended with exit code 0 and no result while doing exit"),
        ("raise", "failed", "RuntimeError: no kernel"),
    ],
)
def test_a_crash_is_reported_with_what_it_was_doing(case: str, state: str, reason: str) -> None:
    finding = look(case)
    assert (finding.subject, finding.level, finding.state) == (case, "problem", state)
    assert finding.reason.endswith(reason)
    assert finding.mend == f"pip install mends-{case}"
    assert "from a library" in finding.chatter
    if case == "segfault":
        assert "Segmentation fault" in finding.chatter  # Python's own trace of it
    if case == "raise":
        assert "Traceback" in finding.chatter


@pytest.mark.usefixtures("fake")
def test_a_hang_is_stopped_with_everything_it_started(tmp_path: Path) -> None:
    finding = look("hang")
    assert (finding.level, finding.state) == ("problem", "timed out")
    assert finding.reason == "gave no result within 8 s while doing hang"
    sleeper = int((tmp_path / "sleeper").read_text())
    for _ in range(100):
        if not alive(sleeper):
            break
        time.sleep(0.05)
    assert not alive(sleeper)


def alive(process: int) -> bool:
    try:
        os.kill(process, 0)
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except (ProcessLookupError, FileNotFoundError):
        return False
    return state != "Z"


@pytest.mark.usefixtures("fake")
def test_a_missing_extra_names_its_own_command_and_other_errors_the_checks() -> None:
    assert look("extra").mend == "pip install 'pocketface[tflite]'"
    # To install what is installed but broken would change nothing.
    assert look("ours").mend == "pip install mends-ours"


@pytest.mark.usefixtures("fake")
def test_a_check_that_cannot_be_loaded_does_not_stop_the_others() -> None:
    report = run_checks(only=["broken", "caches"])
    by_name = {section.name: section.findings for section in report.sections}
    assert set(by_name) == {"broken", "caches"}
    assert by_name["broken"][0].state == "not run"
    assert "NOTHING" in by_name["broken"][0].reason
    assert not report.healthy


@pytest.mark.usefixtures("fake")
def test_no_folder_for_temporary_files_is_reported_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))
    finding = look("works")
    assert (finding.level, finding.state) == ("problem", "not run")
    assert finding.mend == "pocketface doctor --only system"
