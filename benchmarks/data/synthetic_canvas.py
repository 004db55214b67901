"""A texture of a head to draw on, in the coordinates of the face plane."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw, ImageFilter

from pocketface.benchmarks.data.synthetic_shape import Array, Head

SKIN, HAIR, NOSE, LEFT_BROW_ID, RIGHT_BROW_ID, LEFT_EYE_ID, RIGHT_EYE_ID = 1, 2, 3, 4, 5, 6, 7
UPPER_LIP, LOWER_LIP, INNER_MOUTH = 8, 9, 10
_HALF_OR_MORE = [0] * 128 + [255] * 128


def tint(colour: Sequence[float], by: float = 1.0) -> tuple[int, int, int]:
    """A colour for Pillow, brighter by a factor."""
    r, g, b = colour
    return min(max(int(r * by), 0), 255), min(max(int(g * by), 0), 255), min(max(int(b * by), 0), 255)


def offset(x: float, y: float) -> Array:
    """A step in the face plane."""
    return np.array([x, y])


class Canvas:
    """Colour and label texture of one head, (height, width), and the means to draw on them in the face plane."""

    def __init__(self, head: Head, height: int, width: int, skin: NDArray[np.uint8]) -> None:
        self.head, self.size = head, (width, height)
        self.colour = Image.fromarray(skin).resize(self.size, Image.Resampling.BILINEAR)
        self.labels = Image.new("L", self.size, SKIN)
        self.unit = height / 4.3  # texels for one face half width, about
        self._pen = ImageDraw.Draw(self.colour)

    def texels(self, xy: ArrayLike, origin: tuple[float, float] = (0.0, 0.0)) -> list[float]:
        """Face-plane points (n, 2) -> x0, y0, x1, y1 ... for Pillow, which cuts coordinates down to whole texels."""
        theta, v = self.head.locate(xy)
        flat = np.empty(2 * len(v))
        flat[::2] = (theta * (0.5 / Head.REACH) + 0.5) * self.size[0] - origin[0]
        flat[1::2] = v * self.size[1] - origin[1]
        out: list[float] = flat.tolist()
        return out

    def label(self, xy: ArrayLike, value: int) -> None:
        """Give the inside of a polygon a label: the texels that lie in it by half or more."""
        fine = 4  # Pillow's own polygons are whole texels out, and count their edge as inside
        at = self.texels(xy)
        x0, y0 = max(int(min(at[::2])) - 1, 0), max(int(min(at[1::2])) - 1, 0)
        x1, y1 = min(int(max(at[::2])) + 2, self.size[0]), min(int(max(at[1::2])) + 2, self.size[1])
        mask = Image.new("L", ((x1 - x0) * fine, (y1 - y0) * fine))
        ImageDraw.Draw(mask).polygon([(k - (x0, y0)[n % 2]) * fine for n, k in enumerate(at)], fill=255)
        self.labels.paste(value, (x0, y0, x1, y1), mask.reduce(fine).point(_HALF_OR_MORE))

    def line(self, xy: ArrayLike, colour: Sequence[float], width: float) -> None:
        """A line of a width in face half widths, one texel at least."""
        self._pen.line(self.texels(xy), fill=tint(colour), width=max(1, round(width * self.unit)), joint="curve")

    def fill(
        self, xy: ArrayLike, colour: Sequence[float], *, opacity: float = 1.0, soft: float = 0.0, width: float = 0.0
    ) -> None:
        """Fill a polygon, or with ``width`` stroke a line, its edge softened over ``soft`` face half widths."""
        at = self.texels(xy)
        blur = soft * self.unit
        margin = int(3 * blur + width * self.unit + 2)
        x0, y0 = max(int(min(at[::2])) - margin, 0), max(int(min(at[1::2])) - margin, 0)
        x1, y1 = min(int(max(at[::2])) + margin, self.size[0]), min(int(max(at[1::2])) + margin, self.size[1])
        if x1 <= x0 or y1 <= y0:
            return
        mask = Image.new("L", (x1 - x0, y1 - y0))
        pen, local = ImageDraw.Draw(mask), [k - (x0, y0)[n % 2] for n, k in enumerate(at)]
        if width:
            pen.line(local, fill=int(255 * opacity), width=max(1, round(width * self.unit)), joint="curve")
        else:
            pen.polygon(local, fill=int(255 * opacity))
        if blur > 0.3:
            mask = mask.filter(ImageFilter.GaussianBlur(blur))
        self.colour.paste(tint(colour), (x0, y0, x1, y1), mask)

    def inside(self, xy: ArrayLike) -> tuple[tuple[int, int, int, int], Image.Image]:
        """Bounding box of a polygon on the texture, and its mask there."""
        at = self.texels(xy)
        box = int(min(at[::2])) - 1, int(min(at[1::2])) - 1, int(max(at[::2])) + 3, int(max(at[1::2])) + 3
        mask = Image.new("L", (box[2] - box[0], box[3] - box[1]))
        ImageDraw.Draw(mask).polygon([k - box[n % 2] for n, k in enumerate(at)], fill=255)
        return box, mask
