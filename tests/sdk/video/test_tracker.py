"""Following faces, with a network and a detector that know where the faces are because the test put them there."""

from __future__ import annotations

import dataclasses
import math
import tracemalloc

import numpy as np
import pytest
from mask_factory import make_mask_bundle

from pocketface.sdk import load_mask
from pocketface.sdk.detection import Detection
from pocketface.sdk.errors import BadInputError
from pocketface.sdk.geometry import Box, iou
from pocketface.sdk.results import Landmarks
from pocketface.sdk.video.one_euro import OneEuro, OneEuroSettings
from pocketface.sdk.video.settings import TrackerSettings
from pocketface.sdk.video.tracker import Tracker

GREY = np.full((120, 160, 3), 128, np.uint8)
PLAIN = TrackerSettings(smoothing=None)
SHAPE = np.array([[-10, -8], [10, -8], [0, 0], [-6, 10], [6, 10]], np.float32)


class World:
    """Faces at places, seen by a network (the nearest one whose centre is in the box) and by a detector."""

    def __init__(self, *places: tuple[float, float], scored: bool = True):
        self.places, self.scored = [np.array(place, float) for place in places], scored
        self.boxes: list[Box] = []
        self.looks = 0
        self.blind: set[int] = set()  # faces that only the network sees

    def predict(self, image, boxes):
        found = []
        for box in boxes:
            self.boxes.append(box)
            centre = np.array([(box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2])
            inside = [p for p in self.places if box.x0 <= p[0] <= box.x1 and box.y0 <= p[1] <= box.y1]
            nearest = min(inside, key=lambda p: np.linalg.norm(p - centre), default=None)
            points = SHAPE + (centre if nearest is None else nearest)
            score = None if not self.scored else 0.1 if nearest is None else 0.9
            found.append(Landmarks(points.astype(np.float32), score, box, "five"))
        return found

    def detect(self, image):
        self.looks += 1
        seen = [place for number, place in enumerate(self.places) if number not in self.blind]
        return [Detection(Box.around(SHAPE + place), 0.8) for place in seen]


def run(tracker: Tracker, frames: int, change=lambda k: None, start: int = 0, image=GREY):
    found = []
    for k in range(start, start + frames):
        change(k)
        found.append(tracker(image, k / 30))
    return found


def ids(found) -> list[list[int]]:
    return [[face.id for face in faces] for faces in found]


def test_the_next_box_is_that_of_the_last_landmarks_times_the_margin():
    world = World((60, 60))
    tracker = Tracker(world.predict, world.detect, TrackerSettings(margin=1.2, second_look=None, smoothing=None))
    run(tracker, 5, lambda k: world.places[0].__iadd__((2, 1)))
    # Extent 20 x 18, so 1.25 x 1.2 x 20 = 30; centred one frame behind. The first box is the detector's.
    assert world.boxes[0] == Box(62 - 12.5, 62 - 12.5, 62 + 12.5, 62 + 12.5)
    for step, box in enumerate(world.boxes[1:], 1):
        x, y = 60 + 2 * step, 62 + step - 1
        np.testing.assert_allclose(box, (x - 15, y - 15, x + 15, y + 15))
    assert world.looks == 1


def test_a_face_that_moved_far_is_looked_at_twice():
    world = World((60, 60))
    tracker = Tracker(world.predict, world.detect, TrackerSettings(second_look=0.7, smoothing=None))
    run(tracker, 1)
    # Boxes of 25: an overlap of 23 / 27 is enough, that of 20 / 30 is not.
    for move, looks in ((2, 1), (5, 2), (0, 1)):
        world.places[0] += (move, 0)
        before = len(world.boxes)
        (face,) = tracker(GREY, tracker._time + 1 / 30)
        assert len(world.boxes) - before == looks
        np.testing.assert_allclose(face.result.points, SHAPE + world.places[0])
        if looks == 2:
            np.testing.assert_allclose(world.boxes[-1], Box.around(SHAPE + world.places[0]))
    assert world.looks == 1


def test_what_the_second_look_does_not_see_is_not_seen():
    world = World((60, 60))

    def predict(image, boxes):
        (found,) = world.predict(image, boxes)
        return [dataclasses.replace(found, score=0.1 if len(world.boxes) == 3 else found.score)]

    tracker = Tracker(predict, None, PLAIN, boxes=[Box.around(SHAPE + np.array((60, 60)))])
    found = run(tracker, 2, lambda k: world.places[0].__iadd__((5 * k, 0)))
    assert ids(found) == [[1], []]
    assert len(world.boxes) == 3


def test_two_faces_keep_their_ids_while_they_move():
    world = World((40, 60), (120, 60))
    tracker = Tracker(world.predict, world.detect, PLAIN)

    def swap(k):
        world.places[0] += (1.5, -0.5)
        world.places[1] += (-1.5, 0.5)

    found = run(tracker, 25, swap)
    assert ids(found) == [[1, 2]] * 25
    for face, place in zip(found[-1], world.places, strict=True):
        np.testing.assert_allclose(face.points.mean(axis=0), (SHAPE + place).mean(axis=0), rtol=1e-5)
        assert face.age == 25


def test_a_new_face_is_met_at_the_next_look():
    world = World((40, 60))
    tracker = Tracker(world.predict, world.detect, TrackerSettings(smoothing=None, detect_every=10))

    def arrive(k):
        if k == 4:
            world.places.append(np.array((120.0, 60.0)))

    assert ids(run(tracker, 14, arrive)) == [[1]] * 10 + [[1, 2]] * 4
    assert world.looks == 2


def test_a_lost_face_is_looked_for_at_once_and_keeps_its_id():
    world = World((40, 60))
    tracker = Tracker(world.predict, world.detect, PLAIN)

    def jump(k):
        if k == 5:  # out of the box's middle third, so that the network misses it; the detector's box still overlaps
            world.places[0] = np.array((54.0, 60.0))

    found = run(tracker, 8, jump)
    assert ids(found) == [[1]] * 8
    assert world.looks == 2
    assert found[5][0].result.box == Box.around(SHAPE + np.array((54, 60)))


def test_an_unseen_face_is_not_given_and_its_track_ends_after_a_while():
    world = World((40, 60))
    tracker = Tracker(world.predict, world.detect, TrackerSettings(smoothing=None, patience=6, search_every=3))
    home = world.places[0]

    def hide(k):
        world.places[:] = [] if 3 <= k < 8 or 12 <= k < 20 else [home]

    found = run(tracker, 26, hide)
    # Five frames away: the same face; eight: another one, found at the next look.
    assert ids(found[:12]) == [[1]] * 3 + [[]] * 5 + [[1]] * 4
    assert ids(found[12:20]) == [[]] * 8
    assert [faces[0].id for faces in found[23:]] == [2, 2, 2]
    assert world.looks < 12


def test_ids_are_never_given_twice_even_after_a_reset():
    world = World((40, 60))
    tracker = Tracker(world.predict, world.detect, PLAIN)
    assert ids(run(tracker, 2)) == [[1], [1]]
    tracker.reset()
    assert ids(run(tracker, 2)) == [[2], [2]]


def test_of_two_tracks_that_come_to_one_face_the_older_stays():
    world = World((40, 60), (80, 60))
    tracker = Tracker(world.predict, world.detect, PLAIN)

    def meet(k):
        if k >= 3:
            world.places[0] += (2, 0)
        if k == 20:
            del world.places[1:]

    found = run(tracker, 30, meet)
    assert ids(found)[0] == [1, 2]
    assert ids(found)[-1] == [1]
    for faces in found:
        assert all(iou(Box.around(a.points), Box.around(b.points)) < 0.5 for a in faces for b in faces if a is not b)


@pytest.mark.parametrize("boxes", [None, [Box(20, 40, 60, 80)]])
def test_without_a_detector_faces_are_looked_for_where_it_was_said(boxes):
    world = World((40, 60))
    tracker = Tracker(world.predict, None, PLAIN, boxes=boxes)
    assert ids(run(tracker, 3)) == [[1]] * 3
    assert world.boxes[0] == (boxes[0] if boxes else Box(-0.5, -0.5, 159.5, 119.5))
    world.places.clear()
    assert ids(run(tracker, 40, start=3)) == [[]] * 40
    world.places.append(np.array((42.0, 58.0)))
    assert ids(run(tracker, 6, start=43))[-1] == [2]


def test_frames_without_faces_are_no_error():
    world = World()
    tracker = Tracker(world.predict, world.detect, TrackerSettings(search_every=4))
    assert ids(run(tracker, 9)) == [[]] * 9
    assert world.looks == 3


def test_a_network_without_a_score_is_told_by_the_detector_that_a_face_is_gone():
    world = World((40, 60), scored=False)
    tracker = Tracker(world.predict, world.detect, TrackerSettings(smoothing=None, detect_every=5))
    assert ids(run(tracker, 7)) == [[1]] * 7
    world.places.clear()
    found = ids(run(tracker, 12, start=7))
    # One look may err; after the second the face is gone.
    assert found[:8] == [[1]] * 8
    assert found[-1] == []


def test_a_detector_that_misses_a_face_ends_no_track_whose_network_is_sure():
    world = World((40, 60))
    tracker = Tracker(world.predict, world.detect, TrackerSettings(smoothing=None, detect_every=3))
    run(tracker, 1)
    world.blind.add(0)
    assert ids(run(tracker, 20, start=1)) == [[1]] * 20
    assert world.looks > 5


def test_a_face_that_leaves_the_picture_is_lost():
    world = World((40, 60))
    tracker = Tracker(world.predict, None, PLAIN, boxes=[Box(20, 40, 60, 80)])
    found = run(tracker, 60, lambda k: world.places[0].__isub__((4, 0)))
    assert found[0]
    assert not found[-1]


@pytest.mark.parametrize("image", [np.full((120, 160, 3), 10, np.uint8), np.full((60, 60, 3), 128, np.uint8)])
def test_a_cut_or_another_size_ends_all_tracks(image):
    world = World((40, 40))
    tracker = Tracker(world.predict, world.detect, PLAIN)
    assert ids(run(tracker, 3)) == [[1]] * 3
    assert ids(run(tracker, 3, start=3, image=image)) == [[2]] * 3
    uncut = Tracker(world.predict, world.detect, TrackerSettings(smoothing=None, cut=None))
    run(uncut, 3)
    assert ids(run(uncut, 1, start=3, image=image)) == ([[1]] if image.shape == GREY.shape else [[2]])


def test_points_are_filtered_and_boxes_are_not():
    smoothing = OneEuroSettings(0.5, 2.0)
    random, world = np.random.default_rng(0), World((60, 60))
    tracker, filter = (
        Tracker(world.predict, world.detect, TrackerSettings(margin=1.0, second_look=None, smoothing=smoothing)),
        OneEuro(smoothing),
    )
    last = SHAPE
    for k in range(20):
        world.places[0] = np.array((60.0, 60.0)) + random.normal(0, 2, 2)
        (face,) = tracker(GREY, k / 30)
        raw = (SHAPE + world.places[0]).astype(np.float32)
        np.testing.assert_array_equal(face.result.points, raw)
        np.testing.assert_allclose(face.points, filter(raw, k / 30, 20.0), rtol=1e-5)
        assert face.landmarks.points is face.points
        if k:
            np.testing.assert_allclose(world.boxes[-1], Box.around(last))
        last = raw


def test_no_more_faces_than_allowed():
    world = World((30, 30), (80, 30), (130, 30), (30, 90))
    tracker = Tracker(world.predict, world.detect, TrackerSettings(max_faces=2))
    assert ids(run(tracker, 3)) == [[1, 2]] * 3


@pytest.mark.parametrize("points", [np.zeros((5, 2)), SHAPE * 100])
def test_landmarks_that_make_no_face_are_not_seen(points):
    tracker = Tracker(lambda image, boxes: [Landmarks(points.astype(np.float32), 0.99, boxes[0], "five")])
    assert ids(run(tracker, 3)) == [[]] * 3


def test_masks_are_followed_each_with_a_previous_mask_of_its_own(tmp_path):
    """Two faces in one tracker give what two predictors give that saw one face each."""
    bundle = make_mask_bundle(tmp_path / "m", classes="hair2", gain=2.0)
    boxes = [Box(5, 5, 65, 65), Box(80, 40, 150, 110)]
    tracker = Tracker(load_mask(bundle), None, PLAIN, boxes=boxes)
    alone = [load_mask(bundle) for _ in boxes]
    for k in range(4):
        frame = np.random.default_rng(k).integers(100, 156, GREY.shape, np.uint8)
        faces = tracker(frame, k / 30)
        assert [face.id for face in faces] == [1, 2]
        for face, box, predictor in zip(faces, boxes, alone, strict=True):
            (mask,) = predictor(frame, [box])
            np.testing.assert_array_equal(face.mask.soft.probabilities, mask.soft.probabilities)
            assert face.points is None
            assert face.landmarks is None
            assert "runs" in face.to_dict()


def test_another_shares_the_model_and_not_the_memory(tmp_path):
    first = load_mask(make_mask_bundle(tmp_path / "m", gain=2.0))
    image = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    (fresh,) = first(image)
    (second,) = first(image)
    assert (fresh.soft.probabilities != second.soft.probabilities).any()
    twin = first.another()
    assert twin.backend is first.backend
    np.testing.assert_array_equal(twin(image)[0].soft.probabilities, fresh.soft.probabilities)


def test_faces_of_masks_move_their_box(tmp_path):
    """Of classes with skin the next box is around what was found; so it is not the one that was given."""
    predictor = load_mask(make_mask_bundle(tmp_path / "m", classes="face11"))
    tracker = Tracker(predictor, None, PLAIN, boxes=[Box(20, 20, 100, 100)])
    frame = np.random.default_rng(5).integers(0, 256, GREY.shape, np.uint8)
    found = [tracker(frame, k / 30) for k in range(2)]
    assert found[0]
    extent = found[0][0].mask.labels > 0
    assert extent.any()
    if found[1]:
        assert found[1][0].mask.box != Box(20, 20, 100, 100)


def test_memory_does_not_grow_with_frames():
    """2,000 frames in which faces come, move and go: the second half needs no more than the first."""
    world = World((40, 60), (110, 60))
    tracker = Tracker(world.predict, world.detect, TrackerSettings(detect_every=7, patience=3))

    def live(k):
        world.boxes.clear()
        world.places[0] = np.array((60 + 20 * math.cos(k / 9), 60 + 20 * math.sin(k / 9)))
        if k % 40 == 20:
            del world.places[1:]
        if k % 40 == 0 and k:
            world.places.append(np.array((120.0, 90.0)))

    run(tracker, 100, live)  # caches of numpy and of the test itself
    tracemalloc.start()
    peaks = []
    try:
        for half in range(2):
            tracemalloc.reset_peak()
            for k in range(100 + 1000 * half, 1100 + 1000 * half):
                live(k)
                tracker(GREY, k / 30)
            peaks.append(tracemalloc.get_traced_memory()[1])
    finally:
        tracemalloc.stop()
    assert peaks[1] <= 1.02 * peaks[0] + 20_000
    assert tracker._next_id > 30  # faces did come and go


@pytest.mark.parametrize("time", [0.5, 0.4, math.nan, math.inf])
def test_time_must_pass(time):
    world = World((40, 60))
    tracker = Tracker(world.predict, world.detect)
    tracker(GREY, 0.5)
    with pytest.raises(BadInputError, match="later time"):
        tracker(GREY, time)


def test_what_makes_no_tracker_is_refused():
    world = World()
    with pytest.raises(BadInputError, match="boxes and a detector"):
        Tracker(world.predict, world.detect, boxes=[Box(0, 0, 1, 1)])
    with pytest.raises(BadInputError, match="no area"):
        Tracker(world.predict, boxes=[Box(3, 0, 1, 1)])
    with pytest.raises(BadInputError, match="expected \\(height, width, 3\\)"):
        Tracker(world.predict)(np.zeros((4, 4), np.uint8), 0)
    for bad in ({"margin": 0}, {"min_score": 2}, {"detect_every": 0}, {"cut": -1}, {"max_faces": 0}, {"patience": -1}):
        with pytest.raises(BadInputError, match=next(iter(bad))):
            TrackerSettings(**bad)
