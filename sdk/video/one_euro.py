"""The One-Euro filter: landmarks that stand still when the face does, and keep up when it moves.

Casiez, Roussel, Vogel, "1 Euro Filter: A Simple Speed-based Low-pass Filter for Noisy Input in Interactive Systems",
CHI 2012, algorithm 1. With the time T between two samples, each coordinate x by itself:

    alpha(f) = 1 / (1 + tau / T),  tau = 1 / (2 pi f)             smoothing factor of a cut-off f (equations 3 to 5)
    v_i  = (x_i - y_(i-1)) / T                                    speed, against the filtered value before
    w_i  = alpha(f_d) v_i + (1 - alpha(f_d)) w_(i-1)              the speed, smoothed; w_0 = 0
    f_i  = f_min + beta |w_i| / s                                 cut-off
    y_i  = alpha(f_i) x_i + (1 - alpha(f_i)) y_(i-1)              y_0 = x_0

The paper has no s: it is the face's size, so that a speed counts in faces a second and the same parameters fit a small
face and a large one, a small picture and a large one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pocketface.sdk.errors import BadInputError


@dataclass(frozen=True)
class OneEuroSettings:
    """Parameters of the filter.

    Attributes:
        min_cutoff: f_min in Hz, > 0: lower is steadier and later on a face that rests.
        beta: >= 0, in Hz per (face size / second): higher keeps up better with a face that moves.
        speed_cutoff: f_d in Hz, > 0; the paper's is 1.
    """

    min_cutoff: float
    beta: float
    speed_cutoff: float = 1.0

    def __post_init__(self) -> None:
        for name, low in (("min_cutoff", 0), ("beta", None), ("speed_cutoff", 0)):
            value = getattr(self, name)
            if not math.isfinite(value) or value < 0 or value == low:
                raise BadInputError(
                    f"{name} {value!r}", expected="a number of 0 or more" if low is None else "a number above 0"
                )


class OneEuro:
    """Filters the landmarks of one face, sample after sample.

    Args:
        settings: of the filter.
    """

    def __init__(self, settings: OneEuroSettings) -> None:
        self.settings = settings
        self.reset()

    def reset(self) -> None:
        """Forget everything: the next sample comes out as it is."""
        self._value: NDArray[np.float64] | None = None
        self._speed: NDArray[np.float64] | None = None
        self._time = -math.inf

    def __call__(self, points: ArrayLike, time: float, size: float) -> NDArray[np.float32]:
        """Take one sample.

        Args:
            points: (n, 2) pixels.
            time: in seconds, later than that of the sample before; the steps need not be equal.
            size: of the face in pixels, > 0: the longer side of the landmarks' bounding box.

        Returns:
            (n, 2) float32, filtered.

        Raises:
            BadInputError: the time does not pass, the size is not above 0, a point is not finite, or there are not as
                many points as before.
        """
        x = np.asarray(points, np.float64)
        if not math.isfinite(time) or not time > self._time:
            raise BadInputError(
                f"a sample at {time} s after one at {self._time} s", expected="a later time", next="Reset the filter"
            )
        if not (math.isfinite(size) and size > 0) or not np.isfinite(x).all():
            raise BadInputError(f"a face of size {size}, or points that are not finite", expected="a size above 0")
        if self._value is None or self._speed is None:
            self._value, self._speed = x, np.zeros_like(x)
        elif x.shape != self._value.shape:
            raise BadInputError(
                f"points of shape {x.shape}", expected=f"{self._value.shape}, as before", next="Reset the filter"
            )
        else:
            step = time - self._time
            share = smoothing_factor(self.settings.speed_cutoff, step)
            self._speed = share * (x - self._value) / step + (1 - share) * self._speed
            cutoff = self.settings.min_cutoff + self.settings.beta * np.abs(self._speed) / size
            alpha = smoothing_factor(cutoff, step)
            self._value = alpha * x + (1 - alpha) * self._value
        self._time = time
        return self._value.astype(np.float32)


def smoothing_factor(cutoff: ArrayLike, step: float) -> NDArray[np.float64]:
    """alpha of a cut-off in Hz for a step in seconds, in (0, 1)."""
    turns = 2 * math.pi * np.asarray(cutoff, np.float64) * step
    return np.asarray(turns / (1 + turns))
