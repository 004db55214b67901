"""What came out of comparing a variant with its reference, and the bounds it is held against."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

from pocketface.sdk.errors import BadInputError
from pocketface.sdk.manifest import OutputParity, Parity, Tolerances

GATES: dict[str, Tolerances] = {
    "fp32": Tolerances(max_tensor_error=1e-4, max_relative_error=1e-5),
    "fp16": Tolerances(max_tensor_error=2e-3, max_score_error=0.02),
    "w8": Tolerances(max_nme_increase=0.02, max_score_error=0.05),
    "w8a8": Tolerances(max_nme_increase=0.60, max_score_error=0.10),
    "pal6": Tolerances(max_nme_increase=0.10, max_score_error=0.05),
    "pal4": Tolerances(max_nme_increase=0.20, max_score_error=0.10),
}
"""Bounds of each precision, unless a recipe sets its own."""


@dataclass(frozen=True)
class ParityResult:
    """What came out of comparing one variant with the reference.

    Attributes:
        variant: its name.
        executor: runtime and version that ran it.
        faces: how many were compared, golden ones included.
        golden_faces: how many of them are golden cases.
        outputs: ``points`` (crop sides) and, of a network that has one, ``score`` (probability): largest and mean
            error.
        max_pixel_error, mean_pixel_error: landmark distance, in pixels of the network's input.
        golden_error: mean landmark distance over the golden cases alone, in crop sides.
        nme_reference, nme: percent, over the faces with truth.
        broken: faces for which an output was NaN, infinite or of the wrong shape; errors are infinite then.
        input_size: S.
    """

    variant: str
    executor: str
    faces: int
    golden_faces: int
    outputs: dict[str, OutputParity]
    max_pixel_error: float
    mean_pixel_error: float
    golden_error: float | None
    nme_reference: float | None
    nme: float | None
    broken: int
    input_size: int
    tolerances: Tolerances

    @property
    def nme_increase(self) -> float | None:
        """In percentage points; negative where the variant happens to be better."""
        return None if self.nme is None or self.nme_reference is None else self.nme - self.nme_reference

    @property
    def verdict(self) -> Verdict:
        """``judge`` with the bounds it came with."""
        return judge(self, self.tolerances)

    def to_manifest(self) -> Parity:
        """As the bundle's manifest keeps it.

        Raises:
            BadInputError: some output was not finite; such a variant is not shipped.
        """
        if self.broken or not self.faces:
            raise BadInputError(f"{self.variant}: {self.verdict.reason}", next="Do not ship this variant")
        return Parity(
            executor=self.executor,
            faces=self.faces,
            outputs=dict(self.outputs),
            max_pixel_error=self.max_pixel_error,
            mean_pixel_error=self.mean_pixel_error,
            nme_reference=self.nme_reference,
            nme=self.nme,
            golden_error=self.golden_error,
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; what is not finite becomes None."""
        raw = asdict(self)
        raw["outputs"] = {
            name: {
                "max_error": _finite(error.max_error),
                "mean_error": _finite(error.mean_error),
                "relative_error": _finite(error.relative_error),
            }
            for name, error in self.outputs.items()
        }
        raw["tolerances"] = {name: getattr(self.tolerances, name) for name in self.tolerances.__struct_fields__}
        for name in ("max_pixel_error", "mean_pixel_error", "golden_error", "nme"):
            raw[name] = _finite(raw[name])
        return {**raw, "status": self.verdict.status, "reason": self.verdict.reason}

    def __str__(self) -> str:
        bounds, verdict = self.tolerances, self.verdict
        tensor = "" if bounds.max_tensor_error is None else f", gate {bounds.max_tensor_error:g}"
        lines = [
            f"ParityResult  {self.variant}  by {self.executor}  on {self.faces} faces   {verdict.status.upper()}",
            f"  points   max {self.max_pixel_error:.3g} px  mean {self.mean_pixel_error:.3g} px"
            f"   (coordinates: max {self.outputs['points'].max_error:.2g}{tensor})",
        ]
        if score := self.outputs.get("score"):
            lines.append(
                f"  score    max {score.max_error:.2g}  mean {score.mean_error:.2g}"
                f"   (probability{_score_gate(bounds)})"
            )
        if self.nme is not None and self.nme_reference is not None:
            gate = "" if bounds.max_nme_increase is None else f", gate {bounds.max_nme_increase:+.3f}"
            lines.append(
                f"  NME      {self.nme_reference:.3f} -> {self.nme:.3f}   ({self.nme - self.nme_reference:+.3f}{gate})"
            )
        if verdict.status == "failed":
            lines.append(f"  failed:  {verdict.reason}")
            if self.variant.startswith("w"):
                lines.append("  next:    name the modules that suffer in the recipe's keep_float")
        return "\n".join(lines)


class Verdict(NamedTuple):
    """``reason`` is empty for what passed."""

    status: Literal["passed", "failed"]
    reason: str


def judge(parity: ParityResult, tolerances: Tolerances) -> Verdict:
    """Hold a comparison against its bounds.

    The bound on tensors counts for the normalised coordinates and for the face probability. A comparison of no faces,
    outputs that are not finite, a bound whose figure was not measured, and no bound at all never pass.

    Returns:
        ``("passed", "")`` or ``("failed", every figure that is beyond its bound)``.
    """
    if parity.faces < 1:
        return Verdict("failed", "no face was compared")
    if parity.broken:
        return Verdict(
            "failed", f"{parity.broken} of {parity.faces} faces gave NaN, infinity or an output of the wrong shape"
        )
    points, score = parity.outputs["points"].max_error, parity.outputs.get("score")
    score_bound = tolerances.max_tensor_error if tolerances.max_score_error is None else tolerances.max_score_error
    checks: list[tuple[str, float | None, float | None, str]] = [
        ("max error of points", points, tolerances.max_tensor_error, "crop sides"),
        *([("max error of score", score.max_error, score_bound, "probability")] if score is not None else []),
        ("NME increase", parity.nme_increase, tolerances.max_nme_increase, "percentage points"),
        *(
            (f"relative error of {name}", error.relative_error, tolerances.max_relative_error, "of its largest value")
            for name, error in parity.outputs.items()
        ),
    ]
    reasons = []
    for figure, value, bound, unit in checks:
        if bound is not None and value is None:
            reasons.append(f"{figure} was not measured, but is bounded by {bound:g} {unit}")
        # Written so that NaN fails.
        elif bound is not None and value is not None and not value <= bound:
            reasons.append(f"{figure} {value:.4g} > {bound:g} {unit}")
    if tolerances.max_tensor_error is None and tolerances.max_nme_increase is None:
        reasons.append("no bound is set for the points")
    return Verdict("failed", "; ".join(reasons)) if reasons else Verdict("passed", "")


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _score_gate(bounds: Tolerances) -> str:
    bound = bounds.max_tensor_error if bounds.max_score_error is None else bounds.max_score_error
    return "" if bound is None else f", gate {bound:g}"
