"""Draw results on a picture: stateless, each overlay returns a new image, so they chain.

>>> image = PointsOverlay()(ContoursOverlay(scheme)(image, faces), faces)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from pocketface.sdk.errors import BadInputError
from pocketface.sdk.images import check_array
from pocketface.sdk.manifest import Scheme
from pocketface.sdk.results import Landmarks, Mask

Colour = tuple[int, int, int]

YELLOW, CYAN, GREEN, RED, WHITE = (255, 214, 10), (64, 224, 255), (80, 220, 100), (255, 70, 70), (255, 255, 255)
_MAX_MASK_PIXELS = 64_000_000
_PALETTE = (RED, CYAN, YELLOW, GREEN, (214, 60, 150), (70, 110, 255), (255, 140, 40))


@dataclass(frozen=True)
class PointsOverlay:
    """A dot on every landmark.

    Attributes:
        colour: RGB.
        radius: in pixels; None takes 1/120 of the landmarks' extent, at least 1.2.
    """

    colour: Colour = YELLOW
    radius: float | None = None

    def __call__(self, image: NDArray[np.uint8], faces: Sequence[Landmarks]) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 -> the same with dots."""
        result = _copy(image)
        for face in faces:
            radius = self.radius if self.radius is not None else max(1.2, _extent(face) / 120)
            with_dots = [(float(x), float(y)) for x, y in face.points]

            def dots(pen: _Pen, centres: list[tuple[float, float]] = with_dots, r: float = radius) -> None:
                for centre in centres:
                    pen.dot(centre, r)

            _paint(result, face.points, radius, self.colour, dots)
        return result


@dataclass(frozen=True)
class ContoursOverlay:
    """A line along every facial part of a scheme; closed parts are closed.

    Attributes:
        scheme: of the faces to draw.
        colour: RGB.
        width: in pixels; None takes 1/160 of the landmarks' extent, at least 1.
    """

    scheme: Scheme
    colour: Colour = CYAN
    width: float | None = None

    def __call__(self, image: NDArray[np.uint8], faces: Sequence[Landmarks]) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 -> the same with lines."""
        result = _copy(image)
        for face in faces:
            width = self.width if self.width is not None else max(1.0, _extent(face) / 160)
            lines = []
            for part, indices in self.scheme.parts.items():
                ends = [*indices, indices[0]] if part in self.scheme.closed and len(indices) > 2 else indices
                lines.append([(float(x), float(y)) for x, y in face.points[list(ends)]])

            def draw(pen: _Pen, lines: list[list[tuple[float, float]]] = lines, width: float = width) -> None:
                for line in lines:
                    pen.line(line, width)

            _paint(result, face.points, width, self.colour, draw)
        return result


@dataclass(frozen=True)
class ScoreOverlay:
    """The box of every face with its score: one colour above the threshold, another below. Without a score, the box
    alone.

    Attributes:
        threshold: score from which a face counts as one.
        colour, below: RGB from the threshold on, and below it.
        width: of the box's line, in pixels; None takes 1/160 of the box's side, at least 1.
    """

    threshold: float = 0.5
    colour: Colour = GREEN
    below: Colour = RED
    width: float | None = None

    def __call__(self, image: NDArray[np.uint8], faces: Sequence[Landmarks]) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 -> the same with boxes and scores."""
        result = _copy(image)
        for face in faces:
            box = face.box
            colour = self.colour if face.score is None or face.score >= self.threshold else self.below
            width = self.width if self.width is not None else max(1.0, max(box.width, box.height) / 160)
            # Drawn inside the edges, so that the box of the whole image can be seen too.
            x0, y0, x1, y1 = box.x0 + width / 2, box.y0 + width / 2, box.x1 - width / 2, box.y1 - width / 2
            corners = [(x0, y0), (x1, y0), (x1, y1), (x0, y1), (x0, y0)]

            def draw(pen: _Pen, corners: list[tuple[float, float]] = corners, width: float = width) -> None:
                pen.line(corners, width)

            _paint(result, np.array(corners), width, colour, draw)
            if face.score is not None:
                size = max(11, round(max(box.width, box.height) / 16))
                _label(result, f"{face.score:.2f}", box.x0, box.y0, size, colour)
        return result


