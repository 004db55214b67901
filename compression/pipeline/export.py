"""A trained network -> files of every format and precision. Two stages: what a converter makes, and what a quantizer
makes of its fp32 file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from pocketface.compression.models.heads import LandmarkNet
from pocketface.compression.pipeline.context import AnyContext, Context
from pocketface.compression.pipeline.exported import load_exported, save_exported
from pocketface.compression.pipeline.inputs import network_inputs, reference_truth, shipped_network
from pocketface.compression.pipeline.mixed import mixed_stage
from pocketface.compression.pipeline.subject import Subject
from pocketface.compression.pipeline.train import Trained
from pocketface.compression.quantize.base import Calibration
from pocketface.compression.quantize.registry import QUANTIZERS
from pocketface.compression.training.faces import thin
from pocketface.compression.variants import exported_precisions, make, quantized_precisions
from pocketface.converters.formats.base import Exported
from pocketface.converters.parity import References
from pocketface.converters.pixels import PixelInput
from pocketface.converters.reference import references, torch_run
from pocketface.sdk.progress import say

EXPORT_VERSION = 2
QUANTIZE_VERSION = 1


def student_subject(context: Context, student: Trained) -> Subject:
    """The student of a recipe."""
    spec = context.recipe.export

    def network() -> LandmarkNet | PixelInput:
        return shipped_network(student.load(context.split.scheme.points), spec)

    def calibration() -> Calibration:
        return network_inputs(thin(context.split.train, spec.calibration_faces), network())

    @cache
    def faces(count: int) -> References:
        chosen, net = context.split.validation, network()
        chosen = thin(chosen, count) if count else chosen
        return references(torch_run(net), network_inputs(chosen, net), reference_truth(chosen))

    return Subject("", student.done.key, network, calibration, faces, context.split.scheme.normaliser)


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
    every = [found[name, precision] for name in formats for precision in formats[name]]  # type: ignore[index]
    return every + [_mixed(context, subject, name, found) for name in context.recipe.export.mixed if name in formats]


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
        save_exported(folder, list(made.values()))

    inputs = {"student": subject.key, "wanted": wanted, **_input_key(context)}
    return load_exported(context.store.stage(_stage("export", subject), EXPORT_VERSION, inputs, build))


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
        save_exported(folder, made)

    inputs = {
        "student": subject.key,
        "wanted": wanted,
        "export": EXPORT_VERSION,
        "versions": [QUANTIZERS[name].version for name in wanted],
        "config": spec.quantize,
        **_calibration_key(context),
        **_input_key(context),
    }
    return load_exported(context.store.stage(_stage("quantize", subject), QUANTIZE_VERSION, inputs, build))


def _mixed(context: AnyContext[Any], subject: Subject, name: str, found: Mapping[Any, Exported]) -> Exported:
    source = found[name, "fp32"]
    depends = {"export": EXPORT_VERSION, **_calibration_key(context), **_input_key(context)}
    return mixed_stage(context, name, source, subject, depends)


def _of(subject: Subject) -> str:
    return f"{subject.name} " if subject.name else ""


def _stage(kind: str, subject: Subject) -> str:
    return f"{kind}-{subject.name}" if subject.name else kind


def _calibration_key(context: AnyContext[Any]) -> dict[str, Any]:
    return {"calibration": [context.recipe.export.calibration_faces, context.training_hash]}


def _input_key(context: AnyContext[Any]) -> dict[str, Any]:
    """Part of a stage's key; nothing for the default, so that older runs keep theirs."""
    spec = context.recipe.export
    key: dict[str, Any] = {} if spec.input == "normalised" else {"input": spec.input}
    return key | ({"options": spec.options} if spec.options else {})
