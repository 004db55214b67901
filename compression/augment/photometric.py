"""Light, colour, noise, blur and occlusion for a batch, each controlled by uniform numbers that the caller drew."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, pad

GREY = (0.299, 0.587, 0.114)


def light_and_colour(pixels: Tensor, brightness: Tensor, contrast: Tensor, saturation: Tensor, gains: Tensor) -> Tensor:
    """Brightness (added, in pixel units), contrast around the image's mean, saturation, and a gain per channel.

    Args:
        pixels: (B, 3, S, S) float32 in [0, 255].
        brightness, contrast, saturation: (B,); 0, 1, 1 change nothing.
        gains: (B, 3); 1 changes nothing.
    """
    grey_weights = pixels.new_tensor(GREY).view(1, 3, 1, 1)
    grey = (pixels * grey_weights).sum(1, keepdim=True)
    mean = grey.mean((2, 3), keepdim=True)
    scale = (contrast[:, None] * saturation[:, None] * gains)[:, :, None, None]
    shift = (contrast * (1 - saturation))[:, None, None, None] * gains[:, :, None, None]
    offset = (mean * (1 - contrast)[:, None, None, None] + brightness[:, None, None, None]) * gains[:, :, None, None]
    return pixels * scale + grey * shift + offset


def blur(pixels: Tensor, amount: Tensor) -> Tensor:
    """Blend with the 3 x 3 mean of the 3 x 3 mean (close to a Gaussian of sigma 1.15 pixels). amount: (B,) in [0,
    1]."""
    smooth = avg_pool2d(pad(pixels, (2, 2, 2, 2), mode="replicate"), 3, stride=1)
    smooth = avg_pool2d(smooth, 3, stride=1)
    return torch.lerp(pixels, smooth, amount[:, None, None, None])


def noise_bank(size: int, count: int = 16, seed: int = 0) -> Tensor:
    """(count, 3, 2 size, 2 size) standard normal numbers, always the same: windows of it serve as noise."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn((count, 3, 2 * size, 2 * size), generator=generator)


def add_noise(pixels: Tensor, sigma: Tensor, bank: Tensor, which: Tensor) -> Tensor:
    """Add Gaussian noise: a window of the bank at a position drawn per image.

    Args:
        pixels: (B, 3, S, S).
        sigma: (B,) standard deviation in pixel units.
        bank: what ``noise_bank(S)`` gave.
        which: (B, 3) uniform numbers in [0, 1): plane, row and column of the window.
    """
    size = pixels.shape[-1]
    plane = (which[:, 0] * len(bank)).long().tolist()
    row, column = ((which[:, k] * size).long().tolist() for k in (1, 2))
    windows = [bank[p, :, r : r + size, c : c + size] for p, r, c in zip(plane, row, column, strict=True)]
    return torch.addcmul(pixels, torch.stack(windows), sigma[:, None, None, None])


def occlude(pixels: Tensor, boxes: Tensor, colours: Tensor) -> Tensor:
    """Paint one axis-aligned rectangle per image.

    Args:
        pixels: (B, 3, S, S).
        boxes: (B, 4) x0, y0, x1, y1 in normalised coordinates; a box without area paints nothing.
        colours: (B, 3) in [0, 255].
    """
    size = pixels.shape[-1]
    ticks = (torch.arange(size, device=pixels.device) + 0.5) / size - 0.5
    inside_x = (ticks >= boxes[:, 0:1]) & (ticks < boxes[:, 2:3])
    inside_y = (ticks >= boxes[:, 1:2]) & (ticks < boxes[:, 3:4])
    mask = (inside_y[:, None, :, None] & inside_x[:, None, None, :]).expand_as(pixels)
    return torch.where(mask, colours[:, :, None, None], pixels)
