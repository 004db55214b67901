"""The fuzzer finds nothing in a few hundred mutants (docs/results/runtime/fuzz.json: 20 000); and it would find what
it is there for, shown by readers that are made to fail on purpose.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from bundle_factory import make_bundle
from detector_factory import make_detector_bundle

from pocketface.benchmarks.fuzz.campaign import NATIVE, Counts, campaign
from pocketface.benchmarks.fuzz.mutants import KINDS, mutant
from pocketface.benchmarks.fuzz.worker import read_files
from pocketface.sdk.bundle import open_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(
        tmp_path_factory.mktemp("fuzz") / "bundle", size=16, points=4, variants=("fp32.onnx", "fp16.coreml")
    )


def test_the_same_number_is_the_same_mutant(bundle: Path) -> None:
    files = read_files(bundle)
    for number in range(2 * len(KINDS)):
        assert mutant(files, 5, number) == mutant(files, 5, number)
    assert mutant(files, 5, 0) != mutant(files, 6, 0)
    names = [name for name in files if name.startswith("golden/")]
    assert mutant(files, 5, 1, mended=names) == mutant(files, 5, 1, mended=names)
    assert read_files(bundle) == files  # none of them touched the original


def test_nothing_is_found(bundle: Path) -> None:
    counts = campaign(bundle, mutants=330, seed=1)
    assert counts.findings == []
    assert counts.mutants == 330
    assert set(counts.kinds) == set(KINDS)
    assert counts.results["refused"] > 200
    assert 0 < counts.results["opened"] < 100
    names = [name for name in read_files(bundle) if name.startswith(("models/", "golden/"))]
    through = campaign(bundle, mutants=60, seed=1, mended=names)
    assert [item for item in through.findings if item["result"] not in NATIVE] == []
    assert through.results["opened"] > 10  # the mended hashes let them through to the runtime


def broken_reader(folder: Path, monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Opening a bundle does this instead, in the processes that try mutants."""
    folder.mkdir()
    lines = ["import os, time, threading", "import pocketface.benchmarks.fuzz.trial as trial", "def bad(path):"]
    lines += [f"    {line}" for line in code.splitlines()] + ["trial.open_bundle = bad"]
    (folder / "sitecustomize.py").write_text("\n".join(lines) + "\n")
    old = os.environ.get("PYTHONPATH", "")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), *([old] if old else [])]))


def with_a_bad_reader(
    bundle: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, code: str, limit: float = 60.0
) -> Counts:
    """What is counted when opening a bundle does this instead."""
    broken_reader(folder, monkeypatch, code)
    return campaign(bundle, mutants=2, limit=limit)


