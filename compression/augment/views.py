"""A view is a face as training sees it: one augmented crop, a pure function of (seed, image, view number).

uniform numbers --AugmentSpec--> crop geometry + photometry --resample_batch--> pixels, landmarks
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pocketface.compression.augment import photometric
from pocketface.compression.augment.crop import resample_batch, to_normalised
from pocketface.compression.augment.hashing import uniform
from pocketface.compression.augment.spec import AugmentSpec
from pocketface.compression.cache import FaceCache

SLOTS = 32  # uniform numbers per view; more than are used, so that a new augmentation does not move the others


@dataclass(frozen=True)
class Views:
    """A batch of views.

    Attributes:
        pixels: (B, 3, S, S) float32 in [0, 255].
        points: (B, n, 2) float32, normalised crop coordinates of ``targets``.
    """

    pixels: Tensor
    points: Tensor


class ViewRenderer:
    """Draws views of a cache's faces.

    Args:
        cache: the faces.
        spec: how far views may go.
        seed: of the views.
        flip: the scheme's flip permutation, (n,) integers.
    """

    def __init__(self, cache: FaceCache, spec: AugmentSpec, *, seed: int, flip: tuple[int, ...]) -> None:
        self.cache, self.spec, self.seed = cache, spec, seed
        self._flip = torch.tensor(flip, dtype=torch.long, device=cache.images.device)
        self._banks: dict[int, Tensor] = {}

    def faces(
        self, index: NDArray[np.int64], views: NDArray[np.int64], size: int, *, targets: Tensor | None = None
    ) -> Views:
        """Views of faces.

        Args:
            index: (B,) which face of the cache.
            views: (B,) which view of it.
            size: side of the crop.
            targets: (N, n, 2) canvas pixels to use instead of the cache's landmarks (e.g. soft landmarks).
        """
        spec, draw = self.spec, _Draw(self.seed, index, views, self.cache.images.device)
        rows = torch.as_tensor(index, device=self.cache.images.device)
        box = self.cache.boxes[rows]
        sides = box[:, 2] * (1 + spec.scale * draw.signed(0))
        angles = spec.rotation * draw.signed(1)
        centres = box[:, :2] + box[:, 2:] * spec.shift * torch.stack([draw.signed(2), draw.signed(3)], 1)
        pixels = resample_batch(self.cache, rows, centres, sides, angles, size)
        points = to_normalised((self.cache.points if targets is None else targets)[rows], centres, sides, angles)
        mirrored = draw.unit(4) < spec.flip
        pixels = torch.where(mirrored[:, None, None, None], pixels.flip(3), pixels)
        turned = points[:, self._flip] * points.new_tensor([-1.0, 1.0])
        points = torch.where(mirrored[:, None, None], turned, points)
        return Views(self._photometric(pixels, draw), points)

    def negatives(self, index: NDArray[np.int64], views: NDArray[np.int64], size: int) -> Tensor:
        """Crops that hold no well-placed face, for the face score: (B, 3, size, size).

        Four kinds in equal shares: beside the face, a small part of it, a face far too small, and background only
        (the far corner of
        the region, a fifth of the box wide).
        """
        draw = _Draw(self.seed + 1, index, views, self.cache.images.device)
        rows = torch.as_tensor(index, device=self.cache.images.device)
        box = self.cache.boxes[rows]
        kind = (draw.unit(20) * 4).long()
        direction = 2 * torch.pi * draw.unit(21)
        heading = torch.stack([torch.cos(direction), torch.sin(direction)], 1)
        spread = draw.unit(22)
        zero = torch.zeros_like(spread)
        distance = torch.stack([0.6 + 0.5 * spread, 0.3 * spread, 0.3 * spread, 0.75 + 0.2 * spread])
        scale = torch.stack(
            [0.8 + 0.5 * draw.unit(23), 0.2 + 0.25 * draw.unit(23), 2.6 + 1.4 * draw.unit(23), 0.2 + zero]
        )
        pick = torch.arange(len(rows), device=rows.device)
        centres = box[:, :2] + heading * box[:, 2:] * distance[kind, pick][:, None]
        sides = box[:, 2] * scale[kind, pick]
        pixels = resample_batch(self.cache, rows, centres, sides, self.spec.rotation * draw.signed(1), size)
        return self._photometric(pixels, draw)

    def _photometric(self, pixels: Tensor, draw: _Draw) -> Tensor:
        spec, size = self.spec, pixels.shape[-1]
        if size not in self._banks:
            self._banks[size] = photometric.noise_bank(size).to(pixels.device)
        pixels = photometric.light_and_colour(
            pixels,
            spec.brightness * draw.signed(5),
            1 + spec.contrast * draw.signed(6),
            1 + spec.saturation * draw.signed(7),
            1 + spec.colour * torch.stack([draw.signed(k) for k in (8, 9, 10)], 1),
        )
        pixels = photometric.blur(pixels, spec.blur * (2 * draw.unit(11) - 1).clamp(min=0))
        centre = torch.stack([draw.unit(12), draw.unit(13)], 1) - 0.5
        half = 0.05 + 0.15 * torch.stack([draw.unit(14), draw.unit(15)], 1)
        half = half * (draw.unit(16) < spec.occlusion)[:, None]
        colours = 255 * torch.stack([draw.unit(k) for k in (24, 25, 26)], 1)
        pixels = photometric.occlude(pixels, torch.cat([centre - half, centre + half], 1), colours)
        which = torch.stack([draw.unit(k) for k in (17, 18, 19)], 1)
        pixels = photometric.add_noise(pixels, spec.noise * draw.unit(27), self._banks[size], which)
        return pixels.clamp(0, 255)


def plain_views(cache: FaceCache, size: int) -> Views:
    """Every face of a cache as it is evaluated: the ground-truth box, no augmentation."""
    rows = torch.arange(len(cache), device=cache.images.device)
    centres, sides, angles = cache.boxes[:, :2], cache.boxes[:, 2], torch.zeros_like(cache.boxes[:, 2])
    parts = [resample_batch(cache, part, centres[part], sides[part], angles[part], size) for part in rows.split(64)]
    return Views(torch.cat(parts), to_normalised(cache.points, centres, sides, angles))


class _Draw:
    """The uniform numbers of one batch, by slot."""

    def __init__(self, seed: int, index: NDArray[np.int64], views: NDArray[np.int64], device: torch.device) -> None:
        self._numbers = torch.from_numpy(uniform(seed, index, views, SLOTS)).float().to(device)

    def unit(self, slot: int) -> Tensor:
        return self._numbers[:, slot]

    def signed(self, slot: int) -> Tensor:
        return self._numbers[:, slot] * 2 - 1
