"""What a run ends with, and the small figures of it that pages are generated from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec

from pocketface.benchmarks.reports.data import Gate
from pocketface.compression.pipeline.accuracy import NetworkAccuracy, ScoreQuality
from pocketface.compression.pipeline.train import Trained
from pocketface.converters.bundle import Candidate
from pocketface.sdk.manifest import Stage


@dataclass(frozen=True)
class RunResult:
    """Everything a report needs.

    Attributes:
        networks: teachers, then the student and what was made of it; the last one was exported.
        lineage: of those, the student and what was made of it.
        accuracy: network's name -> test accuracy.
        candidates: every variant, shipped or not, with what was measured on it.
        variants: variant id -> test accuracy.
        gates: every bound of the recipe and how it was kept.
        notes: warnings about the measurements.
        bundle: where it is, or None if a gate kept it from being written.
    """

    networks: list[Trained]
    lineage: list[Trained]
    accuracy: dict[str, NetworkAccuracy]
    score: ScoreQuality
    candidates: list[Candidate]
    variants: dict[str, NetworkAccuracy]
    gates: list[Gate]
    stage: Stage
    notes: list[str]
    bundle: Path | None


def result_json(result: RunResult) -> bytes:
    """Small figures of a run, for pages that are generated from them."""
    rows = {
        "networks": {
            trained.name: {
                "model": msgspec.to_builtins(trained.spec.model),
                "loss": msgspec.to_builtins(trained.spec.loss),
                "epochs": trained.spec.train.epochs,
                "seconds": trained.done.seconds,
                "key": trained.done.key,
                "accuracy": msgspec.to_builtins(result.accuracy[trained.name].accuracy),
            }
            for trained in result.networks
        },
        "variants": {name: msgspec.to_builtins(found.accuracy) for name, found in result.variants.items()},
        "score": msgspec.to_builtins(result.score),
        "gates": msgspec.to_builtins(result.gates),
    }
    return msgspec.json.format(msgspec.json.encode(rows), indent=1) + b"\n"
