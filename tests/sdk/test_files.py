import errno
import hashlib
import os
import stat
from pathlib import Path

import pytest

from pocketface.sdk import files
from pocketface.sdk.errors import BadInputError, EnvironmentProblemError
from pocketface.sdk.files import atomic_folder, os_problem, sha256, write_atomic


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_sha256_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    # FIPS 180-2, appendix B.1
    assert sha256(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    (tmp_path / "b").write_bytes(bytes(3_000_000))
    assert sha256(tmp_path / "b") == hashlib.sha256(bytes(3_000_000)).hexdigest()


def test_write_makes_parents_and_leaves_only_the_file(tmp_path: Path) -> None:
    write_atomic(tmp_path / "x" / "y" / "out.json", b"{}")
    assert (tmp_path / "x" / "y" / "out.json").read_bytes() == b"{}"
    assert names(tmp_path / "x" / "y") == ["out.json"]
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE((tmp_path / "x" / "y" / "out.json").stat().st_mode) == 0o666 & ~umask


def test_write_refuses_to_overwrite_without_force(tmp_path: Path) -> None:
    target = tmp_path / "out.json"
    target.write_text("mine")
    with pytest.raises(BadInputError, match=r"out.json exists already.*--force"):
        write_atomic(target, b"new")
    assert target.read_text() == "mine"
    write_atomic(target, b"new", force=True)
    assert target.read_text() == "new"


def test_write_refuses_a_folders_name(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="is a folder"):
        write_atomic(tmp_path, b"", force=True)


def test_a_parent_that_is_a_file_is_bad_input(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInputError, match="Check the path"):
        write_atomic(tmp_path / "file" / "out.json", b"")


def test_a_full_disk_leaves_nothing_and_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "out").write_text("old")
    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(EnvironmentProblemError, match=r"the disk is full.*Free some space") as caught:
        write_atomic(tmp_path / "out", b"new", force=True)
    assert caught.value.exit_code == 3
    assert names(tmp_path) == ["out"]
    assert (tmp_path / "out").read_text() == "old"


def test_ctrl_c_while_writing_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(files.os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomic(tmp_path / "out", b"new")
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("code", "kind", "message"),
    [
        (errno.ENOSPC, EnvironmentProblemError, "disk is full"),
        (errno.EDQUOT, EnvironmentProblemError, "disk is full"),
        (errno.EACCES, EnvironmentProblemError, "permission denied"),
        (errno.EROFS, EnvironmentProblemError, "permission denied"),
        (errno.EIO, EnvironmentProblemError, "cannot read"),
        (errno.ENOENT, BadInputError, "Check the path"),
    ],
)
def test_os_problem(code: int, kind: type[Exception], message: str) -> None:
    problem = os_problem(OSError(code, os.strerror(code)), "some/file", "read")
    assert type(problem) is kind
    assert message in str(problem)
    assert str(problem).startswith("some/file: ")


def test_folder_appears_only_when_it_is_complete(tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "run" / "bundle") as folder:
        (folder / "a").write_text("a")
        assert not (tmp_path / "run" / "bundle").exists()
    assert names(tmp_path / "run") == ["bundle"]
    assert names(tmp_path / "run" / "bundle") == ["a"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_folder_is_removed_when_the_block_fails(tmp_path: Path, error: type[BaseException]) -> None:
    def fill() -> None:
        with atomic_folder(tmp_path / "bundle") as folder:
            (folder / "a").write_text("a")
            raise error

    with pytest.raises(error):
        fill()
    assert names(tmp_path) == []


def test_folder_is_kept_as_it_was_when_its_replacement_fails(tmp_path: Path) -> None:
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "old").write_text("old")
    with pytest.raises(BadInputError, match=r"exists already.*--force"), atomic_folder(tmp_path / "bundle"):
        pytest.fail("must not start")
    with pytest.raises(ZeroDivisionError), atomic_folder(tmp_path / "bundle", force=True):
        raise ZeroDivisionError
    assert names(tmp_path) == ["bundle"]
    assert names(tmp_path / "bundle") == ["old"]
    with atomic_folder(tmp_path / "bundle", force=True) as folder:
        (folder / "new").write_text("new")
    assert names(tmp_path) == ["bundle"]
    assert names(tmp_path / "bundle") == ["new"]


def test_an_empty_folder_is_taken_over(tmp_path: Path) -> None:
    (tmp_path / "bundle").mkdir()
    with atomic_folder(tmp_path / "bundle") as folder:
        (folder / "new").write_text("new")
    assert names(tmp_path / "bundle") == ["new"]


def test_force_never_replaces_the_current_or_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "thesis").write_text("years")
    monkeypatch.chdir(tmp_path / "work")
    for path in (".", tmp_path):
        with pytest.raises(BadInputError, match="is not replaced"), atomic_folder(path, force=True):
            pytest.fail("must not start")
    monkeypatch.chdir("/")
    monkeypatch.setenv("HOME", str(tmp_path / "work"))
    with pytest.raises(BadInputError, match="is not replaced"), atomic_folder(tmp_path / "work", force=True):
        pytest.fail("must not start")
    assert (tmp_path / "work" / "thesis").read_text() == "years"


def test_folder_refuses_a_files_name(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInputError, match="not a folder"), atomic_folder(tmp_path / "file", force=True):
        pytest.fail("must not start")


def test_a_full_disk_in_the_block_is_an_environment_problem_others_pass(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblemError, match="disk is full"), atomic_folder(tmp_path / "b"):
        full()
    with pytest.raises(FileNotFoundError), atomic_folder(tmp_path / "b"):
        (tmp_path / "nothing").read_text()
    assert names(tmp_path) == []
