"""Views of labelled pictures: pixels and labels of the same random crop, a pure function of (seed, picture, view).

uniform numbers --LabelAugment--> crop geometry + photometry --sample--> (B, 3, S, S) pixels, (B, M, M) labels

The crop is a rectangle of any proportions, turned, mapped onto a square: width and height are resized independently
(thesis 6.4.2). Where it is a square, pixels are those of sdk/preprocess.resample, as resample_batch's are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import grid_sample

from pocketface.compression.augment import photometric
from pocketface.compression.augment.crop import halving_counts
from pocketface.compression.augment.hashing import uniform
from pocketface.compression.augment.label_spec import LabelAugment
from pocketface.compression.label_cache import LabelCache
from pocketface.sdk.classes import check_classes
from pocketface.sdk.manifest import ClassSet

SLOTS = 32  # uniform numbers per view; more than are used, so that a new augmentation does not move the others

# Krizhevsky, Sutskever & Hinton 2012, section 4.1: principal components of the colours of ImageNet's pixels in [0, 1].
# Values as in Facebook's fb.resnet.torch (datasets/imagenet.lua); a column of the matrix is a component.
COLOUR_EIGENVALUES = (0.2175, 0.0188, 0.0045)
COLOUR_EIGENVECTORS = (
    (-0.5675, 0.7192, 0.4009),
    (-0.5808, -0.0045, -0.8140),
    (-0.5836, -0.6948, 0.4203),
)


@dataclass(frozen=True)
class Rectangles:
    """Where each view of a batch is taken, in canvas pixels.

    Attributes:
        centres: (B, 2).
        sides: (B, 2), along the crop's own x and y; a negative x mirrors the view.
        angles: (B,) degrees, clockwise as seen.
    """

    centres: Tensor
    sides: Tensor
    angles: Tensor

    def positions(self, size: int) -> Tensor:
        """(B, size * size, 2): where the centres of the view's cells lie, rows first."""
        ticks = (torch.arange(size, device=self.centres.device, dtype=torch.float32) + 0.5) / size - 0.5
        cells = torch.stack(torch.meshgrid(ticks, ticks, indexing="xy"), -1).reshape(1, -1, 2)
        return (cells * self.sides[:, None]) @ self._turn() + self.centres[:, None]

    def moved(self, along: Tensor) -> Rectangles:
        """Centres shifted by (B, 2) pixels along the crop's own axes."""
        return Rectangles(self.centres + (along[:, None] @ self._turn())[:, 0], self.sides, self.angles)

    def _turn(self) -> Tensor:
        radians = torch.deg2rad(self.angles)
        cos, sin = torch.cos(radians), torch.sin(radians)
        return torch.stack([torch.stack([cos, sin], -1), torch.stack([-sin, cos], -1)], -2)


@dataclass(frozen=True)
class LabelViews:
    """A batch of views: ``pixels`` (B, 3, S, S) float32 in [0, 255], ``labels`` (B, M, M) int64."""

    pixels: Tensor
    labels: Tensor


def sample_pixels(cache: LabelCache, index: Tensor, where: Rectangles, size: int) -> Tensor:
    """(B, 3, size, size) float32 in [0, 255]: halved while the down-scale (the geometric mean of both axes') is 2 or
    more, then four taps; outside the picture is 0."""
    counts = halving_counts(where.sides.double().prod(1).abs().sqrt(), size)
    positions = where.positions(size)
    out = torch.empty((len(index), 3, size, size), device=cache.device)
    for count in counts.unique().tolist():
        chosen = (counts == count).nonzero()[:, 0]
        source = cache.pictures.level(count)[index[chosen]].float()
        # Centre x of the canvas is (x + 0.5) / 2^count - 0.5 of the level; grid_sample's -1 and 1 are its edges.
        grid = (positions[chosen] + 0.5) * (2.0 / 2.0**count / source.shape[-1]) - 1
        out[chosen] = grid_sample(
            source, grid.reshape(-1, size, size, 2), mode="bilinear", padding_mode="zeros", align_corners=False
        )
    return out


def sample_labels(cache: LabelCache, index: Tensor, where: Rectangles, grid: int, *, outside: int = 0) -> Tensor:
    """(B, grid, grid) int64: the label of the pixel in which each cell's centre lies.

    Args:
        outside: the label beyond the picture's edge. Background by default: the runtime puts black there and has to
            show nothing on it.
    """
    positions = where.positions(grid)
    pixel = torch.floor(positions + 0.5).long()
    inside = _inside(cache, index, positions)
    side = cache.labels.shape[-1]
    pixel = pixel.clamp(0, side - 1)
    values = cache.labels[index[:, None], pixel[..., 1], pixel[..., 0]].long()
    return torch.where(inside, values, outside).reshape(-1, grid, grid)


def _inside(cache: LabelCache, index: Tensor, positions: Tensor) -> Tensor:
    return ((positions >= -0.5) & (positions < cache.sizes[index][:, None] - 0.5)).all(-1)


