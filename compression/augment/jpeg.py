"""What JPEG does to a crop's image: blocks of 8 x 8 image pixels, cosine transforms, coarser colours (ITU-T T.81).

crop --bilinear--> the image's pixel grid --YCbCr, 4:2:0, quantised transforms--> error --back on the crop--> crop

Only the error goes back, so that the two samplings cost no sharpness. What the crop does not show of the image cannot
be quantised: details finer than a crop pixel, and their effect on coarser ones.
"""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from pocketface.compression.augment.photometric import GREY

LARGEST = 3.0
"""Image pixels per crop pixel from which a crop is treated as if it had this many: the work grows with the image."""

# T.81, Annex K, the tables that every library scales by its quality.
_LIGHT = """16 11 10 16 24 40 51 61 12 12 14 19 26 58 60 55 14 13 16 24 40 57 69 56 14 17 22 29 51 87 80 62
18 22 37 56 68 109 103 77 24 35 55 64 81 104 113 92 49 64 78 87 103 121 120 101 72 92 95 98 112 100 103 99"""
_COLOUR = """17 18 24 47 99 99 99 99 18 21 26 66 99 99 99 99 24 26 56 99 99 99 99 99 47 66 99 99 99 99 99 99
99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99"""


def jpeg(pixels: Tensor, sides: Tensor, quality: Tensor, phase: Tensor) -> Tensor:
    """Crops as if their images had been through JPEG, with colours at half the resolution.

    Args:
        pixels: (B, 3, S, S) float32 in [0, 255].
        sides: (B,) side of each crop in pixels of its image.
        quality: (B,) 1 .. 100, as Pillow and libjpeg take it.
        phase: (B, 2) in [0, 1): share of the first 16 x 16 pixels beyond the crop's left and top edge.

    Returns:
        (B, 3, S, S) float32, not clipped.
    """
    size = pixels.shape[-1]
    sides = sides.clamp(max=LARGEST * size)
    grid = (math.ceil(float(sides.max()) / 16) + 1) * 16
    horizontal, vertical = (_to_image(sides, 16 * phase[:, axis], size, grid)[:, None] for axis in (0, 1))
    image = (vertical @ pixels @ horizontal.mT).round()
    error = _coded(image, quality) - image
    horizontal, vertical = (_to_crop(sides, 16 * phase[:, axis], size, grid)[:, None] for axis in (0, 1))
    return pixels + vertical @ error @ horizontal.mT


def tables(quality: Tensor) -> tuple[Tensor, Tensor]:
    """Quantisation of light and colour at a quality: (B,) -> twice (B, 8, 8)."""
    quality = quality.double()
    scale = torch.where(quality < 50, (5000 / quality).floor(), 200 - 2 * quality)[:, None, None]
    light, colour = (
        ((_numbers(text).to(scale.device) * scale + 50) / 100).floor().clamp(1, 255).float()
        for text in (_LIGHT, _COLOUR)
    )
    return light, colour


def _coded(image: Tensor, quality: Tensor) -> Tensor:
    """(B, 3, n, n) RGB on the image's pixels, n a multiple of 16 -> the same after coding and decoding."""
    for_light, for_colour = tables(quality)
    red, green, blue = image.unbind(1)
    light = GREY[0] * red + GREY[1] * green + GREY[2] * blue
    colours = torch.stack([(blue - light) / 1.772, (red - light) / 1.402], 1)  # Cb and Cr about 0
    light = _quantised(light[:, None] - 128, for_light)[:, 0] + 128
    colours = interpolate(_quantised(avg_pool2d(colours, 2), for_colour), scale_factor=2, mode="bilinear")
    blue, red = light + 1.772 * colours[:, 0], light + 1.402 * colours[:, 1]
    green = (light - GREY[0] * red - GREY[2] * blue) / GREY[1]
    return torch.stack([red, green, blue], 1).clamp(0, 255).round()


def _quantised(planes: Tensor, steps: Tensor) -> Tensor:
    """Cosine transform of every 8 x 8 block, rounded to multiples of (B, 8, 8) steps, and back."""
    count, channels, size, _ = planes.shape
    cosines, blocks = _cosines().to(planes), size // 8
    rows = cosines @ planes.reshape(count, channels, blocks, 8, size)
    found = rows.reshape(count, channels, blocks, 8, blocks, 8) @ cosines.T
    steps = steps[:, None, None, :, None, :]
    found = (found / steps).round() * steps
    rows = (found @ cosines).reshape(count, channels, blocks, 8, size)
    return (cosines.T @ rows).reshape(planes.shape)


def _to_image(sides: Tensor, beyond: Tensor, size: int, grid: int) -> Tensor:
    """(B, n, S): bilinear; pixel i of the image lies i + 0.5 - beyond pixels from the crop's edge."""
    ticks = torch.arange(grid, device=sides.device, dtype=sides.dtype)
    place = (ticks + 0.5 - beyond[:, None]) * (size / sides)[:, None] - 0.5
    k = torch.arange(size, device=sides.device, dtype=sides.dtype)
    return (1 - (place.clamp(0, size - 1)[:, :, None] - k).abs()).clamp(min=0)


def _to_crop(sides: Tensor, beyond: Tensor, size: int, grid: int) -> Tensor:
    """(B, S, n): bilinear where the crop is the finer, else means over a crop pixel."""
    ticks = torch.arange(size, device=sides.device, dtype=sides.dtype)
    width = (sides / size)[:, None]
    place = (ticks + 0.5) * width - 0.5 + beyond[:, None]
    k = torch.arange(grid, device=sides.device, dtype=sides.dtype)
    gaps = (place[:, :, None] - k).abs()
    weights = torch.where(width[:, :, None] > 1, (width[:, :, None] / 2 + 0.5 - gaps).clamp(0, 1), (1 - gaps).clamp(0))
    return weights / weights.sum(2, keepdim=True)


@functools.cache
def _numbers(text: str) -> Tensor:
    return torch.tensor([float(number) for number in text.split()], dtype=torch.float64).reshape(8, 8)


@functools.cache
def _cosines() -> Tensor:
    """(8, 8): the orthonormal cosine transform, frequencies by rows."""
    k, x = torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="ij")
    matrix = torch.cos((2 * x + 1) * k * (math.pi / 16)) / 2
    matrix[0] /= math.sqrt(2)
    return matrix
