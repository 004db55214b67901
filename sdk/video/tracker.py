"""Follow faces from frame to frame: each one's next box comes from its last landmarks (RULe, section IV-E), and a
detector is asked only where that does not do.

frame --each track's box--> network --score--> seen: landmarks --> next box; One-Euro filter --> smoothed landmarks
  |                            ^             |--> it moved far: a second look, in the box around these landmarks
  |                            `-------------'
  |                                       `--> not seen: look again, with the detector; after a while the track ends
  `--now and then--> detector --overlap with the tracks--> new faces

What is kept is one box, one filter and one previous mask a face, and a grid of the last frame: nothing grows with time.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pocketface.sdk.detection import Detection, Detector
from pocketface.sdk.errors import BadInputError
from pocketface.sdk.geometry import GROUND_TRUTH_SCALE, Box, iou
from pocketface.sdk.images import check_array
from pocketface.sdk.mask_predictor import MaskPredictor
from pocketface.sdk.results import Landmarks, Mask
from pocketface.sdk.video.finders import Finder, Found, LandmarksPredictor, finder_of
from pocketface.sdk.video.matching import matches
from pocketface.sdk.video.one_euro import OneEuro
from pocketface.sdk.video.scene import Scene
from pocketface.sdk.video.settings import TrackerSettings

_DOUBTS = 2
"""How many looks of the detector in a row may miss a face whose network gives no score."""

_LARGEST = 4.0
"""A face's extent over the picture's longer side from which landmarks are taken for nonsense."""


@dataclass(frozen=True, eq=False)
class TrackedFace:
    """One face in one frame.

    Attributes:
        id: of the face: from 1, the same in every frame it is followed through, never given twice.
        result: what the network found: unfiltered `Landmarks`, or a `Mask`.
        points: (n, 2) float32, the filtered landmarks; None of a mask.
        age: how many frames it has been seen in, this one included.
    """

    id: int
    result: Landmarks | Mask
    points: NDArray[np.float32] | None
    age: int

    @property
    def landmarks(self) -> Landmarks | None:
        """The landmarks with the filtered points; None of a mask."""
        if not isinstance(self.result, Landmarks) or self.points is None:
            return None
        return dataclasses.replace(self.result, points=self.points)

    @property
    def mask(self) -> Mask | None:
        """The mask; None of landmarks."""
        return self.result if isinstance(self.result, Mask) else None

    def to_dict(self) -> dict[str, object]:
        """As plain lists and numbers, for JSON; the points are the filtered ones."""
        return {"id": self.id, "age": self.age, **(self.landmarks or self.result).to_dict()}


# Compared by identity: two tracks are never the same one.
@dataclass(eq=False)
class _Track:
    """What is kept of one face."""

    id: int
    finder: Finder
    filter: OneEuro | None
    box: Box  # where to look next
    face: Box  # ground-truth box of the last sight, for overlaps
    age: int = 0
    unseen: int = 0
    doubts: int = 0
    now: TrackedFace | None = None  # what it is in this frame


class Tracker:
    """Follows the faces of one video.

    Args:
        predictor: of landmarks (a `Predictor`, or any function like it) or of masks; a network with a previous mask
            gets one of its own for each face.
        detector: finds faces; None takes the predictor's own, if it has one and no ``boxes`` are given.
        settings: how to behave.
        boxes: without a detector, where to look when no face is followed: x0, y0, x1, y1 each, in the contract's
            convention; None takes the whole picture.

    Raises:
        BadInputError: boxes and a detector, or a box without area.

    Example:
        >>> tracker = Tracker(load("face68"))
        >>> for frame in VideoReader("clip.mp4"):
        ...     for face in tracker(frame.image, frame.time):
        ...         print(face.id, face.points)
    """

    def __init__(
        self,
        predictor: LandmarksPredictor | MaskPredictor,
        detector: Detector | None = None,
        settings: TrackerSettings | None = None,
        *,
        boxes: Sequence[Box] | None = None,
    ) -> None:
        if boxes is not None and detector is not None:
            raise BadInputError("boxes and a detector", expected="one of them", next="Leave out the boxes")
        self.settings = settings or TrackerSettings()
        if detector is None and boxes is None:
            detector = getattr(predictor, "detector", None)
        self._predictor, self._detector = predictor, detector
        self._boxes = None if boxes is None else [Box(*box).checked() for box in boxes]
        self._scene = Scene()
        self._next_id = 1
        self.reset()

    def reset(self) -> None:
        """Begin another video; ids go on, so that none is given twice."""
        self._tracks: list[_Track] = []
        self._scene.reset()
        self._size = (0, 0)
        self._since_look = math.inf
        self._time = -math.inf

    def __call__(self, frame: NDArray[np.uint8], time: float) -> list[TrackedFace]:
        """Take the next frame.

        Args:
            frame: (H, W, 3) uint8 RGB. A frame of another size than the one before begins anew, as a cut does.
            time: in seconds, later than that of the frame before; the steps need not be equal.

        Returns:
            The faces that are seen in this frame, by id; none is no error.

        Raises:
            BadInputError: the frame is no image, or the time does not pass.
            BundleError: the network gives NaN or infinity.
        """
        check_array(frame)
        if not math.isfinite(time) or not time > self._time:
            raise BadInputError(
                f"a frame at {time} s after one at {self._time} s", expected="a later time", next="Call reset() first"
            )
        self._time = time
        size = (frame.shape[1], frame.shape[0])
        changed = self._scene.change(frame)
        if size != self._size or (self.settings.cut is not None and changed >= self.settings.cut):
            self._tracks.clear()
            self._since_look = math.inf
        self._size = size
        for track in self._tracks:
            track.now = None
            self._look_in(track, track.box, frame, anew=False)
        self._since_look += 1
        if self._must_look():
            self._since_look = 0
            self._look(frame)
        self._merge()
        for track in self._tracks:
            track.unseen = 0 if track.now else track.unseen + 1
        self._tracks = [track for track in self._tracks if track.unseen <= self.settings.patience]
        return [track.now for track in self._tracks if track.now]

    def _look_in(self, track: _Track, box: Box, frame: NDArray[np.uint8], *, anew: bool) -> None:
        """Look for a track's face in a box; ``anew``: it has nothing to do with the frame before."""
        try:
            box.checked(self._size)
        except BadInputError:  # it left the picture: not seen
            return
        if anew:
            track.finder.reset()
        found = self._seen(track.finder, box, frame, 0.0 if anew else self.settings.second_look or 0.0)
        if found is None or found.extent is None:
            return
        extent = found.extent
        if anew and track.filter is not None:
            track.filter.reset()
        track.age += 1
        track.face = _around(extent)
        # Of hair the extent is the box itself, which stays.
        track.box = box if extent is box else _around(extent, GROUND_TRUTH_SCALE * self.settings.margin)
        points = found.result.points if isinstance(found.result, Landmarks) else None
        if points is not None and track.filter is not None:
            points = track.filter(points, self._time, max(extent.width, extent.height))
        track.now = TrackedFace(track.id, found.result, points, track.age)

    def _seen(self, finder: Finder, box: Box, frame: NDArray[np.uint8], overlap: float) -> Found | None:
        """What is in a box, if it is a face; landmarks whose own box overlaps it less are looked for once more, there.

        A mask's finder may remember: a second look would be its next frame.
        """
        found = finder(frame, box)
        if found.extent is None or not self._plausible(found, found.extent):
            return None
        better = _around(found.extent)
        if iou(better, box) >= overlap or not isinstance(found.result, Landmarks):
            return found
        try:
            better.checked(self._size)
        except BadInputError:  # landmarks beside the picture
            return None
        found = finder(frame, better)
        return found if found.extent is not None and self._plausible(found, found.extent) else None

    def _plausible(self, found: Found, extent: Box) -> bool:
        side = max(extent.width, extent.height)
        sure = found.score is None or found.score >= self.settings.min_score
        return sure and self.settings.min_side <= side <= _LARGEST * max(self._size)

    def _must_look(self) -> bool:
        unseen = [track for track in self._tracks if track.now is None]
        if not self._tracks or unseen:
            first = any(track.unseen == 0 for track in unseen)
            if self._detector is None:
                return not self._tracks and self._since_look >= self.settings.search_every
            return first or self._since_look >= self.settings.search_every
        return self._detector is not None and self._since_look >= self.settings.detect_every

    def _look(self, frame: NDArray[np.uint8]) -> None:
        """Ask where faces are; go on with tracks that were lost, and begin new ones."""
        detections = self._detections(frame)
        pairs = matches([track.face for track in self._tracks], [d.box for d in detections], self.settings.match_iou)
        ended = []
        for number, track in enumerate(self._tracks):
            if number in pairs:
                track.doubts = 0
                if track.now is None:
                    self._look_in(track, detections[pairs[number]].box, frame, anew=True)
            elif track.now is not None and getattr(track.now.result, "score", None) is None:
                # Its network cannot say that the face is gone; the detector can.
                track.doubts += 1
                if track.doubts >= _DOUBTS and self._detector is not None:
                    ended.append(track)
        self._tracks = [track for track in self._tracks if track not in ended]
        for number, detection in enumerate(detections):
            if number not in pairs.values() and len(self._tracks) < self.settings.max_faces:
                self._begin(detection.box, frame)

    def _detections(self, frame: NDArray[np.uint8]) -> list[Detection]:
        if self._detector is not None:
            return self._detector(frame)
        boxes = [Box.of_image(frame.shape[1], frame.shape[0])] if self._boxes is None else self._boxes
        return [Detection(box, 1.0) for box in boxes]

    def _begin(self, box: Box, frame: NDArray[np.uint8]) -> None:
        smoothing = self.settings.smoothing
        track = _Track(
            self._next_id, finder_of(self._predictor), None if smoothing is None else OneEuro(smoothing), box, box
        )
        self._look_in(track, box, frame, anew=True)
        if track.now is not None:
            self._next_id += 1
            self._tracks.append(track)

    def _merge(self) -> None:
        """Of two tracks that came to one face, the older stays."""
        kept: list[_Track] = []
        for track in self._tracks:
            if track.now is None or not any(
                other.now is not None and iou(other.face, track.face) >= self.settings.merge_iou for other in kept
            ):
                kept.append(track)
        self._tracks = kept


def _around(extent: Box, scale: float = GROUND_TRUTH_SCALE) -> Box:
    """The square around a tight box: as around the landmarks it came from."""
    return Box.around([(extent.x0, extent.y0), (extent.x1, extent.y1)], scale)
