"""Colour what a mask holds, for real: hair dye and lipstick. Stateless, as overlay.py: each returns a new image.

image, masks --window of the mask--> pixels with alpha = soft mask x strength --sRGB to CIELAB--> lightness through one
    rising curve, the colour's own hue and chroma --CIELAB to sRGB--> mixed with the picture by alpha

Strands, creases and highlights live in the lightness; a rising curve keeps their order. Pixels whose alpha is too small
to change any value by half a grey level are left alone, so that nothing outside of the mask changes, and nothing is
wasted on it. CIELAB as CIE 15 defines it, white D65, colours as sRGB (IEC 61966-2-1).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pocketface.sdk.errors import BadInputError
from pocketface.sdk.images import check_array
from pocketface.sdk.results import Mask

Colour = tuple[int, int, int]

VISIBLE = 0.5 / 255
"""Smallest alpha that can change a value after rounding."""

_TOE = 8.0
"""Lightness at which the curve is bent as if it lay this far above black: without it, the noise of black hair would be
stretched without bound when it is brightened."""

_STEPS = 512
"""Parts of the lightness's range for which the new colour is worked out."""

_BLOCK = 16384
"""Pixels that are worked on at once, so that they stay in the processor's cache."""

_LEVELS = 16383
"""Parts of the luminance's range: one is 0.06 of lightness at black, less elsewhere."""

_TO_XYZ = np.array(
    [[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]], np.float32
)
_FROM_XYZ = np.linalg.inv(_TO_XYZ.astype(np.float64)).astype(np.float32)
_WHITE = np.array([0.95047, 1.0, 1.08883], np.float32)
_SRGB = np.arange(256) / 255
_LINEAR = np.where(_SRGB <= 0.04045, _SRGB / 12.92, ((_SRGB + 0.055) / 1.055) ** 2.4).astype(np.float32)
_PARTS = (_LINEAR[None] * _TO_XYZ[1][:, None] * _LEVELS).astype(np.float32)


def _root(ratio: NDArray[np.float32]) -> NDArray[np.float32]:
    """CIELAB's cube root, a line near black."""
    return np.where(ratio > 0.008856, np.cbrt(ratio), 7.787 * ratio + np.float32(16 / 116)).astype(np.float32)


_LIGHT = 116 * _root(np.linspace(0, 1, _LEVELS + 1, dtype=np.float32)) - 16
"""Luminance level -> CIELAB lightness."""


@dataclass(frozen=True)
class HairDye:
    """Hair in another colour.

    Attributes:
        colour: RGB of the dye, as it looks on hair of its own lightness.
        strength: 0 leaves the picture as it is, 1 gives the dye's hue and chroma in full.
        lift: how far the hair's mean lightness goes towards the dye's, from 0 to 1. Dark hair needs some, or no colour
            would show.
        classes: names of the classes that are dyed.
    """

    colour: Colour
    strength: float = 0.8
    lift: float = 0.5
    classes: tuple[str, ...] = ("hair",)

    def __call__(self, image: NDArray[np.uint8], masks: Sequence[Mask]) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 -> the same with the hair dyed.

        Raises:
            BadInputError: no image, a mask of another size, a value out of range, or a class that the mask has not.
        """
        _check_shares(strength=self.strength, lift=self.lift)
        return _recoloured(image, masks, self.classes, self.colour, self.strength, self.lift, 0.0)


@dataclass(frozen=True)
class Lipstick:
    """Lips in another colour.

    Attributes:
        colour: RGB of the lipstick.
        strength: 0 leaves the picture as it is, 1 gives the lipstick's hue and chroma in full.
        gloss: 0 is matt; up to 1 brightens the lips' own highlights.
        lift: how far the lips' mean lightness goes towards the lipstick's, from 0 to 1.
        classes: names of the classes that are painted.
    """

    colour: Colour
    strength: float = 0.7
    gloss: float = 0.0
    lift: float = 0.6
    classes: tuple[str, ...] = ("upper lip", "lower lip")

    def __call__(self, image: NDArray[np.uint8], masks: Sequence[Mask]) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 -> the same with the lips painted.

        Raises:
            BadInputError: no image, a mask of another size, a value out of range, or a class that the mask has not.
        """
        _check_shares(strength=self.strength, gloss=self.gloss, lift=self.lift)
        return _recoloured(image, masks, self.classes, self.colour, self.strength, self.lift, self.gloss)


