"""The lit surfaces of one drawn person: head, ears, hair, glasses, neck and shoulders."""

from __future__ import annotations

import sys

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from pocketface.benchmarks.data.synthetic_canvas import HAIR, SKIN
from pocketface.benchmarks.data.synthetic_look import Hair, Look
from pocketface.benchmarks.data.synthetic_paint import paint_head
from pocketface.benchmarks.data.synthetic_raster import CLEAR, UNLABELLED, Sheet
from pocketface.benchmarks.data.synthetic_scene import Light
from pocketface.benchmarks.data.synthetic_shape import LEFT_EYE, RIGHT_EYE, Array, Head, View

HAIR_REACH = 180.0  # degrees of theta on each side: hair goes all the way round
_HEAD_GRID, _HAIR_GRID, _BODY_GRID, _EAR_GRID = (58, 66), (44, 64), (22, 20), (12, 10)


def _sheet(
    points: Array, view: View, light: Light, texture: NDArray[np.uint8], *, gloss: float, share: float = 1.0,
    bias: float | Array = 0.0, strands: bool = False, two_sided: int = sys.maxsize,
) -> Sheet:  # fmt: skip
    turned = view.turn(points, share)
    factors, shine = light.shade(turned, gloss=gloss, strands=strands)
    return Sheet(view.project(turned), turned[..., 2] + bias, factors, shine, texture, two_sided)


def person(head: Head, look: Look, view: View, light: Light, rng: np.random.Generator, size: int) -> list[Sheet]:
    """All surfaces of one person.

    Args:
        head: shape of the face, expression included.
        look: colours, hair, glasses, clothes.
        view: pose and place in the picture.
        light: the lamp.
        rng: of the person, so that skin and hair keep their grain from frame to frame.
        size: side of the picture in pixels; it sets the resolution of the textures.
    """
    height, width = max(160, round(2.33 * size)), max(180, round(2.67 * size))
    v = np.linspace(0, 1, _HEAD_GRID[0] + 1)[:, None]
    theta = np.linspace(-Head.REACH, Head.REACH, _HEAD_GRID[1] + 1)[None]
    skin = paint_head(head, look, rng, height, width)
    sheets = [
        _body(head, look, view, light),
    ]
    if not (look.hair and look.hair.covers_ears):
        sheets += _ears(head, look, view, light)
    sheets.append(_sheet(head.surface(theta, v), view, light, skin, gloss=look.gloss))
    if look.hair:
        sheets.append(_hair(head, look.hair, view, light, rng, height, width))
    if look.glasses:
        sheets += _glasses(head, look, view, light)
    return sheets


def _plain(colour: tuple[float, float, float], label: int) -> NDArray[np.uint8]:
    return np.array([[[*(int(np.clip(c, 0, 255)) for c in colour), label]]], np.uint8)


def _body(head: Head, look: Look, view: View, light: Light) -> Sheet:
    stations = np.array([
        # y, half width, outline's depth, mid-line's depth
        (0.30, 0.56, -0.55, -0.10), (1.10, 0.56, -0.50, 0.02), (1.60, 0.60, -0.48, 0.06), (1.95, 0.74, -0.48, 0.10),
        (2.12, 1.05, -0.48, 0.16), (2.26, 1.50, -0.46, 0.20), (2.50, 1.85, -0.44, 0.26), (3.00, 2.05, -0.40, 0.36),
        (4.20, 2.15, -0.40, 0.40),
    ])  # fmt: skip
    y = np.linspace(stations[0, 0], stations[-1, 0], _BODY_GRID[0] + 1)
    w, ze, zf = (np.interp(y, stations[:, 0], stations[:, k])[:, None] for k in (1, 2, 3))
    w = w * (1 + 0.05 * head.who.jaw)
    theta = np.radians(np.linspace(-95, 95, _BODY_GRID[1] + 1))[None]
    cos = np.maximum(np.cos(theta), 0)
    points = np.stack([w * np.sin(theta), np.broadcast_to(y[:, None], (len(y), theta.size)), ze + (zf - ze) * cos], -1)

    tall, wide = 160, 150
    rows = np.linspace(stations[0, 0], stations[-1, 0], tall)[:, None]
    across = np.abs(np.linspace(-95, 95, wide))[None]
    neckline = {
        "round": 2.12 - 0.08 * (across / 60) ** 2,
        "v": 2.42 - 0.42 * np.minimum(across / 40, 1) - 0.06 * across / 90,
        "high": 1.72 + 0 * across,
        "shirt": 2.22 - 0.34 * np.minimum(across / 24, 1),
    }[look.collar]
    cloth = np.clip((rows - neckline) / (0.03 + 1.5 * np.abs(np.gradient(neckline, axis=1))) + 0.5, 0, 1)
    # The chin's shadow on the neck.
    dim = 1 - 0.45 * np.exp(-np.maximum(rows - 1.35, 0) / 0.28) * np.exp(-((across / 75) ** 2))
    hem = 1 - 0.35 * np.exp(-(((rows - neckline) / 0.03) ** 2))
    fold = 1 + 0.05 * np.sin(across / 7 + rows * 3) * (rows > 2.1)
    neck = (1 - cloth) * 0.9 * dim
    texture = np.empty((tall, wide, 4), np.uint8)
    for c in range(3):
        texture[..., c] = np.clip((neck * look.skin[c] + cloth * look.clothes[c] * fold) * hem, 0, 255)
    texture[..., 3] = 0
    # Behind the head whatever the pose: a lowered chin must not sink into the chest.
    return _sheet(points, view, light, texture, gloss=0.3 * look.gloss, share=0.3, bias=-2.5)


