"""Masks on video: how right and how steady they are where the truth is known, on stills that a camera moves over.

still --still_crops--> frames, with noise of their own --MaskPredictor, frame after frame--> labels --> F1, flicker

A face's box is that of the frame before, as a tracker gives it; hair is looked for in the whole frame. A network with a
previous mask is shown its own. The noise is what makes masks of a still scene flicker: each frame of a real camera has
its own. Expression and light stay as they are, which real video would change.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from pocketface.benchmarks.data.labelled import Labelled, labelled_box
from pocketface.benchmarks.data.motion import MotionSpec, framed, still_crops
from pocketface.benchmarks.segmentation import OVERALL, Confusion, SegmentationAccuracy, figures
from pocketface.benchmarks.temporal_masks import Clip, Flicker, flicker, joined
from pocketface.sdk.geometry import Box, Crop
from pocketface.sdk.manifest import ClassSet, Part
from pocketface.sdk.mask_predictor import MaskPredictor

ROWS = {"clean": 0.0, "noisy": 8.0}
"""Row of the protocol -> standard deviation of each frame's noise, in grey levels."""

SHARE = 0.36
"""What ``MotionSpec.reach`` counts in, as a share of the box's side: about the inter-ocular distance of a face."""

MOTION = MotionSpec(frames=30)


class FlickerFigures(Part, frozen=True, kw_only=True):
    """`Flicker`, percent: 1 - IoU of each class between consecutive frames, the camera's movement taken out."""

    pairs: int
    overall: float
    changed: float
    classes: dict[str, float | None]

    @classmethod
    def of(cls, found: Flicker) -> FlickerFigures:
        return cls(pairs=len(found.pairs), overall=found.overall, changed=found.changed, classes=found.by_class)


class MaskVideo(Part, frozen=True, kw_only=True):
    """One row of the protocol.

    Attributes:
        accuracy: of all frames.
        flicker: of the masks.
        floor: of the true labels themselves, which warping by the nearest pixel makes flicker along borders.
    """

    accuracy: SegmentationAccuracy
    flicker: FlickerFigures
    floor: FlickerFigures


def evaluate_mask_video(
    predictor: MaskPredictor,
    pictures: Sequence[Labelled],
    *,
    noise: float = 0.0,
    motion: MotionSpec = MOTION,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> MaskVideo:
    """Film every picture and measure what a bundle makes of it.

    Args:
        predictor: what is measured.
        pictures: labelled in its classes; at least one.
        noise: standard deviation of each frame's own noise, grey levels.
        motion: how the camera moves.
        seed: of movement and noise, with each picture's name.
        progress: called after each picture.

    Raises:
        AnnotationError, ImageError: a picture cannot be used, or shows no face.
        BadInputError: no picture.
    """
    names = predictor.classes.names
    confusion, found, floors = Confusion(names), [], []
    for number, picture in enumerate(pictures, start=1):
        clip, boxes = _filmed(picture, predictor.classes, motion, seed)
        random = np.random.RandomState(_seed_of(picture.name, seed))
        masks = []
        for index, (image, truth) in enumerate(zip(clip.images, clip.labels, strict=True)):
            (mask,) = predictor(noisy(image, noise, random), [boxes[max(0, index - 1)]], cut=not index)
            confusion.add(mask.labels, truth, name=picture.name)
            # What lies beyond the still is black, and is not compared.
            masks.append(np.where(truth == 255, truth, mask.labels))
        found.append(flicker(masks, names, motion=clip.motion))
        floors.append(flicker(clip.labels, names, motion=clip.motion))
        if progress is not None:
            progress(number)
    return MaskVideo(
        accuracy=figures(confusion, overall=tuple(OVERALL)),
        flicker=FlickerFigures.of(joined(found)),
        floor=FlickerFigures.of(joined(floors)),
    )


def noisy(image: NDArray[np.uint8], noise: float, random: np.random.RandomState) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 with Gaussian noise of its own."""
    if not noise:
        return image
    return np.rint(np.clip(image + random.normal(0, noise, image.shape), 0, 255)).astype(np.uint8)


def _filmed(picture: Labelled, classes: ClassSet, motion: MotionSpec, seed: int) -> tuple[Clip, list[Box]]:
    """A picture's clip, and the box of each frame."""
    image, labels = picture.read()
    box = labelled_box(labels, classes, picture.name)
    face = "skin" in classes.names
    # A frame shows twice of what is filmed: of a face its surroundings, of a whole picture no more than itself.
    seen = box if face else Crop.from_box(box, 0.5).box
    crops = still_crops(motion, seen, SHARE * max(seen.width, seen.height), name=picture.name, seed=seed)
    clip = Clip.of_still(image, labels, crops, motion.size)
    whole = Box.of_image(motion.size, motion.size)
    return clip, [framed(box, crop, motion.size) if face else whole for crop in crops]


def _seed_of(name: str, seed: int) -> NDArray[np.uint32]:
    digest = hashlib.sha256(f"pocketface noise 1\n{int(seed)}\n{name}".encode()).digest()
    return np.frombuffer(digest, "<u4")
