"""Faces in bad conditions, by seed (Dapogny et al., RULe, FG 2023). Numpy and Pillow only.

image, box --draw(spec, name, seed)--> amounts --degrade_image, degrade_box--> Degraded

Light, resolution and noise change the image, which keeps its size and coordinates; scale and translation change the
box from which the crop is cut. Landmarks stay where they are in both. What the paper says of each, and what it leaves
open (then the range is ours, and so is every distribution: uniform, in the range):

- down-sampling: "up to a factor 8" (section IV-D, Fig. 5; x8 also in IV-D on Fig. 7 and, for video, in IV-E). Filters
  are not given: here whole factors, area means, enlarged bilinearly.
- scale: "Sc in [2/3; 4/3]" (IV-D). One factor for both sides, about the box's centre: a crop is a square of the longer
  side, so a change of aspect (delta_w unlike delta_h, eq. 1) would be lost here.
- translation: "tr in [-0.4; 0.4] x iod" (IV-D), iod the distance between the outer eye corners (IV-B); drawn for x and
  y apart.
- hue, saturation, brightness, noise: "random hue/saturation/brightness/noise" (IV-D; additive noise: Fig. 2), contrast
  "random ... brightness/contrast" (III-A.2, III-B.1, abstract). **The paper prints no range for any of them**: these
  are ours. Their meaning is that of ``tf.image.adjust_*``, the paper being trained in TensorFlow (IV-B).
- rotation: none in the paper, none here.
- blur, JPEG: not in the paper; ranges ours.

Order, always: blur, down-sampling, hue, saturation, brightness, contrast, noise (the paper's order of IV-D and Fig. 2,
contrast beside brightness, blur before the sampling that it comes before in a camera), all in float32 without clipping
in between except that hue and saturation see values in range; then clipped and rounded once, half to even; then JPEG.
Factors and widths are in pixels of the image as given: on photos of many sizes they do not all cost a face the same.
"""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pocketface.sdk.errors import BadInputError, ConfigError, UnknownNameError
from pocketface.sdk.geometry import Box
from pocketface.sdk.images import check_array
from pocketface.sdk.manifest import Part

Range = tuple[float, float]
Values = NDArray[np.float32]

FULL = 255.0
BLUR_REACH = 4.0  # standard deviations at which the Gaussian is cut


class DegradeSpec(Part, frozen=True, kw_only=True):
    """How far each degradation may go: (lowest, highest), both included, or None for off. A fixed amount is (x, x).

    Attributes:
        blur: standard deviation of a Gaussian, pixels of the image; 0 is none.
        downsample: whole factor, 1 (none) and up.
        hue: added, in turns of the colour circle, within -0.5 .. 0.5; 0 is none.
        saturation: factor on the saturation of HSV, 0 and up; 1 is none.
        brightness: added to every value, as a share of full scale (255), within -1 .. 1; 0 is none.
        contrast: factor on the distance from each channel's mean over the image, 0 and up; 1 is none.
        noise: standard deviation of Gaussian noise, independent for each value, as a share of full scale; 0 is none.
        jpeg: Pillow's quality, 1 .. 95, with its default subsampling (4:2:0).
        scale: factor on the box's sides, above 0; 1 is none.
        translation: added to the box's x and y (drawn apart), in inter-ocular distances; 0 is none.

    Raises:
        ConfigError: a range that is upside down, not finite, outside these bounds, or not whole where it must be.
    """

    blur: Range | None = None
    downsample: tuple[int, int] | None = None
    hue: Range | None = None
    saturation: Range | None = None
    brightness: Range | None = None
    contrast: Range | None = None
    noise: Range | None = None
    jpeg: tuple[int, int] | None = None
    scale: Range | None = None
    translation: Range | None = None

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            if (given := getattr(self, name)) is None:
                continue
            (least, most), whole = BOUNDS[name], name in WHOLE
            try:
                low, high = (float(value) for value in given)
            except (TypeError, ValueError):
                low = high = math.nan
            # Whatever is compared with NaN is false, so what is no pair of numbers is refused here too.
            if not least <= low <= high <= most or (whole and not (low.is_integer() and high.is_integer())):
                raise ConfigError(
                    f"{name}: {given!r}",
                    expected=f"(lowest, highest), {'whole ' if whole else ''}numbers from {least:g} to {most:g}",
                    next="Correct the range, or leave it out to switch this degradation off",
                )

    def ranges(self) -> Iterator[tuple[str, Range]]:
        """Name and range of each degradation that is on, in the order in which they are applied."""
        for name in self.__struct_fields__:
            limits = getattr(self, name)
            if limits is not None:
                yield name, limits

    def to_dict(self) -> dict[str, list[float]]:
        """JSON-able; only what is on."""
        return {name: list(limits) for name, limits in self.ranges()}


