"""How each kind of output is compared with the reference's: one entry a decode, in `KINDS` at the end.

A stage has one main output, which its task is judged by: landmarks, a box, a picture, a mask, faces. Others come beside
it: a score, a head pose. `parity.compare`, `verdict.judge` and ``pocketface verify`` know outputs through this table
alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pocketface.benchmarks.metrics import face_errors
from pocketface.converters import detector_kind, mask_kind
from pocketface.sdk.errors import BadInputError
from pocketface.sdk.geometry import Crop
from pocketface.sdk.manifest import OutputSpec
from pocketface.sdk.postprocess import corrected_crop, normalised_points

Array: TypeAlias = NDArray[np.float32]
Errors: TypeAlias = NDArray[np.float64]
Pair: TypeAlias = tuple[int, int]

LANDMARKS = {"points": "normalised_points", "score": "face_logit"}
"""Outputs and decodes of our plain landmark networks: what is meant where no stage is named."""


def _as_it_is(value: Array, spec: OutputSpec, size: int) -> Array:
    return value


def _like_output(truth: NDArray[Any], shape: tuple[int, ...]) -> bool:
    return truth.shape == shape


def _difference(found: Errors, wanted: Errors) -> Errors:
    return np.abs(found - wanted)


@dataclass(frozen=True)
class Kind:
    """One kind of output. Arrays are of one face, without the batch's side, in float64.

    Attributes:
        role: ``main`` for what the stage is for; ``score`` for a probability and ``pose`` for head angles, which come
            beside it and may have a bound of their own.
        unit: of ``error``, which ``Tolerances.max_tensor_error`` bounds.
        what: what that error is of, for print-outs.
        fits: whether a shape, without the batch's side, is one of this kind.
        error: (found, wanted) -> errors, elementwise.
        in_units: raw output of batch 1, its spec, S -> the output as the other functions take it.
        distance: of a main output: (found, wanted) -> what ``Parity.max_pixel_error`` and ``golden_error`` are made of.
        distance_name, pixel: its name and the unit of ``max_pixel_error``.
        pixels: S -> how many of these one unit of distance is.
        task: name of the task error: percent, lower is better. ``Parity.nme`` holds it, ``max_nme_increase`` bounds it.
        task_error: (found, truth, normaliser) -> the task error of one face, in percent.
        truth: what the truth of N faces looks like, for messages.
        truth_fits: whether an array is the truth of outputs of shape (N, ...).
    """

    role: Literal["main", "score", "pose"]
    unit: str
    what: str
    fits: Callable[[tuple[int, ...]], bool]
    error: Callable[[Errors, Errors], Errors] = _difference
    in_units: Callable[[Array, OutputSpec, int], Array] = _as_it_is
    distance: Callable[[Errors, Errors], Errors] = _difference
    distance_name: str = ""
    pixel: str = "px"
    pixels: Callable[[int], float] = float
    task: str = ""
    task_error: Callable[[Errors, Errors, Pair], float] | None = None
    truth: str = "of the output's shape"
    truth_fits: Callable[[NDArray[Any], tuple[int, ...]], bool] = _like_output


def kind_of(decode: str) -> Kind:
    """The entry of a decode.

    Raises:
        BadInputError: outputs of this kind cannot be compared.
    """
    if decode not in KINDS:
        raise BadInputError(f"no comparison for outputs that decode as {decode!r}", choices=KINDS)
    return KINDS[decode]


def kinds_of(outputs: tuple[OutputSpec, ...]) -> dict[str, str]:
    """Output name -> decode, the main output first."""
    found = {spec.name: spec.decode for spec in outputs}
    return dict(sorted(found.items(), key=lambda item: kind_of(item[1]).role != "main"))


def main_output(kinds: Mapping[str, str]) -> tuple[str, Kind]:
    """Name and kind of the output that the task is judged by.

    Raises:
        BadInputError: there is not exactly one.
    """
    found = [name for name, decode in kinds.items() if kind_of(decode).role == "main"]
    if len(found) != 1:
        mains = [decode for decode, kind in KINDS.items() if kind.role == "main"]
        raise BadInputError(
            f"outputs {', '.join(f'{name} ({decode})' for name, decode in kinds.items()) or 'none'}",
            expected=f"exactly one of {', '.join(mains)}",
        )
    return found[0], kind_of(kinds[found[0]])


def probability(logit: NDArray[np.floating[Any]]) -> Errors:
    """Sigmoid, without overflow at either end."""
    return 0.5 * (1 + np.tanh(0.5 * np.asarray(logit, np.float64)))


def corners(correction: Errors) -> Errors:
    """Corners of a corrected box.

    Args:
        correction: (4,): dx, dy in sides of the crop, sw, sh factors on its side (RULe, eq 1), clipped as the runtime
            does.

    Returns:
        (4, 2): left-top, right-top, right-bottom, left-bottom, in crop coordinates u; the crop itself spans
        [-0.5, 0.5].
    """
    box, _ = corrected_crop(correction, Crop(0, 0, 1))
    return np.array([(box.x0, box.y0), (box.x1, box.y0), (box.x1, box.y1), (box.x0, box.y1)])


def _probability_error(found: Errors, wanted: Errors) -> Errors:
    return np.abs(probability(found) - probability(wanted))


def _point_distance(found: Errors, wanted: Errors) -> Errors:
    return np.asarray(np.linalg.norm(found - wanted, axis=-1))


def _nme(found: Errors, truth: Errors, normaliser: Pair) -> float:
    return 100 * float(face_errors(found[None], truth[None], normaliser)[0])


def _corner_error(found: Errors, wanted: Errors) -> Errors:
    return np.abs(corners(found) - corners(wanted))


def _corner_distance(found: Errors, wanted: Errors) -> Errors:
    return _point_distance(corners(found), corners(wanted))


def _box_error(found: Errors, truth: Errors, normaliser: Pair) -> float:
    return 100 * float(_corner_distance(found, truth).mean() / truth[2:].max())


def _image_error(found: Errors, truth: Errors, normaliser: Pair) -> float:
    return 100 * float(np.abs(found - truth).mean())


def _are_points(shape: tuple[int, ...]) -> bool:
    return len(shape) == 2 and shape[1] == 2


def _is_one(shape: tuple[int, ...]) -> bool:
    return shape == ()


def _are_angles(shape: tuple[int, ...]) -> bool:
    return shape == (3,)


def _is_correction(shape: tuple[int, ...]) -> bool:
    return shape == (4,)


def _is_image(shape: tuple[int, ...]) -> bool:
    return len(shape) == 3 and shape[0] == 3


def _grey_levels(size: int) -> float:
    return 255.0


_POINTS = Kind(
    role="main",
    unit="crop sides",
    what="coordinates",
    fits=_are_points,
    in_units=normalised_points,
    distance=_point_distance,
    distance_name="landmark distance",
    task="NME",
    task_error=_nme,
)

KINDS: dict[str, Kind] = {
    "normalised_points": _POINTS,
    "unit_points": _POINTS,
    "pixel_points": _POINTS,
    "face_logit": Kind(role="score", unit="probability", what="probability", fits=_is_one, error=_probability_error),
    "head_pose": Kind(role="pose", unit="degrees / 90", what="degrees / 90", fits=_are_angles),
    # Mean distance of the four corners to the true box's, in percent of the true box's longer side.
    "box_correction": Kind(
        role="main",
        unit="crop sides",
        what="corners",
        fits=_is_correction,
        error=_corner_error,
        distance=_corner_distance,
        distance_name="corner distance",
        task="box error",
        task_error=_box_error,
    ),
    # Mean absolute difference to the clean picture, in percent of full scale.
    "unit_image": Kind(
        role="main",
        unit="of full scale",
        what="values in [0, 1]",
        fits=_is_image,
        distance_name="pixel difference",
        pixel="grey levels",
        pixels=_grey_levels,
        task="image error",
        task_error=_image_error,
    ),
    "class_logits": Kind(
        role="main",
        unit="probability",
        what="class probabilities",
        fits=mask_kind.is_mask,
        error=mask_kind.mask_probability_error,
        distance=mask_kind.mask_probability_error,
        distance_name="probability difference",
        pixel="grey levels",
        pixels=_grey_levels,
        task="mIoU error",
        task_error=mask_kind.miou_error,
        truth="of classes or 255, (N, M, M), some class in each",
        truth_fits=mask_kind.are_labels,
    ),
    # Faces that are missed are counted on pictures (benchmarks/detection.py), not here.
    "anchor_faces": Kind(
        role="main",
        unit="probability or crop sides",
        what="probabilities, and coordinates where faces are",
        fits=detector_kind.are_anchors,
        error=detector_kind.face_error,
        distance=detector_kind.face_distance,
        distance_name="coordinate difference",
        task="box error",
    ),
}
"""Decode -> how outputs of that kind are compared. To compare a new kind, add its entry."""
