"""A chain's run, in the order of its stages:

data -> networks -> export -> quantize -> parity, each stage by itself -> accuracy, latency of whole chains -> gates
-> bundle -> results
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec
from torch import nn

from pocketface.benchmarks.papers.common import RESULTS
from pocketface.benchmarks.reports.data import Gate
from pocketface.compression.chain_recipe import AlignSpec, ChainRecipe
from pocketface.compression.models.checkpoint import save_network
from pocketface.compression.pipeline import gates
from pocketface.compression.pipeline.chain.files import Cases, alone, candidates
from pocketface.compression.pipeline.chain.measure import Measured, measure_chains
from pocketface.compression.pipeline.chain.restored import restored_stage
from pocketface.compression.pipeline.chain.results import collect, write_chain_report
from pocketface.compression.pipeline.chain.table import measure_networks, table_formats
from pocketface.compression.pipeline.chain.train import TrainedStage, chain_networks
from pocketface.compression.pipeline.check import refuse_searches
from pocketface.compression.pipeline.context import ChainContext
from pocketface.compression.pipeline.contracts import stage_contract
from pocketface.compression.pipeline.provenance import chain_card, provenance
from pocketface.compression.recipe_file import dump_recipe
from pocketface.compression.variants import check_formats, check_settings
from pocketface.converters import reference
from pocketface.converters.bundle import write_bundle
from pocketface.converters.candidate import StageFiles
from pocketface.converters.golden_images import golden_images
from pocketface.sdk.errors import ConfigError, GateFailedError
from pocketface.sdk.files import write_atomic

log = logging.getLogger("pocketface")

ORDER = ("relocalize", "uniformize", "landmarks")


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
    refuse_searches(recipe.export)
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
    stages = {name: stage_contract(name, net, context.split.scheme) for name, net in nets.items()}
    for name, net in nets.items():
        # Beside the bundle, for `verify --layers` and `pocketface export`.
        save_network(net, context.run / f"{name}.safetensors", trained[name].spec.model)
    runs = {name: reference.torch_run(net) for name, net in nets.items()}
    cases = [
        reference.golden_case(runs, image, box, list(stages.values()))
        for image, box in golden_images(recipe.export.golden_faces)
    ]
    files = tuple(
        StageFiles(
            stage,
            candidates(context, trained[name], stage, runs[name], reference.golden_references(cases, stage, step)),
        )
        for step, (name, stage) in enumerate(stages.items())
    )
    lone = {
        name: alone(context, item, table_formats(recipe.export))
        for name, item in networks.items()
        if isinstance(item.spec, AlignSpec) and name not in recipe.repeated
    }
    rivals = {name: lone[f"row-{name}"] for name, spec in recipe.rows.items() if spec.degrade != "none"}
    # Every choice is made: from here on the test faces are read.
    measured = measure_chains(context, files, cases, rivals)
    table = measure_networks(context, lone, context.store.root / ".measured", measured.default)
    checked = tuple(_gates(recipe, files, measured))
    bundle = _ship(context, files, checked, cases, measured)
    restored = restored_stage(context, networks)
    figures = collect(context, networks, measured, table, restored)
    write_atomic(context.run / RESULTS, msgspec.json.format(msgspec.json.encode(figures), indent=1), force=True)
    write_chain_report(figures, restored, checked, context.run / "report.html")
    failed = gates.failures(checked)
    if failed:
        raise GateFailedError(
            failed,
            next=f"The artefacts are kept under {context.store.root}",
        )
    return ChainResult(networks, files, measured, checked, bundle)


def _gates(recipe: ChainRecipe, files: tuple[StageFiles, ...], measured: Measured) -> list[Gate]:
    """The recipe's bounds: of each stage's variants, then of the chains' accuracy."""
    found = []
    for part in files:
        for gate in gates.check_variants(recipe.gates_of(part.stage.name), part.candidates):
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
