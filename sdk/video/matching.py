"""Which detection is which track's face.

Greedily by overlap, the largest first. The boxes of two faces hardly overlap, so a detection has at most one track that
it can belong to, and where it has two the larger overlap is the better guess; an assignment that is best in total
(Hungarian) would differ only where both guesses are poor.
"""

from __future__ import annotations

from collections.abc import Sequence

from pocketface.sdk.geometry import Box


def iou(a: Box, b: Box) -> float:
    """Intersection over union of two boxes, in [0, 1]."""
    width = min(a.x1, b.x1) - max(a.x0, b.x0)
    height = min(a.y1, b.y1) - max(a.y0, b.y0)
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    return shared / (a.width * a.height + b.width * b.height - shared)


def matches(tracks: Sequence[Box], detections: Sequence[Box], least: float) -> dict[int, int]:
    """Index of a track -> index of its detection; each of both at most once.

    Args:
        tracks, detections: their boxes, in the same convention.
        least: IoU from which two boxes may be one face's. Of equal overlaps the first track's, then the first
            detection's, goes first.
    """
    pairs = sorted(
        (-overlap, t, d)
        for t, track in enumerate(tracks)
        for d, detection in enumerate(detections)
        if (overlap := iou(track, detection)) >= least
    )
    found: dict[int, int] = {}
    for _, t, d in pairs:
        if t not in found and d not in found.values():
            found[t] = d
    return found
