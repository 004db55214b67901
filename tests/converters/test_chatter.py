"""Nothing reaches the terminal, everything reaches the file, and nothing stays changed."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from pocketface.converters.chatter import chatter_to


def test_every_way_to_print_ends_up_in_the_file(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "deep" / "x.log"
    print("before")
    with chatter_to(log):
        print("python stdout")
        print("python stderr", file=sys.stderr)
        os.write(1, b"descriptor 1\n")
        os.write(2, b"descriptor 2\n")
        subprocess.run([sys.executable, "-c", "print('a child')"], check=True)
    print("after")
    os.write(1, b"descriptor again\n")
    out, err = capfd.readouterr()
    assert out == "before\nafter\ndescriptor again\n"
    assert err == ""
    text = log.read_text()
    for part in ("python stdout", "python stderr", "descriptor 1", "descriptor 2", "a child"):
        assert part in text


def test_streams_come_back_after_an_error(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before = sys.stdout, sys.stderr, list(warnings.filters)

    def fail() -> None:
        with chatter_to(tmp_path / "x.log"):
            warnings.simplefilter("ignore")
            print("inside")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert (sys.stdout, sys.stderr, list(warnings.filters)) == before
    print("outside")
    assert capfd.readouterr().out == "outside\n"
    assert (tmp_path / "x.log").read_text() == "inside\n"


def test_a_logger_made_inside_goes_on_working_outside(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    logger = logging.Logger("made inside")
    with chatter_to(tmp_path / "x.log"):
        logger.addHandler(logging.StreamHandler())
        logger.error("first")
    logger.error("second")
    assert (tmp_path / "x.log").read_text() == "first\n"
    assert capfd.readouterr().err == "second\n"


def test_a_silent_block_leaves_no_file_and_a_second_one_adds(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    with chatter_to(log):
        pass
    assert not log.exists()
    for word in ("one", "two"):
        with chatter_to(log):
            print(word)
    assert log.read_text() == "one\ntwo\n"


def test_a_log_that_cannot_be_made_is_the_error_that_shows(tmp_path: Path) -> None:
    (tmp_path / "x.log").mkdir()
    with pytest.raises(IsADirectoryError), chatter_to(tmp_path / "x.log"):
        pass


def test_handlers_that_an_import_sets_up_do_not_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.root, "handlers", [])
    with chatter_to(tmp_path / "x.log"):
        logging.basicConfig(level=logging.DEBUG)
        logging.getLogger("library").debug("of the library")
    assert logging.root.handlers == []
    assert logging.root.level == logging.WARNING
    assert "of the library" in (tmp_path / "x.log").read_text()
