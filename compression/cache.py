"""Faces decoded once and kept in memory as uint8: what every training, calibration and validation pass samples from.

image file --decode, cut around the face--> (3, C, C) uint8 on one zero-padded canvas, with the landmarks in canvas
pixels
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, pad

from pocketface.benchmarks.data.face import Face
from pocketface.sdk.geometry import Box
from pocketface.sdk.images import read_image
from pocketface.sdk.preprocess import halve

REACH = 2.0
"""Side of the region kept around a face, over its box: what rotation, scale and shift can touch."""


@dataclass
class FaceCache:
    """Images and landmarks of one split, ready to be sampled in batches.

    Attributes:
        names: one per face.
        images: (N, 3, C, C) uint8; zero outside the photo.
        points: (N, n, 2) float32, in canvas pixels.
        boxes: (N, 3) float32: centre x, centre y and side of the ground-truth box, in canvas pixels.
    """

    names: list[str]
    images: Tensor
    points: Tensor
    boxes: Tensor
    _levels: dict[int, Tensor] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.names)

    def level(self, count: int) -> Tensor:
        """The images halved ``count`` times: (N, 3, C / 2^count, C / 2^count), rounded up; float16 (exact for the
        first, within 0.25 after)."""
        if count == 0:
            return self.images
        if count not in self._levels:
            parts = [_halve(part.float()).half() for part in self.level(count - 1).split(64)]
            self._levels[count] = torch.cat(parts)
        return self._levels[count]

    def to(self, device: torch.device | str) -> FaceCache:
        """A copy on another device (the same object if it is there already)."""
        if self.images.device == torch.device(device):
            return self
        return FaceCache(self.names, self.images.to(device), self.points.to(device), self.boxes.to(device))


def _halve(images: Tensor) -> Tensor:
    """2 x 2 means; beyond an odd edge the image counts as 0, as in sdk/preprocess.halve."""
    height, width = images.shape[-2:]
    return avg_pool2d(pad(images, (0, width % 2, 0, height % 2)), 2)


def build_cache(
    faces: Sequence[Face], *, max_side: int = 320, progress: Callable[[int], None] | None = None
) -> FaceCache:
    """Decode the images of some faces.

    Args:
        faces: what a reader returned.
        max_side: regions larger than this are halved until they fit.
        progress: called with the number of faces done.

    Raises:
        ImageError: an image is missing or broken.
    """
    regions, points = [], []
    for done, face in enumerate(faces, start=1):
        region, local = _region(face, max_side)
        regions.append(region)
        points.append(local)
        if progress:
            progress(done)
    # A multiple of 8 keeps three halvings exact.
    canvas = -(-max(max(region.shape[:2]) for region in regions) // 8) * 8
    images = torch.zeros((len(regions), 3, canvas, canvas), dtype=torch.uint8)
    for index, region in enumerate(regions):
        images[index, :, : region.shape[0], : region.shape[1]] = torch.from_numpy(region).permute(2, 0, 1)
    boxes = [Box.around(local) for local in points]
    return FaceCache(
        names=[face.name for face in faces],
        images=images,
        points=torch.from_numpy(np.stack(points)),
        boxes=torch.tensor([[(b.x0 + b.x1) / 2, (b.y0 + b.y1) / 2, b.width] for b in boxes], dtype=torch.float32),
    )


def _region(face: Face, max_side: int) -> tuple[np.ndarray, np.ndarray]:
    image = read_image(face.image)
    box = Box.around(face.points, scale=1.25 * REACH)
    height, width = image.shape[:2]
    x0, y0 = max(0, int(np.floor(box.x0))), max(0, int(np.floor(box.y0)))
    x1, y1 = min(width, int(np.ceil(box.x1)) + 1), min(height, int(np.ceil(box.y1)) + 1)
    region, points = image[y0:y1, x0:x1], face.points - np.array([x0, y0], np.float32)
    while max(region.shape[:2]) > max_side:
        region = np.rint(halve(region.astype(np.float32))).astype(np.uint8)
        points = ((points + 0.5) / 2 - 0.5).astype(np.float32)
    return np.ascontiguousarray(region), points.astype(np.float32)
