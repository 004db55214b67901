"""Golden cases against this runtime's own preprocessing and decoding: does it still make of the images what is
recorded?
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pocketface.converters.reference import preprocess
from pocketface.sdk.geometry import Box, Crop
from pocketface.sdk.manifest import Stage
from pocketface.sdk.postprocess import decode

MAX_INPUT_ERROR = 1e-4
"""Of a golden case's network input made from its image again, in units of the normalised input."""
MAX_PIXEL_ERROR, MAX_PIXEL_SHARE = 1.0, 0.01
"""Of a golden case's input of uint8 pixels made again: a few may lie halfway between two values and round either way
on another processor."""
MAX_DECODE_ERROR = 1e-2
"""Of a golden case's landmarks decoded again, in pixels of its image."""


def golden_problems(cases: list[dict[str, NDArray[Any]]], stage: Stage) -> list[str]:
    """Whether this runtime's preprocessing and decoding still give what is recorded."""
    problems = []
    for number, case in enumerate(cases):
        crop = Crop.from_box(Box(*(float(value) for value in case["box"])), stage.preprocess.box_scale)
        tensor = preprocess(case["image"], crop, stage.preprocess)
        problems += [f"golden case {number}: {text}" for text in _input_problems(tensor, case, stage)]
        outputs = {spec.name: case[f"step0.output.{spec.name}"] for spec in stage.outputs}
        decoded = decode(outputs, stage, crop)
        error = float(np.abs(decoded.points - case["step0.decoded.points"]).max())
        if not error <= MAX_DECODE_ERROR:
            problems.append(f"golden case {number}: decoded landmarks off by {error:.3g} > {MAX_DECODE_ERROR:g} px")
        error = 0.0 if decoded.score is None else abs(decoded.score - float(case["step0.decoded.score"]))
        if not error <= MAX_INPUT_ERROR:
            problems.append(f"golden case {number}: decoded score off by {error:.3g} > {MAX_INPUT_ERROR:g}")
    return problems


def _input_problems(tensor: NDArray[Any], case: Mapping[str, NDArray[Any]], stage: Stage) -> list[str]:
    """How a network input differs from the recorded one, beyond rounding."""
    # In float64: uint8 pixels would wrap around.
    errors = np.abs(tensor.astype(np.float64) - case[f"step0.input.{stage.inputs[0].name}"])
    bound = MAX_PIXEL_ERROR if tensor.dtype == np.uint8 else MAX_INPUT_ERROR
    found = []
    if not errors.max() <= bound:
        found.append(f"network input off by {errors.max():.3g} > {bound:g}")
    elif tensor.dtype == np.uint8 and (errors > 0).mean() > MAX_PIXEL_SHARE:
        found.append(f"{100 * (errors > 0).mean():.3g} % of the input's pixels are off > {100 * MAX_PIXEL_SHARE:g} %")
    return found
