"""A chain's run, in the order of its stages:

data -> networks -> export -> quantize -> parity, each stage by itself -> accuracy, latency of whole chains -> gates
-> bundle -> results
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from torch import nn

from pocketface.benchmarks.reports.data import Gate
from pocketface.compression.chain_recipe import ChainRecipe
from pocketface.compression.models.checkpoint import save_network
from pocketface.compression.models.flops import count_parameters, flops
from pocketface.compression.pipeline import gates
from pocketface.compression.pipeline.chain.inputs import fed
from pocketface.compression.pipeline.chain.measure import Measured, measure_chains
from pocketface.compression.pipeline.chain.results import RESULTS, collect
from pocketface.compression.pipeline.chain.train import TrainedStage, chain_networks
from pocketface.compression.pipeline.context import ChainContext
from pocketface.compression.pipeline.export import Subject, export_stages
from pocketface.compression.pipeline.measure import tolerances
from pocketface.compression.pipeline.provenance import chain_card, provenance
from pocketface.compression.recipe_file import dump_recipe
from pocketface.compression.training.faces import thin
from pocketface.compression.variants import check_formats, check_settings
from pocketface.converters import reference
from pocketface.converters.bundle import write_bundle
from pocketface.converters.candidate import Candidate, StageFiles
from pocketface.converters.examine import examine
from pocketface.converters.golden_images import golden_images
from pocketface.converters.parity import Run
from pocketface.sdk.errors import ConfigError, GateFailedError
from pocketface.sdk.files import write_atomic
from pocketface.sdk.manifest import OutputSpec, Preprocess, Stage, TensorSpec
from pocketface.sdk.progress import say

log = logging.getLogger("pocketface")

ORDER = ("relocalize", "uniformize", "landmarks")
DECODES = {
    "points": "normalised_points",
    "pose": "head_pose",
    "box": "box_correction",
    "picture": "unit_image",
}
"""Output name of our own networks -> how it is decoded."""

Cases = list[dict[str, NDArray[Any]]]


@dataclass(frozen=True)
class ChainResult:
    """What a run ends with.

    Attributes:
        networks: every network of the recipe, by name.
        stages: what was exported of the shipped ones, in the order in which they run.
        measured: of whole chains.
        gates: every bound and how it was kept.
        bundle: where it is, or None if a gate kept it from being written.
    """

    networks: Mapping[str, TrainedStage]
    stages: tuple[StageFiles, ...]
    measured: Measured
    gates: tuple[Gate, ...]
    bundle: Path | None


def compress_chain(context: ChainContext) -> ChainResult:
    """Run a chain's recipe to its end; what is done already is not done again.

    Raises:
        ConfigError: formats or settings that do not exist, or pixels as input, which chains do not have.
        GateFailedError: a bound was not kept. Everything is in the run's folder, but what failed is not in the bundle.
    """
    recipe = context.recipe
    check_formats(recipe.export.formats)
    check_settings(recipe.export.options, recipe.export.quantize)
    if recipe.export.input != "normalised":
        raise ConfigError(
            f"export.input {recipe.export.input!r} in a chain",
            choices=["normalised"],
            next="Later stages are fed pictures of float values: leave the key out",
        )
    write_atomic(context.run / "recipe.yaml", dump_recipe(recipe).encode(), force=True)
    networks = chain_networks(context)
    trained = {name: networks[name] for name in ORDER if name in networks}
    nets: dict[str, nn.Module] = {name: item.load() for name, item in trained.items()}
    stages = {name: contract(context, name, net) for name, net in nets.items()}
    for name, net in nets.items():
        # Beside the bundle, for `verify --layers` and `pocketface export`.
        save_network(net, context.run / f"{name}.safetensors", trained[name].spec.model)
    runs = {name: reference.torch_run(net) for name, net in nets.items()}
    cases = [
        reference.golden_case(runs, image, box, list(stages.values()))
        for image, box in golden_images(recipe.export.golden_faces)
    ]
    files = tuple(
        StageFiles(stages[name], _candidates(context, trained[name], nets[name], stages[name], runs[name], cases, step))
        for step, name in enumerate(stages)
    )
    rivals = {
        name: _rival(context, networks[f"row-{name}"], stages["landmarks"], cases, len(stages) - 1)
        for name, spec in recipe.rows.items()
        if spec.degrade != "none"
    }
    # Every choice is made: from here on the test faces are read.
    measured = measure_chains(context, files, cases, rivals)
    checked = tuple(_gates(recipe, files, measured))
    bundle = _ship(context, files, checked, cases, measured)
    figures = collect(context, networks, measured)
    write_atomic(context.run / RESULTS, msgspec.json.format(msgspec.json.encode(figures), indent=1), force=True)
    failed = [gate for gate in checked if gate.passed is False]
    if failed:
        raise GateFailedError(
            "; ".join(f"{g.variant}: {g.gate}: {g.note or f'{g.figure:.4g} > {g.bound:g}'}" for g in failed),
            next=f"The artefacts are kept under {context.store.root}",
        )
    return ChainResult(networks, files, measured, checked, bundle)


def contract(context: ChainContext, name: str, net: nn.Module) -> Stage:
    """A stage of the manifest, before it has variants."""
    described: Any = net
    size = described.input_size
    shapes = {
        "points": (1, getattr(net, "n_points", 0), 2),
        "pose": (1, 3),
        "box": (1, 4),
        "picture": (1, 3, size, size),
    }
    return Stage(
        name=name,
        task=described.task,
        preprocess=Preprocess(size=size, mean=described.mean, std=described.std),
        inputs=(TensorSpec(name="image", shape=(1, 3, size, size)),),
        outputs=tuple(
            OutputSpec(name=output, shape=shapes[output], decode=DECODES[output])  # type: ignore[arg-type]
            for output in described.output_names
        ),
        scheme=context.split.scheme if described.task == "landmarks" else None,
        parameters=count_parameters(net),
        flops=flops(net),
        variants=(),
    )


def _candidates(
    context: ChainContext, trained: TrainedStage, net: Any, stage: Stage, run: Run, cases: Cases, step: int
) -> list[Candidate]:
    """Every variant of one stage, exported, quantized and compared with torch."""
    recipe, split = context.recipe, context.split
    normaliser = split.scheme.normaliser

    def calibration() -> NDArray[np.float32]:
        chosen = thin(split.train, recipe.export.calibration_faces)
        return fed(chosen, trained.spec, net, normaliser=normaliser).inputs

    exported = export_stages(context, Subject(trained.name, trained.done.key, trained.load, calibration))
    shown = fed(thin(split.validation, recipe.export.parity_faces), trained.spec, net, normaliser=normaliser)
    faces = reference.references(run, shown.inputs, shown.truth, stage=stage)
    golden = reference.golden_references(cases, stage, step)
    found = []
    for item in exported:
        say(f"parity {trained.name}: {item.format} {item.precision}", show=context.progress)
        bounds = tolerances(recipe.gates, item.precision)
        found.append(examine(item, golden=golden, faces=faces, tolerances=bounds, normaliser=normaliser))
    return found


def _rival(context: ChainContext, trained: TrainedStage, stage: Stage, cases: Cases, step: int) -> StageFiles:
    """A landmark network that was trained with degradations: what the whole chain has to beat, as one more row."""
    subject = Subject(
        trained.name.replace(" ", "_"), trained.done.key, trained.load, lambda: np.zeros((0, 3, 1, 1), np.float32)
    )
    first = next(iter(context.recipe.export.formats))
    (exported,) = export_stages(context, subject, {first: ("fp32",)})
    run = reference.torch_run(trained.load())
    inputs = np.concatenate([case[f"step{step}.input.image"] for case in cases])
    golden = reference.references(run, inputs, stage=contract(context, stage.name, trained.load()))
    return StageFiles(contract(context, "landmarks", trained.load()), [examine(exported, golden=golden)])


def _gates(recipe: ChainRecipe, files: tuple[StageFiles, ...], measured: Measured) -> list[Gate]:
    """The recipe's bounds: of each stage's variants, then of the chains' accuracy."""
    found = []
    for part in files:
        for gate in gates.check_variants(recipe.gates, part.candidates):
            found.append(msgspec.structs.replace(gate, variant=f"{part.stage.name}.{gate.variant}"))
    if recipe.gates.max_nme:
        found.append(gates.bounded("NME on the test faces", "chain", measured.nme, recipe.gates.max_nme))
    return found


def _ship(
    context: ChainContext, files: tuple[StageFiles, ...], checked: tuple[Gate, ...], cases: Cases, measured: Measured
) -> Path | None:
    """Write RUN/bundle with what kept its gates; nothing if the default chain did not."""
    failed = {gate.variant for gate in checked if gate.passed is False}
    default = f"fp32.{next(iter(context.recipe.export.formats))}"
    if "chain" in failed or any(f"{part.stage.name}.{default}" in failed for part in files):
        log.warning("no bundle is written: %s", ", ".join(sorted(failed)))
        return None
    kept = [
        StageFiles(part.stage, [item for item in part.candidates if f"{part.stage.name}.{item.id}" not in failed])
        for part in files
    ]
    return write_bundle(
        context.run / "bundle",
        name=context.recipe.name,
        stages=kept,
        default=default,
        golden=cases,
        card=chain_card(context, measured.figures),
        provenance=provenance(context),
        weights_licence=context.recipe.weights_licence,
        metrics=measured.figures,
        runs=measured.runs,
        force=True,
    )
