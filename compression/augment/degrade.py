"""Faces in bad conditions as batched tensor operations: the torch twin, on crops, of benchmarks/data/degrade.py.

(seed, image, view) --amounts--> amounts --boxes--> where to cut --resample_batch--> crop --image--> degraded crop

The reference changes the whole image and cuts the crop afterwards; training cuts first, since a photo is many times
larger than the crop. Widths and factors still mean pixels of the image: ``sides`` says how large the crop is in them.
Order and formulas are the reference's. What is not the same:

- blur and down-sampling see the pixels of the crop alone; the reference's reach beyond its edge, and work on the image
  before the crop's own sampling has smoothed it. On a turned crop, the blocks turn with it;
- contrast is about each channel's mean over the crop, in the reference over the image;
- values are clipped once, before JPEG, and not rounded; the reference rounds before it cuts;
- where noise meets black or white it is clipped after the crop's sampling, in the reference before;
- JPEG sees no details finer than a crop pixel, see jpeg.py.

Black that reaches the crop's edge straight along a row or column is what lies outside the photo (the runtime feeds
zeros there): it stays black, takes no part in means and does not bleed into the face, as in the reference.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import grid_sample

from pocketface.benchmarks.data.degrade import BLUR_REACH, FULL, WHOLE, DegradeSpec
from pocketface.compression.augment.crop import halving_counts
from pocketface.compression.augment.hashing import uniform
from pocketface.compression.augment.jpeg import jpeg
from pocketface.compression.augment.photometric import noise_bank
from pocketface.compression.augment.views import SLOTS

_SLOT: Final = {
    name: SLOTS + slot
    for slot, name in enumerate((
        "blur", "downsample", "hue", "saturation", "brightness", "contrast", "noise", "scale", "translation_x",
        "translation_y", "downsample_x", "downsample_y", "noise_plane", "noise_x", "noise_y", "jpeg", "jpeg_x",
        "jpeg_y",
    ))
}  # fmt: skip
"""A number of its own for each, so that what else is on moves no draw; after those of ``ViewRenderer``, so that one
seed for both does not tie a view's angle to its degradations."""
_PARTS: Final[Mapping[str, tuple[str, ...]]] = {
    "translation": ("translation_x", "translation_y"),
    "downsample": ("downsample", "downsample_x", "downsample_y"),
    "noise": ("noise", "noise_plane", "noise_x", "noise_y"),
    "jpeg": ("jpeg", "jpeg_x", "jpeg_y"),
}
_PLANES = 8


