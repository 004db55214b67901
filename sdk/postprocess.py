"""From a network's raw outputs to landmarks in pixels, a probability, a head pose; or, of an earlier stage of a chain,
to a corrected crop or a picture. A segmentation's logits become probabilities here, and those a mask of the original
image in masks.py. Nothing else decodes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pocketface.sdk.errors import BundleError
from pocketface.sdk.geometry import Box, Crop
from pocketface.sdk.manifest import OutputSpec, Stage
from pocketface.sdk.masks import labels_on_image as labels_on_image
from pocketface.sdk.masks import mask_on_image as mask_on_image

Values = TypeVar("Values", bound=NDArray[Any])

POSE_UNIT = 90.0
"""Degrees that a head pose output of 1 stands for."""

SCALES = (0.25, 4.0)
"""A relocalizer's factors are kept within: beyond them its crop would hold no face, or hardly a pixel of one."""

SHIFTS = (-1.0, 1.0)
"""A relocalizer's dx and dy are kept within, in sides of the crop: a face that the crop shows is never further off."""


class Decoded(NamedTuple):
    """``points``: (n, 2) float32 pixels of the original image. ``score``: probability of a face, in [0, 1]; None from a
    network that gives none. ``pose``: (3,) float32 yaw, pitch, roll in degrees, likewise."""

    points: NDArray[np.float32]
    score: float | None
    pose: NDArray[np.float32] | None = None


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
    pose: NDArray[np.float32] | None = None
    for spec in stage.outputs:
        value = checked_output(outputs, spec.name, spec.shape)
        if spec.decode == "face_logit":
            score = sigmoid(float(value.reshape(())))
        elif spec.decode == "head_pose":
            pose = head_pose(value, crop)
        elif spec.decode not in ("box_correction", "unit_image", "class_logits"):
            points = crop.to_image(normalised_points(value, spec, stage.preprocess.size)[0])
    if points is None:
        raise BundleError(
            f"stage {stage.name!r} decodes to {', '.join(spec.decode for spec in stage.outputs) or 'nothing'}",
            expected="landmarks",
            next="Build the bundle again",
        )
    return Decoded(points, score, pose)


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


def head_pose(value: NDArray[np.float32], crop: Crop) -> NDArray[np.float32]:
    """Raw head pose -> (3,) float32 yaw, pitch, roll in degrees, the roll as seen in the image.

    Args:
        value: (1, 3), in units of 90 degrees, as seen in the crop.
        crop: where the network looked; its own turn adds to the roll.
    """
    return value.reshape(3) * np.float32(POSE_UNIT) + np.array([0, 0, crop.angle], np.float32)


def corrected_crop(correction: ArrayLike, crop: Crop) -> tuple[Box, Crop]:
    """Move and scale a crop as a relocalize stage says (RULe, Dapogny et al., FG 2023, eq 1).

    The centre moves by dx, dy sides along the crop's axes; the new width is sw sides, the new height sh.

    Args:
        correction: (4,) or (1, 4): dx, dy, sw, sh. dx and dy are clipped to `SHIFTS`, the factors to `SCALES`.
        crop: where the stage looked.

    Returns:
        The corrected box, and the crop that the next stage looks at: the square of the box's longer side, turned as
        before. The box's edges are along the crop's axes, so they are the image's where the crop is not turned.

    Raises:
        BundleError: NaN or infinity.
    """
    dx, dy, sw, sh = (float(value) for value in _finite(np.asarray(correction, np.float64).reshape(4), "correction"))
    # From pixel to pixel in float64: to_image would round the centre.
    (cx, cy) = np.clip([dx, dy], *SHIFTS) @ crop._axes() + (crop.cx, crop.cy)
    width, height = (crop.side * min(max(factor, SCALES[0]), SCALES[1]) for factor in (sw, sh))
    box = Box(float(cx - width / 2), float(cy - height / 2), float(cx + width / 2), float(cy + height / 2))
    return box, Crop(float(cx), float(cy), max(width, height), crop.angle)


def unit_image(value: NDArray[np.float32]) -> NDArray[np.float32]:
    """What a uniformize stage gives -> (S, S, 3) float32 RGB in [0, 255], clipped, of the crop that it was shown.

    Args:
        value: (1, 3, S, S), in [0, 1].

    Raises:
        BundleError: NaN or infinity.
    """
    pixels = _finite(value, "image")[0].transpose(1, 2, 0) * np.float32(255)
    return np.ascontiguousarray(pixels.clip(0, 255), np.float32)


def class_probabilities(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Softmax over the classes, without overflow.

    Args:
        logits: (..., C, M, M) float32, finite.

    Returns:
        The same shape, float32 in [0, 1]; the sum over the classes is 1.
    """
    # In place throughout: this runs once a frame, over as many values as the network gives.
    shifted: NDArray[np.float32] = logits - logits.max(axis=-3, keepdims=True)
    np.exp(shifted, out=shifted)
    shifted /= shifted.sum(axis=-3, keepdims=True)
    return shifted


def decode_mask(outputs: Mapping[str, NDArray[np.float32]], stage: Stage) -> NDArray[np.float32]:
    """Decode the output of a segmentation stage.

    Returns:
        (C, M, M) float32 class probabilities, over the crop that it was shown.

    Raises:
        BundleError: the output is missing, has another shape than the contract says, or holds NaN or infinity; or the
            stage gives no mask.
    """
    for spec in stage.outputs:
        if spec.decode == "class_logits":
            return class_probabilities(checked_output(outputs, spec.name, spec.shape)[0])
    raise BundleError(
        f"stage {stage.name!r} decodes to {', '.join(spec.decode for spec in stage.outputs) or 'nothing'}",
        expected="class_logits",
        next="Take a segmentation bundle",
    )


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


def checked_output(
    outputs: Mapping[str, NDArray[np.float32]], name: str, shape: tuple[int, ...]
) -> NDArray[np.float32]:
    """An output of the contract's shape, with finite values.

    Raises:
        BundleError: it is missing, has another shape, or holds NaN or infinity.
    """
    if name not in outputs:
        raise BundleError(f"output {name!r} is missing", choices=sorted(outputs), next="Build the bundle again")
    value = outputs[name]
    if value.shape != shape:
        raise BundleError(
            f"output {name!r} has shape {value.shape}", expected=str(shape), next="Build the bundle again"
        )
    return _finite(value, name)


def _finite(value: Values, name: str) -> Values:
    if not np.isfinite(value).all():
        raise BundleError(
            f"output {name!r} holds NaN or infinity", next="Use another variant: pocketface inspect BUNDLE"
        )
    return value
