from __future__ import annotations

import errno
import json
import multiprocessing
from pathlib import Path

import msgspec
import pytest

from pocketface.compression.pipeline.store import Store, canonical
from pocketface.sdk.errors import EnvironmentProblemError


class Old(msgspec.Struct, frozen=True):
    a: int = 1
    b: str = "x"


class New(msgspec.Struct, frozen=True):
    a: int = 1
    b: str = "x"
    added: tuple[int, ...] = ()


def test_a_stage_is_made_once(tmp_path: Path):
    calls = []

    def build(folder: Path) -> None:
        calls.append(folder)
        (folder / "out.txt").write_text("done")

    first = Store(tmp_path).stage("x", 1, {"k": 1}, build)
    second = Store(tmp_path).stage("x", 1, {"k": 1}, build)
    assert (len(calls), first.fresh, second.fresh) == (1, True, False)
    assert second.path == first.path
    assert (second.path / "out.txt").read_text() == "done"
    assert json.loads((first.path / "stage.json").read_text())["inputs"] == {"k": 1}


def test_whatever_it_depends_on_is_in_the_key():
    keys = {
        Store.key("x", 1, {"k": 1}),
        Store.key("x", 2, {"k": 1}),
        Store.key("y", 1, {"k": 1}),
        Store.key("x", 1, {"k": 2}),
        Store.key("x", 1, {"k": Old(a=2)}),
        Store.key("x", 1, {"k": [1, 2]}),
    }
    assert len(keys) == 6
    assert Store.key("x", 1, {"a": 1, "b": 2}) == Store.key("x", 1, {"b": 2, "a": 1})


def test_a_new_field_with_a_default_keeps_old_keys():
    assert Store.key("x", 1, {"k": Old(a=2)}) == Store.key("x", 1, {"k": New(a=2)})
    assert Store.key("x", 1, {"k": Old(a=2)}) != Store.key("x", 1, {"k": New(a=2, added=(1,))})
    assert canonical({"k": New(a=3)}) == {"k": {"a": 3}}


def test_an_interrupted_stage_goes_on_in_its_folder(tmp_path: Path):
    store = Store(tmp_path)

    def killed(folder: Path) -> None:
        (folder / "checkpoint").write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.stage("x", 1, {}, killed)
    assert not [path for path in store.root.glob("x-*") if path.suffix != ".partial"]
    done = store.stage("x", 1, {}, lambda folder: (folder / "rest").write_text((folder / "checkpoint").read_text()))
    assert (done.path / "rest").read_text() == "half"
    assert not list(store.root.glob("*.partial"))


def test_a_full_disk_is_the_machines_problem_and_leaves_no_finished_stage(tmp_path: Path):
    def full(folder: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(EnvironmentProblemError, match=r"(?i)space") as caught:
        Store(tmp_path).stage("x", 1, {}, full)
    assert caught.value.exit_code == 3
    assert [path.suffix for path in (tmp_path / "stages").glob("x-*")] == [".partial"]


def _slow(root: Path, mark: Path) -> None:
    def build(folder: Path) -> None:
        with mark.open("a") as file:
            file.write("built\n")
        import time

        time.sleep(0.5)

    Store(root).stage("x", 1, {}, build)


def test_two_processes_make_it_once(tmp_path: Path):
    context = multiprocessing.get_context("fork")
    both = [context.Process(target=_slow, args=(tmp_path, tmp_path / "mark")) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join()
    assert (tmp_path / "mark").read_text() == "built\n"
