"""Which detection is which track's face.

Greedily by overlap, the largest first. The boxes of two faces hardly overlap, so a detection has at most one track that
it can belong to, and where it has two the larger overlap is the better guess; an assignment that is best in total
(Hungarian) would differ only where both guesses are poor.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pocketface.sdk.geometry import Box, iou


def matches(tracks: Sequence[Box], detections: Sequence[Box], least: float) -> dict[int, int]:
    """Index of a track -> index of its detection; each of both at most once.

    Args:
        tracks, detections: their boxes, in the same convention.
        least: IoU from which two boxes may be one face's. Of equal overlaps the first track's, then the first
            detection's, goes first.
    """
    if not tracks or not detections:
        return {}
    overlaps = iou(np.array(tracks)[:, None], np.array(detections))
    pairs = sorted((-overlaps[t, d], t, d) for t, d in np.argwhere(overlaps >= least).tolist())
    found: dict[int, int] = {}
    for _, t, d in pairs:
        if t not in found and d not in found.values():
            found[t] = d
    return found
