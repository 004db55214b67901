"""Around a drawn face: backgrounds, light, and what a camera does to the picture."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Light:
    """One lamp far away, and what comes from everywhere.

    Args:
        toward: unit vector to the lamp; x right, y down, z to the viewer.
        key, ambient: red, green, blue, where the sum of both is about 1 for a surface that faces the lamp.
    """

    toward: tuple[float, float, float]
    key: tuple[float, float, float]
    ambient: tuple[float, float, float]

    @classmethod
    def sample(cls, rng: np.random.Generator) -> Light:
        """A lamp somewhere in front of the face, mostly above it."""
        azimuth, height = np.radians(rng.uniform(-68, 68)), np.radians(np.clip(rng.normal(26, 18), -12, 65))
        warm, cool = rng.normal(0, 0.05), rng.normal(0, 0.035)
        share = rng.uniform(0.36, 0.60)
        level = rng.uniform(0.98, 1.16)
        toward = (np.sin(azimuth) * np.cos(height), -np.sin(height), np.cos(azimuth) * np.cos(height))
        key = (1 - share) * level * 1.12 * np.array([1 + warm, 1.0, 1 - warm])
        ambient = share * level * np.array([1 + cool, 1.0, 1 - cool])
        return cls(tuple(toward), tuple(key), tuple(ambient))

    def shade(self, points: Array, *, gloss: float, strands: bool = False) -> tuple[Array, Array]:
        """Light on a grid of vertices.

        Args:
            points: (r, c, 3), rotated; columns run to the right and rows down where the surface faces the viewer.
            gloss: strength of the highlight, added to colours in 0..255.
            strands: highlights of hair that lies along the rows' direction, instead of skin's.

        Returns:
            (r, c, 3) factors for the texture's colour, and (r, c) highlights.
        """
        down = np.gradient(points, axis=0)
        normal = np.cross(np.gradient(points, axis=1), down)
        normal /= np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), 1e-9)
        if strands:
            normal *= np.where(normal[..., 2:] < 0, -1, 1)
        toward = np.array(self.toward)
        wrap = np.clip((normal @ toward + 0.22) / 1.22, 0, 1)
        sky = 0.86 - 0.22 * normal[..., 1] + 0.06 * normal[..., 2]
        # Light that went under the skin comes out red: the terminator is softer in red than in blue.
        diffuse = np.stack([wrap**0.9, wrap, wrap**1.08], -1) if not strands else np.repeat(wrap[..., None], 3, -1)
        factors = sky[..., None] * np.array(self.ambient) + diffuse * np.array(self.key)
        half = toward + np.array([0, 0, 1])
        half /= np.linalg.norm(half)
        if strands:
            along = down / np.maximum(np.linalg.norm(down, axis=-1, keepdims=True), 1e-9)
            shine = np.clip(1 - (along @ half) ** 2, 0, 1) ** 14 * wrap
        else:
            shine = np.clip(normal @ half, 0, 1) ** 16
        return factors, gloss * shine


def _noise(rng: np.random.Generator, cells: int, size: int) -> NDArray[np.float32]:
    """Smooth noise in 0..1, (size, size, 1)."""
    seedling = rng.integers(0, 256, (cells, cells), dtype=np.uint8)
    grown = Image.fromarray(seedling).resize((size, size), Image.Resampling.BICUBIC)
    return np.asarray(grown, np.float32)[..., None] / np.float32(255)


def _palette(rng: np.random.Generator, count: int) -> Array:
    """Colours that go together: one hue and its neighbours, of varied brightness, (count, 3) in 0..255."""
    base = rng.uniform(30, 225, 3)
    grey = base.mean()
    dull = rng.uniform(0.05, 0.65)
    return np.clip(grey + (base - grey) * dull + rng.normal(0, 36, (count, 1)) + rng.normal(0, 11, (count, 3)), 4, 251)


def background(rng: np.random.Generator, size: int) -> NDArray[np.uint8]:
    """A background, (size, size, 3): a gradient or clouds, then shapes of one kind, then blur and texture."""
    colours = _palette(rng, 12)
    angle = rng.uniform(0, 2 * np.pi)
    coarse = max(8, size // 3)  # enough for what is smooth anyway
    line = (np.arange(coarse) + 0.5) / coarse - 0.5
    ramp = np.cos(angle) * line[None, :] + np.sin(angle) * line[:, None]
    if rng.uniform() < 0.35:
        at = rng.uniform(-0.4, 0.4, 2)
        ramp = np.hypot(line[None, :] - at[0], line[:, None] - at[1]) - 0.4
    ramp = np.clip(ramp / 1.2 + 0.5, 0, 1).astype(np.float32)[..., None]
    first, second, third = colours[:3].astype(np.float32)
    picture = first + (second - first) * ramp
    clouds = sum(_noise(rng, cells, coarse) * np.float32(weight) for cells, weight in ((3, 0.5), (7, 0.3), (17, 0.2)))
    picture += (third - picture) * clouds * np.float32(rng.uniform(0, 0.9))
    image = Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8)).resize((size, size), Image.Resampling.BICUBIC)
    pen = ImageDraw.Draw(image)
    kind = int(rng.integers(0, 7))
    for number in range(int(rng.integers(6, 26)) if kind else 0):
        colour = tuple(int(c) for c in colours[3 + number % 9])
        x, y, a, b = (float(k) for k in rng.uniform(0, 1, 4) * size)
        if kind == 1:  # lights out of focus
            r = (0.02 + 0.09 * a / size) * size
            pen.ellipse((x - r, y - r, x + r, y + r), fill=colour)
        elif kind == 2:  # furniture, windows
            pen.rectangle((x, y, x + 0.1 * size + a / 2.5, y + 0.1 * size + b / 2), fill=colour)
        elif kind == 3:  # pipes, cables, branches
            pen.line((x, y, a, b), fill=colour, width=max(1, round(size * (0.006 + 0.02 * (number % 3)))))
        elif kind == 4:  # leaves
            for leaf in rng.uniform(-0.12, 0.12, (6, 2)) * size:
                ex, ey, er = x + leaf[0], y + leaf[1], size * (0.015 + 0.02 * a / size)
                pen.ellipse((ex - er, ey - 2 * er, ex + er, ey + 2 * er), fill=colour)
        elif kind == 5:  # stripes and panels
            pen.rectangle((x, -1, x + 0.02 * size + a / 9, size), fill=colour)
        else:  # facets
            pen.polygon([(x, y), (x + (a - size / 2) * 0.7, y + b * 0.5), (x - b * 0.4, y + a * 0.4)], fill=colour)
    blur = float(rng.choice([0.0, 0.004, 0.012, 0.03])) * size
    if blur:
        image = image.filter(ImageFilter.GaussianBlur(blur))
    strength = rng.uniform(0, 22, 2).astype(np.float32)
    grain = strength[0] * _noise(rng, max(4, size // 2), size) + strength[1] * _noise(rng, max(4, size // 9), size)
    textured = np.asarray(image) + (grain - 0.5 * strength.sum())
    return np.clip(textured, 0, 255).astype(np.uint8)


# Normal deviates in 256 steps, for noise at the price of a byte each.
_NORMAL = np.array([NormalDist().inv_cdf((k + 0.5) / 256) for k in range(256)], np.float32)


def develop(picture: NDArray[np.uint8], tone: np.random.Generator, noise: np.random.Generator) -> NDArray[np.uint8]:
    """Exposure, contrast and white balance (one draw of ``tone`` a person), then sensor noise (of ``noise``, a
    frame)."""
    gain, contrast, grain = tone.uniform(0.90, 1.18), tone.uniform(0.82, 1.15), abs(tone.normal(0, 2.2)) + 0.4
    balance = 1 + tone.normal(0, 0.03, 3)
    levels = np.arange(256, dtype=np.float64)
    table = (levels[:, None] * gain * balance - 118) * contrast + 118
    developed = np.clip(table, 0, 255).astype(np.float32)
    out = np.empty(picture.shape, np.float32)
    for channel in range(3):
        out[..., channel] = developed[:, channel].take(picture[..., channel])
    out += (_NORMAL * np.float32(grain)).take(noise.integers(0, 256, picture.shape, dtype=np.uint8))
    np.clip(out, 0, 255, out=out)
    return (out + np.float32(0.5)).astype(np.uint8)
