"""The folder that ``pocketface export`` fills, and what export.json in it says.

Files that pass lie in it under their names, those that fail in ``failed/``, with the converter's log. A variant is in
one of the two places, never in both.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

from pocketface.converters.formats.base import ConversionError, Exported
from pocketface.converters.formats.registry import EXPORTERS
from pocketface.sdk.errors import BadInputError
from pocketface.sdk.files import os_problem, refuse_existing, write_atomic

FAILED, RECORD = "failed", "export.json"


class ExportRow(msgspec.Struct, frozen=True, kw_only=True):
    """One variant. ``absent``: the format does not have this precision."""

    id: str
    status: Literal["passed", "failed", "unverified", "absent"]
    file: str = ""
    reason: str = ""
    executor: str = ""
    bytes: int = 0
    max_pixel_error: float | None = None
    relative_error: float | None = None
    nme_reference: float | None = None
    nme: float | None = None
    settings: dict[str, Any] = {}


class Exports(msgspec.Struct, frozen=True, kw_only=True):
    """What ``export_checkpoint`` made; export.json."""

    network: str
    checkpoint_sha256: str
    pixels: bool
    rows: tuple[ExportRow, ...] = ()

    @property
    def failed(self) -> list[str]:
        return [row.id for row in self.rows if row.status == "failed"]


class Folder:
    """Where the files of one checkpoint go.

    Args:
        path: the folder.
        stem: of the files' names.

    Raises:
        BadInputError: something else has this name, or it cannot be made.
    """

    def __init__(self, path: Path, stem: str) -> None:
        self.path, self.stem = path, stem
        if path.exists() and not path.is_dir():
            raise BadInputError(f"--out {path} is a file", expected="a folder")

    def name(self, format: str, precision: str) -> str:
        """``CHECKPOINT.PRECISION.SUFFIX``."""
        return f"{self.stem}.{precision}{EXPORTERS[format].suffix}"

    def refuse_existing(self, variants: Sequence[tuple[str, str]], done: Exports, force: bool) -> None:
        """Refuse to replace what is there, before any work: a file of these variants, or another checkpoint's record.

        Raises:
            BadInputError: naming it.
        """
        for format, precision in variants:
            for place in (self.path, self.path / FAILED):
                refuse_existing(place / self.name(format, precision), force)
        old = None if force else self.record()
        if old is not None and (old.checkpoint_sha256, old.pixels) != (done.checkpoint_sha256, done.pixels):
            raise BadInputError(
                f"{self.path} holds files of another checkpoint or input", next="Choose another --out, or pass --force"
            )

    def make(self) -> None:
        """Make it.

        Raises:
            EnvironmentProblemError, BadInputError: it cannot be made.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise os_problem(error, self.path, "create") from error

    def put(self, item: Exported, *, failed: bool) -> str:
        """Move a finished file in; its path relative to the folder. A folder that is replaced goes away last."""
        name = self.name(item.format, item.precision)
        target, twin = self.path / (FAILED if failed else "") / name, self.path / ("" if failed else FAILED) / name
        old = target.with_name(f".{name}.old")
        try:
            target.parent.mkdir(exist_ok=True)
            _remove(old)
            if target.exists():
                os.replace(target, old)
            os.replace(item.path, target)
            for gone in (old, twin, twin.with_name(f"{name}.log")):
                _remove(gone)
            if not failed and not any((self.path / FAILED).glob("*")):
                _remove(self.path / FAILED)
        except OSError as error:
            raise os_problem(error, target) from error
        return target.relative_to(self.path).as_posix()

    def keep_log(self, error: ConversionError, format: str, precision: str) -> str:
        """Keep what the converter printed; the error's text, with where that is now."""
        if error.log is None or not error.log.exists():
            return error.text()
        target = self.path / FAILED / f"{self.name(format, precision)}.log"
        try:
            target.parent.mkdir(exist_ok=True)
            shutil.copyfile(error.log, target)
        except OSError as problem:
            raise os_problem(problem, target) from problem
        return error.text(target)

    def record(self) -> Exports | None:
        """What export.json says; None where there is none.

        Raises:
            BadInputError: it is damaged.
        """
        path = self.path / RECORD
        if not path.exists():
            return None
        try:
            return msgspec.json.decode(path.read_bytes(), type=Exports)
        except (OSError, msgspec.DecodeError, msgspec.ValidationError) as error:
            raise BadInputError(f"{path}: {error}", next="Choose another --out") from error

    def write(self, done: Exports) -> Exports:
        """Write export.json: these rows, and those of variants of the same checkpoint that were made before."""
        old = self.record()
        same = old is not None and (old.checkpoint_sha256, old.pixels) == (done.checkpoint_sha256, done.pixels)
        new = {row.id for row in done.rows}
        kept = tuple(row for row in old.rows if row.id not in new) if same and old is not None else ()
        every = msgspec.structs.replace(done, rows=(*kept, *done.rows))
        content = msgspec.json.format(msgspec.json.encode(every), indent=1) + b"\n"
        write_atomic(self.path / RECORD, content, force=True)
        return every


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
