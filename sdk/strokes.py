"""Anti-aliased dots and lines, drawn where they are and nowhere else.

lines --pieces of a few pixels--> (pieces, K, K) distance of each pixel to its piece --> share of the pixel that is
covered --> the picture, at the pixels that are touched

A pixel's share is that of a line's cross-section that falls into it, so a line is as wide as asked, wherever it lies.
The cost follows the length of what is drawn: not the size of the face, nor of the image.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

Colour = tuple[int, int, int]
Strokes = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Starts and ends, (n, 2) each, in pixels; a dot starts where it ends."""

_PIECE = 16.0
"""Longest piece of a line, in pixels: a longer one's square would be mostly empty."""

_BLOCK = 1 << 15
"""Pixels of squares that are worked on at once."""


def dots(centres: NDArray[np.floating]) -> Strokes:
    """(n, 2) centres -> strokes; a width of twice the radius draws discs."""
    at = np.asarray(centres, np.float64)
    return at, at


def lines(points: Iterable[NDArray[np.floating]]) -> Strokes:
    """Lines of (n, 2) points each -> strokes. A line of one point draws nothing."""
    each = [np.asarray(line, np.float64) for line in points if len(line) > 1]
    if not each:
        return np.zeros((0, 2)), np.zeros((0, 2))
    return np.concatenate([line[:-1] for line in each]), np.concatenate([line[1:] for line in each])


def draw(image: NDArray[np.uint8], strokes: Strokes, width: float, colour: Sequence[int]) -> None:
    """Draw strokes with round ends into an image, as one shape: where two overlap, the colour is not laid on twice.

    Args:
        image: (H, W, 3) uint8, contiguous; changed in place.
        strokes: finite; parts outside of the image are left out.
        width: in pixels, above 0.
        colour: RGB.
    """
    height, columns = image.shape[:2]
    start, end = _visible(*strokes, width / 2 + 1, (columns, height))
    start, end = _pieces(start, end, max(_PIECE, width))
    if not len(start):
        return
    # Squares that hold any piece with its edge, the same size for all.
    reach = width / 2 + 0.5
    side = math.ceil(np.abs(end - start).max() + 2 * reach) + 1
    places, shares = [], []
    many = max(1, _BLOCK // (side * side))
    for first in range(0, len(start), many):
        place, share = _covered(start[first : first + many], end[first : first + many], width, side, (columns, height))
        places.append(place)
        shares.append(share)
    place, share = np.concatenate(places), np.concatenate(shares)
    low, high = (int(place.min()), int(place.max()) + 1) if len(place) else (0, 0)
    alpha = np.zeros(high - low, np.float32)
    np.maximum.at(alpha, place - low, share)
    share = alpha[place - low, None]
    # A pixel that several pieces touch is worked out several times, each time to the same value.
    flat = image.reshape(-1, 3)
    mixed = flat[place] * (1 - share) + np.asarray(colour, np.float32) * share
    flat[place] = np.rint(mixed).astype(np.uint8)


def _visible(
    start: NDArray[np.float64], end: NDArray[np.float64], margin: float, size: tuple[int, int]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Strokes cut to the image and a margin around it, without those that lie outside (Liang and Barsky, 1984)."""
    step = end - start
    first, last = np.zeros(len(start)), np.ones(len(start))
    for axis in (0, 1):
        for sign, edge in ((-1.0, margin), (1.0, size[axis] - 1 + margin)):
            # sign * position <= edge
            room, speed = edge - sign * start[:, axis], sign * step[:, axis]
            with np.errstate(divide="ignore", invalid="ignore"):
                at = room / speed
            first = np.where(speed < 0, np.maximum(first, at), first)
            last = np.where(speed > 0, np.minimum(last, at), last)
            last = np.where((speed == 0) & (room < 0), -1.0, last)
    kept = first <= last
    start, step = start[kept], step[kept]
    return start + step * first[kept, None], start + step * last[kept, None]


def _pieces(
    start: NDArray[np.float64], end: NDArray[np.float64], longest: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Strokes in equal parts, none longer than so many pixels."""
    counts = np.maximum(1, np.ceil(np.hypot(*(end - start).T) / longest)).astype(np.intp)
    owner = np.repeat(np.arange(len(start)), counts)
    number = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
    step = ((end - start) / counts[:, None])[owner]
    begin = start[owner] + step * number[:, None]
    return begin, begin + step


def _covered(
    start: NDArray[np.float64], end: NDArray[np.float64], width: float, side: int, size: tuple[int, int]
) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Pixels that pieces touch, by their place in the image row by row, and their shares; some several times."""
    corner = np.floor(np.minimum(start, end) - width / 2 - 0.5)
    offsets = np.arange(side, dtype=np.float32)
    # From here on relative to the square's corner: small numbers, which float32 holds well enough.
    ax, ay = (start - corner).astype(np.float32).T[:, :, None]
    dx, dy = (end - start).astype(np.float32).T[:, :, None]
    length = dx * dx + dy * dy
    x, y = offsets - ax, offsets - ay  # (pieces, side)
    along = ((y * dy)[:, :, None] + (x * dx)[:, None, :]) / np.maximum(length, np.float32(1e-12))[:, :, None]
    along = along.clip(0, 1)
    away = np.square(x[:, None, :] - along * dx[:, :, None])
    away += np.square(y[:, :, None] - along * dy[:, :, None])
    share = (np.float32(width / 2 + 0.5) - np.sqrt(away)).clip(0, min(1.0, width))
    columns, rows = (
        corner[:, 0, None].astype(np.intp) + np.arange(side),
        corner[:, 1, None].astype(np.intp) + np.arange(side),
    )
    share *= ((columns >= 0) & (columns < size[0]))[:, None, :] & ((rows >= 0) & (rows < size[1]))[:, :, None]
    touched = np.flatnonzero(share)
    place = (rows * size[0])[:, :, None] + columns[:, None, :]
    return place.reshape(-1)[touched], share.reshape(-1)[touched]
