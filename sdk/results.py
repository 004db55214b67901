"""What the runtime returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pocketface.sdk.geometry import Box


@dataclass(frozen=True, eq=False)
class Landmarks:
    """One face.

    Attributes:
        points: (n, 2) float32, x and y in pixels of the original image.
        score: probability that the box holds a face, in [0, 1]; None from a network that gives none.
        box: the box it was looked for in.
        scheme: name of the landmark scheme, e.g. ``"ibug68"``.
    """

    points: NDArray[np.float32]
    score: float | None
    box: Box
    scheme: str

    def to_dict(self) -> dict[str, Any]:
        """As plain lists and numbers, for JSON."""
        return {
            "scheme": self.scheme,
            "score": None if self.score is None else float(self.score),
            "box": [float(value) for value in self.box],
            "points": self.points.astype(float).tolist(),
        }

    def __str__(self) -> str:
        (x0, y0), (x1, y1) = self.points.min(axis=0), self.points.max(axis=0)
        score = "no score" if self.score is None else f"score {self.score:.3f}"
        return f"{len(self.points)} points ({self.scheme}), {score}, x {x0:.1f} to {x1:.1f}, y {y0:.1f} to {y1:.1f}"


@dataclass(frozen=True)
class Timings:
    """How long one call took, in milliseconds, all boxes together."""

    pre_ms: float
    inference_ms: float
    post_ms: float

    @property
    def total_ms(self) -> float:
        return self.pre_ms + self.inference_ms + self.post_ms

    def __str__(self) -> str:
        parts = f"pre {self.pre_ms:.2f}, inference {self.inference_ms:.2f}, post {self.post_ms:.2f}"
        return f"{self.total_ms:.2f} ms ({parts})"
