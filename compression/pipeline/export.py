"""A trained network -> files of every format and precision. Two stages: what a converter makes, and what a quantizer
makes of its fp32 file."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from pocketface.compression.models.heads import LandmarkNet
from pocketface.compression.pipeline.calibration import calibration_faces, calibration_set
from pocketface.compression.pipeline.context import AnyContext, Context
from pocketface.compression.pipeline.exported import load_exported, save_exported
from pocketface.compression.pipeline.inputs import network_inputs, reference_truth, shipped_network
from pocketface.compression.pipeline.mixed import mixed_stage
from pocketface.compression.pipeline.subject import Subject
from pocketface.compression.pipeline.train import Trained
from pocketface.compression.pipeline.trials import increase
from pocketface.compression.pipeline.tune import tune, tuning_of
from pocketface.compression.quantize.base import Calibration, Quantizer
from pocketface.compression.quantize.registry import QUANTIZERS
from pocketface.compression.training.faces import thin
from pocketface.compression.variants import calibrated, exported_precisions, make, quantized_precisions
from pocketface.converters.formats.base import Exported
from pocketface.converters.parity import References
from pocketface.converters.pixels import PixelInput
from pocketface.converters.reference import references, torch_run
from pocketface.sdk.errors import ConfigError
from pocketface.sdk.progress import say

EXPORT_VERSION = 2
QUANTIZE_VERSION = 1


def student_subject(context: Context, student: Trained) -> Subject:
    """The student of a recipe."""
    spec = context.recipe.export

    def network() -> LandmarkNet | PixelInput:
        return shipped_network(student.load(context.split.scheme.points), spec)

    def calibration() -> Calibration:
        return network_inputs(calibration_faces(context), network())

    def notes() -> dict[str, str]:
        found = calibration_set(context)
        return {"calibration": found.name, "calibration_sha256": found.sha256}

    @cache
    def faces(count: int) -> References:
        chosen, net = context.split.validation, network()
        chosen = thin(chosen, count) if count else chosen
        return references(torch_run(net), network_inputs(chosen, net), reference_truth(chosen))

    return Subject("", student.done.key, network, calibration, notes, faces, context.split.scheme.normaliser)


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
            options = dict(spec.quantize.get(name, {}))
            if name in spec.tune:
                trial = _trial(subject, name, sources[format], net, calibration, options, folder)  # type: ignore[index]
                options |= tune(name, spec.tune[name], folder, trial, progress=context.progress).best.settings
            item = make(
                net,
                format,
                precision,
                folder,
                input_size=net.input_size,
                fp32=sources[format],  # type: ignore[index]
                calibration=calibration,
                options=options,
            )
            looked = calibrated(format, precision)
            made.append(replace(item, quantization={**item.quantization, **(subject.notes() if looked else {})}))
        save_exported(folder, made)

    inputs = {
        "student": subject.key,
        "wanted": wanted,
        "export": EXPORT_VERSION,
        "versions": [QUANTIZERS[name].version for name in wanted],
        "config": spec.quantize,
        **({"tune": spec.tune} if spec.tune else {}),
        **_calibration_key(context),
        **_input_key(context),
    }
    return load_exported(context.store.stage(_stage("quantize", subject), QUANTIZE_VERSION, inputs, build))


def _trial(
    subject: Subject,
    name: str,
    source: Exported,
    net: Any,
    calibration: Calibration,
    options: Mapping[str, Any],
    folder: Path,
) -> Callable[[Mapping[str, Any]], float]:
    """What a quantizer's settings cost on validation faces."""
    quantizer: Quantizer = QUANTIZERS[name]
    if subject.faces is None:
        raise ConfigError(f"no faces to try {name} on", next="Leave export.tune out")
    faces = subject.faces(0)

    def trial(settings: Mapping[str, Any]) -> float:
        config = quantizer.configure({**options, **settings})
        with tempfile.TemporaryDirectory(dir=folder, prefix=".trial-") as scratch:
            path = Path(scratch) / f"trial{source.path.suffix}"
            return increase(quantizer(source, path, calibration, net=net, config=config), faces, subject)

    return trial


def _mixed(context: AnyContext[Any], subject: Subject, name: str, found: Mapping[Any, Exported]) -> Exported:
    eight = found.get((name, "w8a8"))
    tuning = None if eight is None else tuning_of(eight)
    settings = context.recipe.export.quantize.get(f"{name}.w8a8", {}) | (tuning.best.settings if tuning else {})
    depends = {"export": EXPORT_VERSION, **_calibration_key(context), **_input_key(context)}
    return mixed_stage(context, name, found[name, "fp32"], subject, settings, depends)


def _of(subject: Subject) -> str:
    return f"{subject.name} " if subject.name else ""


def _stage(kind: str, subject: Subject) -> str:
    return f"{kind}-{subject.name}" if subject.name else kind


def _calibration_key(context: AnyContext[Any]) -> dict[str, Any]:
    spec = context.recipe.export
    by = {"calibration_by": spec.calibration_by} if spec.calibration_by else {}  # as below
    return {"calibration": [spec.calibration_faces, context.training_hash], **by}


def _input_key(context: AnyContext[Any]) -> dict[str, Any]:
    """Part of a stage's key; nothing for the default, so that older runs keep theirs."""
    spec = context.recipe.export
    key: dict[str, Any] = {} if spec.input == "normalised" else {"input": spec.input}
    return key | ({"options": spec.options} if spec.options else {})
