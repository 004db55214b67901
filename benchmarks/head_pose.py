"""Head pose error, from predicted and true angles: the mean absolute difference over the three Euler angles (RULe,
section IV-B). Plain numpy."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pocketface.sdk.errors import BadInputError

ANGLES = ("yaw", "pitch", "roll")


@dataclass(frozen=True)
class PoseAccuracy:
    """Head pose accuracy over a set of faces, degrees.

    Attributes:
        faces: how many.
        mae: mean of the three below, the figure of RULe's Table I.
        yaw, pitch, roll: mean absolute difference of each angle.
    """

    faces: int
    mae: float
    yaw: float
    pitch: float
    roll: float

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self)

    def __str__(self) -> str:
        return (
            f"pose MAE {self.mae:.2f} deg  (yaw {self.yaw:.2f}, pitch {self.pitch:.2f}, roll {self.roll:.2f}; "
            f"{self.faces} faces)"
        )


def angle_errors(pred: ArrayLike, truth: ArrayLike) -> NDArray[np.float64]:
    """Absolute difference of each angle, the short way round: 359 and 1 degree are 2 apart.

    Args:
        pred, truth: (N, 3) degrees, yaw, pitch, roll.

    Returns:
        (N, 3) degrees, in [0, 180].

    Raises:
        BadInputError: no face, shapes that differ, or a value that is not finite.
    """
    got, want = np.asarray(pred, np.float64), np.asarray(truth, np.float64)
    if got.shape != want.shape or want.ndim != 2 or want.shape[1:] != (3,):
        raise BadInputError(
            f"predicted angles of shape {got.shape} against truth of shape {want.shape}", expected="(N, 3) twice"
        )
    if want.size == 0:
        raise BadInputError("no angles to measure", expected="at least one face")
    for name, values in (("prediction", got), ("truth", want)):
        if not np.isfinite(values).all():
            face, angle = np.argwhere(~np.isfinite(values))[0]
            raise BadInputError(
                f"{name} of face {face}: {ANGLES[angle]} is {values[face, angle]}", expected="finite degrees"
            )
    return np.abs((got - want + 180) % 360 - 180)


def summarise_pose(pred: ArrayLike, truth: ArrayLike) -> PoseAccuracy:
    """Head pose figures of a set of faces. Arguments and errors as ``angle_errors``."""
    errors = angle_errors(pred, truth)
    yaw, pitch, roll = (float(value) for value in errors.mean(axis=0))
    return PoseAccuracy(faces=len(errors), mae=float(errors.mean()), yaw=yaw, pitch=pitch, roll=roll)