def to_lab(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(..., 3) uint8 sRGB -> float32 CIELAB: L in [0, 100], a, b."""
    f = _root((_LINEAR[pixels] @ _TO_XYZ.T) / _WHITE)
    lab = [116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])]
    return np.stack(lab, axis=-1).astype(np.float32)


def from_lab(lab: NDArray[np.float32]) -> NDArray[np.float32]:
    """(..., 3) CIELAB -> float32 sRGB in [0, 255], not rounded; what sRGB cannot show is clipped."""
    linear = _linear(lab).clip(0, 1)
    levels = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * np.power(linear, np.float32(1 / 2.4)) - 0.055)
    return (255 * levels).clip(0, 255).astype(np.float32)


def _linear(lab: NDArray[np.float32]) -> NDArray[np.float32]:
    """CIELAB -> linear RGB, outside of [0, 1] for what sRGB cannot show."""
    y = (lab[..., 0] + 16) / 116
    f = np.stack([y + lab[..., 1] / 500, y, y - lab[..., 2] / 200], axis=-1)
    xyz = np.where(f > 0.2068966, f**3, (f - np.float32(16 / 116)) / 7.787) * _WHITE
    return (xyz @ _FROM_XYZ.T).astype(np.float32)


def _check_shares(**shares: float) -> None:
    for name, value in shares.items():
        if not 0 <= value <= 1:
            raise BadInputError(f"{name} {value!r}", expected="0 to 1")


def _recoloured(
    image: NDArray[np.uint8],
    masks: Sequence[Mask],
    classes: tuple[str, ...],
    colour: Colour,
    strength: float,
    lift: float,
    gloss: float,
) -> NDArray[np.uint8]:
    check_array(image)
    if len(colour) != 3 or not all(0 <= value <= 255 for value in colour):
        raise BadInputError(f"colour {colour}", expected="red, green and blue from 0 to 255")
    result = image.copy()  # contiguous, whatever the image was
    flat = result.reshape(-1, 3)
    for mask in masks:
        view, soft = mask.soft_window(classes, image)
        inside = np.flatnonzero(soft >= VISIBLE / strength) if strength else np.zeros(0, np.intp)
        if not inside.size:
            continue
        # From counting in the window to counting in the image.
        skipped = image.shape[1] - soft.shape[1]
        where = inside + (inside // soft.shape[1]) * skipped + (view.y0 * image.shape[1] + view.x0)
        weight = soft.ravel().take(inside)
        blocks = [slice(start, start + _BLOCK) for start in range(0, len(where), _BLOCK)]
        level = np.concatenate([luminance_level(flat.take(where[block], axis=0)) for block in blocks])
        # Its own lightness is that of the pixels that surely belong to it: the border is half skin or background.
        mean = float(np.average(_LIGHT.take(level), weights=np.square(np.square(weight))))
        table = _table(mean, colour, lift, gloss)
        for block in blocks:
            pixels = flat.take(where[block], axis=0)
            change = table.take(level[block], axis=0)  # many times as fast as table[level]
            change -= pixels
            change *= (weight[block] * np.float32(strength)).clip(0, 1)[:, None]
            change += pixels
            flat[where[block]] = np.rint(change, out=change).astype(np.uint8)
    return result


def _table(mean: float, colour: Colour, lift: float, gloss: float) -> NDArray[np.float32]:
    """Luminance level -> (3,) float32 sRGB after, for pixels of this mean lightness. The new colour follows from the
    old luminance alone, so it is worked out for some lightnesses, and in between by straight lines.
    """
    steps = np.linspace(0, 100, _STEPS + 1, dtype=np.float32)
    ramp = _ramp(steps, mean, colour, lift, gloss)
    return np.stack([np.interp(_LIGHT, steps, ramp[:, channel]) for channel in range(3)], axis=1).astype(np.float32)


def luminance_level(pixels: NDArray[np.uint8]) -> NDArray[np.intp]:
    """(n, 3) uint8 sRGB -> (n,) luminance Y in [0, 1], in parts of ``_LEVELS``: sums of three looked-up numbers."""
    red, green, blue = (_PARTS[channel][pixels[:, channel]] for channel in range(3))
    return np.asarray(np.rint(red + green + blue), np.intp)


def _ramp(steps: NDArray[np.float32], mean: float, colour: Colour, lift: float, gloss: float) -> NDArray[np.float32]:
    """(n,) lightness before -> (n, 3) float32 sRGB after, for pixels of this mean lightness."""
    target, a, b = (float(value) for value in to_lab(np.array(colour, np.uint8)))
    light = _tone(steps, mean, mean + lift * (target - mean))
    if gloss:
        light = light + gloss * (100 - light) * _rise((steps - np.float32(mean)) / np.float32(25))
    # Less light on the same colour scales L + 16, a and b alike; a highlight fades to the light's own white. And never
    # more than sRGB can show: clipped channels would change the hue.
    shade, shine = (light + 16) / (target + 16), (100 - light) / max(100 - target, 1.0)
    chroma = np.minimum(1, np.minimum(shade, shine)).astype(np.float32)

    def with_chroma(share: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.stack([light, a * share, b * share], axis=-1).astype(np.float32)

    low, high = np.zeros_like(chroma), chroma
    for _ in range(10):
        middle = (low + high) / 2
        linear = _linear(with_chroma(middle))
        shown = ((linear >= -1e-4) & (linear <= 1 + 1e-4)).all(axis=-1)
        low, high = np.where(shown, middle, low), np.where(shown, high, middle)
    return from_lab(with_chroma(low))


def _tone(light: NDArray[np.float32], mean: float, wanted: float) -> NDArray[np.float32]:
    """Lightness through a power curve that never falls, keeps white, and brings ``mean`` to ``wanted``."""
    span = 100 + _TOE
    low, high = ((min(max(value, 1.0), 99.0) + _TOE) / span for value in (mean, wanted))
    power = math.log(high) / math.log(low)
    return (((light.clip(0, 100) + _TOE) / span) ** power * span - _TOE).clip(0, 100).astype(np.float32)


def _rise(value: NDArray[np.float32]) -> NDArray[np.float32]:
    """Smooth step from 0 at 0 to 1 at 1."""
    value = value.clip(0, 1)
    return value * value * (3 - 2 * value)
