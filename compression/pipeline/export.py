"""student -> files of every format and precision. Two stages: what a converter makes, and what a quantizer makes of
its fp32 file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from pocketface.compression.models.heads import LandmarkNet
from pocketface.compression.pipeline.context import Context
from pocketface.compression.pipeline.inputs import network_inputs
from pocketface.compression.pipeline.store import Done
from pocketface.compression.pipeline.train import Trained
from pocketface.compression.quantize.registry import QUANTIZERS
from pocketface.compression.training.faces import thin
from pocketface.converters.formats.base import Exported
from pocketface.converters.formats.registry import EXPORTERS
from pocketface.sdk.errors import ConfigError
from pocketface.sdk.manifest import Binding
from pocketface.sdk.progress import say

EXPORT_VERSION = 1
QUANTIZE_VERSION = 1
_LIST = "exported.json"


class _Record(msgspec.Struct, frozen=True):
    """An `Exported`, with its path relative to the stage's folder."""

    file: str
    format: str
    precision: str
    inputs: dict[str, Binding]
    outputs: dict[str, Binding]
    quantization: dict[str, str]


def check_formats(formats: Mapping[str, tuple[str, ...]]) -> None:
    """Refuse a combination that does not exist, before anything is trained.

    Raises:
        UnknownNameError: an unknown format.
        ConfigError: a precision that the format does not have.
    """
    for name, precisions in formats.items():
        valid = _plain(name) + _quantized(name)
        for precision in precisions:
            if precision not in valid:
                raise ConfigError(f"export.formats.{name}: no precision {precision!r}", choices=valid)
        if "fp32" not in precisions:
            raise ConfigError(
                f"export.formats.{name}: no fp32", next="Add fp32: the others are made and judged from it"
            )


def export_stages(context: Context, student: Trained) -> list[Exported]:
    """Every variant that the recipe asks for, in its order."""
    formats = context.recipe.export.formats
    check_formats(formats)
    exported = _export(context, student)
    quantized = _quantize(context, student, exported)
    found = {(item.format, item.precision): item for item in exported + quantized}
    return [found[name, precision] for name in formats for precision in formats[name]]  # type: ignore[index]


def _export(context: Context, student: Trained) -> list[Exported]:
    wanted = {name: [p for p in ps if p in _plain(name)] for name, ps in context.recipe.export.formats.items()}

    def build(folder: Path) -> None:
        net = student.load(context.split.scheme.points)
        made: dict[tuple[str, str], Exported] = {}
        todo = [(name, precision) for name, precisions in wanted.items() for precision in precisions]
        # No bar: converters take the terminal away for the time they run.
        for number, (name, precision) in enumerate(todo, start=1):
            say(f"export {number}/{len(todo)}: {name} {precision}", show=context.progress)
            exporter = EXPORTERS[name]
            made[name, precision] = exporter.export(
                net,
                precision=precision,
                path=folder / f"{precision}{exporter.suffix}",
                input_size=net.input_size,
                fp32=made.get((name, "fp32")),
                force=True,
            )
        _save(folder, list(made.values()))

    inputs = {"student": student.done.key, "wanted": wanted}
    return _load(context.store.stage("export", EXPORT_VERSION, inputs, build))


def _quantize(context: Context, student: Trained, exported: list[Exported]) -> list[Exported]:
    spec = context.recipe.export
    wanted = [f"{name}.{p}" for name, ps in spec.formats.items() for p in ps if p in _quantized(name)]
    sources = {item.format: item for item in exported if item.precision == "fp32"}
    if not wanted:
        return []

    def build(folder: Path) -> None:
        net: LandmarkNet = student.load(context.split.scheme.points)
        calibration = network_inputs(thin(context.split.train, spec.calibration_faces), net)
        made = []
        for number, name in enumerate(wanted, start=1):
            say(f"quantize {number}/{len(wanted)}: {name}", show=context.progress)
            quantizer, source = QUANTIZERS[name], sources[name.partition(".")[0]]  # type: ignore[index]
            path = folder / f"{quantizer.precision}{source.path.suffix}"
            config = quantizer.configure(spec.quantize.get(name))
            made.append(quantizer(source, path, calibration, config=config, force=True))
        _save(folder, made)

    inputs = {
        "student": student.done.key,
        "wanted": wanted,
        "versions": [QUANTIZERS[name].version for name in wanted],
        "config": spec.quantize,
        "calibration": [spec.calibration_faces, context.training_hash],
    }
    return _load(context.store.stage("quantize", QUANTIZE_VERSION, inputs, build))


def _plain(name: str) -> tuple[str, ...]:
    return tuple(EXPORTERS[name].precisions)


def _quantized(name: str) -> tuple[str, ...]:
    return tuple(entry.partition(".")[2] for entry in QUANTIZERS if entry.startswith(f"{name}."))


def _save(folder: Path, made: list[Exported]) -> None:
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


def _load(done: Done) -> list[Exported]:
    records = msgspec.json.decode((done.path / _LIST).read_bytes(), type=list[_Record])
    build: Callable[..., Any] = Exported
    return [build(done.path / r.file, r.format, r.precision, r.inputs, r.outputs, r.quantization) for r in records]
