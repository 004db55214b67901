"""Keep a library's chatter out of the terminal: what it prints, warns and logs goes into a file, for the length of one
block.

Converters print from Python, from C++ and through loggers that they set up on import. So both the file descriptors and
Python's own streams are turned aside, and all of them are put back. Nothing global stays changed: no filter, no log
level.

Do not hold a live display (a rich progress bar) over such a block: it would draw into the file.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO


class _Stream:
    """Stands in for ``sys.stdout`` or ``sys.stderr``.

    Loggers made during the block keep it for ever; after the block it passes everything on to the stream it stood in
    for.
    """

    def __init__(self, target: TextIO) -> None:
        self.target = target

    def __getattr__(self, name: str) -> Any:
        return getattr(self.target, name)


@contextlib.contextmanager
def chatter_to(log: Path) -> Iterator[None]:
    """Send everything printed in the block to the end of a file.

    Args:
        log: made if it is not there; added to if it is; removed again if nothing was printed at all.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    originals = sys.stdout, sys.stderr
    root, handlers, level = logging.root, logging.root.handlers[:], logging.root.level
    try:
        with open(log, "a", encoding="utf-8", buffering=1) as file, warnings.catch_warnings():
            stands_in = _Stream(file), _Stream(file)
            _flush(originals)
            saved = {fd: os.dup(fd) for fd in (1, 2) if _is_open(fd)}
            try:
                for fd in saved:
                    os.dup2(file.fileno(), fd)
                sys.stdout, sys.stderr = stands_in
                yield
            finally:
                _flush((file,))
                sys.stdout, sys.stderr = originals
                root.handlers[:], root.level = handlers, level  # logging.basicConfig is called on import by some
                for stand_in, original in zip(stands_in, originals, strict=True):
                    stand_in.target = original
                for fd, copy in saved.items():
                    os.dup2(copy, fd)
                    os.close(copy)
    finally:
        with contextlib.suppress(FileNotFoundError):  # it could not be made: that error is on its way
            if log.stat().st_size == 0:
                log.unlink()


def _flush(streams: tuple[TextIO, ...]) -> None:
    for stream in streams:
        # A closed or detached stream has nothing left to flush.
        with contextlib.suppress(ValueError, OSError, AttributeError):
            stream.flush()


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True
