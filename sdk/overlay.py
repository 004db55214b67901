"""Draw results on a picture: stateless, each overlay returns a new image, so they chain.

>>> image = PointsOverlay()(ContoursOverlay(scheme)(image, faces), faces)

On video, where a copy of each frame costs more than what is drawn on it, ``out`` says where to draw instead:

>>> ContoursOverlay(scheme)(frame, faces, out=frame)
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from pocketface.sdk.errors import BadInputError, UnknownNameError
from pocketface.sdk.images import check_array
from pocketface.sdk.manifest import Scheme
from pocketface.sdk.results import Landmarks, Mask
from pocketface.sdk.strokes import Colour, dots, draw, lines

Out: TypeAlias = NDArray[np.uint8] | None
"""Where to draw: None for a new image; the image itself, or another one like it, to draw into that."""

YELLOW, CYAN, GREEN, RED, WHITE = (255, 214, 10), (64, 224, 255), (80, 220, 100), (255, 70, 70), (255, 255, 255)
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

    def __call__(self, image: NDArray[np.uint8], faces: Sequence[Landmarks], out: Out = None) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 -> the same with dots."""
        result = _target(image, out)
        for face in faces:
            radius = self.radius if self.radius is not None else max(1.2, _extent(face) / 120)
            draw(result, dots(face.points), 2 * radius, self.colour)
        return result


@dataclass(frozen=True)
class ContoursOverlay:
    """A line along every facial part of a scheme; closed parts are closed.

    Attributes:
        scheme: of the faces to draw.
        colour: RGB.
        width: in pixels; None takes 1/160 of the landmarks' extent, at least 1.
        colours: part -> RGB, where it is not to be ``colour``.
    """

    scheme: Scheme
    colour: Colour = CYAN
    width: float | None = None
    colours: Mapping[str, Colour] = field(default_factory=dict)

    def __call__(self, image: NDArray[np.uint8], faces: Sequence[Landmarks], out: Out = None) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 -> the same with lines.

        Raises:
            BadInputError: no such image, or a colour for a part that the scheme has not.
        """
        result = _target(image, out)
        for part in self.colours:
            if part not in self.scheme.parts:
                raise UnknownNameError(f"part of {self.scheme.name}", part, self.scheme.parts)
        shades: dict[Colour, list[list[int]]] = {}
        for part, indices in self.scheme.parts.items():
            closed = part in self.scheme.closed and len(indices) > 2
            ends = [*indices, indices[0]] if closed else list(indices)
            shades.setdefault(self.colours.get(part, self.colour), []).append(ends)
        for face in faces:
            width = self.width if self.width is not None else max(1.0, _extent(face) / 160)
            for colour, parts in shades.items():
                draw(result, lines(face.points[ends] for ends in parts), width, colour)
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

    def __call__(self, image: NDArray[np.uint8], faces: Sequence[Landmarks], out: Out = None) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 -> the same with boxes and scores."""
        result = _target(image, out)
        for face in faces:
            box = face.box
            colour = self.colour if face.score is None or face.score >= self.threshold else self.below
            width = self.width if self.width is not None else max(1.0, max(box.width, box.height) / 160)
            # Drawn inside the edges, so that the box of the whole image can be seen too.
            x0, y0, x1, y1 = box.x0 + width / 2, box.y0 + width / 2, box.x1 - width / 2, box.y1 - width / 2
            corners = np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1), (x0, y0)])
            draw(result, lines([corners]), width, colour)
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

    def __call__(self, image: NDArray[np.uint8], masks: Sequence[Mask], out: Out = None) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 -> the same with tints.

        Raises:
            BadInputError: a mask of another size than the image, a strength outside of 0 to 1, or a class that the
                mask has not, or that is its background.
        """
        if not 0 <= self.strength <= 1:
            raise BadInputError(f"strength {self.strength!r}", expected="0 to 1")
        result = _target(image, out)
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


@dataclass(frozen=True)
class SideBySide:
    """Pictures next to each other, each with its name: what two bundles make of one photo.

    >>> drawn = [PointsOverlay()(image, predictor(image, boxes)) for predictor in (one, other)]
    >>> SideBySide(("fp32", "w8a8"))(drawn)

    Attributes:
        labels: names, from left to right; an empty one draws no label.
        gap: pixels of white between two pictures.
    """

    labels: tuple[str, ...]
    gap: int = 4

    def __call__(self, pictures: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 each, W as it likes -> (H, sum of W and gaps, 3) uint8.

        Raises:
            BadInputError: none, pictures of several heights, as many labels as there are no pictures, or a gap below 0.
        """
        if not pictures or len(pictures) != len(self.labels) or self.gap < 0:
            raise BadInputError(
                f"{len(pictures)} pictures, {len(self.labels)} labels, a gap of {self.gap}",
                expected="a label for each of one or more pictures, and a gap of 0 or more",
            )
        for picture in pictures:
            check_array(picture)
        heights = sorted({len(picture) for picture in pictures})
        if len(heights) > 1:
            raise BadInputError(
                f"pictures of {' and '.join(map(str, heights))} rows",
                expected="one height",
                next="Scale them first, or give the same photo to both",
            )
        parts: list[NDArray[np.uint8]] = []
        for label, picture in zip(self.labels, pictures, strict=True):
            named = picture.copy(order="C")
            if label:
                _label(named, label, 0, 0, max(11, min(named.shape[:2]) // 24), WHITE)
            parts += [named, np.full((heights[0], self.gap, 3), 255, np.uint8)]
        return np.concatenate(parts[:-1], axis=1)


def _label(image: NDArray[np.uint8], text: str, x: float, y: float, size: int, colour: Colour) -> None:
    """White text on the colour, its corner at (x, y), moved so far that it lies in the image."""
    from PIL import Image, ImageDraw, ImageFont

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


def _target(image: NDArray[np.uint8], out: Out) -> NDArray[np.uint8]:
    """Where to draw: ``out``, which holds the image then, or a contiguous copy.

    Raises:
        BadInputError: no image, or an ``out`` that is not one of the same size, contiguous and writeable.
    """
    check_array(image)
    if out is None:
        return image.copy(order="C")
    check_array(out)
    if out.shape != image.shape or not (out.flags.c_contiguous and out.flags.writeable):
        raise BadInputError(
            f"out of shape {out.shape}, {'' if out.flags.writeable else 'not writeable, '}"
            f"{'' if out.flags.c_contiguous else 'not '}contiguous",
            expected=f"{image.shape}, contiguous and writeable",
            next="Leave it out: a copy is made",
        )
    if out is not image:
        out[:] = image
    return out
