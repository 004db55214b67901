"""Textured, lit sheets in 3D -> pixels: a painter's algorithm on cloud points, in numpy alone.

Each sheet is a grid of vertices. Every visible cell of the grid is sampled densely enough to leave no hole at twice the
picture's resolution; all samples, sorted by the depth of their cells, are written far to near, so that the nearest
stays.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CLEAR = 255  # texture label: the sample is not there at all (around hair, beside an ear)
UNLABELLED = 254  # texture label: the sample is seen, and leaves the label of what it covers (glasses)

DENSITY = 1.1  # samples a sub-pixel along each edge of a cell


@dataclass(frozen=True)
class Sheet:
    """One surface.

    Args:
        pixels: (R + 1, C + 1, 2) float, vertices in the picture.
        depth: (R + 1, C + 1) float, larger is nearer.
        light: (R + 1, C + 1, 3) float, what the texture's colour is multiplied by.
        gloss: (R + 1, C + 1) float, what is added to all channels, in 0..255.
        texture: (h, w, 4) uint8, red, green, blue and label; stretched over the grid.
        two_sided: cells that face away are drawn too, from this row of cells on.
    """

    pixels: NDArray[np.floating]
    depth: NDArray[np.floating]
    light: NDArray[np.floating]
    gloss: NDArray[np.floating]
    texture: NDArray[np.uint8]
    two_sided: int = sys.maxsize


def draw(sheets: Sequence[Sheet], canvas: NDArray[np.uint32], labels: NDArray[np.uint8]) -> None:
    """Draw all sheets, in place: colours at twice the picture's resolution, labels at its own.

    Args:
        sheets: in any order.
        canvas: (2 H, 2 W), a pixel's red, green and blue in its first three bytes; output pixel i is covered by its
            rows (columns) 2 i and 2 i + 1.
        labels: (H, W), at the picture's own resolution.
    """
    parts = [part for sheet in sheets for part in _samples(sheet, *labels.shape)]
    if not parts:
        return
    depth = np.concatenate([part.depth for part in parts])
    # A cell's place in the order, as 16 bits: sorting samples by it is a radix sort, much faster than by depth.
    rank = np.empty(len(depth), np.uint16)
    rank[np.argsort(depth, kind="stable")] = np.minimum(np.arange(len(depth)), 65535)
    ranks = np.repeat(rank, np.concatenate([part.count for part in parts]))
    order = np.argsort(ranks, kind="stable")
    x = np.concatenate([part.x for part in parts]).take(order)
    y = np.concatenate([part.y for part in parts]).take(order)
    colour = np.concatenate([part.colour for part in parts]).take(order)
    # x and y count quarters of pixels. Where an index repeats, numpy keeps the last value: the nearest sample.
    canvas.reshape(-1)[(y >> 1) * np.int32(canvas.shape[1]) + (x >> 1)] = colour
    # The label is that of the samples in the middle half of the pixel, around its centre.
    label = colour.view(np.uint8)[3::4]
    named = np.flatnonzero((((x + 1) & (y + 1) & 2) != 0) & (label != UNLABELLED))
    at = (y.take(named) >> 2) * np.int32(labels.shape[1]) + (x.take(named) >> 2)
    labels.reshape(-1)[at] = label.take(named)


@dataclass(frozen=True)
class _Part:
    """Samples of cells of one size, cell after cell: place (m,), packed colour and label (m,).

    ``x`` and ``y`` count quarters of pixels from the picture's upper left edge.

    ``count`` (n,) says how many samples each cell has; ``depth`` (n,) is the cells'.
    """

    x: NDArray[np.int32]
    y: NDArray[np.int32]
    colour: NDArray[np.uint32]
    count: NDArray[np.intp]
    depth: NDArray[np.float32]


def _corners(grid: NDArray[np.floating]) -> NDArray[np.float32]:
    """(R + 1, C + 1) -> (4, R C) of its cells: upper left, upper right, lower left, lower right."""
    four = np.stack([grid[:-1, :-1], grid[:-1, 1:], grid[1:, :-1], grid[1:, 1:]])
    return four.reshape(4, -1).astype(np.float32)


def _samples(sheet: Sheet, height: int, width: int) -> Iterator[_Part]:
    rows, columns = sheet.depth.shape[0] - 1, sheet.depth.shape[1] - 1
    # Pixel centres are at integers: pixel i spans quarters [4 i, 4 i + 4).
    x, y = (_corners(4 * sheet.pixels[..., k] + 2) for k in (0, 1))
    width, height = 4 * width, 4 * height
    keep = (x.max(0) > 0) & (x.min(0) < width) & (y.max(0) > 0) & (y.min(0) < height)
    away = (x[3] - x[0]) * (y[2] - y[1]) - (y[3] - y[0]) * (x[2] - x[1]) <= 0
    away[min(sheet.two_sided, rows) * columns :] = False
    keep &= ~away
    cells = np.flatnonzero(keep)
    if not len(cells):
        return
    x, y = x[:, cells], y[:, cells]
    depth = _corners(sheet.depth).mean(0)[cells]
    light = [_corners(sheet.light[..., c])[:, cells] for c in range(3)]
    gloss = _corners(sheet.gloss)[:, cells]
    tall, wide = sheet.texture.shape[:2]
    texels = np.ascontiguousarray(sheet.texture).view(np.uint32).reshape(-1)

    across = np.maximum(np.hypot(x[1] - x[0], y[1] - y[0]), np.hypot(x[3] - x[2], y[3] - y[2]))
    down = np.maximum(np.hypot(x[2] - x[0], y[2] - y[0]), np.hypot(x[3] - x[1], y[3] - y[1]))
    wide_steps, wide_level = _levels(0.5 * DENSITY * across)
    tall_steps, tall_level = _levels(0.5 * DENSITY * down)
    group = wide_level * len(tall_steps) + tall_level
    for g in np.unique(group):
        pick = np.flatnonzero(group == g)
        n, m = wide_steps[g // len(tall_steps)], tall_steps[g % len(tall_steps)]
        r, c = np.divmod(cells[pick], columns)
        u, v = _inside(n), _inside(m)
        i = ((r[:, None] + v) * np.float32(tall / rows)).astype(np.int32) * np.int32(wide)
        j = ((c[:, None] + u) * np.float32(wide / columns)).astype(np.int32)
        colour = texels.take((i[:, :, None] + j[:, None, :]).reshape(len(pick), -1))
        u, v = np.tile(u, m), np.repeat(v, n)
        weight = np.stack([(1 - u) * (1 - v), u * (1 - v), (1 - u) * v, u * v])
        lit = colour.view(np.uint8).reshape(*colour.shape, 4)
        shine = gloss[:, pick].T @ weight + np.float32(0.5)  # rounded, not cut
        for channel in range(3):
            value = light[channel][:, pick].T @ weight
            value *= lit[..., channel]
            value += shine
            lit[..., channel] = np.minimum(value, 255, out=value)
        sx, sy = x[:, pick].T @ weight, y[:, pick].T @ weight
        seen = lit[..., 3] != CLEAR
        if sx.min() < 0 or sy.min() < 0 or sx.max() >= width or sy.max() >= height:
            seen &= (sx >= 0) & (sy >= 0) & (sx < width) & (sy < height)
        there = np.flatnonzero(seen)
        flat = [k.astype(np.int32).reshape(-1).take(there) for k in (sx, sy)]
        yield _Part(flat[0], flat[1], colour.reshape(-1).take(there), seen.sum(1), depth[pick])


def _levels(need: NDArray[np.floating]) -> tuple[list[int], NDArray[np.intp]]:
    """A few numbers of samples that fit what the cells need, and the one that each cell takes."""
    steps = np.unique(np.ceil(np.quantile(need, (0.5, 0.85, 1) if len(need) > 150 else (1,))).astype(int))
    level = np.searchsorted(steps, need)
    return steps.tolist(), np.minimum(level, len(steps) - 1)


def _inside(count: int) -> NDArray[np.float32]:
    return ((np.arange(count) + 0.5) / count).astype(np.float32)
