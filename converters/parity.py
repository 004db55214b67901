"""Does a converted network still say what torch says?

A variant runs through the same backends as on the phone, on golden inputs and on annotated faces, and is compared with
torch fp32, or, where there is no torch network (`pocketface pack`), with a file that stands in for it:

points   error of the normalised coordinates (in crop sides), and landmark distance in pixels of the network's input
score    error of the face *probability*: logits are compared behind the sigmoid, since a logit of 20 that comes out as
21 changes nothing NME      of torch and of the variant on the same faces, where the truth is known

`compare` measures, `judge` holds the figures against the bounds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pocketface.benchmarks.metrics import face_errors
from pocketface.converters.executors import executor_of
from pocketface.converters.formats.base import Exported
from pocketface.sdk.backends.base import Backend
from pocketface.sdk.errors import BadInputError, EnvironmentProblemError
from pocketface.sdk.files import sha256
from pocketface.sdk.manifest import FileEntry, OutputParity, Parity, Tolerances, Variant

Array = NDArray[np.float32]
Pixels = NDArray[np.uint8]
Run = Callable[[Array | Pixels], Mapping[str, Array]]
"""(1, 3, S, S) float32, or uint8 for a network that takes pixels, -> points (1, n, 2), score (1,)."""

GATES: dict[str, Tolerances] = {
    "fp32": Tolerances(max_tensor_error=1e-4, max_relative_error=1e-5),
    "fp16": Tolerances(max_tensor_error=2e-3, max_score_error=0.02),
    "w8": Tolerances(max_nme_increase=0.02, max_score_error=0.05),
    "w8a8": Tolerances(max_nme_increase=0.60, max_score_error=0.10),
    "pal6": Tolerances(max_nme_increase=0.05, max_score_error=0.05),
    "pal4": Tolerances(max_nme_increase=0.20, max_score_error=0.10),
}
"""Bounds of each precision, unless a recipe sets its own."""


@dataclass(frozen=True, eq=False)
class References:
    """Inputs and what the reference makes of them.

    Attributes:
        inputs: (N, 3, S, S), as the contract asks: float32, normalised, or uint8 pixels.
        points: (N, n, 2) float32, normalised crop coordinates.
        score: (N,) float32, logits; None of a network that gives none.
        truth: (N, n, 2), annotated landmarks in normalised crop coordinates, or None.

    Raises:
        BadInputError: shapes that do not belong together, or a value that is not finite.
    """

    inputs: Array | Pixels
    points: Array
    score: Array | None
    truth: Array | None = None

    def __post_init__(self) -> None:
        faces = len(self.inputs)
        fits = (
            self.inputs.ndim == 4
            and self.points.ndim == 3
            and self.points.shape[::2] == (faces, 2)
            and (self.score is None or self.score.shape == (faces,))
            and (self.truth is None or self.truth.shape == self.points.shape)
        )
        if not fits:
            truth = None if self.truth is None else self.truth.shape
            score = None if self.score is None else self.score.shape
            raise BadInputError(
                f"references of shapes {self.inputs.shape}, {self.points.shape}, {score}, truth {truth}",
                expected="(N, 3, S, S), (N, n, 2), (N,), truth (N, n, 2) or none",
            )
        for name, value in (("inputs", self.inputs), ("points", self.points), ("score", self.score)):
            if value is not None and not np.isfinite(value).all():
                raise BadInputError(f"reference {name} hold NaN or infinity", next="Check the network's weights")

    def __len__(self) -> int:
        return len(self.inputs)


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


def compare(
    run: Run,
    *,
    variant: str,
    executor: str,
    golden: References | None = None,
    faces: References | None = None,
    tolerances: Tolerances | None = None,
    normaliser: tuple[int, int] = (36, 45),
) -> ParityResult:
    """Run a variant on golden inputs and on annotated faces, and compare it with the reference.

    Args:
        run: the variant, e.g. ``lambda tensor: backend.run({"image": tensor})``.
        variant: a name for it.
        executor: what runs it.
        golden: the golden cases; their truth is not used.
        faces: annotated faces; the NME is over these.
        tolerances: kept with the result.
        normaliser: the two landmarks whose distance normalises errors.

    Returns:
        The figures. With no faces at all, a result that ``judge`` fails.
    """
    parts = [part for part in (golden, faces) if part is not None and len(part)]
    size = parts[0].inputs.shape[-1] if parts else 0
    rows = [_Row.of(run, part, index) for part in parts for index in range(len(part))]
    golden_faces = len(golden) if golden is not None else 0
    nme = reference = None
    if faces is not None and faces.truth is not None and len(faces):
        reference = 100 * float(face_errors(faces.points, faces.truth, normaliser).mean())
        found = [row.points for row in rows[golden_faces:] if row.points is not None]
        nme = math.inf
        if len(found) == len(faces):
            nme = 100 * float(face_errors(np.stack(found), faces.truth, normaliser).mean())
    return ParityResult(
        variant=variant,
        executor=executor,
        faces=len(rows),
        golden_faces=golden_faces,
        outputs={
            "points": _spread([row.coordinate_error for row in rows], _relative(rows, 0)),
            **(
                {"score": _spread([row.score_error for row in rows], _relative(rows, 1))}
                if all(part.score is not None for part in parts)
                else {}
            ),
        },
        max_pixel_error=_spread([row.distance for row in rows]).max_error * size,
        mean_pixel_error=_spread([row.distance for row in rows]).mean_error * size,
        golden_error=_spread([row.distance for row in rows[:golden_faces]]).mean_error if golden_faces else None,
        nme_reference=reference,
        nme=nme,
        broken=sum(row.points is None for row in rows),
        input_size=size,
        tolerances=tolerances or Tolerances(),
    )


def measure(
    exported: Exported,
    *,
    golden: References | None = None,
    faces: References | None = None,
    tolerances: Tolerances | None = None,
    normaliser: tuple[int, int] = (36, 45),
) -> ParityResult | None:
    """``compare`` for a file that was just exported.

    Args:
        exported: the file.
        tolerances: default: those of its precision in ``GATES``.

    Returns:
        None where nothing here can run the format, not even a reference executor.
    """
    if executor_of(exported.format) is None:
        return None
    backend = backend_of(exported)
    return compare(
        lambda tensor: backend.run({"image": tensor}),
        variant=f"{exported.precision}.{exported.format}",
        executor=backend.executor,
        golden=golden,
        faces=faces,
        tolerances=tolerances or GATES.get(exported.precision, Tolerances()),
        normaliser=normaliser,
    )


def backend_of(exported: Exported, *, threads: int = 1) -> Backend:
    """What runs a file that is in no bundle yet: its runtime, or a reference executor.

    Raises:
        EnvironmentProblemError: nothing here can run this format.
    """
    executor = executor_of(exported.format)
    if executor is None:
        raise EnvironmentProblemError(f"nothing here can run {exported.format}", next="See pocketface doctor")
    files = tuple(
        FileEntry(path=f"models/{file.name}", bytes=file.stat().st_size, sha256=sha256(file)) for file in exported.files
    )
    variant = Variant(
        id=f"{exported.precision}.{exported.format}",
        format=exported.format,
        precision=exported.precision,
        files=files,
        inputs=dict(exported.inputs),
        outputs=dict(exported.outputs),
        tolerances=Tolerances(),
        status="unverified",
        reason="being compared",
    )
    return executor(exported.path, variant, threads=threads)


def probability(logit: NDArray[np.floating]) -> NDArray[np.float64]:
    """Sigmoid, without overflow at either end."""
    return 0.5 * (1 + np.tanh(0.5 * np.asarray(logit, np.float64)))


@dataclass(frozen=True, eq=False)
class _Row:
    """One face: the variant's points, or None if they are unusable, and its errors.

    ``raw`` holds, for points and score, the largest error of the raw output and the reference's largest value. Without
    a score, its errors are 0 and are not reported.
    """

    points: Array | None
    coordinate_error: NDArray[np.float64]
    distance: NDArray[np.float64]
    score_error: NDArray[np.float64]
    raw: tuple[tuple[float, float], tuple[float, float]]

    @classmethod
    def of(cls, run: Run, references: References, index: int) -> _Row:
        outputs = run(references.inputs[index : index + 1].copy())
        want, logits = references.points[index], references.score
        logit = np.zeros(1) if logits is None else logits[index : index + 1]
        points, score = np.asarray(outputs["points"]), logit if logits is None else np.asarray(outputs["score"])
        usable = points.shape == (1, *want.shape) and score.shape == (1,)
        if not (usable and np.isfinite(points).all() and np.isfinite(score).all()):
            endless = np.array([math.inf])
            return cls(None, endless, endless, endless, ((math.inf, 1.0), (math.inf, 1.0)))
        difference = points[0].astype(np.float64) - want
        return cls(
            points[0],
            np.abs(difference),
            np.linalg.norm(difference, axis=-1),
            np.abs(probability(score) - probability(logit)),
            (
                (float(np.abs(difference).max()), float(np.abs(want).max())),
                (abs(float(score[0]) - float(logit[0])), abs(float(logit[0]))),
            ),
        )


def _spread(errors: list[NDArray[np.float64]], relative: float | None = None) -> OutputParity:
    if not errors:
        return OutputParity(max_error=math.inf, mean_error=math.inf)
    every = np.concatenate([error.ravel() for error in errors])
    return OutputParity(max_error=float(every.max()), mean_error=float(every.mean()), relative_error=relative)


def _relative(rows: list[_Row], output: int) -> float:
    """max|a - b| / max|a| of a raw output over all faces."""
    error = max((row.raw[output][0] for row in rows), default=math.inf)
    largest = max((row.raw[output][1] for row in rows), default=0.0)
    return error / largest if largest > 0 else (0.0 if error == 0 else math.inf)


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _score_gate(bounds: Tolerances) -> str:
    bound = bounds.max_tensor_error if bounds.max_score_error is None else bounds.max_score_error
    return "" if bound is None else f", gate {bound:g}"