def _ears(head: Head, look: Look, view: View, light: Light) -> list[Sheet]:
    a, b = np.linspace(-1, 1, _EAR_GRID[1] + 1)[None, :], np.linspace(-1, 1, _EAR_GRID[0] + 1)[:, None]
    a, b = np.broadcast_arrays(a, b)
    radius2 = a**2 + b**2
    tall, wide = 72, 52
    u, t = np.linspace(-1, 1, wide)[None, :], np.linspace(-1, 1, tall)[:, None]
    # Narrow at the lobe.
    taper = 1 - 0.28 * np.clip(t, 0, 1)
    r = np.hypot(u / taper, t)
    bowl = np.exp(-(((u + 0.28) / 0.32) ** 2) - ((t - 0.12) / 0.36) ** 2)
    ridge = np.exp(-(((np.hypot(u / taper, t) - 0.66) / 0.09) ** 2)) * (t < 0.45)
    shade = 1 - 0.45 * bowl - 0.22 * ridge + 0.05 * np.exp(-(((r - 0.9) / 0.1) ** 2))
    texture = np.empty((tall, wide, 4), np.uint8)
    for c, warm in enumerate((0.99, 0.86, 0.84)):
        texture[..., c] = np.clip(look.skin[c] * warm * shade, 0, 255)
    texture[..., 3] = np.where(r < 1, SKIN, CLEAR)
    sheets = []
    centre_y, size = 0.14 + 0.05 * head.who.length, 0.30 + 0.015 * head.who.skull
    w = float(head.at(head.row(np.array(centre_y)))[0])
    for side in (-1, 1):
        # a runs away from the face: outwards and back.
        back, up_tilt = np.array([0.62 * side, 0, -0.78]), 0.16
        out = np.array([0.78 * side, 0, 0.62])
        rim = 0.07 * np.clip(radius2, 0, 1.2) - 0.03
        points = (
            np.array([(w + 0.045) * side, centre_y, -0.26])
            + (0.165 * a + up_tilt * -0.3 * b)[..., None] * back
            + (size * b)[..., None] * np.array([0, 1.0, 0])
            + rim[..., None] * out
        )
        if side < 0:  # columns run to the right of the picture
            points = points[:, ::-1]
        sheets.append(
            _sheet(points, view, light, texture if side > 0 else texture[:, ::-1].copy(), gloss=6, two_sided=0)
        )
    return sheets


