"""Writing files so that nothing half-written ever carries its final name, and hashing them."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from pocketface.sdk.errors import BadInputError, EnvironmentProblemError, PocketfaceError

_FULL = (errno.ENOSPC, errno.EDQUOT)
_DENIED = (errno.EACCES, errno.EPERM, errno.EROFS)


def sha256(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file's bytes, in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_atomic(path: str | os.PathLike[str], data: bytes, *, force: bool = False) -> None:
    """Write a file under a temporary name beside it, then rename; missing parent folders are made.

    Args:
        path: the final name.
        data: all of its bytes.
        force: replace a file that is already there.

    Raises:
        BadInputError: the file exists and ``force`` is not set, or the name is a folder's.
        EnvironmentProblemError: the disk is full, or the place is not writable.
    """
    path = Path(path)
    refuse_existing(path, force)
    if path.is_dir():
        raise BadInputError(f"{path} is a folder", expected="a file name", next="Name a file in it")
    temporary = path.with_name(f".{path.name[:64]}.{os.urandom(4).hex()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(temporary, "xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:  # Ctrl-C too leaves nothing behind
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise os_problem(error, path) from error


@contextlib.contextmanager
def atomic_folder(path: str | os.PathLike[str], *, force: bool = False) -> Iterator[Path]:
    """Fill a folder under a temporary name; it gets its own name when the block ends well, and is removed when it does
    not.

    Args:
        path: the final name. An empty folder of that name is taken over.
        force: replace a folder that is already there, once the new one is complete.

    Yields:
        The temporary folder to fill.

    Raises:
        BadInputError: the name is taken and ``force`` is not set, or replacing it would take the current or the home
            folder away.
        EnvironmentProblemError: the disk is full, or the place is not writable.
    """
    path = Path(path)
    empty = path.is_dir() and not path.is_symlink() and not any(path.iterdir())
    if not empty:
        refuse_existing(path, force)
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        raise BadInputError(f"{path} is not a folder", expected="the name of a folder", next="Choose another name")
    if not empty and path.exists():
        _refuse_precious(path)
    temporary = path.with_name(f".{path.name[:64]}.{os.urandom(4).hex()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.mkdir()
    except OSError as error:
        raise os_problem(error, path) from error
    try:
        yield temporary
        _swap(temporary, path)
    except OSError as error:
        # Only a disk that is full or not writable is certainly about what we write; the rest is the block's own affair.
        if error.errno in (*_FULL, errno.EROFS):
            raise os_problem(error, path) from error
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _swap(new: Path, path: Path) -> None:
    if not path.exists():
        new.rename(path)
        return
    old = path.with_name(f".{path.name[:64]}.{os.urandom(4).hex()}.old")
    path.rename(old)
    try:
        new.rename(path)
    except BaseException:
        old.rename(path)
        raise
    shutil.rmtree(old, ignore_errors=True)


def refuse_existing(path: Path, force: bool) -> None:
    """Refuse to write where something is, unless ``force``: call it before long work, too.

    Raises:
        BadInputError: the name is taken.
    """
    if not force and (path.exists() or path.is_symlink()):
        raise BadInputError(f"{path} exists already", next="Choose another name, or add --force to replace it")


def _refuse_precious(path: Path) -> None:
    """``--force`` replaces what a command wrote; a folder that holds the user's home or this place never is that."""
    resolved = path.resolve()
    for place in (Path.cwd().resolve(), Path.home().resolve()):
        if place.is_relative_to(resolved):
            raise BadInputError(f"{path} holds {place}, so it is not replaced", next="Choose a folder of its own")


def os_problem(error: OSError, path: str | os.PathLike[str], doing: str = "write") -> PocketfaceError:
    """The typed error for an ``OSError`` met while reading or writing ``path``: raise it ``from error``."""
    if error.errno in _FULL:
        return EnvironmentProblemError(
            f"{path}: cannot {doing}, the disk is full", next="Free some space and run again"
        )
    if error.errno in _DENIED:
        return EnvironmentProblemError(
            f"{path}: cannot {doing}, permission denied ({error.strerror})",
            next="Choose another place, or change its rights",
        )
    if isinstance(error, NotADirectoryError | FileExistsError | IsADirectoryError | FileNotFoundError):
        return BadInputError(f"{path}: cannot {doing} ({error.strerror})", next="Check the path")
    return EnvironmentProblemError(
        f"{path}: cannot {doing} ({error.strerror or error})", next="Check the disk and the path"
    )
