"""Does a converted network still say what torch says?

A variant runs through the same backends as on the phone, on golden inputs and on annotated faces, and is compared with
torch fp32, or, where there is no torch network (`pocketface pack`), with a file that stands in for it:

points   error of the normalised coordinates (in crop sides), and landmark distance in pixels of the network's input
score    error of the face *probability*: logits are compared behind the sigmoid, since a logit of 20 that comes out as
21 changes nothing NME      of torch and of the variant on the same faces, where the truth is known

`compare` measures; `verdict.judge` holds the figures against the bounds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pocketface.benchmarks.metrics import face_errors
from pocketface.converters.executors import executor_of
from pocketface.converters.formats.base import Exported
from pocketface.converters.verdict import GATES, ParityResult
from pocketface.sdk.backends.base import Backend
from pocketface.sdk.errors import BadInputError, EnvironmentProblemError
from pocketface.sdk.files import sha256
from pocketface.sdk.manifest import FileEntry, OutputParity, Tolerances, Variant

Array = NDArray[np.float32]
Pixels = NDArray[np.uint8]
Run = Callable[[Array | Pixels], Mapping[str, Array]]
"""(1, 3, S, S) float32, or uint8 for a network that takes pixels, -> points (1, n, 2), score (1,)."""


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