_TINY = 1e-3  # a box or its sides must stay above 0
BOUNDS: Final[Mapping[str, Range]] = MappingProxyType({
    "blur": (0, 100), "downsample": (1, 1024), "hue": (-0.5, 0.5), "saturation": (0, 100), "brightness": (-1, 1),
    "contrast": (0, 100), "noise": (0, 10), "jpeg": (1, 95), "scale": (_TINY, 1000), "translation": (-1000, 1000),
})  # fmt: skip
WHOLE: Final = ("downsample", "jpeg")
"""Drawn as whole numbers."""

DOWNSAMPLE, SCALE, TRANSLATION = (1, 8), (2 / 3, 4 / 3), (-0.4, 0.4)
"""Section IV-D, as printed."""

_PAPER = DegradeSpec(
    downsample=DOWNSAMPLE, hue=(-0.1, 0.1), saturation=(0.3, 1.7), brightness=(-0.3, 0.3), contrast=(0.5, 1.5),
    noise=(0.0, 0.1), scale=SCALE, translation=TRANSLATION,
)  # fmt: skip
_BESIDES = DegradeSpec(blur=(0.0, 3.0), jpeg=(10, 50))
_LIGHT = ("hue", "saturation", "brightness", "contrast", "noise")


def _only(*names: str) -> DegradeSpec:
    every = {**dict(_PAPER.ranges()), **dict(_BESIDES.ranges())}
    return DegradeSpec(**{name: every[name] for name in names})  # type: ignore[arg-type]


SINGLE: Final = (*(name for name, _ in _PAPER.ranges()), *(name for name, _ in _BESIDES.ranges()))
"""Every single degradation: the paper's, then ours."""

DEGRADATIONS: Final[Mapping[str, DegradeSpec]] = MappingProxyType({
    "none": DegradeSpec(),
    **{name: _only(name) for name in SINGLE},
    "downsample-x8": DegradeSpec(downsample=(8, 8)),  # the worst case that the paper names
    "light": _only(*_LIGHT),  # one scenario of Fig. 5
    "box": _only("scale", "translation"),  # another
    "all": _PAPER,  # the paper's "all the degradations at once", with contrast
    "all-and-ours": _only(*SINGLE),  # blur and JPEG besides
})  # fmt: skip
"""Name -> preset."""


def degradation(name: str) -> DegradeSpec:
    """A preset of ``DEGRADATIONS``.

    Raises:
        UnknownNameError: no such name.
    """
    if name not in DEGRADATIONS:
        raise UnknownNameError("degradation", name, DEGRADATIONS)
    return DEGRADATIONS[name]


# Compared by identity: an array has no single truth value.
@dataclass(frozen=True, eq=False)
class Degraded:
    """A degraded face; its landmarks are where they were.

    Attributes:
        image: (H, W, 3) uint8, of the original's size and in its coordinates; the original itself where no pixel
            changes.
        box: where the crop is cut.
        amounts: what was drawn, as ``draw`` gives it.
    """

    image: NDArray[np.uint8]
    box: Box
    amounts: Mapping[str, float] = field(default_factory=dict)


