"""A trained network -> files of every format and precision. Two stages: what a converter makes, and what a quantizer
makes of its fp32 file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from torch import nn

from pocketface.compression.models.heads import LandmarkNet
from pocketface.compression.pipeline.context import AnyContext, Context
from pocketface.compression.pipeline.inputs import network_inputs, shipped_network
from pocketface.compression.pipeline.store import Done
from pocketface.compression.pipeline.train import Trained
from pocketface.compression.quantize.base import Calibration
from pocketface.compression.quantize.registry import QUANTIZERS
from pocketface.compression.training.faces import thin
from pocketface.compression.variants import exported_precisions, make, quantized_precisions
from pocketface.converters.formats.base import Exported
from pocketface.converters.pixels import PixelInput
from pocketface.sdk.manifest import Binding
from pocketface.sdk.progress import say

EXPORT_VERSION = 2
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


@dataclass(frozen=True)
class Subject:
    """A network that is to be exported.

    Attributes:
        name: of the stage of a chain; empty for the only network of a bundle.
        key: of its training.
        network: gives what is shipped, in evaluation mode.
        calibration: gives the inputs that static quantization looks at, (N, 3, S, S) as the network takes them.
    """

    name: str
    key: str
    network: Callable[[], nn.Module]
    calibration: Callable[[], Calibration]


def student_subject(context: Context, student: Trained) -> Subject:
    """The student of a recipe."""
    spec = context.recipe.export

    def network() -> LandmarkNet | PixelInput:
        return shipped_network(student.load(context.split.scheme.points), spec)

    def calibration() -> Calibration:
        return network_inputs(thin(context.split.train, spec.calibration_faces), network())

    return Subject("", student.done.key, network, calibration)


Formats = Mapping[str, Sequence[str]]


def export_stages(context: AnyContext[Any], subject: Subject, formats: Formats | None = None) -> list[Exported]:
    """Every variant that the recipe asks for, in its order.

    Args:
        context: the run.
        subject: what is exported.
        formats: format -> precisions, instead of the recipe's.
    """
    formats = context.recipe.export.formats if formats is None else formats
    exported = _export(context, subject, formats)
    quantized = _quantize(context, subject, formats, exported)
    found = {(item.format, item.precision): item for item in exported + quantized}
    return [found[name, precision] for name in formats for precision in formats[name]]  # type: ignore[index]


def _export(context: AnyContext[Any], subject: Subject, formats: Formats) -> list[Exported]:
    spec = context.recipe.export
    wanted = {name: [p for p in ps if p in exported_precisions(name)] for name, ps in formats.items()}

    def build(folder: Path) -> None:
        net: Any = subject.network()
        made: dict[tuple[str, str], Exported] = {}
        todo = [(name, precision) for name, precisions in wanted.items() for precision in precisions]
        # No bar: converters take the terminal away for the time they run.
        for number, (name, precision) in enumerate(todo, start=1):
            say(f"export {_of(subject)}{number}/{len(todo)}: {name} {precision}", show=context.progress)
            made[name, precision] = make(
                net,
                name,
                precision,
                folder,
                input_size=net.input_size,
                fp32=made.get((name, "fp32")),
                options=spec.options.get(name),
            )
        _save(folder, list(made.values()))

    inputs = {"student": subject.key, "wanted": wanted, **_input_key(context)}
    return _load(context.store.stage(_stage("export", subject), EXPORT_VERSION, inputs, build))


def _quantize(context: AnyContext[Any], subject: Subject, formats: Formats, exported: list[Exported]) -> list[Exported]:
    spec = context.recipe.export
    wanted = [f"{name}.{p}" for name, ps in formats.items() for p in ps if p in quantized_precisions(name)]
    sources = {item.format: item for item in exported if item.precision == "fp32"}
    if not wanted:
        return []

    def build(folder: Path) -> None:
        net: Any = subject.network()
        calibration = subject.calibration()
        made = []
        for number, name in enumerate(wanted, start=1):
            say(f"quantize {_of(subject)}{number}/{len(wanted)}: {name}", show=context.progress)
            format, _, precision = name.partition(".")
            made.append(
                make(
                    net,
                    format,
                    precision,
                    folder,
                    input_size=net.input_size,
                    fp32=sources[format],  # type: ignore[index]
                    calibration=calibration,
                    options=spec.quantize.get(name),
                )
            )
        _save(folder, made)

    inputs = {
        "student": subject.key,
        "wanted": wanted,
        "export": EXPORT_VERSION,
        "versions": [QUANTIZERS[name].version for name in wanted],
        "config": spec.quantize,
        "calibration": [spec.calibration_faces, context.training_hash],
        **_input_key(context),
    }
    return _load(context.store.stage(_stage("quantize", subject), QUANTIZE_VERSION, inputs, build))


def _of(subject: Subject) -> str:
    return f"{subject.name} " if subject.name else ""


def _stage(kind: str, subject: Subject) -> str:
    return f"{kind}-{subject.name}" if subject.name else kind


def _input_key(context: AnyContext[Any]) -> dict[str, Any]:
    """Part of a stage's key; nothing for the default, so that older runs keep theirs."""
    spec = context.recipe.export
    key: dict[str, Any] = {} if spec.input == "normalised" else {"input": spec.input}
    return key | ({"options": spec.options} if spec.options else {})


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
