"""How a detector's output is read, as data. Part of manifest.py."""

from __future__ import annotations

from pocketface.sdk.measured import Part


class FaceBox(Part, frozen=True, kw_only=True):
    """From a detector's own box to the contract's: a square of 1.25 x the longer side of the landmarks' bounding box.

    Attributes:
        dx, dy: how far the centre moves, along the face's own axes (dy > 0: towards the chin), in sides of the
            detector's box (its longer one).
        scale: side of the contract's box in the same sides.
    """

    dx: float = 0.0
    dy: float = 0.0
    scale: float = 1.0


class DetectorSpec(Part, frozen=True, kw_only=True):
    """What the values of ``anchor_faces`` mean.

    Attributes:
        points: names of the K key points.
        eyes: the indices of the eye on the left and of that on the right of an upright face as seen; the line between
            them tells how far the face is turned.
        min_score: probability from which an anchor counts as a face.
        max_overlap: intersection over union from which two boxes are one face.
        face_box: from the detector's box to the contract's.
    """

    points: tuple[str, ...]
    eyes: tuple[int, int]
    min_score: float = 0.5
    max_overlap: float = 0.3
    face_box: FaceBox = FaceBox()