def degrade(image: NDArray[np.uint8], box: Box, spec: DegradeSpec, *, iod: float, name: str, seed: int = 0) -> Degraded:
    """Degrade one face: a function of its arguments and nothing else.

    Args:
        image: (H, W, 3) uint8 RGB; it is not changed.
        box: the face's box in it.
        spec: what may happen.
        iod: the face's inter-ocular distance in pixels, see ``inter_ocular``.
        name: of the face; with the seed it decides every draw.
        seed: of the degraded set.

    Raises:
        BadInputError: not an RGB image of 8 bits, or a box or distance that is not usable.
    """
    check_array(image)
    amounts = draw(spec, name=name, seed=seed)
    return Degraded(
        degrade_image(image, amounts, name=name, seed=seed),
        degrade_box(box, amounts, iod=iod),
        MappingProxyType(amounts),
    )


def draw(spec: DegradeSpec, *, name: str, seed: int = 0) -> dict[str, float]:
    """What happens to one face: degradation -> amount, in the units of ``DegradeSpec``; only what is on.

    Each amount is f(seed, name, degradation, its range): another face, the order, or what else is on does not change
    it, so that a face has the same noise alone and under all. ``translation`` gives ``translation_x`` and ``_y``.
    """
    amounts: dict[str, float] = {}
    for kind, (low, high) in spec.ranges():
        slots = ("translation_x", "translation_y") if kind == "translation" else (kind,)
        for slot in slots:
            share = int.from_bytes(_digest(seed, name, slot)[:8], "little") / 2**64
            if kind in WHOLE:
                amounts[slot] = min(int(low) + int(share * (high - low + 1)), int(high))
            else:
                amounts[slot] = min(max(low + share * (high - low), low), high)
    return amounts


def _digest(seed: int, name: str, slot: str) -> bytes:
    # Whole numbers have one spelling, and the length keeps two different pairs from running together.
    return hashlib.sha256(f"pocketface degrade 1\n{int(seed)}\n{len(name)}\n{name}\n{slot}".encode()).digest()


def inter_ocular(points: NDArray[np.floating], normaliser: tuple[int, int] = (36, 45)) -> float:
    """Distance of the outer eye corners: (n, 2) pixels -> pixels."""
    left, right = (np.asarray(points[index], np.float64) for index in normaliser)
    return float(np.linalg.norm(left - right))


def degrade_box(box: Box, amounts: Mapping[str, float], *, iod: float) -> Box:
    """Scale a box about its centre, then move it.

    Args:
        box: before.
        amounts: from ``draw``; only scale and translation are looked at.
        iod: inter-ocular distance, pixels.

    Raises:
        BadInputError: the box has no area, or the distance is not above 0 though the box is to move.
    """
    box.checked()
    factor = amounts.get("scale", 1.0)
    dx, dy = amounts.get("translation_x", 0.0), amounts.get("translation_y", 0.0)
    if (dx or dy) and not (math.isfinite(iod) and iod > 0):
        raise BadInputError(f"inter-ocular distance {iod}", expected="pixels, above 0: boxes move in units of it")
    if factor != 1:
        (cx, cy), half_x, half_y = _centre(box), box.width * factor / 2, box.height * factor / 2
        box = Box(cx - half_x, cy - half_y, cx + half_x, cy + half_y)
    if dx or dy:
        box = Box(box.x0 + dx * iod, box.y0 + dy * iod, box.x1 + dx * iod, box.y1 + dy * iod)
    return box


def _centre(box: Box) -> tuple[float, float]:
    return (box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2


def degrade_image(
    image: NDArray[np.uint8], amounts: Mapping[str, float], *, name: str, seed: int = 0
) -> NDArray[np.uint8]:
    """Change an image's pixels, in the order that the top of this file gives.

    Args:
        image: (H, W, 3) uint8 RGB; it is not changed.
        amounts: from ``draw``; scale and translation are not looked at.
        name, seed: decide the noise.

    Returns:
        (H, W, 3) uint8 in the same coordinates; the image itself where nothing is to be done.
    """
    values = start = image.astype(np.float32)
    if amounts.get("blur", 0):
        values = _blur(values, amounts["blur"])
    if amounts.get("downsample", 1) != 1:
        values = _enlarge(_reduce(values, int(amounts["downsample"])), int(amounts["downsample"]), values.shape)
    if amounts.get("hue", 0):
        values = _turn_hue(values, amounts["hue"])
    if amounts.get("saturation", 1) != 1:
        values = _saturate(values, amounts["saturation"])
    if amounts.get("brightness", 0):
        values = values + np.float32(amounts["brightness"] * FULL)
    if amounts.get("contrast", 1) != 1:
        mean = values.mean(axis=(0, 1), dtype=np.float64).astype(np.float32)
        values = mean + (values - mean) * np.float32(amounts["contrast"])
    if amounts.get("noise", 0):
        values = values + np.float32(amounts["noise"] * FULL) * _normal(values.shape, name, seed)
    if values is not start:
        image = np.rint(values.clip(0, FULL)).astype(np.uint8)
    if "jpeg" in amounts:
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "JPEG", quality=int(amounts["jpeg"]))
        image = np.array(Image.open(buffer).convert("RGB"))
    return image