class CropDegrader:
    """Degrades crops; every draw is a function of (seed, image, view).

    Args:
        spec: what may happen, and how far.
        seed: of the draws.
    """

    def __init__(self, spec: DegradeSpec, *, seed: int) -> None:
        self.spec, self.seed = spec, seed
        self._banks: dict[tuple[int, torch.device], Tensor] = {}

    def amounts(
        self, index: NDArray[np.int64], views: NDArray[np.int64], device: torch.device | str = "cpu"
    ) -> dict[str, Tensor]:
        """What happens to each crop, uniform in the spec's ranges, only what is on.

        Args:
            index: (B,) which image.
            views: (B,) which view of it.
            device: where the tensors are wanted.

        Returns:
            Degradation -> (B,) float32, keys and units as ``benchmarks.data.degrade.draw`` gives them. Besides,
            in [0, 1): with ``downsample`` and ``jpeg``, ``downsample_x``, ``jpeg_x`` and ``_y``, the share of the
            first block that lies beyond the crop's left and top edge; with ``noise``, ``noise_plane``, ``noise_x``
            and ``_y``, which noise.
        """
        numbers = uniform(self.seed, index, views, SLOTS + len(_SLOT))
        drawn: dict[str, NDArray[np.float64]] = {}
        for kind, (low, high) in self.spec.ranges():
            for part in _PARTS.get(kind, (kind,)):
                share = numbers[:, _SLOT[part]]
                if kind in WHOLE and part == kind:
                    drawn[part] = np.minimum(low + np.floor(share * (high - low + 1)), high)
                elif part == kind or kind == "translation":
                    drawn[part] = np.clip(low + share * (high - low), low, high)
                else:
                    drawn[part] = share
        return {name: torch.from_numpy(values.astype(np.float32)).to(device) for name, values in drawn.items()}

    def boxes(
        self, centres: Tensor, sides: Tensor, iod: Tensor, amounts: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Scale boxes about their centres, then move them.

        Args:
            centres: (B, 2) pixels.
            sides: (B,) pixels.
            iod: (B,) inter-ocular distances, pixels.
            amounts: from ``amounts``; only scale and translation are looked at.

        Returns:
            Centres (B, 2) and sides (B,).
        """
        if "scale" in amounts:
            sides = sides * amounts["scale"]
        if "translation_x" in amounts:
            move = torch.stack([amounts["translation_x"], amounts["translation_y"]], 1)
            centres = centres + move * iod[:, None]
        return centres, sides

    def image(self, pixels: Tensor, sides: Tensor, amounts: Mapping[str, Tensor]) -> Tensor:
        """Change crops' pixels, in the order blur, down-sampling, hue, saturation, brightness, contrast, noise, JPEG.

        Args:
            pixels: (B, 3, S, S) float32 in [0, 255].
            sides: (B,) side of each crop in pixels of its image.
            amounts: from ``amounts``; scale and translation are not looked at.

        Returns:
            (B, 3, S, S) float32 in [0, 255]; the same tensor where nothing is to be done.
        """
        size, start = pixels.shape[-1], pixels
        inside = _inside(pixels)
        if "blur" in amounts or "downsample" in amounts:
            pixels = _spread(pixels, inside, [_filter(amounts, axis, size / sides, size) for axis in "yx"])
        if "hue" in amounts:
            pixels = turn_hue(pixels, amounts["hue"])
        if "saturation" in amounts:
            pixels = saturate(pixels, amounts["saturation"])
        if "brightness" in amounts:
            pixels = pixels + (amounts["brightness"] * FULL)[:, None, None, None]
        if "contrast" in amounts:
            mean = _mean(pixels, inside)
            pixels = torch.lerp(mean, pixels, amounts["contrast"][:, None, None, None])
        if "noise" in amounts:
            strength = (amounts["noise"] * FULL)[:, None, None, None]
            pixels = torch.addcmul(pixels, self._noise(sides, amounts, size), strength)
        if "jpeg" in amounts:
            zero = torch.zeros_like(sides)
            phase = torch.stack([amounts.get(f"jpeg_{axis}", zero) for axis in "xy"], 1)
            pixels = jpeg(pixels.clamp(0, FULL), sides, amounts["jpeg"], phase)
        if pixels is start:
            return pixels
        pixels = pixels.clamp(0, FULL)
        return pixels if inside is None else pixels * inside

    def _noise(self, sides: Tensor, amounts: Mapping[str, Tensor], size: int) -> Tensor:
        """(B, 3, S, S): standard normal numbers on the image's pixels, cut as ``resample_batch`` cuts the image.

        So that noise on a small face is as coarse, and on a large one as weak, as it is when the image has it.
        """
        key = (size, sides.device)
        if key not in self._banks:
            self._banks[key] = noise_bank(2 * size + 2, _PLANES).to(sides.device)
        bank = self._banks[key]
        factor = 2.0 ** halving_counts(sides, size)  # each halving takes the mean of four independent numbers
        spans = sides / factor  # below 2 S
        reach = math.ceil(float(spans.max())) + 2
        room = bank.shape[-1] // 2  # whatever the batch reaches, so that a crop's noise is its own
        zero = torch.zeros_like(sides)
        plane = (amounts.get("noise_plane", zero) * len(bank)).long().tolist()
        offsets = [amounts.get(f"noise_{axis}", zero) * room for axis in "yx"]
        row, column = (offset.long().tolist() for offset in offsets)
        windows = torch.stack(
            [bank[p, :, y : y + reach, x : x + reach] for p, y, x in zip(plane, row, column, strict=True)]
        )
        ticks = (torch.arange(size, device=sides.device) + 0.5) / size
        y, x = (0.5 + offset.frac()[:, None] + ticks * spans[:, None] for offset in offsets)  # edges of pixels, from 0
        grid = torch.stack([x[:, None, :].expand(-1, size, -1), y[:, :, None].expand(-1, -1, size)], -1)
        grid = grid * (2.0 / reach) - 1
        out = grid_sample(windows, grid, mode="bilinear", padding_mode="border", align_corners=False)
        return out / factor.to(out.dtype)[:, None, None, None]


def turn_hue(pixels: Tensor, turns: Tensor) -> Tensor:
    """Turn the hue of HSV; value and chroma stay. (B, 3, S, S) in any range, clipped to [0, 255]; turns: (B,)."""
    pixels = pixels.clamp(0, FULL)
    red, green, blue = pixels.unbind(1)
    top, low = pixels.amax(1), pixels.amin(1)
    chroma = top - low
    safe = torch.where(chroma > 0, chroma, 1)
    of_green = torch.where(top == green, 2 + (blue - red) / safe, 4 + (red - green) / safe)
    sixth = torch.where(top == red, (green - blue) / safe, of_green) + (6 * turns)[:, None, None]
    parts = []
    for offset in (5, 3, 1):
        place = torch.remainder(sixth + offset, 6)
        parts.append(top - chroma * torch.minimum(place, 4 - place).clamp(0, 1))
    return torch.stack(parts, 1)


def saturate(pixels: Tensor, factor: Tensor) -> Tensor:
    """Multiply the saturation of HSV, at most to 1; value and hue stay. (B, 3, S, S), clipped to [0, 255]; (B,)."""
    pixels = pixels.clamp(0, FULL)
    top = pixels.amax(1, keepdim=True)
    chroma = top - pixels.amin(1, keepdim=True)
    most = top / torch.where(chroma > 0, chroma, 1)  # the factor at which the saturation is 1
    return top - (top - pixels) * torch.minimum(factor[:, None, None, None], most)


def _inside(pixels: Tensor) -> Tensor | None:
    """(B, 1, S, S) of 0 and 1, 0 outside the photo; None where all is inside."""
    edges = torch.cat([pixels[:, :, 0], pixels[:, :, -1], pixels[:, :, :, 0], pixels[:, :, :, -1]], 2)
    if not bool((edges.amax(1) == 0).any()):
        return None
    black = pixels.amax(1, keepdim=True) == 0
    outside = torch.zeros_like(black)
    for axis in (2, 3):
        run = black.cumprod(axis, dtype=torch.int32)
        back = black.flip(axis).cumprod(axis, dtype=torch.int32).flip(axis)
        outside |= (run + back) > 0
    return (~outside).to(pixels.dtype)


def _mean(pixels: Tensor, inside: Tensor | None) -> Tensor:
    """(B, 3, 1, 1): of each channel, over what is inside the photo."""
    if inside is None:
        return pixels.mean((2, 3), keepdim=True)
    return (pixels * inside).sum((2, 3), keepdim=True) / inside.sum((2, 3), keepdim=True).clamp(min=1)


def _spread(pixels: Tensor, inside: Tensor | None, filters: list[Tensor]) -> Tensor:
    """Apply one linear filter to the columns and one to the rows; what is outside the photo has no weight."""
    vertical, horizontal = (matrix[:, None] for matrix in filters)
    if inside is None:
        return vertical @ pixels @ horizontal.mT
    spread = vertical @ torch.cat([pixels * inside, inside], 1) @ horizontal.mT
    return spread[:, :3] / spread[:, 3:].clamp(min=1e-4)


def _filter(amounts: Mapping[str, Tensor], axis: str, scale: Tensor, size: int) -> Tensor:
    """(B, S, S): blur and down-sampling along one axis. scale: (B,) crop pixels per image pixel."""
    matrices = []
    if "downsample" in amounts:
        factor = amounts["downsample"]
        phase = amounts.get(f"downsample_{axis}", torch.zeros_like(factor))
        matrices.append(_coarse(factor, scale, phase, size))
    if "blur" in amounts:
        matrices.append(_gaussian(amounts["blur"] * scale, size))
    return functools.reduce(torch.matmul, matrices)


def _gaussian(sigma: Tensor, size: int) -> Tensor:
    """(B, S, S): rows are Gaussians of (B,) standard deviations in crop pixels; 0 gives the identity."""
    ticks = torch.arange(size, device=sigma.device, dtype=sigma.dtype)
    gaps = ((ticks[:, None] - ticks) / sigma.clamp(min=1e-3)[:, None, None]).abs()
    weights = torch.exp(-0.5 * gaps.square()) * (gaps <= BLUR_REACH)
    return weights / weights.sum(2, keepdim=True)


def _coarse(factor: Tensor, scale: Tensor, phase: Tensor, size: int) -> Tensor:
    """(B, S, S): means of blocks, then bilinear between the blocks' centres; a factor of 1 gives the identity.

    Args:
        factor: (B,) side of a block, image pixels.
        scale: (B,) crop pixels per image pixel.
        phase: (B,) share of the first block beyond the crop's edge.
        size: S.
    """
    off = factor <= 1
    width = torch.where(off, float(size), factor * scale)  # of a block; the smallest decides how many all rows get
    blocks = math.ceil(size / float(width.min())) + 1
    k = torch.arange(blocks, device=width.device, dtype=width.dtype)
    ticks = torch.arange(size, device=width.device, dtype=width.dtype)
    start = ((k - phase[:, None]) * width[:, None])[:, :, None]
    overlap = (torch.minimum(start + width[:, None, None], ticks + 1) - torch.maximum(start, ticks)).clamp(min=0)
    shares = overlap.sum(2, keepdim=True)
    reduce = overlap / shares.clamp(min=1e-6)
    last = torch.ceil(size / width + phase) - 1
    place = (ticks + 0.5) / width[:, None] + phase[:, None] - 0.5
    place = place.clamp(min=0).minimum(last[:, None])
    enlarge = (1 - (place[:, :, None] - k).abs()).clamp(min=0) * (shares > 0).mT
    enlarge = enlarge / enlarge.sum(2, keepdim=True).clamp(min=1e-6)
    matrix = enlarge @ reduce
    # The crop's own sampling has smoothed already, so narrow blocks smooth more here than they do on the image. The
    # blend with the identity takes that back: its mean squared reach is that of the reference, d^2 / 4 image pixels,
    # (d^2 - 1) / 4 for odd d.
    wanted = scale.square() * (factor.square() - factor.remainder(2)) / 4
    middle = slice(size // 4, size - size // 4)
    found = (matrix * (ticks[:, None] - ticks).square()).sum(2)[:, middle].mean(1)
    blend = torch.where(off, 0.0, wanted / found.clamp(min=1e-6)).clamp(max=1)
    return torch.lerp(torch.eye(size, device=width.device), matrix, blend[:, None, None])