def _hair(head: Head, hair: Hair, view: View, light: Light, rng: np.random.Generator, height: int, width: int) -> Sheet:
    stretch = head.stretch
    crown_rows = round(_HAIR_GRID[0] * (0.75 if hair.bottom < 1.3 else 0.5))
    v = np.concatenate(
        [np.linspace(0, float(head.row(np.array(0.0))), crown_rows), np.zeros(_HAIR_GRID[0] + 1 - crown_rows)]
    )
    y_low = np.linspace(0.0, hair.bottom * stretch, _HAIR_GRID[0] + 2 - crown_rows)[1:]
    w, y = head.at(v)
    ze, zf, zb = head.depths(v)
    # Outwards from the outline: up over the crown, sideways at the temples.
    dw, dy = np.gradient(w[:crown_rows]), np.gradient(y[:crown_rows])
    norm = np.hypot(dw, dy)
    up, aside = dw / norm, dy / norm
    thick = hair.side + (hair.top - hair.side) * np.clip(up, 0, 1)
    y[:crown_rows] -= up * thick
    w[:crown_rows] += aside * thick
    zf[:crown_rows] += aside * np.maximum(hair.top, 0.05)
    zb[:crown_rows] -= aside * hair.top
    ze[:crown_rows] -= 0.02
    hang = np.clip(y_low / 1.2, 0, 1)
    last = crown_rows - 1
    y[crown_rows:] = y_low
    # Long hair falls straight; short hair follows the head in to the nape.
    w[crown_rows:] = w[last] + (0.05 if hair.bottom > 1 else -0.5) * np.sin(hang * np.pi / 2)
    w[crown_rows:] += 0.10 * np.clip(y_low - 1.7, 0, 1)
    ze[crown_rows:] = ze[last] - 0.16 * hang
    zf[crown_rows:] = zf[last] + (0.30 - zf[last]) * np.clip(y_low / 0.5, 0, 1)
    zb[crown_rows:] = zb[last] + (-0.95 - zb[last]) * np.clip(y_low / 0.9, 0, 1)
    theta = np.radians(np.linspace(-HAIR_REACH, HAIR_REACH, _HAIR_GRID[1] + 1))[None]
    cos = np.cos(theta)
    front = np.maximum(cos, 0)
    lumps = _field(rng, (9, 13), (len(y), theta.size)) * (0.12 if hair.style == "round" else 0.03 + 0.05 * hair.curl)
    grow = 1 + lumps * np.clip(np.concatenate([aside * 0.7 + 0.3, np.ones(len(y) - crown_rows)]), 0, 1)[:, None]
    z = np.where(cos > 0, ze[:, None] + (zf - ze)[:, None] * front**0.85, ze[:, None] + (ze - zb)[:, None] * cos)
    points = np.stack([w[:, None] * np.sin(theta) * grow, np.repeat(y[:, None], theta.size, 1), z * grow], -1)
    # Hair lies flat where it grows from the skin: no gap between it and the forehead, from whichever side it is seen.
    degrees = np.degrees(theta)
    skin = head.surface(degrees, v[:crown_rows, None])
    rooted = hair.low(degrees[0], stretch)[None] - skin[..., 1]
    full = np.sqrt(np.clip(rooted / 0.32, 0.0, 1))
    if hair.covers_ears:
        full = np.where(np.abs(degrees) > 60, np.maximum(full, np.clip((np.abs(degrees) - 60) / 15, 0, 1)), full)
    points[:crown_rows] = skin + full[..., None] * (points[:crown_rows] - skin)

    # Sorted by cells, hair and shoulders would cut through each other in steps: what falls down the back is behind
    # them.
    behind = np.zeros(z.shape)
    behind[crown_rows:, np.abs(theta[0]) > np.radians(112)] = -5.0
    return _sheet(
        points, view, light, _strands(hair, rng, y, stretch, height, width),
        gloss=(16 + 0.075 * sum(hair.colour)) * (1 - 0.6 * hair.curl), bias=0.02 + behind,
        strands=True, two_sided=crown_rows if hair.bottom > 1 else sys.maxsize,
    )  # fmt: skip


