"""Labelled pictures decoded once and kept in memory as uint8: what segmentation trains and is validated on.

image and label files --decode, halve to a bounded side--> (3, C, C) and (C, C) uint8 on zero-padded canvases
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pocketface.benchmarks.data.face import OnSkip
from pocketface.benchmarks.data.labelled import Labelled, collect_labelled, face_box, read_pair
from pocketface.compression.cache import FaceCache
from pocketface.sdk.errors import BadInputError
from pocketface.sdk.geometry import Box
from pocketface.sdk.manifest import ClassSet
from pocketface.sdk.preprocess import halve

Frame = Literal["image", "face"]
"""What a view is taken around: the whole picture (hair), or the labelled face's box (parsing)."""


@dataclass
class LabelCache:
    """Pictures and labels of one split, ready to be sampled in batches.

    Attributes:
        pictures: images as in a ``FaceCache`` without landmarks; its boxes are squares (centre, longer side) of ours.
        labels: (N, C, C) uint8 in the canvas of the images, 255 to be ignored; what lies outside the picture is for
            the sampler to say.
        sizes: (N, 2) int64, width and height of each picture on its canvas.
        boxes: (N, 4) float32: centre x, y, width, height of what views are taken around, in canvas pixels.
    """

    pictures: FaceCache
    labels: Tensor
    sizes: Tensor
    boxes: Tensor

    def __len__(self) -> int:
        return len(self.pictures)

    @property
    def names(self) -> list[str]:
        """One per picture."""
        return self.pictures.names

    @property
    def device(self) -> torch.device:
        """Where it is."""
        return self.labels.device

    def to(self, device: torch.device | str) -> LabelCache:
        """A copy on another device (the same object if it is there already)."""
        if self.device == torch.device(device):
            return self
        moved = (part.to(device) for part in (self.labels, self.sizes, self.boxes))
        return LabelCache(self.pictures.to(device), *moved)


def build_label_cache(
    entries: Sequence[Labelled],
    *,
    classes: ClassSet,
    frame: Frame = "image",
    max_side: int = 400,
    skip_bad: bool = False,
    on_skip: OnSkip | None = None,
    progress: Callable[[int], None] | None = None,
) -> LabelCache:
    """Decode some labelled pictures.

    Args:
        entries: what a reader returned.
        classes: what it was asked for.
        frame: what views are taken around.
        max_side: pictures larger than this are halved until they fit.
        skip_bad: leave out pictures that cannot be read, or have no face where ``frame`` asks for one.
        on_skip: called with the error of each one left out; by default a warning is logged.
        progress: called with the number of pictures done.

    Raises:
        AnnotationError: a picture or its labels cannot be used, or there is no face.
        BadInputError: there is no picture (left).
    """
    kept: list[tuple[str, NDArray[np.uint8], NDArray[np.uint8], Box]] = []

    def read(entry: Labelled, done: int) -> Labelled:
        if progress:
            progress(done)
        image, labels = read_pair(entry)
        while max(image.shape[:2]) > max_side:
            image, labels = np.rint(halve(image.astype(np.float32))).astype(np.uint8), halve_labels(labels)
        height, width = labels.shape
        box = Box.of_image(width, height) if frame == "image" else face_box(labels, classes, entry.name)
        kept.append((entry.name, image, labels, box))
        return entry

    makers = (lambda entry=entry, done=done: read(entry, done) for done, entry in enumerate(entries, 1))
    collect_labelled(makers, skip_bad, on_skip)
    if not kept:
        raise BadInputError("no labelled picture to train on", expected="1 or more", next="Check --data")
    names, images, labels, boxes = zip(*kept, strict=True)
    # A multiple of 8 keeps three halvings exact.
    canvas = -(-max(max(image.shape[:2]) for image in images) // 8) * 8
    pixels = torch.zeros((len(names), 3, canvas, canvas), dtype=torch.uint8)
    values = torch.zeros((len(names), canvas, canvas), dtype=torch.uint8)
    for index, (image, label) in enumerate(zip(images, labels, strict=True)):
        height, width = label.shape
        pixels[index, :, :height, :width] = torch.from_numpy(image).permute(2, 0, 1)
        values[index, :height, :width] = torch.from_numpy(label)
    edges = torch.tensor([[(b.x0 + b.x1) / 2, (b.y0 + b.y1) / 2, b.width, b.height] for b in boxes])
    squares = torch.cat([edges[:, :2], edges[:, 2:].amax(1, keepdim=True)], 1)
    sizes = torch.tensor([label.shape[::-1] for label in labels])
    return LabelCache(FaceCache(list(names), pixels, torch.zeros((len(names), 0, 2)), squares), values, sizes, edges)


def halve_labels(labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The label that most pixels of each 2 x 2 block have; where two or more lead, that of the first in reading order.
    An odd edge counts twice. (H, W) -> (ceil(H/2), ceil(W/2))."""
    height, width = labels.shape
    even = np.pad(labels, ((0, height % 2), (0, width % 2)), mode="edge")
    blocks = np.stack([even[y::2, x::2] for y in (0, 1) for x in (0, 1)])
    votes = (blocks[:, None] == blocks[None]).sum(1)
    # argmax takes the first of equals.
    chosen: NDArray[np.uint8] = np.take_along_axis(blocks, votes.argmax(0)[None], 0)[0]
    return chosen