def test_a_crash_does_not_end_it(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = with_a_bad_reader(bundle, tmp_path / "bad", monkeypatch, "os.abort()")
    assert [(item["number"], item["result"]) for item in counts.findings] == [(0, "crashed"), (1, "crashed")]
    assert "SIGABRT" in counts.findings[0]["detail"]


def test_a_hang_does_not_stop_it(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = with_a_bad_reader(bundle, tmp_path / "bad", monkeypatch, "threading.Event().wait()", limit=3.0)
    assert [(item["number"], item["result"]) for item in counts.findings] == [(0, "hung"), (1, "hung")]


def test_a_mutant_that_was_silent_once_is_tried_again(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the machine stands still: one of 20 000 mutants was, and never again in the same batch."""
    mark = tmp_path / "mark"
    mark.touch()
    os.utime(mark, (0, 0))
    # Its time tells the second process that there was a first; a file that it writes would be a finding.
    code = f"if os.stat({str(mark)!r}).st_mtime == 0:\n    os.utime({str(mark)!r})\n    threading.Event().wait()\n"
    counts = with_a_bad_reader(bundle, tmp_path / "bad", monkeypatch, code + "raise KeyError(path)", limit=20.0)
    assert counts.mutants == 2
    assert counts.results["untyped"] == 2


@pytest.mark.parametrize(
    "code",
    [
        "open('{there}', 'w').close()",
        "os.close(os.open('{there}', os.O_CREAT | os.O_WRONLY))",
        "os.mkdir('{there}')",
        "os.symlink('x', '{there}')",
        "os.rename(path, '{there}') if os.path.isfile(path) else open('here', 'x').close()",
    ],
)
def test_a_write_outside_is_seen(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    code = "try:\n    " + code.format(there=tmp_path / "evil") + "\nexcept FileExistsError: pass\nraise KeyError(path)"
    counts = with_a_bad_reader(bundle, tmp_path / "bad", monkeypatch, code)
    assert counts.results["wrote"] == 2


def test_an_error_of_another_type_is_seen(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = with_a_bad_reader(bundle, tmp_path / "bad", monkeypatch, "raise KeyError('boo')")
    assert counts.results["untyped"] == 2
    assert "KeyError: 'boo'" in counts.findings[0]["detail"]


def test_the_bundle_itself_is_fine(bundle: Path) -> None:
    with open_bundle(bundle) as opened:
        assert len(opened.golden()) == 2


def fuzz(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pocketface.benchmarks.fuzz", *(str(item) for item in arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def test_runs_are_added_to_a_record_each_with_its_bundle_and_variants(bundle: Path, tmp_path: Path) -> None:
    record = tmp_path / "fuzz.json"
    done = fuzz(bundle, "--mutants", 11, "--mended", 4, "--json", record)
    assert (done.returncode, done.stderr) == (0, "")
    detector = make_detector_bundle(tmp_path / "detector")
    done = fuzz(detector, "--mutants", 0, "--mended", 30, "--json", record, "--add")
    assert (done.returncode, done.stderr) == (0, "")
    runs = json.loads(record.read_text())["runs"]
    assert [run["bundle"] for run in runs] == ["tiny", "tinydetector"]
    # Core ML does not run: nothing of it is listed.
    parts = [[(part["broken"], part["mutants"]) for part in run["campaigns"]] for run in runs]
    assert parts[0] == [("bundle", 11), ("golden cases", 4), ("fp32.onnx", 4)]
    assert parts[1] == [("golden cases", 30), ("fp32.onnx", 30)]
    assert runs[0]["campaigns"][0]["variants"] == ["fp32.onnx"]
    for run in runs:
        golden, model = run["campaigns"][-2:]
        assert (golden["variants"], model["variants"]) == ([], ["fp32.onnx"])
        assert not any(part["ours"] for part in run["campaigns"])
    # A network whose bytes changed is run: some of its mutants still find faces.
    assert any("run: fine" in detail for detail in runs[1]["campaigns"][-1]["details"])
    assert fuzz(bundle, "--json", record).returncode == 2  # it is there
    assert fuzz(bundle, "--mutants", 0, "--mended", 1, "--json", record, "--add").returncode == 0
    runs = json.loads(record.read_text())["runs"]
    assert [(run["bundle"], run["campaigns"][0]["mutants"]) for run in runs] == [("tinydetector", 30), ("tiny", 1)]
    (tmp_path / "other.json").write_text("[]")
    assert "no runs to add to" in fuzz(bundle, "--json", tmp_path / "other.json", "--add").stderr


def test_only_a_native_crash_of_a_mended_model_is_not_ours(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken_reader(tmp_path / "bad", monkeypatch, "os.abort()")
    record = tmp_path / "fuzz.json"
    done = fuzz(bundle, "--mutants", 1, "--mended", 2, "--json", record)
    assert done.returncode == 1
    assert "3 mutants were not refused" in done.stderr
    (run,) = json.loads(record.read_text())["runs"]
    assert [(part["results"]["crashed"], part["ours"]) for part in run["campaigns"]] == [(1, 1), (2, 2), (2, 0)]
    assert run["campaigns"][2]["findings"][0]["kind"] == "content, hash mended"


def test_a_variant_that_does_not_run_here_is_refused(bundle: Path) -> None:
    done = fuzz(bundle, "--variant", "fp16.coreml")
    assert done.returncode == 2
    assert "fp32.onnx" in done.stderr
