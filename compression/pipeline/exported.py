"""The files that a stage made, written down beside them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from pocketface.compression.pipeline.store import Done
from pocketface.converters.formats.base import Exported
from pocketface.sdk.manifest import Binding

_LIST = "exported.json"


class _Record(msgspec.Struct, frozen=True):
    """An `Exported`, with its path relative to the stage's folder."""

    file: str
    format: str
    precision: str
    inputs: dict[str, Binding]
    outputs: dict[str, Binding]
    quantization: dict[str, str]


def save_exported(folder: Path, made: Sequence[Exported]) -> None:
    """Write down what files a stage made; they lie in its folder."""
    records = [
        _Record(
            item.path.name,
            item.format,
            item.precision,
            dict(item.inputs),
            dict(item.outputs),
            dict(item.quantization),
        )
        for item in made
    ]
    (folder / _LIST).write_bytes(msgspec.json.encode(records))


def load_exported(done: Done) -> list[Exported]:
    """The files of a stage."""
    records = msgspec.json.decode((done.path / _LIST).read_bytes(), type=list[_Record])
    build: Callable[..., Any] = Exported
    return [build(done.path / r.file, r.format, r.precision, r.inputs, r.outputs, r.quantization) for r in records]
