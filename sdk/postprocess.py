"""From a network's raw outputs to landmarks in pixels and, where it gives one, a probability. Nothing else decodes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pocketface.sdk.errors import BundleError
from pocketface.sdk.geometry import Crop
from pocketface.sdk.manifest import OutputSpec, Stage


class Decoded(NamedTuple):
    """``points``: (n, 2) float32 pixels of the original image. ``score``: probability of a face, in [0, 1]; None from a
    network that gives none."""

    points: NDArray[np.float32]
    score: float | None


def decode(outputs: Mapping[str, NDArray[np.float32]], stage: Stage, crop: Crop) -> Decoded:
    """Decode the outputs of a landmark stage, each as its ``OutputSpec`` says.

    Args:
        outputs: contract name -> array of the contract's shape.
        stage: the stage that gave them.
        crop: where in the original image the network looked.

    Raises:
        BundleError: an output is missing, has another shape than the contract says, or holds NaN or infinity.
    """
    points: NDArray[np.float32] | None = None
    score: float | None = None
    for spec in stage.outputs:
        value = _checked(outputs, spec.name, spec.shape)
        if spec.decode == "face_logit":
            score = sigmoid(float(value.reshape(())))
        else:
            points = crop.to_image(normalised_points(value, spec, stage.preprocess.size)[0])
    if points is None:
        raise BundleError(
            f"stage {stage.name!r} decodes to {', '.join(spec.decode for spec in stage.outputs) or 'nothing'}",
            expected="landmarks",
            next="Build the bundle again",
        )
    return Decoded(points, score)


def normalised_points(value: NDArray[np.float32], spec: OutputSpec, size: int) -> NDArray[np.float32]:
    """Raw landmarks in crop coordinates u in [-0.5, 0.5], whatever units the network gives them in.

    Args:
        value: (..., n, 2) float32, as ``spec`` says.
        spec: the landmark output.
        size: side of the network's input, in pixels.
    """
    if spec.decode == "unit_points":
        return value - np.float32(0.5)
    if spec.decode == "pixel_points":
        return (value + np.float32(0.5)) / np.float32(size) - np.float32(0.5)
    return value


def in_contract_shape(outputs: Mapping[str, NDArray[np.float32]], stage: Stage) -> dict[str, NDArray[np.float32]]:
    """A backend's outputs with the contract's shapes: a file may have its landmarks flat, its score with one more side
    of 1. What does not fit is left as it is, for ``decode`` to refuse.
    """
    shapes = {spec.name: spec.shape for spec in stage.outputs}
    return {
        name: value.reshape(shapes[name]) if name in shapes and value.size == math.prod(shapes[name]) else value
        for name, value in outputs.items()
    }


def sigmoid(logit: float) -> float:
    """1 / (1 + exp(-x)), without overflow at either end."""
    small = math.exp(-abs(logit))
    return 1 / (1 + small) if logit >= 0 else small / (1 + small)


def _checked(outputs: Mapping[str, NDArray[np.float32]], name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    if name not in outputs:
        raise BundleError(f"output {name!r} is missing", choices=sorted(outputs), next="Build the bundle again")
    value = outputs[name]
    if value.shape != shape:
        raise BundleError(
            f"output {name!r} has shape {value.shape}", expected=str(shape), next="Build the bundle again"
        )
    if not np.isfinite(value).all():
        raise BundleError(
            f"output {name!r} holds NaN or infinity", next="Use another variant: pocketface inspect BUNDLE"
        )
    return value
