"""JSON lines, one a frame, written while the video runs: to a file under a temporary name, or to standard output."""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import msgspec

from pocketface.sdk.errors import BadInputError
from pocketface.sdk.files import os_problem, refuse_existing


class JsonLines:
    """A context manager: the file gets its name when the block ends well, and is removed when it does not.

    Args:
        target: a file, or ``-`` for standard output.
        force: replace a file that is already there.

    Raises:
        BadInputError: the file exists and ``force`` is not set, or is a folder.
        EnvironmentProblemError: the disk is full, or the place is not writable.
    """

    def __init__(self, target: str, *, force: bool = False) -> None:
        self._path = None if target == "-" else Path(target)
        self._force = force
        self._file: IO[Any] = sys.stdout
        if self._path is None:
            return
        refuse_existing(self._path, force)
        if self._path.is_dir():
            raise BadInputError(f"{self._path} is a folder", expected="a file name", next="Name a file in it")
        self._temporary = self._path.with_name(f".{self._path.name[:64]}.{secrets.token_hex(4)}.tmp")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            # Closed in __exit__.
            self._file = open(self._temporary, "x", encoding="utf-8")  # noqa: SIM115
        except OSError as error:
            raise os_problem(error, self._path) from error

    def write(self, data: Any) -> None:
        """Plain data, as one line."""
        try:
            self._file.write(msgspec.json.encode(data).decode() + "\n")
        except OSError as error:
            if self._path is None:
                raise  # a pipe whose reader went away ends the command
            raise os_problem(error, self._path) from error

    def __enter__(self) -> JsonLines:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._path is None:
            return
        try:
            if kind is None:
                refuse_existing(self._path, self._force)
                self._file.flush()
                os.fsync(self._file.fileno())
            self._file.close()
            if kind is None:
                os.replace(self._temporary, self._path)
        except OSError as problem:
            raise os_problem(problem, self._path) from problem
        finally:
            self._temporary.unlink(missing_ok=True)
