import io
import json
import sys
from pathlib import Path

import pytest

from pocketface.sdk.errors import BadInputError
from pocketface.sdk.results import Timings
from pocketface.sdk.terminal import console, count_text, size_text, write_json


def test_json_to_a_file_and_to_standard_output(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = {"a": [1, 2.5], "t": Timings(1, 2, 3)}
    expected = {"a": [1, 2.5], "t": {"pre_ms": 1, "inference_ms": 2, "post_ms": 3}}
    write_json(data, str(tmp_path / "x" / "a.json"))
    assert json.loads((tmp_path / "x" / "a.json").read_text()) == expected
    with pytest.raises(BadInputError, match="--force"):
        write_json(data, str(tmp_path / "x" / "a.json"))
    write_json([], str(tmp_path / "x" / "a.json"), force=True)
    assert capsys.readouterr().out == ""
    write_json(data, "-")
    assert json.loads(capsys.readouterr().out) == expected


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (99_949, "99.9 kB"),
        (99_950, "100 kB"),
        (999_600, "1.0 MB"),
        (3e12, "3000 GB"),
    ],
)
def test_size_text(count: int, text: str) -> None:
    assert size_text(count) == text


@pytest.mark.parametrize(
    ("count", "text"), [(950, "950 FLOPs"), (2_230_000, "2.23 M FLOPs"), (314e6, "314 M FLOPs"), (1.5e9, "1.5 G FLOPs")]
)
def test_count_text(count: int, text: str) -> None:
    assert count_text(int(count), "FLOPs") == text


def test_console_writes_wide_lines_to_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    console().print("x " * 90 + "end")
    console(error=True).print("[1, 2]")
    captured = capsys.readouterr()
    assert captured.out.count("\n") == 1
    assert captured.err == "[1, 2]\n"


def test_console_passes_a_broken_pipe_on(monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone(io.StringIO):
        def write(self, _: str) -> int:
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stdout", Gone())
    with pytest.raises(BrokenPipeError):
        console().print("x")