def _blur(values: Values, sigma: float) -> Values:
    """Gaussian, row by row and column by column; the border's pixels go on beyond it."""
    reach = int(BLUR_REACH * sigma + 0.5)
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    weights = (weights / weights.sum()).astype(np.float32)
    for axis in (0, 1):
        size, width = values.shape[axis], [(0, 0)] * 3
        width[axis] = (reach, reach)
        padded = np.pad(values, width, mode="edge")
        values = np.zeros_like(values)
        for offset, weight in enumerate(weights):
            values += weight * padded.take(np.arange(offset, offset + size), axis=axis)
    return values


def _reduce(values: Values, factor: int) -> Values:
    """Means of blocks of factor x factor pixels; the last blocks may be cut by the border."""
    for axis in (0, 1):
        starts = np.arange(0, values.shape[axis], factor)
        counts = np.diff(np.append(starts, values.shape[axis])).astype(np.float32)
        shape = (-1, 1, 1) if axis == 0 else (1, -1, 1)
        sums: Values = np.add.reduceat(values, starts, axis=axis)
        values = sums / counts.reshape(shape)
    return values


def _enlarge(values: Values, factor: int, shape: tuple[int, ...]) -> Values:
    """Bilinear between the blocks' centres; block k of a side lies at (k + 0.5) factor - 0.5, as in the original."""
    for axis in (0, 1):
        last = values.shape[axis] - 1
        place = ((np.arange(shape[axis]) + 0.5) / factor - 0.5).clip(0, last)
        low = np.minimum(place.astype(np.intp), max(last - 1, 0))
        share = (place - low).astype(np.float32).reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
        below, above = values.take(low, axis=axis), values.take(np.minimum(low + 1, last), axis=axis)
        values = below * (1 - share) + above * share
    return values


def _turn_hue(values: Values, turns: float) -> Values:
    """Turn the hue of HSV; value and chroma stay."""
    values = values.clip(0, FULL)
    red, green, blue = np.moveaxis(values, 2, 0)
    top, chroma = values.max(axis=2), np.ptp(values, axis=2)
    safe = np.where(chroma > 0, chroma, np.float32(1))
    sixth = np.where(
        top == red, (green - blue) / safe, np.where(top == green, 2 + (blue - red) / safe, 4 + (red - green) / safe)
    )
    sixth = sixth + np.float32(6 * turns)
    out = np.empty_like(values)
    for channel, offset in enumerate((5, 3, 1)):
        place = np.mod(sixth + offset, 6)
        out[:, :, channel] = top - chroma * np.minimum(place, 4 - place).clip(0, 1)
    return out


def _saturate(values: Values, factor: float) -> Values:
    """Multiply the saturation of HSV, at most to 1; value and hue stay."""
    values = values.clip(0, FULL)
    top, chroma = values.max(axis=2, keepdims=True), np.ptp(values, axis=2, keepdims=True)
    most = top / np.where(chroma > 0, chroma, np.float32(1))  # the factor at which the saturation is 1
    return top - (top - values) * np.minimum(np.float32(factor), most)


def _normal(shape: tuple[int, ...], name: str, seed: int) -> Values:
    # The old generator: unlike default_rng, its numbers are promised to stay the same in every numpy to come.
    words = np.frombuffer(_digest(seed, name, "noise values"), "<u4")
    return np.random.RandomState(words).standard_normal(shape).astype(np.float32)
