"""8 bits where they do no harm: for each format that the recipe asks for, a variant ``mixed`` beside ``w8a8``.

One stage a format: the search, layer by layer on validation faces, and the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from pocketface.compression.pipeline.context import AnyContext
from pocketface.compression.pipeline.exported import load_exported, save_exported
from pocketface.compression.pipeline.subject import Subject
from pocketface.compression.pipeline.trials import Trials, increase
from pocketface.compression.quantize.base import Quantizer, StaticConfig, for_network
from pocketface.compression.quantize.registry import QUANTIZERS
from pocketface.compression.quantize.sensitivity import Sensitivity, layer_groups, search
from pocketface.compression.recipe import ExportSpec, MixedSpec
from pocketface.converters.executors import executor_of
from pocketface.converters.formats.base import Exported
from pocketface.sdk.errors import ConfigError, EnvironmentProblemError
from pocketface.sdk.progress import say

MIXED_VERSION = 1
FOUND = "sensitivity.json"


def check_mixed(spec: ExportSpec) -> None:
    """Refuse a format that has no 8-bit quantizer or nothing to run it, before anything is trained.

    Raises:
        ConfigError, EnvironmentProblemError: naming it.
    """
    able = [name for name in spec.formats if f"{name}.w8a8" in QUANTIZERS]
    for format in spec.mixed:
        if format not in able:
            raise ConfigError(f"export.mixed: {format!r} has no w8a8", choices=able, next="Name one of these")
        if executor_of(format) is None:
            raise EnvironmentProblemError(f"nothing here can run {format}", next="See pocketface doctor")


def mixed_stage(
    context: AnyContext[Any],
    format: str,
    source: Exported,
    subject: Subject,
    settings: Mapping[str, Any],
    depends: Mapping[str, Any],
) -> Exported:
    """Search, and make the file.

    Args:
        context: the run.
        format: of the recipe's ``export.mixed``.
        source: the format's fp32 file.
        subject: the network; its faces are what every file is measured on.
        settings: of the quantizer.
        depends: on whatever else the files depend, for the stage's key.

    Returns:
        The file; the search lies beside it, see `sensitivity_of`.
    """
    spec: MixedSpec = context.recipe.export.mixed[format]
    quantizer: Quantizer = QUANTIZERS[f"{format}.w8a8"]
    mixing = replace(quantizer, name=f"{format}.mixed", precision="mixed")
    file = f"mixed{source.path.suffix}"

    def build(folder: Path) -> None:
        if subject.faces is None:
            raise ConfigError(f"no faces to search on for mixed.{format}", next="Leave export.mixed out")
        net, calibration, faces = subject.network(), subject.calibration(), subject.faces(spec.faces)
        config = quantizer.configure(settings)
        if not isinstance(config, StaticConfig):
            raise ConfigError(f"{quantizer.name} has no layers to leave in float", next="Leave export.mixed out")
        config = for_network(config, net)
        groups = layer_groups(net, depth=spec.depth, without=(*config.keep_float, *(config.weights_only or ())))
        known = Trials(folder / "trials.json")

        def made(path: Path, keep: tuple[str, ...]) -> Exported:
            wanted = msgspec.structs.replace(config, keep_float=(*config.keep_float, *keep))
            return mixing(source, path, calibration, net=net, config=wanted, force=True)

        def trial(keep: tuple[str, ...]) -> float:
            what = " ".join(keep) or "all in 8 bits"
            if what not in known:
                say(f"mixed {format}, file {len(known) + 1}: {what}", show=context.progress)
                known.keep(what, increase(made(folder / f"trial{source.path.suffix}", keep), faces, subject))
            return known[what]

        found = search(trial, groups, spec.max_increase, most=spec.most or None)
        save_exported(folder, [made(folder / file, found.keep)])
        (folder / f"trial{source.path.suffix}").unlink(missing_ok=True)
        (folder / FOUND).write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=1))
        say(f"mixed {format}: {found}", show=context.progress)

    inputs = {
        "student": subject.key,
        "quantizer": [quantizer.name, quantizer.version, settings],
        "mixed": spec,
        **depends,
    }
    (exported,) = load_exported(context.store.stage(f"mixed-{format}", MIXED_VERSION, inputs, build))
    return exported


def sensitivity_of(exported: Exported) -> Sensitivity:
    """What the search for a variant ``mixed`` found."""
    return msgspec.json.decode(exported.path.with_name(FOUND).read_bytes(), type=Sensitivity)
