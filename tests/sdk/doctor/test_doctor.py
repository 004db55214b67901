"""The command: its filters, its JSON, its exit codes, and what it says where next to nothing is installed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
import venv
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import msgspec
import pytest
from packaging.requirements import Requirement
from typer.testing import CliRunner, Result

from pocketface.sdk import cli
from pocketface.sdk.doctor.base import Check, Finding, Level
from pocketface.sdk.doctor.registry import CHECKS
from pocketface.sdk.doctor.report import Report
from pocketface.sdk.doctor.versions import load_tested

ROOT = Path(__file__).parents[3]
LAYERS = ("sdk", "benchmarks", "converters", "compression")


def call(*words: object) -> Result:
    return CliRunner().invoke(cli.app, ["doctor", *map(str, words)])


def found(level: Level, state: str) -> Check:
    finding = Finding(
        subject="thing",
        level=level,
        state=state,
        values={"error": 1e-7},
        reason="for a reason",
        mend="" if level == "ok" else f"pip install mends-{level}",
        chatter="blah",
    )
    return Check(title=f"a {level} check", run=lambda case, step: [finding])


FINE, NOTED, BROKEN = found("ok", "works"), found("note", "newer"), found("problem", "crashed")
SLOW = Check(title="slow", run=lambda case, step: [], cases=lambda: ["one", "two"], slow=True)


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> None:
    checks = {"FINE": FINE, "NOTED": NOTED, "BROKEN": BROKEN, "SLOW": SLOW}
    monkeypatch.setitem(sys.modules, "pf_doctor_fakes", type("m", (), checks))  # type: ignore[arg-type]
    monkeypatch.setattr(CHECKS, "_entries", lambda: {name.lower(): f"pf_doctor_fakes:{name}" for name in checks})


@pytest.mark.usefixtures("fakes")
def test_exit_codes_say_whether_what_is_installed_works() -> None:
    assert call("--only", "fine").exit_code == 0
    result = call("--only", "fine,noted")
    assert (result.exit_code, result.stderr) == (0, "")
    assert "Everything that is installed and was looked at works here." in result.stdout
    assert "thing: newer: for a reason\n    pip install mends-note\n" in result.stdout
    result = call()
    assert result.exit_code == 3
    says = "1 of what is installed here does not work (thing: crashed). Start with: pip install mends-problem."
    assert result.stderr == f"pocketface: {says}\n"
    assert "    pip install mends-problem\n" in result.stdout


@pytest.mark.usefixtures("fakes")
def test_the_json_is_the_typed_report_and_alone_on_standard_output(tmp_path: Path) -> None:
    result = call("--json", "-")
    assert result.exit_code == 3
    report = msgspec.json.decode(result.stdout, type=Report)
    assert [section.name for section in report.sections] == ["broken", "fine", "noted", "slow"]
    assert not report.healthy
    assert report.sections[0].findings[0] == msgspec.structs.replace(BROKEN.run("", print)[0], chatter="")
    out = tmp_path / "report.json"
    assert call("--only", "fine", "--json", out).exit_code == 0
    assert msgspec.json.decode(out.read_bytes(), type=Report).left_out == ("broken", "noted", "slow")
    refused = call("--only", "fine", "--json", out)
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "--force" in refused.stderr
    assert call("--only", "fine", "--json", out, "--force", "--debug").exit_code == 0
    assert json.loads(out.read_text())["sections"][0]["findings"][0]["chatter"] == "blah"


@pytest.mark.usefixtures("fakes")
def test_chatter_shows_with_debug_only() -> None:
    assert "blah" not in call("--only", "fine").stdout
    assert "thing | blah" in call("--only", "fine", "--debug").stdout


@pytest.mark.usefixtures("fakes")
def test_only_and_quick_choose_what_is_looked_at() -> None:
    assert "slow" not in call("--only", "fine").stdout.partition("not looked at")[0]
    shown = json.loads(call("--only", "one", "--json", "-").stdout)
    assert [section["name"] for section in shown["sections"]] == ["slow"]
    shown = json.loads(call("--quick", "--json", "-").stdout)
    assert shown["left_out"] == ["slow"]
    result = call("--only", "fin")
    assert result.exit_code == 2
    assert "unknown check or format 'fin' (did you mean 'fine'?). Valid: broken, fine, noted, one, slow, two" in (
        result.stderr
    )
    assert call("--only", " ,").exit_code == 2


def test_help_has_an_example() -> None:
    assert "Example: pocketface doctor --only onnx,tflite" in call("--help").stdout


def bare_python(folder: Path, *, without: tuple[str, ...] = (), broken: tuple[str, ...] = ()) -> Path:
    """An environment of links that holds pocketface and what it always needs, as a bare ``pip install`` leaves it.

    Args:
        folder: where to make it.
        without: distributions to leave out nevertheless.
        broken: modules that raise ``ImportError`` as one does whose shared library is missing.
    """
    venv.create(folder, with_pip=False, symlinks=os.name != "nt")
    (site,) = folder.glob("lib/python*/site-packages")
    waiting = [name for name, package in load_tested().packages.items() if not package.extras]
    done = {"pocketface"}
    while waiting:
        name = waiting.pop()
        if name in done or name in without:
            continue
        done.add(name)
        dist = distribution(name)
        for top in {file.parts[0] for file in dist.files or [] if file.parts[0] not in ("..", "__pycache__")}:
            source = Path(str(dist.locate_file(top)))
            if top in broken:
                (site / f"{top}.py").write_text("raise ImportError('libgone.so: cannot open shared object file')\n")
            elif not (site / top).exists():
                (site / top).symlink_to(source)
        for requirement in map(Requirement, dist.requires or []):
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                waiting.append(requirement.name)
    (site / "pocketface").mkdir()
    for layer in LAYERS:
        (site / "pocketface" / layer).symlink_to(ROOT / layer)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    info = site / "pocketface-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: pocketface\nVersion: 0.1.0\n")
    lines = []
    for group, entries in project["entry-points"].items():
        lines += [f"[{group}]", *(f"{name} = {target}" for name, target in entries.items())]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
    return folder / "bin" / "python"


def doctor(python: Path, *words: str) -> tuple[subprocess.CompletedProcess[str], dict[str, dict[str, Any]]]:
    """What doctor says in that environment; check -> subject -> finding."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    code = (
        "import sys\nfrom pocketface.sdk.cli import main\ntry:\n    main()\nfinally:\n"
        "    assert not {'torch', 'onnxruntime'} & set(sys.modules)"
    )
    command = [str(python), "-c", code, "doctor", "--json", "-", *words]
    done = subprocess.run(command, capture_output=True, text=True, env=env, cwd=python.parent)
    assert done.stdout, done.stderr
    sections = json.loads(done.stdout)["sections"]
    return done, {
        section["name"]: {finding["subject"]: finding for finding in section["findings"]} for section in sections
    }


