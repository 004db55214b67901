"""What came out of comparing a variant with its reference, and the bounds it is held against."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, NamedTuple

from pocketface.converters.kinds import LANDMARKS, Kind, kind_of, main_output
from pocketface.sdk.errors import BadInputError
from pocketface.sdk.manifest import OutputParity, Parity, Tolerances

GATES: dict[str, Tolerances] = {
    "fp32": Tolerances(max_tensor_error=1e-4, max_relative_error=1e-5),
    "fp16": Tolerances(max_tensor_error=2e-3, max_score_error=0.02),
    "w8": Tolerances(max_nme_increase=0.02, max_score_error=0.05, max_pose_error=0.03),
    "w8a8": Tolerances(max_nme_increase=0.60, max_score_error=0.10, max_pose_error=0.05),
    "w8a16": Tolerances(max_nme_increase=0.05, max_score_error=0.05, max_pose_error=0.05),
    "dynamic": Tolerances(max_nme_increase=0.05, max_score_error=0.05, max_pose_error=0.05),
    "w4": Tolerances(max_nme_increase=0.30, max_score_error=0.10, max_pose_error=0.10),
    "mixed": Tolerances(max_nme_increase=0.60, max_score_error=0.10, max_pose_error=0.05),
    "pal6": Tolerances(max_nme_increase=0.10, max_score_error=0.05, max_pose_error=0.05),
    "pal4": Tolerances(max_nme_increase=0.20, max_score_error=0.10, max_pose_error=0.10),
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
        outputs: name -> largest and mean error, the main output first: ``points`` (crop sides) and, of a network that
            has one, ``score`` (probability). `kinds` has the units.
        max_pixel_error, mean_pixel_error: distance of the main output's landmarks or corners, in pixels of the
            network's input; of pictures and class probabilities, in grey levels of 255.
        golden_error: mean distance over the golden cases alone, in crop sides; of pictures and class probabilities, in
            shares of full scale.
        nme_reference, nme: task error of the main output over the faces with truth, in percent: NME of landmarks;
            corner error of boxes; pixel error of pictures; 100 - mIoU of masks, mean over the pictures.
        broken: faces for which an output was NaN, infinite or of the wrong shape; errors are infinite then.
        input_size: S.
        kinds: output name -> decode.
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
    kinds: Mapping[str, str] = field(default_factory=lambda: dict(LANDMARKS))

    @property
    def task(self) -> str:
        """Name of the task error, e.g. ``"NME"``."""
        return main_output(self.kinds)[1].task

    @property
    def main(self) -> OutputParity:
        """The main output's errors."""
        return self.outputs[main_output(self.kinds)[0]]

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
        _, main = main_output(self.kinds)
        lines = [f"ParityResult  {self.variant}  by {self.executor}  on {self.faces} faces   {verdict.status.upper()}"]
        for name, error in self.outputs.items():
            kind = kind_of(self.kinds[name])
            bound = bound_of(kind, bounds)
            gate = "" if bound is None else f", gate {bound:g}"
            if kind.role == "main":
                lines.append(
                    f"  {name:<8} max {self.max_pixel_error:.3g} {kind.pixel}  mean {self.mean_pixel_error:.3g} "
                    f"{kind.pixel}   ({kind.what}: max {error.max_error:.2g}{gate})"
                )
            else:
                lines.append(
                    f"  {name:<8} max {error.max_error:.2g}  mean {error.mean_error:.2g}   ({kind.what}{gate})"
                )
        if self.nme is not None and self.nme_reference is not None:
            gate = "" if bounds.max_nme_increase is None else f", gate {bounds.max_nme_increase:+.3f}"
            lines.append(
                f"  {main.task:<8} {self.nme_reference:.3f} -> {self.nme:.3f}   "
                f"({self.nme - self.nme_reference:+.3f}{gate})"
            )
        if verdict.status == "failed":
            lines.append(f"  failed:  {verdict.reason}")
            if self.variant.split(".")[-2:][0].startswith("w"):
                lines.append("  next:    name the modules that suffer in the recipe's keep_float")
        return "\n".join(lines)


class Verdict(NamedTuple):
    """``reason`` is empty for what passed."""

    status: Literal["passed", "failed"]
    reason: str


def judge(parity: ParityResult, tolerances: Tolerances) -> Verdict:
    """Hold a comparison against its bounds.

    The bound on tensors counts for every output, in its kind's unit; a score and a head pose may have their own. A
    comparison of no faces, outputs that are not finite, a bound whose figure was not measured, and no bound at all
    never pass.

    Returns:
        ``("passed", "")`` or ``("failed", every figure that is beyond its bound)``.
    """
    if parity.faces < 1:
        return Verdict("failed", "no face was compared")
    if parity.broken:
        return Verdict(
            "failed", f"{parity.broken} of {parity.faces} faces gave NaN, infinity or an output of the wrong shape"
        )
    name, main = main_output(parity.kinds)
    kinds = [(key, kind_of(parity.kinds[key])) for key in parity.outputs]
    checks: list[tuple[str, float | None, float | None, str]] = [
        *((f"max error of {key}", parity.outputs[key].max_error, bound_of(k, tolerances), k.unit) for key, k in kinds),
        (f"{main.task} increase", parity.nme_increase, tolerances.max_nme_increase, "percentage points"),
        *(
            (f"relative error of {key}", error.relative_error, tolerances.max_relative_error, "of its largest value")
            for key, error in parity.outputs.items()
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
        reasons.append(f"no bound is set for the {name}")
    return Verdict("failed", "; ".join(reasons)) if reasons else Verdict("passed", "")


def bound_of(kind: Kind, bounds: Tolerances) -> float | None:
    """What bounds the largest error of an output of this kind; None where nothing does."""
    own = {"main": None, "score": bounds.max_score_error, "pose": bounds.max_pose_error}[kind.role]
    return bounds.max_tensor_error if own is None else own


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
