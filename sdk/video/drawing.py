"""What is drawn on a video's frame: contours, points, box and score of every face, or its mask; and its id."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from pocketface.sdk.geometry import Box
from pocketface.sdk.images import check_array
from pocketface.sdk.manifest import Scheme
from pocketface.sdk.overlay import ContoursOverlay, MaskOverlay, PointsOverlay, ScoreOverlay
from pocketface.sdk.video.tracker import TrackedFace

COLOURS = (
    (80, 220, 100),
    (255, 140, 40),
    (64, 224, 255),
    (214, 60, 150),
    (255, 214, 10),
    (110, 140, 255),
    (190, 240, 60),
    (255, 110, 110),
)
"""Of ids, in turn."""


@dataclass(frozen=True)
class IdOverlay:
    """The id of every face, black on the id's own colour, under the lower left corner of its box."""

    def __call__(self, image: NDArray[np.uint8], faces: Sequence[TrackedFace]) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 -> the same with labels."""
        check_array(image)
        result = image.copy()
        for face in faces:
            _label(result, f"#{face.id}", face.result.box, COLOURS[(face.id - 1) % len(COLOURS)])
        return result


@dataclass(frozen=True)
class TrackOverlay:
    """All that a frame shows of its faces: overlays one after the other.

    Attributes:
        scheme: of landmarks, whose contours are drawn; None of masks.
    """

    scheme: Scheme | None = None

    def __call__(self, image: NDArray[np.uint8], faces: Sequence[TrackedFace]) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 -> the same with everything drawn on it."""
        landmarks = [face.landmarks for face in faces if face.landmarks is not None]
        masks = [face.mask for face in faces if face.mask is not None]
        if landmarks:
            if self.scheme is not None:
                image = ContoursOverlay(self.scheme)(image, landmarks)
            image = ScoreOverlay()(PointsOverlay()(image, landmarks), landmarks)
        if masks:
            image = MaskOverlay()(image, masks)
        return IdOverlay()(image, faces) if faces else image


def _label(image: NDArray[np.uint8], text: str, box: Box, colour: tuple[int, int, int]) -> None:
    """Moved so far that it lies in the image."""
    font = ImageFont.load_default(max(11, round(max(box.width, box.height) / 12)))
    left, top, right, bottom = (round(edge) for edge in font.getbbox(text))
    pad = max(2, (bottom - top) // 4)
    tag = Image.new("RGB", (right - left + 2 * pad, bottom - top + 2 * pad), colour)
    ImageDraw.Draw(tag).text((pad - left, pad - top), text, fill=(0, 0, 0), font=font)
    pixels = np.asarray(tag)
    height, width = image.shape[:2]
    x0 = round(min(max(box.x0, 0), max(0, width - tag.width)))
    y0 = round(min(max(box.y1, 0), max(0, height - tag.height)))
    part = image[y0 : y0 + tag.height, x0 : x0 + tag.width]
    part[:] = pixels[: part.shape[0], : part.shape[1]]
