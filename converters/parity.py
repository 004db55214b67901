"""Does a converted network still say what torch says?

A variant runs through the same backends as on the phone, on golden inputs and on annotated faces, and is compared with
torch fp32, or, where there is no torch network (`pocketface pack`), with a file that stands in for it. `kinds` says how
each kind of output is compared:

points, box   error of coordinates, in crop sides, and distance in pixels of the network's input
image         error of values in [0, 1], and in grey levels
mask          error of class probabilities, behind the softmax, and in grey levels
score         error of the face *probability*: logits are compared behind the sigmoid, since a logit of 20 that comes
out as 21 changes nothing
task error    NME of landmarks, corner error of boxes, pixel error of pictures, 100 - mIoU of masks: of torch and of the
variant on the same faces, where the truth is known

`compare` measures; `verdict.judge` holds the figures against the bounds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pocketface.converters.executors import executor_of
from pocketface.converters.formats.base import Exported
from pocketface.converters.kinds import LANDMARKS, Array, Errors, Pair, kind_of, main_output, probability
from pocketface.converters.verdict import GATES, ParityResult
from pocketface.sdk.backends.base import Backend
from pocketface.sdk.errors import BadInputError, EnvironmentProblemError
from pocketface.sdk.files import sha256
from pocketface.sdk.manifest import FileEntry, OutputParity, Tolerances, Variant

__all__ = ["Array", "Pixels", "References", "Run", "backend_of", "compare", "measure", "probability"]

Pixels = NDArray[np.uint8]
Run = Callable[..., Mapping[str, Array]]
"""(1, 3, S, S) float32, or uint8 for a network that takes pixels, -> output name -> array of batch 1. Of a network with
further inputs, (tensor, others), where ``others`` is input name -> array of batch 1."""


@dataclass(frozen=True, eq=False)
class References:
    """Inputs and what the reference makes of them.

    Attributes:
        inputs: (N, 3, S, S), as the contract asks: float32, normalised, or uint8 pixels.
        outputs: name -> (N, ...) float32, in the units that ``kinds.Kind.in_units`` gives: of a landmark network
            ``points`` (N, n, 2), normalised crop coordinates, and, if it has one, ``score`` (N,), logits.
        truth: what the main output should be, as ``kinds.Kind.truth_fits`` asks, or None: annotated landmarks in
            normalised crop coordinates, the correction to the true box, the clean picture, of the output's shape; the
            true labels (N, M, M) of a mask.
        kinds: output name -> decode, of every output; default: those of a landmark network.
        others: further inputs by name, (N, ...) float32: the mask of the frame before.

    Raises:
        BadInputError: shapes that do not belong together, a value that is not finite, or not exactly one main output.
    """

    inputs: Array | Pixels
    outputs: Mapping[str, Array]
    truth: Array | Pixels | None = None
    kinds: Mapping[str, str] = field(default_factory=dict)
    others: Mapping[str, Array] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.kinds:
            object.__setattr__(self, "kinds", {name: LANDMARKS[name] for name in LANDMARKS if name in self.outputs})
        name, main = main_output(self.kinds)
        beside = [*self.outputs.values(), *self.others.values()]
        fits = (
            self.inputs.ndim == 4
            and set(self.outputs) == set(self.kinds)
            and all(value.shape[:1] == self.inputs.shape[:1] for value in beside)
            and all(kind_of(decode).fits(self.outputs[key].shape[1:]) for key, decode in self.kinds.items())
            and (self.truth is None or main.truth_fits(self.truth, self.outputs[name].shape))
        )
        if not fits:
            named = (*self.others.items(), *self.outputs.items())
            shapes = ", ".join(f"{key} {value.shape}" for key, value in named)
            truth = None if self.truth is None else self.truth.shape
            raise BadInputError(
                f"references of shapes {self.inputs.shape}, {shapes}, truth {truth}",
                expected=f"(N, 3, S, S), {', '.join(f'{key} (N, ...)' for key in (*self.others, *self.kinds))}, truth "
                f"{main.truth}, or none",
            )
        for key, value in (("inputs", self.inputs), *self.others.items(), *self.outputs.items()):
            if not np.isfinite(value).all():
                raise BadInputError(f"reference {key} hold NaN or infinity", next="Check the network's weights")

    def __len__(self) -> int:
        return len(self.inputs)

    @property
    def main(self) -> Array:
        """The main output."""
        return self.outputs[main_output(self.kinds)[0]]

    def given_to(self, run: Run, index: int) -> Mapping[str, Array]:
        """What ``run`` makes of one input, and of those beside it where there are any."""
        one = slice(index, index + 1)
        tensor = self.inputs[one].copy()
        if not self.others:
            return run(tensor)
        return run(tensor, {name: value[one].copy() for name, value in self.others.items()})


def compare(
    run: Run,
    *,
    variant: str,
    executor: str,
    golden: References | None = None,
    faces: References | None = None,
    tolerances: Tolerances | None = None,
    normaliser: Pair = (36, 45),
) -> ParityResult:
    """Run a variant on golden inputs and on annotated faces, and compare it with the reference.

    Args:
        run: the variant, see ``Run``, e.g. ``lambda tensor: backend.run({"image": tensor})``.
        variant: a name for it.
        executor: what runs it.
        golden: the golden cases; their truth is not used.
        faces: annotated faces; the task error is over these.
        tolerances: kept with the result.
        normaliser: the two landmarks whose distance normalises errors.

    Returns:
        The figures. With no faces at all, a result that ``judge`` fails.

    Raises:
        BadInputError: golden cases and faces of different outputs.
    """
    parts = [part for part in (golden, faces) if part is not None and len(part)]
    kinds = dict(parts[0].kinds) if parts else dict(LANDMARKS)
    if any(dict(part.kinds) != kinds for part in parts):
        raise BadInputError("golden cases and faces of different outputs", expected=", ".join(kinds))
    size = parts[0].inputs.shape[-1] if parts else 0
    rows = [
        _Row.of(run, part, index, normaliser if part is faces else None) for part in parts for index in range(len(part))
    ]
    golden_faces = len(golden) if golden is not None else 0
    nme = reference = None
    name, main = main_output(kinds)
    if faces is not None and faces.truth is not None and len(faces) and main.task_error is not None:
        of_reference = [
            main.task_error(_wide(faces.outputs[name][index]), _wide(faces.truth[index]), normaliser)
            for index in range(len(faces))
        ]
        reference = float(np.mean(of_reference))
        nme = float(np.mean([row.task_error for row in rows[golden_faces:]]))
    distance = _spread([row.distance for row in rows])
    return ParityResult(
        variant=variant,
        executor=executor,
        faces=len(rows),
        golden_faces=golden_faces,
        outputs={
            key: _spread([row.errors[key] for row in rows], _relative([row.raw[key] for row in rows])) for key in kinds
        },
        max_pixel_error=distance.max_error * main.pixels(size),
        mean_pixel_error=distance.mean_error * main.pixels(size),
        golden_error=_spread([row.distance for row in rows[:golden_faces]]).mean_error if golden_faces else None,
        nme_reference=reference,
        nme=nme,
        broken=sum(row.broken for row in rows),
        input_size=size,
        tolerances=tolerances or Tolerances(),
        kinds=kinds,
    )


def measure(
    exported: Exported,
    *,
    golden: References | None = None,
    faces: References | None = None,
    tolerances: Tolerances | None = None,
    normaliser: Pair = (36, 45),
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

    def run(tensor: Array | Pixels, others: Mapping[str, Array] | None = None) -> Mapping[str, Array]:
        return backend.run({"image": tensor, **(others or {})})

    return compare(
        run,
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


class _Errors(NamedTuple):
    """Errors of one output on one face: the largest, their mean and how many they are of."""

    largest: float
    mean: float
    values: int

    @classmethod
    def of(cls, errors: Errors) -> _Errors:
        return cls(float(errors.max()), float(errors.mean()), errors.size)


_ENDLESS = _Errors(math.inf, math.inf, 1)


@dataclass(frozen=True, eq=False)
class _Row:
    """One face: the variant's errors.

    Attributes:
        errors: of each output.
        raw: of each output, the largest error and the reference's largest value.
        distance: of the main output.
        task_error: infinite without truth, which is not asked for then.
        broken: the outputs are unusable; every error is infinite.
    """

    errors: dict[str, _Errors]
    raw: dict[str, tuple[float, float]]
    distance: _Errors
    task_error: float
    broken: bool

    @classmethod
    def of(cls, run: Run, references: References, index: int, normaliser: Pair | None) -> _Row:
        outputs = references.given_to(run, index)
        wanted = {name: _wide(references.outputs[name][index]) for name in references.kinds}
        given = {name: np.asarray(outputs[name]) for name in wanted if name in outputs}
        if not all(
            name in given and given[name].shape == (1, *want.shape) and np.isfinite(given[name]).all()
            for name, want in wanted.items()
        ):
            broken = dict.fromkeys(wanted, _ENDLESS)
            return cls(broken, dict.fromkeys(wanted, (math.inf, 1.0)), _ENDLESS, math.inf, True)
        found = {name: _wide(value[0]) for name, value in given.items()}
        main, kind = main_output(references.kinds)
        task_error = math.inf
        if normaliser is not None and references.truth is not None and kind.task_error is not None:
            task_error = kind.task_error(found[main], _wide(references.truth[index]), normaliser)
        return cls(
            {
                name: _Errors.of(np.asarray(kind_of(decode).error(found[name], wanted[name])))
                for name, decode in references.kinds.items()
            },
            {
                name: (float(np.abs(found[name] - want).max()), float(np.abs(want).max()))
                for name, want in wanted.items()
            },
            _Errors.of(kind.distance(found[main], wanted[main])),
            task_error,
            False,
        )


def _wide(value: Array | Pixels) -> Errors:
    return np.asarray(value, np.float64)


def _spread(errors: Sequence[_Errors], relative: float | None = None) -> OutputParity:
    if not errors:
        return OutputParity(max_error=math.inf, mean_error=math.inf)
    total = sum(error.mean * error.values for error in errors)
    return OutputParity(
        max_error=max(error.largest for error in errors),
        mean_error=total / sum(error.values for error in errors),
        relative_error=relative,
    )


def _relative(rows: Sequence[tuple[float, float]]) -> float:
    """max|a - b| / max|a| of a raw output over all faces."""
    error, largest = max((row[0] for row in rows), default=math.inf), max((row[1] for row in rows), default=0.0)
    return error / largest if largest > 0 else (0.0 if error == 0 else math.inf)
