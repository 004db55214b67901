"""Bundles to measure on: of a run's own files, and of a network that everyone knows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from torch import nn

from pocketface.compression.models.registry import ModelSpec
from pocketface.compression.pipeline.context import AnyContext
from pocketface.compression.pipeline.contracts import stage_contract
from pocketface.compression.pipeline.provenance import provenance
from pocketface.compression.trial import random_network
from pocketface.compression.variants import make
from pocketface.converters import reference
from pocketface.converters.bundle import write_bundle
from pocketface.converters.candidate import StageFiles
from pocketface.converters.examine import examine
from pocketface.converters.golden_images import golden_images
from pocketface.sdk.manifest import Stage
from pocketface.sdk.schemes import load_scheme

KNOWN = ModelSpec(name="mobilenetv2", input_size=224)
"""What every engineer has a feeling for; random weights take the same time as trained ones."""


def bundle_of(
    context: AnyContext[Any],
    path: Path,
    files: Sequence[StageFiles],
    cases: Sequence[Mapping[str, NDArray[Any]]],
    default: str,
    *,
    allow_unverified: Sequence[str] = (),
) -> Path:
    """Write a bundle to measure on; of one network, or of a chain."""
    kind: dict[str, Any] = (
        {"stages": files} if len(files) > 1 else {"stage": files[0].stage, "candidates": files[0].candidates}
    )
    return write_bundle(
        path,
        name=context.recipe.name,
        default=default,
        golden=cases,
        card="",
        provenance=provenance(context),
        weights_licence=context.recipe.weights_licence,
        allow_unverified=allow_unverified,
        force=True,
        **kind,
    )


def known_bundle(context: AnyContext[Any], folder: Path, format: str) -> Path:
    """A bundle of the network that others are held against."""
    scheme = load_scheme("ibug68")
    net = random_network(KNOWN, n_points=scheme.points)
    stage, run = stage_contract("landmarks", net, scheme), reference.torch_run(net)
    cases = [reference.golden_case(run, image, box, stage) for image, box in golden_images(1)]
    return untrained_bundle(context, folder, format, net, stage, cases)


def untrained_bundle(
    context: AnyContext[Any],
    folder: Path,
    format: str,
    net: nn.Module,
    stage: Stage,
    cases: Sequence[Mapping[str, NDArray[Any]]],
) -> Path:
    """A bundle of a network with random weights, which take the same time as trained ones.

    Args:
        context: the run.
        folder: gets the file, and the bundle below it.
        format: of its only variant, fp32.
        net: the network.
        stage, cases: its contract and golden cases.
    """
    folder.mkdir(parents=True, exist_ok=True)
    exported = make(net, format, "fp32", folder, input_size=stage.preprocess.size)
    found = examine(exported, golden=reference.golden_references(cases, stage))
    return bundle_of(context, folder / "bundle", [StageFiles(stage, [found])], cases, found.id)
