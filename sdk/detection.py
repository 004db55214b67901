"""Where the faces are: what every detector gives, and what takes one asks for.

image --Detector--> [Detection] --box, in the contract's convention--> Predictor, Tracker
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pocketface.sdk.geometry import Box


@dataclass(frozen=True, eq=False)
class Detection:
    """One face that was found.

    Attributes:
        box: in the contract's convention, whatever the detector's own is: a square of 1.25 x the longer side of the
            landmarks' bounding box.
        score: how sure the detector is, in [0, 1].
        angle: degrees by which the face is turned in the picture, clockwise as seen; 0 where the detector does not say.
    """

    box: Box
    score: float
    angle: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """As plain lists and numbers, for JSON."""
        return {"box": [float(value) for value in self.box], "score": float(self.score), "angle": float(self.angle)}

    def __str__(self) -> str:
        return f"face at {self.box.text()}, score {self.score:.3f}"


class Detector(Protocol):
    """Finds faces in a picture."""

    def __call__(self, image: NDArray[np.uint8], /) -> list[Detection]:
        """(H, W, 3) uint8 RGB -> the faces in it, the surest first; none is no error."""
        ...
