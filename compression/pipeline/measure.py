"""What is measured on the finished files: parity with torch, accuracy on the test faces, latency side by side."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from pocketface.benchmarks.accuracy import evaluate
from pocketface.benchmarks.data.fingerprint import dataset_hash
from pocketface.benchmarks.latency import measure as measure_latency
from pocketface.benchmarks.machine import this_machine
from pocketface.compression.models.heads import LandmarkNet
from pocketface.compression.pipeline.accuracy import NetworkAccuracy
from pocketface.compression.pipeline.context import AnyContext, Context
from pocketface.compression.pipeline.inputs import network_inputs, reference_truth
from pocketface.compression.recipe import GateSpec, MixedSpec
from pocketface.compression.training.faces import thin
from pocketface.converters import parity, reference
from pocketface.converters.bundle import Candidate
from pocketface.converters.examine import examine
from pocketface.converters.executors import executor_of
from pocketface.converters.formats.base import Exported
from pocketface.converters.pixels import PixelInput
from pocketface.converters.verdict import GATES
from pocketface.sdk.bundle import Bundle
from pocketface.sdk.manifest import Latency, Tolerances
from pocketface.sdk.predictor import Predictor
from pocketface.sdk.progress import say, track

LATENCY_VERSION = 1
VARIANT_ACCURACY_VERSION = 1


@dataclass(frozen=True)
class TorchReference:
    """What every variant is compared with: torch fp32 on the golden cases and on validation faces."""

    golden_cases: list[dict[str, np.ndarray]]
    golden: parity.References
    faces: parity.References


def torch_reference(
    context: Context, run: parity.Run, net: LandmarkNet | PixelInput, golden_cases: list[dict[str, np.ndarray]]
) -> TorchReference:
    """Run torch on the golden cases and on evenly chosen validation faces."""
    chosen = thin(context.split.validation, context.recipe.export.parity_faces)
    faces = reference.references(run, network_inputs(chosen, net), reference_truth(chosen))
    return TorchReference(golden_cases, reference.golden_references(golden_cases), faces)


def candidates(
    context: Context, exported: list[Exported], torch: TorchReference, searched: Callable[[int], parity.References]
) -> list[Candidate]:
    """Every variant with its parity and what the audit of its contents found, judged by the recipe's gates.

    Args:
        context: the run.
        exported: the variants.
        torch: what they are compared with.
        searched: gives the faces that a variant ``mixed`` was searched for on, at most so many (0: all): it is judged
            on the same ones.
    """
    gates, made = context.recipe.gates, []
    with track("parity", len(exported), show=context.progress) as step:
        for number, item in enumerate(exported, start=1):
            mixed = context.recipe.export.mixed.get(item.format)
            bounds = tolerances(gates, item.precision, mixed)
            made.append(
                examine(
                    item,
                    golden=torch.golden,
                    faces=searched(mixed.faces) if mixed and item.precision == "mixed" else torch.faces,
                    tolerances=bounds,
                    normaliser=context.split.scheme.normaliser,
                )
            )
            step(number)
    return made


def tolerances(gates: GateSpec, precision: str, mixed: MixedSpec | None = None) -> Tolerances:
    """The recipe's bounds for a precision; the face score keeps the defaults of converters/parity.

    Args:
        gates: the recipe's.
        precision: of the variant.
        mixed: how the format's variant ``mixed`` was searched for: its bound, unless the gates have one.
    """
    default = GATES.get(precision, Tolerances())
    searched = mixed.max_increase if precision == "mixed" and mixed is not None else None
    return msgspec.structs.replace(
        default,
        max_tensor_error=gates.max_tensor_error.get(precision),
        max_nme_increase=gates.max_nme_increase.get(precision, searched),
        max_relative_error=gates.max_relative_error.get(precision),
    )


class LatencyTable(msgspec.Struct, frozen=True):
    """Variant -> one figure per thread count; and why not to trust them, if there is a reason."""

    rows: dict[str, tuple[Latency, ...]]
    warning: str


def latency_stage(context: AnyContext[Any], bundle: Bundle, ids: list[str], files: list[str]) -> LatencyTable:
    """The variants' latency, all interleaved in one process."""
    spec = context.recipe.bench

    def make(_folder: Path) -> LatencyTable:
        say(f"latency of {len(ids)} variants, {spec.runs} runs each", show=context.progress)
        result = measure_latency(bundle, ids, threads=spec.threads, runs=spec.runs, warmup=spec.warmup)
        return LatencyTable({name: result.of(name) for name in ids}, result.warning)

    inputs = {"files": files, "ids": ids, "bench": spec, "cpu": this_machine().cpu}
    return context.store.figures("bench", LATENCY_VERSION, inputs, make, LatencyTable, file="latency.json")


def variant_accuracy_stage(
    context: Context, bundle: Bundle, ids: list[str], files: list[str], split: str = "test"
) -> dict[str, NetworkAccuracy]:
    """Every variant on the test faces, through the runtime that ships, or a reference executor where it is not here;
    ``split`` is ``"test"`` or ``"validation"``."""
    faces = getattr(context.split, split)

    def make(_folder: Path) -> dict[str, NetworkAccuracy]:
        found = {}
        with track("accuracy of variants", len(ids), show=context.progress) as step:
            for number, name in enumerate(ids, start=1):
                _, variant = bundle.manifest.variant(name)
                predictor = Predictor(bundle, variant=name, threads=1, executor=executor_of(variant.format))
                result = evaluate(predictor, faces)
                found[name] = NetworkAccuracy(result.accuracy, list(result.names), result.errors.tolist())
                step(number)
        return found

    inputs = {"files": files, "faces": dataset_hash(faces), "ids": ids}
    return context.store.figures(
        f"{split}-variants", VARIANT_ACCURACY_VERSION, inputs, make, dict[str, NetworkAccuracy], file="accuracy.json"
    )
