"""What a detector's bundle has to keep: the gates of its recipe."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from pocketface.benchmarks.detection import DetectionResult
from pocketface.compression.detector_recipe import DetectorRecipe
from pocketface.converters.candidate import Candidate
from pocketface.sdk.errors import GateFailedError

MAX_ORIGINAL_ERROR = 1e-5
"""max|a - b| / max|a| of logits, and of boxes and points, against MediaPipe's own file: float32 in another order."""


class Made(NamedTuple):
    """A variant, its figures on the test faces where something here runs it, and why it may not be shipped."""

    candidate: Candidate
    detection: DetectionResult | None
    problem: str


def problem(recipe: DetectorRecipe, candidate: Candidate, found: DetectionResult | None, truth: DetectionResult) -> str:
    """Why a variant may not be shipped, in words; empty where it may.

    Args:
        recipe: its gates.
        candidate: the file.
        found: the file on the test faces; None where nothing here runs it.
        truth: the network in torch on the same faces.
    """
    if candidate.status != "passed":
        return candidate.reason
    if found is None:
        return ""
    reasons = []
    # Written so that NaN fails.
    if not found.missed <= recipe.gates.max_missed:
        reasons.append(f"missed {found.missed:.2f} % > {recipe.gates.max_missed:g} % of the test faces")
    bound = truth.box_error + recipe.gates.max_box_error_increase[candidate.exported.precision]
    if not found.box_error <= bound:
        reasons.append(f"box error {found.box_error:.2f} % > {bound:.2f} % of a side")
    return "; ".join(reasons)


def judge(recipe: DetectorRecipe, made: Mapping[str, Made], error: Mapping[str, float]) -> None:
    """Refuse a bundle.

    Args:
        recipe: what is to be shipped.
        made: id -> the variant.
        error: see ``original_error``.

    Raises:
        GateFailedError: the network differs from the original, or a variant that is to be shipped has a problem.
    """
    # Written so that NaN fails.
    if not all(value <= MAX_ORIGINAL_ERROR for value in error.values()):
        raise GateFailedError(
            f"our network differs from MediaPipe's file by {dict(error)}", expected=f"at most {MAX_ORIGINAL_ERROR:g}"
        )
    failed = [f"{id}: {made[id].problem}" for id in recipe.ship if made[id].problem]
    if failed:
        raise GateFailedError("; ".join(failed), next="Ship other variants, or mend these")


def check_packed(recipe: DetectorRecipe, path: Path) -> None:
    """Refuse a packed bundle that is too large.

    Raises:
        GateFailedError: see above.
    """
    size = path.stat().st_size / 1e6
    if size > recipe.gates.max_mb:
        raise GateFailedError(
            f"the packed bundle has {size:.3f} MB",
            expected=f"at most {recipe.gates.max_mb:g} MB",
            next="Ship fewer variants, or smaller ones",
        )
