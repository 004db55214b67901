"""What the runtime returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec
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
        pose: yaw (> 0: the face looks to the image's right), pitch (> 0: up), roll (> 0: clockwise as seen) in degrees;
            None from a network that gives none.
        crop_box: the square that the landmark network was shown, where a relocalize stage corrected the box.
    """

    points: NDArray[np.float32]
    score: float | None
    box: Box
    scheme: str
    pose: tuple[float, float, float] | None = None
    crop_box: Box | None = None

    def to_dict(self) -> dict[str, Any]:
        """As plain lists and numbers, for JSON; ``pose`` and ``crop_box`` only where there are any."""
        values: dict[str, Any] = {
            "scheme": self.scheme,
            "score": None if self.score is None else float(self.score),
            "box": [float(value) for value in self.box],
            "points": self.points.astype(float).tolist(),
        }
        if self.pose is not None:
            values["pose"] = dict(zip(("yaw", "pitch", "roll"), map(float, self.pose), strict=True))
        if self.crop_box is not None:
            values["crop_box"] = [float(value) for value in self.crop_box]
        return values

    def __str__(self) -> str:
        (x0, y0), (x1, y1) = self.points.min(axis=0), self.points.max(axis=0)
        score = "no score" if self.score is None else f"score {self.score:.3f}"
        text = f"{len(self.points)} points ({self.scheme}), {score}, x {x0:.1f} to {x1:.1f}, y {y0:.1f} to {y1:.1f}"
        if self.pose is not None:
            text += ", yaw {:.1f}, pitch {:.1f}, roll {:.1f} degrees".format(*self.pose)
        return text


class Timings(msgspec.Struct, frozen=True, omit_defaults=True):
    """How long one call took, in milliseconds, all boxes together.

    Attributes:
        stages: of a chain, the same for each of its stages, by name; empty, and not written, for a single network.
    """

    pre_ms: float
    inference_ms: float
    post_ms: float
    stages: dict[str, Timings] = {}

    @property
    def total_ms(self) -> float:
        return self.pre_ms + self.inference_ms + self.post_ms

    def __str__(self) -> str:
        parts = f"pre {self.pre_ms:.2f}, inference {self.inference_ms:.2f}, post {self.post_ms:.2f}"
        each = "".join(f"; {name} {part.total_ms:.2f}" for name, part in self.stages.items())
        return f"{self.total_ms:.2f} ms ({parts}{each})"
