"""How a command of a module ends, and which commit it says it is of."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from pocketface.benchmarks import checkout
from pocketface.benchmarks.module_command import ended
from pocketface.sdk.errors import BadInputError, EnvironmentProblemError


def fail(error: Exception) -> None:
    raise error


def test_an_error_of_ours_is_one_line_and_its_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(lambda: None) == 0
    assert ended(lambda: fail(BadInputError("no faces"))) == 2
    assert ended(lambda: fail(EnvironmentProblemError("no disk"))) == 3
    assert capsys.readouterr().err.splitlines() == ["pocketface: no faces.", "pocketface: no disk."]
    with pytest.raises(KeyError):
        ended(lambda: fail(KeyError("a bug")))


def git(folder: Path, *arguments: str) -> str:
    names = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    return subprocess.run(
        ["git", *names, *arguments], cwd=folder, capture_output=True, text=True, check=True
    ).stdout.strip()


def test_the_commit_says_whether_files_differ_from_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = tmp_path / "benchmarks" / "checkout.py"
    code.parent.mkdir()
    code.write_text("as it was")
    monkeypatch.setattr(checkout, "__file__", str(code))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert checkout.git_commit() == ""
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "first")
    commit = git(tmp_path, "rev-parse", "HEAD")
    (tmp_path / "beside").write_text("not known to git")
    assert checkout.git_commit() == commit
    code.write_text("changed")
    assert checkout.git_commit() == commit + "+"
