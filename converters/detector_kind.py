"""How a detector's outputs are compared: as far as they are faces. What an anchor of the background says of a box is
never looked at, so it counts as little as its probability.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_Errors = NDArray[np.float64]


def face_error(found: _Errors, wanted: _Errors) -> _Errors:
    """(N, 5 + 2K) twice -> (N, 5 + 2K): differences of the face probability, and of coordinates, in crop sides, times
    the reference's probability.
    """
    return np.concatenate((np.abs(_sigmoid(found[:, :1]) - _sigmoid(wanted[:, :1])), face_distance(found, wanted)), 1)


def face_distance(found: _Errors, wanted: _Errors) -> _Errors:
    """(N, 5 + 2K) twice -> (N, 4 + 2K): what ``face_error`` says of coordinates."""
    return np.abs(found[:, 1:] - wanted[:, 1:]) * _sigmoid(wanted[:, :1])


def are_anchors(shape: tuple[int, ...]) -> bool:
    """Whether it is (N, 5 + 2K)."""
    return len(shape) == 2 and shape[1] >= 5 and shape[1] % 2 == 1


def _sigmoid(logits: _Errors) -> _Errors:
    return np.asarray(0.5 * (1 + np.tanh(0.5 * logits)))
