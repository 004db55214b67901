"""A trained network of a chain -> its files, each compared with torch: as a stage of the chain, or alone as a bundle of
its own, for tables that hold networks against each other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pocketface.compression.pipeline.chain.inputs import fed
from pocketface.compression.pipeline.chain.train import TrainedStage
from pocketface.compression.pipeline.context import ChainContext
from pocketface.compression.pipeline.contracts import stage_contract
from pocketface.compression.pipeline.export import Formats, export_stages
from pocketface.compression.pipeline.measure import tolerances
from pocketface.compression.pipeline.subject import Subject
from pocketface.compression.training.faces import thin
from pocketface.converters import reference
from pocketface.converters.candidate import Candidate, StageFiles
from pocketface.converters.examine import examine
from pocketface.converters.golden_images import golden_images
from pocketface.converters.parity import References, Run
from pocketface.sdk.manifest import Stage
from pocketface.sdk.progress import say

Cases = list[dict[str, NDArray[Any]]]


@dataclass(frozen=True)
class Alone:
    """A landmark network with files and golden cases of its own."""

    files: StageFiles
    cases: Cases


def candidates(
    context: ChainContext,
    trained: TrainedStage,
    stage: Stage,
    run: Run,
    golden: References,
    formats: Formats | None = None,
) -> list[Candidate]:
    """Every variant of one network, exported, quantized and compared with torch.

    Args:
        context: the run.
        trained: the network.
        stage: its contract.
        run: the network in torch.
        golden: what that gives for the golden cases.
        formats: format -> precisions, instead of the recipe's.
    """
    recipe, split = context.recipe, context.split
    normaliser = split.scheme.normaliser
    net: Any = trained.load()

    def calibration() -> NDArray[np.float32]:
        chosen = thin(split.train, recipe.export.calibration_faces)
        return fed(chosen, trained.spec, net, normaliser=normaliser).inputs

    name = trained.done.name
    exported = export_stages(context, Subject(name, trained.done.key, trained.load, calibration), formats)
    shown = fed(thin(split.validation, recipe.export.parity_faces), trained.spec, net, normaliser=normaliser)
    faces = reference.references(run, shown.inputs, shown.truth, stage=stage)
    found = []
    for item in exported:
        say(f"parity {name}: {item.format} {item.precision}", show=context.progress)
        bounds = tolerances(recipe.gates_of(trained.name), item.precision)
        found.append(examine(item, golden=golden, faces=faces, tolerances=bounds, normaliser=normaliser))
    return found


def alone(context: ChainContext, trained: TrainedStage, formats: Mapping[str, Sequence[str]]) -> Alone:
    """A landmark network by itself, on golden cases of its own."""
    net = trained.load()
    stage, run = stage_contract("landmarks", net, context.split.scheme), reference.torch_run(net)
    cases = [reference.golden_case(run, image, box, stage) for image, box in golden_images(1)]
    golden = reference.golden_references(cases, stage)
    return Alone(StageFiles(stage, candidates(context, trained, stage, run, golden, formats)), cases)
