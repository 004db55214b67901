"""The texture of a drawn head: skin with its shadows, eyes, brows, nose, lips, beard, and the label of every texel.

Everything is drawn in the face plane and carried onto the texture (theta across, v down) through ``Head.locate``, in
the
same place as the landmarks: the edges of eyes, lips and nose run through their points.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw, ImageFilter

from pocketface.benchmarks.data.synthetic_canvas import (
    HAIR,
    INNER_MOUTH,
    LEFT_BROW_ID,
    LEFT_EYE_ID,
    LOWER_LIP,
    NOSE,
    RIGHT_BROW_ID,
    RIGHT_EYE_ID,
    UPPER_LIP,
    Canvas,
    offset,
    tint,
)
from pocketface.benchmarks.data.synthetic_look import Colour, Hair, Look
from pocketface.benchmarks.data.synthetic_raster import CLEAR
from pocketface.benchmarks.data.synthetic_shape import LEFT_BROW, LEFT_EYE, RIGHT_BROW, RIGHT_EYE, Array, Head, curve


def paint_head(head: Head, look: Look, rng: np.random.Generator, height: int, width: int) -> NDArray[np.uint8]:
    """Texture of a head, (height, width, 4) uint8: red, green, blue, label."""
    canvas = Canvas(head, height, width, _skin(head, look, rng, height // 5, width // 5))
    _freckles(canvas, look, rng)
    _nose(canvas, look)
    if look.beard != "none":
        _beard(canvas, look, rng)
    _mouth(canvas, look)
    for points, sign, brow, eye_id, brow_id in (
        (RIGHT_EYE, -1, RIGHT_BROW, RIGHT_EYE_ID, RIGHT_BROW_ID),
        (LEFT_EYE, 1, LEFT_BROW, LEFT_EYE_ID, LEFT_BROW_ID),
    ):
        _eye(canvas, look, points, sign, eye_id)
        _brow(canvas, look, rng, brow, sign, brow_id)
    if look.hair:
        _scalp(canvas, look.hair)
    canvas.colour.putalpha(canvas.labels)
    return np.asarray(canvas.colour)


def _scalp(canvas: Canvas, hair: Hair) -> None:
    """Roots under the hair, so that no skin shows between its tips."""
    width, height = canvas.size
    theta = np.linspace(-Head.REACH, Head.REACH, 161)
    low = hair.roots(theta, canvas.head.stretch)
    across = (theta / Head.REACH + 1) * 0.5 * width
    ends = [(width, -1.0), (0.0, -1.0)]

    def above(y: Array) -> list[tuple[float, float]]:
        return [*zip(across.tolist(), (canvas.head.row(y) * height - 0.5).tolist(), strict=True), *ends]

    reach = min(int(canvas.head.row(low.max()) * height) + 2, height)
    mask = Image.new("L", (width, reach))
    ImageDraw.Draw(mask).polygon(above(low), fill=215)
    canvas.colour.paste(tint(hair.colour, 0.7), (0, 0, width, reach), mask)
    pen = ImageDraw.Draw(canvas.labels)
    pen.polygon(above(low), fill=HAIR)
    # Deep under the hair, even seen past its edge, the scalp is hidden: not drawn at all.
    around = np.lib.stride_tricks.sliding_window_view(np.pad(low, 14, mode="edge"), 29)
    pen.polygon(above(around.min(1) - 0.15), fill=CLEAR)


def _skin(head: Head, look: Look, rng: np.random.Generator, height: int, width: int) -> NDArray[np.uint8]:
    """Skin with the shadows that its folds cast on themselves, at a low resolution."""
    p, smile = head.points, max(head.does.smile, 0)
    v = (np.arange(height) + 0.5)[:, None] / height
    theta = (2 * (np.arange(width) + 0.5) / width - 1)[None] * Head.REACH
    w, y = head.at(v)
    x = w * np.sin(np.radians(theta))
    a, y = np.abs(x), np.broadcast_to(y, x.shape)

    def spot(cx: float, cy: float, sx: float, sy: float) -> Array:
        return np.exp(-(((a - cx) / sx) ** 2) - ((y - cy) / sy) ** 2)

    eye, wing, base = np.abs(p[LEFT_EYE]).mean(0), np.abs(p[[31, 35], 0]).mean(), p[33, 1]
    lid, chin = p[[43, 44], 1].mean(), p[8, 1]
    shade = 1 - 0.22 * spot(0.19, -0.03, 0.09, 0.10) - 0.17 * spot(eye[0], lid - 0.05, 0.24, 0.07)
    shade -= (0.06 + 0.10 * look.age) * spot(eye[0] - 0.04, 0.20, 0.18, 0.05)
    shade -= 0.07 * spot(wing + 0.02, base - 0.30, 0.05, 0.20) + 0.22 * spot(0.0, base + 0.055, 0.20, 0.045)
    shade -= 0.20 * spot(0.0, p[57, 1] + 0.075, 0.20, 0.045) + 0.14 * spot(p[54, 0] + 0.035, p[54, 1], 0.05, 0.06)
    shade -= 0.05 * spot(0, base + 0.13, 0.03, 0.06)
    shade -= 0.22 * np.exp(-(((y - chin) / 0.10) ** 2)) + 0.10 * np.clip((np.abs(theta) - 72) / 30, 0, 1)
    shade += (
        0.05 * spot(0, -0.75, 0.45, 0.22)
        + 0.05 * spot(0.52, 0.42, 0.2, 0.16)
        + 0.07 * spot(0, p[30, 1] - 0.2, 0.05, 0.3)
    )
    if look.hair:
        edge = (y - look.hair.roots(theta[0], head.stretch)[None]) / 0.13
        shade -= 0.28 * np.exp(-np.maximum(edge, 0))
    fold = Image.new("L", (width, height))
    pen = ImageDraw.Draw(fold)
    depth = 0.30 * look.age + 0.32 * smile + 0.05
    for side in (-1, 1):
        crease = np.array([(wing + 0.06, base - 0.12), (wing + 0.16, base + 0.04), (p[54, 0] + 0.08, p[54, 1] - 0.04)])
        at = _low(head, curve(crease * (side, 1), 4), height, width)
        pen.line(at, fill=int(255 * min(depth, 0.7)), width=max(1, height // 80))
        for wrinkle in range(3 if look.age > 0.55 else 0):
            level = -0.95 + 0.13 * wrinkle
            brow_line = [(side * k, level + 0.03 * np.sin(7 * k + wrinkle)) for k in np.linspace(0, 0.5, 5)]
            pen.line(_low(head, brow_line, height, width), fill=int(170 * (look.age - 0.4)), width=1)
    shade -= 0.5 * np.asarray(fold.filter(ImageFilter.GaussianBlur(max(1.0, height / 100)))) / 255.0

    red = (0.3 + 0.5 * look.blush) * (spot(0.58, 0.52, 0.22, 0.18) + 0.8 * spot(0, p[30, 1], 0.13, 0.12))
    red += 0.3 * spot(0, chin - 0.15, 0.2, 0.12) + 0.35 * np.clip((np.abs(theta) - 85) / 20, 0, 1)
    red += 0.35 * spot(eye[0], lid - 0.03, 0.2, 0.05)
    blotches = Image.fromarray(rng.integers(0, 256, (max(2, height // 5), max(2, width // 5)), dtype=np.uint8))
    spots = np.asarray(blotches.resize((width, height), Image.Resampling.BICUBIC)) / 255.0 - 0.5
    shade = shade * (1 + (0.06 + 0.06 * look.age) * spots)
    # Shadows on skin are warm: blue and green fall faster than red.
    channels = [
        look.skin[c] * np.clip(shade, 0.25, 1.2) ** power * (1 - drop * red)
        for c, (power, drop) in enumerate(((0.85, -0.02), (1.05, 0.13), (1.15, 0.10)))
    ]
    return np.clip(np.stack(channels, -1), 0, 255).astype(np.uint8)


def _low(head: Head, xy: ArrayLike, height: int, width: int) -> list[tuple[float, float]]:
    theta, v = head.locate(xy)
    return list(zip(((theta / Head.REACH + 1) * 0.5 * width).tolist(), (v * height).tolist(), strict=True))


def _freckles(canvas: Canvas, look: Look, rng: np.random.Generator) -> None:
    count = int(90 * look.freckles)
    spots = np.stack([rng.normal(0, 0.42, count), rng.normal(0.36, 0.2, count)], 1)
    moles = rng.uniform((-0.8, -0.9), (0.8, 1.5), (int(rng.integers(0, 3)), 2))
    pen = ImageDraw.Draw(canvas.colour)
    for group, radius, tone in ((spots, 0.009, 0.86), (moles, 0.016, 0.55)):
        r = radius * canvas.unit
        at = canvas.texels(group)
        for x, y in zip(at[::2], at[1::2], strict=True):
            pen.ellipse((x - r, y - r, x + r, y + r), fill=tint(look.skin, tone))


def _nose(canvas: Canvas, look: Look) -> None:
    p = canvas.head.points
    top, tip, base = p[27, 1], p[30, 1], p[33, 1]
    wing = np.abs(p[[31, 35], 0]).mean()
    side = np.array([(0.075, top), (0.075, top + 0.16), (0.11, (top + tip) / 2 + 0.05), (wing - 0.03, tip - 0.03),
                     (wing + 0.025, tip + 0.06)])  # fmt: skip
    flank = curve(side, 4)
    shift = p[33, 0]
    lean = np.clip((flank[:, 1:] - top) / (base - top), 0, 1) * (shift, 0)
    outline = np.vstack([flank * (-1, 1) + lean, curve(p[31:36], 4), (flank + lean)[::-1]])
    canvas.label(outline, NOSE)
    dark = tint(look.skin, 0.62)
    for sign in (-1, 1):
        crease = np.array([(wing - 0.02, tip - 0.02), (wing + 0.035, tip + 0.05), (wing + 0.02, base - 0.08)])
        canvas.fill(curve(crease * (sign, 1) + (shift, 0), 4), dark, opacity=0.75, soft=0.012, width=0.018)
        turn = np.linspace(0, 2 * np.pi, 14)
        hole = np.stack(
            [0.5 * wing + 0.052 * np.cos(turn), base - 0.035 + 0.028 * np.sin(turn) - 0.012 * np.cos(turn)], 1
        )
        canvas.fill(hole * (sign, 1) + (shift, 0), tint(look.skin, 0.24), opacity=0.95, soft=0.008)
    canvas.fill(curve(p[31:36] + offset(0, 0.005), 4), dark, opacity=0.6, soft=0.012, width=0.02)


def _mouth(canvas: Canvas, look: Look) -> None:
    p = canvas.head.points
    outer_top, outer_low = curve(p[48:55], 5), curve(p[[54, 55, 56, 57, 58, 59, 48]], 5)
    inner_top, inner_low = curve(p[60:65], 5), curve(p[[64, 65, 66, 67, 60]], 5)
    upper = np.vstack([outer_top, inner_top[::-1]])
    lower = np.vstack([outer_low, inner_low[::-1]])
    mouth = np.vstack([inner_top, inner_low[1:-1]])
    gap = p[66, 1] - p[62, 1]
    canvas.fill(lower, look.lips, soft=0.010)
    canvas.fill(upper, tint(look.lips, 0.82), soft=0.010)
    shine = np.array([(-0.12, 0), (0, 0.012), (0.12, 0)]) + ((p[66] + p[57]) / 2)
    canvas.fill(curve(shine, 4), tint(look.lips, 1.28), opacity=0.5, soft=0.018, width=0.03)
    canvas.fill(
        np.vstack([outer_low, outer_low[::-1] + offset(0, 0.02)]), tint(look.skin, 0.7), opacity=0.35, soft=0.015
    )
    if gap > 0.035:
        box, mask = canvas.inside(mouth)
        inside = Image.new("RGB", mask.size, (58, 18, 20))
        pen = ImageDraw.Draw(inside)

        def local(xy: ArrayLike) -> list[float]:
            return canvas.texels(xy, (box[0], box[1]))

        tongue = np.stack([0.2 * np.cos(np.linspace(0, 6.3, 20)), 0.12 * np.sin(np.linspace(0, 6.3, 20))], 1)
        pen.polygon(local(tongue + p[66] + offset(0, 0.02)), fill=(150, 66, 68))
        # A band of teeth behind the upper lip; where the lip comes lower, towards the corners, it hides them.
        rim = np.array(
            [(-0.27, -0.05), (-0.27, 0.025), (-0.16, 0.055), (0, 0.065), (0.16, 0.055), (0.27, 0.025), (0.27, -0.05)]
        )
        pen.polygon(local(rim + p[62]), fill=(222, 214, 202))
        for k in np.linspace(-0.2, 0.2, 6):
            pen.line(local(np.array([(k, -0.05), (k, 0.05)]) + p[62]), fill=(190, 180, 168))
        pen.polygon(local(np.vstack([inner_top, (inner_top + offset(0, 0.018))[::-1]])), fill=(96, 46, 44))
        canvas.colour.paste(inside, box, mask)
    canvas.fill(inner_top, tint(look.lips, 0.38), opacity=0.85, soft=0.006, width=0.018)
    canvas.label(np.vstack([outer_top, outer_low[1:-1]]), UPPER_LIP)
    # The lower lip begins at the mouth's line; where the mouth is open, its inside is drawn over both.
    seam = np.vstack([outer_low, (inner_top if gap <= 0.02 else inner_low[::-1])])
    canvas.label(seam, LOWER_LIP)
    if gap > 0.02:
        canvas.label(mouth, INNER_MOUTH)
    for corner in (p[48], p[54]):
        canvas.fill(
            corner + 0.02 * np.array([(-1, 0), (0, -1), (1, 0), (0, 1)]), tint(look.lips, 0.4), opacity=0.8, soft=0.012
        )


def _eye(canvas: Canvas, look: Look, index: NDArray[np.intp], sign: int, label: int) -> None:
    p, does = canvas.head.points, canvas.head.does
    # Both orders start at a corner and run over the upper lid: image left to right.
    upper = curve(p[index[[0, 1, 2, 3]]], 6)
    lower = curve(p[index[[3, 4, 5, 0]]], 6)
    ring = np.vstack([upper, lower[1:-1]])
    width = abs(p[index[3], 0] - p[index[0], 0])
    tall = p[index[[4, 5]], 1].mean() - p[index[[1, 2]], 1].mean()
    canvas.label(ring, label)

    box, mask = canvas.inside(ring)
    white = Image.new("RGB", mask.size, (226, 219, 213))
    pen = ImageDraw.Draw(white)

    def local(xy: ArrayLike) -> list[float]:
        return canvas.texels(xy, (box[0], box[1]))

    inner = p[index[3 if sign < 0 else 0]]
    turn = np.stack([np.cos(np.linspace(0, 6.2, 22)), np.sin(np.linspace(0, 6.2, 22))], 1)
    pen.polygon(local(inner + turn * (0.055, 0.05)), fill=(196, 132, 124))
    middle = np.array([p[index[[0, 3]], 0].mean(), 0.0])
    middle[1] = p[index[[0, 3]], 1].mean() - 0.016
    look_at = middle + np.array(does.gaze) * (0.20 * width, 0.04)
    iris = 0.262 * width
    for radius, bright in ((1.0, 0.42), (0.88, 0.95), (0.66, 1.25)):
        pen.polygon(local(look_at + turn * iris * radius), fill=tint(look.iris, bright))
    pen.polygon(local(look_at + turn * iris * 0.44), fill=(12, 10, 10))
    glint = look_at - offset(0.30, 0.38) * iris
    pen.polygon(local(glint + turn * iris * 0.20), fill=(250, 250, 250))
    canvas.colour.paste(white, box, mask)

    # The lid's shadow on the ball, lashes, the crease above, the lower rim.
    depth = min(0.30 * tall, 0.04)
    shadow = np.vstack([upper, (upper + offset(0, depth))[::-1]])
    canvas.fill(shadow, (40, 26, 24), opacity=0.55, soft=0.008)
    canvas.fill(upper, (24, 16, 15), opacity=0.75 + 0.25 * look.liner, soft=0.004, width=0.022 + 0.014 * look.liner)
    outer = p[index[0 if sign < 0 else 3]]
    flick = np.array([outer, outer + offset(0.035 * sign, -0.012 - 0.02 * look.liner)])
    canvas.fill(flick, (28, 18, 16), opacity=0.7, soft=0.005, width=0.02)
    lift = np.sin(np.linspace(0, np.pi, len(upper)))[:, None] * (0, -0.045) - (0, 0.012)
    canvas.fill(upper + lift, tint(look.skin, 0.55), opacity=0.6 + 0.2 * look.age, soft=0.010, width=0.016)
    canvas.fill(lower, tint(look.skin, 0.52), opacity=0.6, soft=0.006, width=0.014)
    bag = lower + np.sin(np.linspace(0, np.pi, len(lower)))[:, None] * (0, 0.055)
    canvas.fill(bag, tint(look.skin, 0.72), opacity=0.15 + 0.35 * look.age, soft=0.015, width=0.016)


def _brow(canvas: Canvas, look: Look, rng: np.random.Generator, index: NDArray[np.intp], sign: int, label: int) -> None:
    # The points are the brow's upper edge, image left to right; it is thickest towards the nose and ends in a tip.
    top = curve(canvas.head.points[index], 6)
    along = np.linspace(0, 1, len(top)) if sign > 0 else np.linspace(1, 0, len(top))
    thick = look.brow_thickness * np.interp(along, (0, 0.12, 0.5, 1), (0.8, 1.0, 0.9, 0.2))
    bottom = top + np.stack([np.zeros_like(thick), thick], 1)
    shape = np.vstack([top, bottom[::-1]])
    canvas.label(shape, label)
    canvas.fill(shape, look.brow_colour, opacity=0.85 * look.brow_density, soft=0.010)
    # Single hairs, all carried onto the texture at once: fanned outwards and up.
    count = 60
    k = rng.integers(0, len(top), count)
    root = top[k] + (bottom[k] - top[k]) * rng.uniform(0.15, 1.0, (count, 1))
    fan = np.stack([0.055 * sign * rng.uniform(0.5, 1.2, count), -0.9 * thick[k] * rng.uniform(0.2, 0.6, count)], 1)
    tip = root + fan
    tip[:, 1] = np.maximum(tip[:, 1], top[k, 1] - 0.012)
    at = canvas.texels(np.stack([root, tip], 1).reshape(-1, 2))
    pen = ImageDraw.Draw(canvas.colour)
    shades = [tint(look.brow_colour, k) for k in (0.68, 0.78, 0.88, 0.98, 1.08)]
    for n in range(count):
        pen.line(at[4 * n : 4 * n + 4], fill=shades[n % 5], width=max(1, round(0.011 * canvas.unit)))


def _beard(canvas: Canvas, look: Look, rng: np.random.Generator) -> None:
    head, p = canvas.head, canvas.head.points
    width, height = canvas.size
    low_w, low_h = width // 4, height // 4
    v = (np.arange(low_h) + 0.5)[:, None] / low_h
    w, y = head.at(v)
    theta = np.radians((2 * (np.arange(low_w) + 0.5) / low_w - 1)[None] * Head.REACH)
    a, y = np.abs(w * np.sin(theta)), np.broadcast_to(y, (low_h, low_w))
    side = np.abs(theta) > np.pi / 2
    corner, base, lip = np.abs(p[54]), p[33, 1], p[57, 1]
    cheek = np.interp(
        a,
        [0, corner[0] - 0.02, corner[0] + 0.1, 0.75, 0.93, 1.0],
        [lip + 0.13, lip + 0.1, corner[1] - 0.12, 0.75, 0.35, 0.0],
    )
    lower = np.clip((y - cheek) / 0.07, 0, 1)
    mouth_top = np.interp(a, [0, 0.1, corner[0]], [p[51, 1], p[50, 1], corner[1]])
    moustache = np.clip((y - np.interp(a, [0, corner[0], 0.6], [base + 0.075, base + 0.16, base + 0.4])) / 0.05, 0, 1)
    moustache *= np.clip((mouth_top + 0.03 - y) / 0.04, 0, 1) * (a < corner[0] + 0.08)
    # A ring around the mouth, and the chin inside it.
    middle, tall = (base + 0.08 + lip + 0.16) / 2, (lip + 0.16 - base - 0.08) / 2
    ring = np.exp(-(((np.hypot(a / (corner[0] + 0.075), (y - middle) / tall) - 1) / 0.16) ** 2)) * (
        y > corner[1] - 0.12
    )
    goatee = np.clip(1.6 - 13 * a**2, 0, 1) * np.clip((y - lip - 0.09) / 0.06, 0, 1) + ring
    region = {
        "stubble": 0.42 * np.maximum(lower, moustache),
        "moustache": moustache,
        "goatee": np.maximum(goatee, moustache),
        "full": np.maximum(np.maximum(lower, moustache), ring),
    }[look.beard]
    region = np.where(side & (y < 0.2), 0, np.clip(region, 0, 1)) * look.beard_density
    mask = np.asarray(
        Image.fromarray((region * 255).astype(np.uint8)).resize((width, height), Image.Resampling.BILINEAR)
    )
    strands = rng.integers(0, 256, (height // 3, width), dtype=np.uint8)
    grain = np.asarray(Image.fromarray(strands).resize((width, height), Image.Resampling.BILINEAR), np.uint16)
    alpha = np.minimum(mask.astype(np.uint16) * (150 + grain // 2) // 255, 240).astype(np.uint8)
    colour: Colour = look.beard_colour
    if look.beard == "stubble":
        colour = (0.45 * look.skin[0] + 6, 0.46 * look.skin[1] + 6, 0.52 * look.skin[2] + 10)
    canvas.colour.paste(tint(colour), (0, 0, width, height), Image.fromarray(alpha))