@dataclass(frozen=True)
class MaskOverlay:
    """Every class of a mask tinted in its own colour, the softer the less certain; the background stays.

    Attributes:
        classes: names of the classes to tint; None takes all but the background.
        strength: 0 tints nothing, 1 covers the picture.
    """

    classes: tuple[str, ...] | None = None
    strength: float = 0.5

    def __call__(self, image: NDArray[np.uint8], masks: Sequence[Mask]) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 -> the same with tints.

        Raises:
            BadInputError: a mask of another size than the image, a strength outside of 0 to 1, or a class that the
                mask has not, or that is its background.
        """
        if not 0 <= self.strength <= 1:
            raise BadInputError(f"strength {self.strength!r}", expected="0 to 1")
        result = _copy(image)
        for mask in masks:
            names = mask.classes.names
            colours = mask.classes.colours or [_PALETTE[number % len(_PALETTE)] for number in range(len(names))]
            tints = []
            for name in names[1:] if self.classes is None else self.classes:
                view, soft = mask.soft_window([name], image)
                tints.append((soft * np.float32(self.strength), np.array(colours[names.index(name)], np.float32)))
            if not tints:
                continue
            # Shares of one whole: together they never cover more than the strength.
            alpha = sum((soft for soft, _ in tints), np.zeros_like(tints[0][0]))[:, :, None]
            part = result[view.slices]
            mixed = part * (1 - alpha)
            for soft, colour in tints:
                mixed += soft[:, :, None] * colour
            part[:] = np.rint(mixed).clip(0, 255).astype(np.uint8)
        return result


class _Pen:
    """Draws in pixels of the image on a mask that is several times as fine."""

    def __init__(self, mask: Image.Image, x0: int, y0: int, factor: int) -> None:
        self._draw, self._origin, self._factor = ImageDraw.Draw(mask), (x0, y0), factor

    def _at(self, point: tuple[float, float]) -> tuple[float, float]:
        x, y = ((value - start + 0.5) * self._factor - 0.5 for value, start in zip(point, self._origin, strict=True))
        return x, y

    def dot(self, centre: tuple[float, float], radius: float) -> None:
        (x, y), r = self._at(centre), radius * self._factor
        # Rounded here: Pillow would cut the fractions off, which moves every dot to the left and up.
        self._draw.ellipse([round(value) for value in (x - r, y - r, x + r, y + r)], fill=255)

    def line(self, points: Sequence[tuple[float, float]], width: float) -> None:
        if len(points) > 1:
            fine = max(1, round(width * self._factor))
            shift = 0 if fine % 2 else 0.5  # Pillow lays an even line half a pixel further right and down
            ends = [tuple(round(value - shift) for value in self._at(point)) for point in points]
            self._draw.line(ends, fill=255, width=fine, joint="curve")


def _paint(
    image: NDArray[np.uint8], points: NDArray[np.floating], margin: float, colour: Colour, draw: Callable[[_Pen], None]
) -> None:
    """Draw into ``image``, anti-aliased: on a finer mask of the region, averaged down, then mixed with the colour."""
    height, width = image.shape[:2]
    low, high = points.min(axis=0) - margin - 2, points.max(axis=0) + margin + 3
    x0, y0 = (int(max(0, math.floor(value))) for value in low)
    x1, y1 = int(min(width, math.ceil(high[0]))), int(min(height, math.ceil(high[1])))
    if x0 >= x1 or y0 >= y1:
        return
    area = (x1 - x0) * (y1 - y0)
    factor = next((f for f in (4, 2) if area * f * f <= _MAX_MASK_PIXELS), 1)
    mask = Image.new("L", ((x1 - x0) * factor, (y1 - y0) * factor))
    draw(_Pen(mask, x0, y0, factor))
    alpha = np.asarray(mask.reduce(factor) if factor > 1 else mask, np.float32)[:, :, None] / 255
    part = image[y0:y1, x0:x1]
    part[:] = np.rint(part * (1 - alpha) + np.array(colour, np.float32) * alpha).astype(np.uint8)


def _label(image: NDArray[np.uint8], text: str, x: float, y: float, size: int, colour: Colour) -> None:
    """White text on the colour, its corner at (x, y), moved so far that it lies in the image."""
    font = ImageFont.load_default(size)
    left, top, right, bottom = font.getbbox(text)
    pad = max(2, size // 5)
    width, height = math.ceil(right - left) + 2 * pad, math.ceil(bottom - top) + 2 * pad
    tag = Image.new("RGB", (width, height), colour)
    ink = (0, 0, 0) if sum(colour) > 330 else WHITE
    ImageDraw.Draw(tag).text((pad - left, pad - top), text, fill=ink, font=font)
    x0 = int(np.clip(round(x), 0, max(0, image.shape[1] - width)))
    y0 = int(np.clip(round(y), 0, max(0, image.shape[0] - height)))
    part = image[y0 : y0 + height, x0 : x0 + width]
    part[:] = np.asarray(tag)[: part.shape[0], : part.shape[1]]


def _extent(face: Landmarks) -> float:
    return float((face.points.max(axis=0) - face.points.min(axis=0)).max())


def _copy(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    check_array(image)
    return image.copy()