class LabelViewRenderer:
    """Draws views of a cache's pictures.

    Args:
        cache: pictures and labels.
        spec: how far views may go.
        seed: of the views.
        classes: of the labels: what becomes of each in a mirrored view.
        outside: label beyond the picture's edge.
    """

    def __init__(
        self, cache: LabelCache, spec: LabelAugment, *, seed: int, classes: ClassSet, outside: int = 0
    ) -> None:
        self.cache, self.spec, self.seed, self.outside = cache, spec, seed, outside
        self._mirrored = _mirror_table(classes).to(cache.device)

    def views(self, index: NDArray[np.int64], views: NDArray[np.int64], size: int, grid: int) -> LabelViews:
        """Views of pictures.

        Args:
            index: (B,) which picture of the cache.
            views: (B,) which view of it, e.g. the epoch.
            size: S, side of the pixels.
            grid: M, side of the labels.
        """
        draw = torch.from_numpy(uniform(self.seed, index, views, SLOTS)).float().to(self.cache.device)
        rows = torch.as_tensor(index, device=self.cache.device)
        where = self._where(rows, draw)
        labels = sample_labels(self.cache, rows, where, grid, outside=self.outside)
        mirrored = (where.sides[:, 0] < 0)[:, None, None]
        labels = torch.where(mirrored, self._mirrored[labels], labels)
        pixels = self._photometric(sample_pixels(self.cache, rows, where, size), draw)
        # A camera's light does not fall on what the runtime pads with.
        inside = _inside(self.cache, rows, where.positions(size)).reshape(-1, 1, size, size)
        return LabelViews(torch.where(inside, pixels, 0.0), labels)

    def _where(self, rows: Tensor, draw: Tensor) -> Rectangles:
        spec, box, signed = self.spec, self.cache.boxes[rows], 2 * draw - 1
        least, most = spec.margin
        margin = least + (most - least) * draw[:, 0]
        # What is shown larger takes a smaller part of the picture.
        sides = (box[:, 2:].amax(1) * (1 + 2 * margin))[:, None] / (1 + spec.resize * signed[:, 1:3])
        shift = box.new_tensor([spec.shift_x, spec.shift_y]) * signed[:, 3:5] * box[:, 2:]
        square = Rectangles(box[:, :2] - shift, sides, spec.rotation * signed[:, 5])
        low, high = spec.crop_pad * signed[:, 6:8], spec.crop_pad * signed[:, 8:10]
        padded = square.moved(sides * (high - low) / 2)
        mirror = torch.where(draw[:, 10:11] < spec.flip, -1.0, 1.0)
        sides = sides * (1 + low + high) * torch.cat([mirror, torch.ones_like(mirror)], 1)
        return Rectangles(padded.centres, sides, padded.angles)

    def _photometric(self, pixels: Tensor, draw: Tensor) -> Tensor:
        spec, signed = self.spec, 2 * draw - 1
        pixels = photometric.light_and_colour(
            pixels,
            torch.zeros_like(draw[:, 0]),
            1 + spec.contrast * signed[:, 11],
            1 + spec.saturation * signed[:, 12],
            (1 + spec.brightness * signed[:, 13:14]).expand(-1, 3),  # one gain for all channels
        )
        return (pixels + spec.lighting * lighting_shift(draw[:, 14:20])[:, :, None, None]).clamp(0, 255)


def lighting_shift(draw: Tensor) -> Tensor:
    """Shift of each channel along ImageNet's principal components, for alpha of standard deviation 1 (Krizhevsky,
    Sutskever & Hinton 2012, section 4.1: [p1 p2 p3] [a1 l1, a2 l2, a3 l3]^T).

    Args:
        draw: (B, 6) uniform numbers in [0, 1).

    Returns:
        (B, 3) float32, pixel units of [0, 255].
    """
    radius = torch.sqrt(-2 * torch.log1p(-draw[:, :3].clamp(max=1 - 2**-24)))  # Box & Muller 1958
    alpha = radius * torch.cos(2 * torch.pi * draw[:, 3:])
    return 255 * (alpha * draw.new_tensor(COLOUR_EIGENVALUES)) @ draw.new_tensor(COLOUR_EIGENVECTORS).T


def plain_label_views(
    cache: LabelCache, index: NDArray[np.int64], size: int, grid: int, *, scale: float = 1.0, outside: int = 0
) -> LabelViews:
    """Pictures as the runtime sees them, without augmentation: a square around the box, ``scale`` times its longer
    side."""
    rows = torch.as_tensor(index, device=cache.device)
    boxes = cache.boxes[rows]
    sides = boxes[:, 2:].amax(1, keepdim=True).expand(-1, 2) * scale
    where = Rectangles(boxes[:, :2], sides, torch.zeros_like(boxes[:, 0]))
    labels = sample_labels(cache, rows, where, grid, outside=outside)
    return LabelViews(sample_pixels(cache, rows, where, size), labels)


def _mirror_table(classes: ClassSet) -> Tensor:
    """(256,) int64: label -> label in a mirrored picture; what is ignored stays so."""
    check_classes(classes)
    table = torch.arange(256)
    if classes.flip:
        table[: len(classes.flip)] = torch.tensor(classes.flip)
    return table
