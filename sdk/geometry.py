"""Boxes, crops, and the one coordinate frame everything shares.

Pixel (i, j) has its centre at (i, j), so a W x H image spans [-0.5, W - 0.5] x [-0.5, H - 0.5]. Boxes are edges in
that frame. Normalised coordinates u in [-0.5, 0.5] span a crop's edges: crop pixel = (u + 0.5) * size - 0.5.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pocketface.sdk.errors import BadInputError

GROUND_TRUTH_SCALE = 1.25
"""Side of the ground-truth box over the longer side of the landmarks' bounding box."""


class Box(NamedTuple):
    """Edges of an axis-aligned rectangle, in pixels of the original image."""

    x0: float
    y0: float
    x1: float
    y1: float

    @property
    def width(self) -> float:
        return self.x1 - self.x0

    @property
    def height(self) -> float:
        return self.y1 - self.y0

    def checked(self, image_size: tuple[int, int] | None = None) -> Box:
        """Return the box itself if it is usable.

        Args:
            image_size: (width, height) of the image it must overlap, if there is one.

        Raises:
            BadInputError: a coordinate is not finite, the box has no area, or it lies outside the image.
        """
        if not all(math.isfinite(value) for value in self):
            raise BadInputError(f"box {self.text()} has a coordinate that is not a number", next="Give x0,y0,x1,y1")
        if self.width <= 0 or self.height <= 0:
            raise BadInputError(
                f"box {self.text()} has no area",
                expected="x0 < x1 and y0 < y1",
                next="Give x0,y0,x1,y1 in pixels, left-top corner first",
            )
        if image_size is not None:
            width, height = image_size
            if self.x1 <= -0.5 or self.y1 <= -0.5 or self.x0 >= width - 0.5 or self.y0 >= height - 0.5:
                raise BadInputError(
                    f"box {self.text()} lies outside the image of {width} x {height} pixels",
                    next="Give a box in pixels of this image, or none to use the whole image",
                )
        return self

    def text(self) -> str:
        """The box as it is typed on the command line."""
        return ",".join(f"{value:g}" for value in self)

    @classmethod
    def of_image(cls, width: int, height: int) -> Box:
        """The whole image, edge to edge."""
        return cls(-0.5, -0.5, width - 0.5, height - 0.5)

    @classmethod
    def around(cls, points: ArrayLike, scale: float = GROUND_TRUTH_SCALE) -> Box:
        """The square around landmarks: same centre as their bounding box, side ``scale`` x its longer side.

        Args:
            points: (n, 2) pixels.
            scale: 1.25 is the ground-truth box of every figure we report.
        """
        xy = np.asarray(points, np.float64)
        low, high = xy.min(axis=0), xy.max(axis=0)
        (cx, cy), half = (low + high) / 2, float((high - low).max()) * scale / 2
        return cls(float(cx - half), float(cy - half), float(cx + half), float(cy + half))


def iou(boxes: ArrayLike, others: ArrayLike) -> NDArray[np.float64]:
    """Intersection over union of boxes.

    Args:
        boxes, others: (..., 4) x0, y0, x1, y1 each, in the same convention; they are broadcast against each other.

    Returns:
        (...) in [0, 1]; 0 where neither has an area.
    """
    a, b = np.asarray(boxes, np.float64), np.asarray(others, np.float64)
    width = np.minimum(a[..., 2], b[..., 2]) - np.maximum(a[..., 0], b[..., 0])
    height = np.minimum(a[..., 3], b[..., 3]) - np.maximum(a[..., 1], b[..., 1])
    shared = np.maximum(width, 0) * np.maximum(height, 0)
    union = _area(a) + _area(b) - shared
    return np.asarray(np.divide(shared, union, out=np.zeros(np.shape(shared)), where=union > 0))


def _area(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.maximum(boxes[..., 2] - boxes[..., 0], 0) * np.maximum(boxes[..., 3] - boxes[..., 1], 0))


@dataclass(frozen=True)
class Crop:
    """A rotated square of the image.

    Attributes:
        cx, cy: centre, in pixels of the original image.
        side: side length in pixels of the original image, > 0.
        angle: degrees by which the crop's x axis is turned from the image's x axis towards its y axis (clockwise as
            seen).
    """

    cx: float
    cy: float
    side: float
    angle: float = 0.0

    @classmethod
    def from_box(cls, box: Box, scale: float = 1.0, angle: float = 0.0) -> Crop:
        """The square around a box: same centre, side ``scale`` x its longer side."""
        return cls((box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2, max(box.width, box.height) * scale, angle)

    @property
    def box(self) -> Box:
        """Its edges, along its own axes: the square of the image that it is, unless it is turned."""
        half = self.side / 2
        return Box(self.cx - half, self.cy - half, self.cx + half, self.cy + half)

    def _axes(self) -> NDArray[np.float64]:
        radians = math.radians(self.angle)
        cos, sin = math.cos(radians), math.sin(radians)
        return np.array([[cos, sin], [-sin, cos]]) * self.side  # rows: the crop's x and y axis, in image pixels

    def to_image(self, normalised: ArrayLike) -> NDArray[np.float32]:
        """(n, 2) normalised crop coordinates -> (n, 2) float32 pixels of the original image."""
        return (np.asarray(normalised, np.float64) @ self._axes() + (self.cx, self.cy)).astype(np.float32)

    def to_normalised(self, points: ArrayLike) -> NDArray[np.float32]:
        """(n, 2) pixels of the original image -> (n, 2) float32 normalised crop coordinates."""
        offset = np.asarray(points, np.float64) - (self.cx, self.cy)
        return (offset @ np.linalg.inv(self._axes())).astype(np.float32)