def _strands(
    hair: Hair, rng: np.random.Generator, rows: Array, stretch: float, height: int, width: int
) -> NDArray[np.uint8]:
    """Texture of hair whose rows of vertices are at heights ``rows``: strands or curls, a parting, ragged tips."""
    curly = hair.curl > 0.35
    # Strands are narrow across and long.
    height = height * 3 // 4
    grain = _grown(rng, (max(2, height // (9 if curly else 40)), width // 2), (height, width))
    locks = _grown(rng, (22 if curly else 4, width // (20 if curly else 14)), (height, width))
    shade = Image.blend(grain, locks, 0.5)
    row_y = np.interp((np.arange(height) + 0.5) / height * (len(rows) - 1), np.arange(len(rows)), rows)
    if hair.part is not None:
        at = (hair.part / HAIR_REACH + 1) * 0.5 * width
        ImageDraw.Draw(shade).line(
            (at, 0, at, float(np.searchsorted(row_y, -1.15))), fill=50, width=max(1, width // 140)
        )
    table = np.empty((256, 4), np.uint8)
    table[:, :3] = np.clip(np.outer(np.linspace(0.52, 1.32, 256), hair.colour), 0, 255)
    table[:, 3] = HAIR
    texture = table.view(np.uint32)[:, 0].take(np.asarray(shade))
    angle = (2 * (np.arange(width) + 0.5) / width - 1) * HAIR_REACH
    tips = _field(rng, (1, width // 3), (1, width))[0] + _field(rng, (1, width // 11), (1, width))[0]
    tips += 1.2 * _field(rng, (1, width // 40), (1, width))[0]
    edge = hair.low(angle, stretch) + hair.ragged * tips * np.where(np.abs(angle) > 60, 1.6, 1.0)
    texture |= np.where(row_y[:, None] < edge[None], np.uint32(0), np.uint32(CLEAR << 24))
    return texture.view(np.uint8).reshape(height, width, 4)


def _grown(rng: np.random.Generator, cells: tuple[int, int], shape: tuple[int, int]) -> Image.Image:
    """Smooth noise in 0..255."""
    seedling = Image.fromarray(rng.integers(0, 256, (max(cells[0], 1), max(cells[1], 1)), dtype=np.uint8))
    return seedling.resize((shape[1], shape[0]), Image.Resampling.BILINEAR)


def _field(rng: np.random.Generator, cells: tuple[int, int], shape: tuple[int, int]) -> NDArray[np.float32]:
    """Smooth noise in -1..1."""
    return np.asarray(_grown(rng, cells, shape), np.float32) / np.float32(127.5) - 1


def _glasses(head: Head, look: Look, view: View, light: Light) -> list[Sheet]:
    power, half_w, half_h = {"round": (2.0, 0.255, 0.235), "square": (4.5, 0.275, 0.20), "wide": (3.0, 0.29, 0.175)}[
        look.glasses or "round"
    ]
    texture = _plain(look.frame, UNLABELLED)
    turn = np.linspace(0, 2 * np.pi, 33)
    cos, sin = np.cos(turn), np.sin(turn)
    ring = np.stack([np.sign(cos) * np.abs(cos) ** (2 / power), np.sign(sin) * np.abs(sin) ** (2 / power)], 1)

    def place(xy: Array) -> Array:
        # On a gently bent plane in front of the eyes.
        return np.concatenate([xy, 1.09 - 0.26 * xy[..., :1] ** 2], -1)

    def ribbon(a: Array, b: Array) -> Sheet:
        return _sheet(np.stack([a, b]), view, light, texture, gloss=30, bias=0.03, two_sided=0)

    sheets, corners = [], []
    for index, side in ((RIGHT_EYE, -1.0), (LEFT_EYE, 1.0)):
        centre = head.points[index].mean(0) * (1, 0) + (0.035 * side, 0.06)
        rim = np.array([half_w, half_h])
        sheets.append(ribbon(place(centre + ring * rim), place(centre + ring * (rim - 0.028))))
        corners.append(centre + np.array([half_w * side, -0.05]))
        start = place(np.array([corners[-1]]))[0]
        ear = np.array([1.05 * side, -0.02, -0.15])
        arm = start + (ear - start) * np.linspace(0, 1, 9)[:, None]
        arm[:, 0] += 0.06 * side * np.sin(np.linspace(0, np.pi, 9))
        sheets.append(ribbon(arm, arm + np.array([0, 0.035, 0])))
    inner = [
        head.points[index].mean(0)[0] + (0.035 - half_w) * side for index, side in ((RIGHT_EYE, -1), (LEFT_EYE, 1))
    ]
    bridge = np.stack([np.linspace(inner[0], inner[1], 7), 0.03 - 0.05 * np.sin(np.linspace(0, np.pi, 7))], 1)
    sheets.append(ribbon(place(bridge), place(bridge + np.array([0, 0.032]))))
    return sheets
