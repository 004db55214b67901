"""Golden cases against this runtime's own preprocessing and decoding: does it still make of the images what is
recorded?
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pocketface.converters.kinds import Array
from pocketface.converters.states import Before, begins
from pocketface.converters.steps import Step, follow
from pocketface.sdk.errors import BundleError
from pocketface.sdk.geometry import Box
from pocketface.sdk.manifest import Stage

MAX_INPUT_ERROR = 1e-4
"""Of a golden case's network input made from its image again, in units of the normalised input."""
MAX_PIXEL_ERROR, MAX_PIXEL_SHARE = 1.0, 0.01
"""Of a golden case's input of uint8 pixels made again: a few may lie halfway between two values and round either way
on another processor."""
DECODED: dict[str, tuple[str, float, str]] = {
    "points": ("decoded landmarks", 1e-2, " px"),
    "score": ("decoded score", MAX_INPUT_ERROR, ""),
    "pose": ("decoded head pose", 1e-2, " degrees"),
    "box": ("decoded box", 1e-2, " px"),
    "faces": ("decoded faces", 1e-2, " px"),
    "image": ("decoded picture", 1e-2, " grey levels"),
    "probabilities": ("decoded class probabilities", MAX_INPUT_ERROR, ""),
}
"""What a step decodes to -> its name, the largest error when it is decoded again, and the unit."""
MAX_LABEL_SHARE = 1e-3
"""Of a decoded mask's pixels: between two classes that are nearly as probable, rounding decides."""


def golden_problems(cases: Sequence[Mapping[str, NDArray[Any]]], stages: Stage | Sequence[Stage]) -> list[str]:
    """Whether this runtime's preprocessing and decoding still give what is recorded, at every step.

    Args:
        cases: see ``reference.golden_case``.
        stages: theirs, in the order in which they run.
    """
    chain = [stages] if isinstance(stages, Stage) else list(stages)
    problems: list[str] = []
    followed, last = 0, chain[-1]
    for number, case in enumerate(cases):
        box = Box(*(float(value) for value in case["box"]))

        def recorded(
            step: int, stage: Stage, _: object, __: object, case: Mapping[str, Array] = case
        ) -> dict[str, Array]:
            return {spec.name: case[f"step{step}.output.{spec.name}"] for spec in stage.outputs}

        try:
            # What is not fed the beginning is fed what the case before hands on.
            follows = bool(last.states and number and not begins(last, case))
            followed += follows
            before = Before.of_case(cases[number - 1], last) if follows else None
            for step in follow(case["image"], box, chain, recorded, before):
                where = f"golden case {number}" + (f", stage {step.stage.name}" if len(chain) > 1 else "")
                problems += [
                    f"{where}: {text}" for text in (*_input_problems(step, case), *_decode_problems(step, case))
                ]
        except BundleError as error:  # a recorded output that cannot be decoded
            problems.append(f"golden case {number}: {error.what}")
    if last.states and not followed:
        problems.append(f"no golden case is fed what another one hands on, though {last.name} has a state")
    return problems


def _input_problems(step: Step, case: Mapping[str, NDArray[Any]]) -> list[str]:
    """How a network input differs from the recorded one, beyond rounding."""
    recorded = case[f"step{step.number}.input.{step.stage.inputs[0].name}"]
    # In float64: uint8 pixels would wrap around.
    errors = np.abs(step.tensor.astype(np.float64) - recorded)
    bound = MAX_PIXEL_ERROR if step.tensor.dtype == np.uint8 else MAX_INPUT_ERROR
    found = []
    for name, value in step.others.items():
        error = float(np.abs(value - case[f"step{step.number}.input.{name}"]).max())
        if not error <= MAX_INPUT_ERROR:
            found.append(f"input {name!r}, handed on from the case before, off by {error:.3g} > {MAX_INPUT_ERROR:g}")
    if not errors.max() <= bound:
        found.append(f"network input off by {errors.max():.3g} > {bound:g}")
    elif step.tensor.dtype == np.uint8 and (errors > 0).mean() > MAX_PIXEL_SHARE:
        found.append(f"{100 * (errors > 0).mean():.3g} % of the input's pixels are off > {100 * MAX_PIXEL_SHARE:g} %")
    return found


def _decode_problems(step: Step, case: Mapping[str, NDArray[Any]]) -> list[str]:
    """How a decoded result differs from the recorded one, beyond rounding."""
    found = []
    for name, value in step.decoded.items():
        if name == "labels":
            found += _label_problems(value, case.get(f"step{step.number}.decoded.labels"))
            continue
        text, bound, unit = DECODED[name]
        recorded = case.get(f"step{step.number}.decoded.{name}")
        if recorded is None or recorded.shape != value.shape:
            found.append(f"{text} {value.shape} not recorded")
            continue
        error = float(np.abs(value.astype(np.float64) - recorded).max())
        if not error <= bound:
            found.append(f"{text} off by {error:.3g} > {bound:g}{unit}")
    return found


def _label_problems(labels: NDArray[Any], recorded: NDArray[Any] | None) -> list[str]:
    if recorded is None or recorded.shape != labels.shape:
        return [f"decoded labels {labels.shape} not recorded"]
    share = float((labels != recorded).mean())
    if share <= MAX_LABEL_SHARE:
        return []
    return [f"{100 * share:.3g} % of the decoded labels are off > {100 * MAX_LABEL_SHARE:g} %"]
