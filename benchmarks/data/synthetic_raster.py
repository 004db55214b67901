"""Textured, lit sheets in 3D -> pixels: a painter's algorithm on cloud points, in numpy alone.

Each sheet is a grid of vertices. Every visible cell of the grid is sampled densely enough to leave no hole at twice the
picture's resolution; all samples, sorted by the depth of their cells, are written far to near, so that the nearest stays.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CLEAR = 255  # texture label: the sample is not there at all (around hair, beside an ear)
UNLABELLED = 254  # texture label: the sample is seen, and leaves the label of what it covers (glasses)

DENSITY = 1.12  # samples a sub-pixel along each edge of a cell
_STEPS = (3, 6, 9, 13, 19, 28, 44, 70, 110, 180)


@dataclass(frozen=True)
class Sheet:
    """One surface.

    Args:
        pixels: (R + 1, C + 1, 2) float, vertices in the picture.
        depth: (R + 1, C + 1) float, larger is nearer.
        light: (R + 1, C + 1, 3) float, what the texture's colour is multiplied by.
        gloss: (R + 1, C + 1) float, what is added to all channels, in 0..255.
        texture: (h, w, 4) uint8, red, green, blue and label; stretched over the grid.
        two_sided: whether cells that face away are drawn.
    """

    pixels: NDArray[np.floating]
    depth: NDArray[np.floating]
    light: NDArray[np.floating]
    gloss: NDArray[np.floating]
    texture: NDArray[np.uint8]
    two_sided: bool = False


def _corners(grid: NDArray[np.floating], keep: NDArray[np.intp]) -> NDArray[np.float32]:
    """(R + 1, C + 1) -> (n, 4) of the kept cells: upper left, upper right, lower left, lower right."""
    columns = grid.shape[1]
    first = keep + keep // (columns - 1)
    flat = grid.ravel()
    return np.stack([flat[first], flat[first + 1], flat[first + columns], flat[first + columns + 1]], 1).astype(np.float32)


def draw(sheets: Sequence[Sheet], canvas: NDArray[np.uint8], labels: NDArray[np.uint8]) -> None:
    """Draw all sheets into a picture, in place, at twice its resolution.

    Args:
        sheets: in any order.
        canvas: (2 H, 2 W, 3) uint8; output pixel i is covered by its rows (columns) 2 i and 2 i + 1.
        labels: (2 H, 2 W) uint8.
    """
    parts = [part for sheet in sheets for part in _samples(sheet, *labels.shape)]
    if not parts:
        return
    depth = np.concatenate([part.depth for part in parts])
    # A cell's place in the order, as 16 bits: sorting samples by it is a radix sort, several times faster than by depth.
    rank = np.empty(len(depth), np.uint16)
    rank[np.argsort(depth, kind="stable")] = np.minimum(np.arange(len(depth)), 65535)
    start = np.cumsum([0] + [len(part.depth) for part in parts])
    ranks = [rank[first + part.cell] for first, part in zip(start, parts, strict=False)]
    order = np.argsort(np.concatenate(ranks), kind="stable")
    at = np.concatenate([part.at for part in parts])[order]
    colour = np.concatenate([part.colour for part in parts])[order]

    packed = np.empty((*labels.shape, 4), np.uint8)
    packed[..., :3], packed[..., 3] = canvas, labels
    packed.view(np.uint32).reshape(-1)[at] = colour  # where an index repeats, numpy keeps the last value
    canvas[:] = packed[..., :3]
    label = (colour >> 24).astype(np.uint8)
    named = label != UNLABELLED
    labels.reshape(-1)[at[named]] = label[named]


@dataclass(frozen=True)
class _Part:
    """Samples of cells of one size: flat sub-pixel index, packed colour and label, and cell (m,); depth of the cells (n,)."""

    at: NDArray[np.int32]
    colour: NDArray[np.uint32]
    cell: NDArray[np.intp]
    depth: NDArray[np.float32]


def _samples(sheet: Sheet, height: int, width: int) -> Iterator[_Part]:
    rows, columns = sheet.depth.shape[0] - 1, sheet.depth.shape[1] - 1
    every = np.arange(rows * columns)
    # Pixel centres are at integers: output pixel i spans sub-pixels [2 i, 2 i + 2).
    x, y = (_corners(2 * sheet.pixels[..., k] + 1, every) for k in (0, 1))
    keep = (x.max(1) > 0) & (x.min(1) < width) & (y.max(1) > 0) & (y.min(1) < height)
    if not sheet.two_sided:
        keep &= (x[:, 3] - x[:, 0]) * (y[:, 2] - y[:, 1]) - (y[:, 3] - y[:, 0]) * (x[:, 2] - x[:, 1]) > 0
    cells = np.flatnonzero(keep)
    if not len(cells):
        return
    x, y = x[cells], y[cells]
    depth = _corners(sheet.depth, cells).mean(1)
    light = [_corners(sheet.light[..., c], cells) for c in range(3)]
    gloss = _corners(sheet.gloss, cells)
    tall, wide = sheet.texture.shape[:2]
    texels = np.ascontiguousarray(sheet.texture).view(np.uint32).reshape(-1)

    across = np.maximum(np.hypot(x[:, 1] - x[:, 0], y[:, 1] - y[:, 0]), np.hypot(x[:, 3] - x[:, 2], y[:, 3] - y[:, 2]))
    down = np.maximum(np.hypot(x[:, 2] - x[:, 0], y[:, 2] - y[:, 0]), np.hypot(x[:, 3] - x[:, 1], y[:, 3] - y[:, 1]))
    limit = len(_STEPS) - 1
    group = np.minimum(np.searchsorted(_STEPS, DENSITY * across), limit) * len(_STEPS)
    group += np.minimum(np.searchsorted(_STEPS, DENSITY * down), limit)
    for g in np.unique(group):
        pick = np.flatnonzero(group == g)
        u, v = (((np.arange(s) + 0.5) / s).astype(np.float32) for s in (_STEPS[g // len(_STEPS)], _STEPS[g % len(_STEPS)]))
        r, c = np.divmod(cells[pick], columns)
        i = ((r[:, None] + v) * np.float32(tall / rows)).astype(np.int32)
        j = ((c[:, None] + u) * np.float32(wide / columns)).astype(np.int32)
        colour = texels[(i[:, :, None] * wide + j[:, None, :]).reshape(len(pick), -1)]
        u, v = np.tile(u, len(v)), np.repeat(v, len(u))
        weight = np.stack([(1 - u) * (1 - v), u * (1 - v), (1 - u) * v, u * v])
        sx, sy = x[pick] @ weight, y[pick] @ weight
        seen = (sx >= 0) & (sy >= 0) & (sx < width) & (sy < height) & (colour >> 24 != CLEAR)
        shine = gloss[pick] @ weight
        lit = colour.view(np.uint8).reshape(*colour.shape, 4)
        for channel in range(3):
            value = lit[..., channel] * (light[channel][pick] @ weight)
            value += shine
            lit[..., channel] = np.minimum(value, 255, out=value)
        at = sy.astype(np.int32) * width + sx.astype(np.int32)
        yield _Part(at[seen], colour[seen], np.nonzero(seen)[0], depth[pick])


def halve(labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(2 H, 2 W) -> (H, W): the label that most of a pixel's four sub-pixels have; one of them on a tie."""
    a, b, c, d = labels[::2, ::2], labels[::2, 1::2], labels[1::2, ::2], labels[1::2, 1::2]
    return np.where((b == c) | (b == d), b, np.where(c == d, c, a))
