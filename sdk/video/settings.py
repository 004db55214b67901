"""How a tracker behaves: frozen, with defaults that were chosen on validation faces."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pocketface.sdk.errors import BadInputError
from pocketface.sdk.video.one_euro import OneEuroSettings

SMOOTHING = OneEuroSettings(min_cutoff=4.0, beta=30.0)
"""What was chosen; see `TrackerSettings`."""


@dataclass(frozen=True)
class TrackerSettings:
    """What a `Tracker` goes by.

    ``margin``, ``second_look`` and ``smoothing`` are those that docs/results/runtime/tracking.json chose on moving
    validation faces of 300-W, by the rule of ``benchmarks/tracking.py``; the others are set by hand.

    Attributes:
        margin: side of the next box over that of the ground-truth box around the last landmarks; more leaves room for
            movement, and shows the face smaller than the network was trained on.
        second_look: overlap (intersection over union) of the box that was looked in with that around the landmarks
            found there, below which these are looked for once more, in the latter: a face that moved far lies at the
            edge of its old box. None never looks twice. Boxes that were given or detected are not looked in twice, nor
            are masks.
        smoothing: One-Euro filter of the landmarks; None gives them as they are. Boxes come from unfiltered ones.
        min_score: face score below which a face counts as not seen; networks without a score see it always.
        detect_every: frames between two looks for faces that are new, while all known ones are seen.
        search_every: frames between two looks for faces while there is none, or one of them is not seen. The frame that
            a face is first not seen in is always looked at.
        patience: frames that a face may be unseen before its track ends.
        match_iou: overlap from which a detection is taken for a track's face.
        merge_iou: overlap from which two tracks are taken for one face; the older one stays.
        cut: change of the picture, in [0, 1], from which all tracks end (`scene.Scene`); None never looks. Between two
            of 68 validation photos of 300-W it is larger for 97.6 % of the pairs; from frame to frame of five filmed
            ones at most 0.05 at 30 frames a second, and up to 0.16 at 6.
        max_faces: no more tracks than these.
        min_side: pixels; a face whose landmarks span less is not seen.
    """

    margin: float = 1.0
    second_look: float | None = 0.9
    smoothing: OneEuroSettings | None = SMOOTHING
    min_score: float = 0.5
    detect_every: int = 30
    search_every: int = 5
    patience: int = 15
    match_iou: float = 0.2
    merge_iou: float = 0.5
    cut: float | None = 0.15
    max_faces: int = 16
    min_side: float = 8.0

    def __post_init__(self) -> None:
        for name, low, high in (
            ("margin", 0.5, 4.0),
            ("second_look", 0.0, 1.0),
            ("min_score", 0.0, 1.0),
            ("detect_every", 1, math.inf),
            ("search_every", 1, math.inf),
            ("patience", 0, math.inf),
            ("match_iou", 0.0, 1.0),
            ("merge_iou", 0.0, 1.0),
            ("cut", 0.0, 1.0),
            ("max_faces", 1, math.inf),
            ("min_side", 0.0, math.inf),
        ):
            value = getattr(self, name)
            if value is None and name in ("cut", "second_look"):
                continue
            if not low <= value <= high:
                raise BadInputError(f"{name} {value!r}", expected=f"{low:g} to {high:g}")