def test_a_bare_install_is_healthy_and_says_what_more_there_is(tmp_path: Path) -> None:
    done, seen = doctor(bare_python(tmp_path / "bare"))
    assert (done.returncode, done.stderr) == (0, "")
    assert set(seen) == set(CHECKS)
    assert seen["runtimes"]["onnx"]["state"] == "works"
    assert seen["runtimes"]["tflite"]["mend"] == "pip install 'pocketface[tflite]'"
    assert (seen["packages"]["torch"]["state"], seen["packages"]["torch"]["level"]) == ("missing", "note")
    assert seen["packages"]["coremltools"]["mend"] == "pip install 'pocketface[coreml]'"
    assert seen["packages"]["numpy"]["state"] in ("as tested", "newer", "older")
    assert seen["machine"]["CPU"]["level"] == "ok"
    assert set(seen["formats"]) >= {"onnx", "tflite", "coreml"}
    for format, finding in seen["formats"].items():
        assert (finding["level"], finding["state"]) == ("note", "not installed"), format
        assert finding["mend"] == "pip install 'pocketface[compress]'"
    for section in seen.values():
        for finding in section.values():
            assert finding["level"] == "ok" or finding["mend"]


def test_a_runtime_that_is_missing_or_broken_is_a_problem(tmp_path: Path) -> None:
    done, seen = doctor(bare_python(tmp_path / "less", without=("onnxruntime",)), "--only", "packages,onnx", "--quick")
    tested = load_tested().packages["onnxruntime"].tested
    assert done.returncode == 3
    assert seen["packages"]["onnxruntime"]["mend"] == f"pip install onnxruntime=={tested}"
    assert seen["runtimes"]["onnx"]["state"] == "not installed"
    assert f"onnxruntime=={tested}" in seen["runtimes"]["onnx"]["mend"]
    done, seen = doctor(bare_python(tmp_path / "torn", broken=("onnxruntime",)), "--only", "runtimes")
    assert done.returncode == 3
    assert seen["runtimes"]["onnx"]["level"] == "problem"
    assert "libgone.so" in seen["runtimes"]["onnx"]["reason"]
    # Installing it once more as it is would do nothing.
    assert seen["runtimes"]["onnx"]["mend"] != "pip install onnxruntime"
