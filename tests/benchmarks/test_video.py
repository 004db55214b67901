"""Moving faces made of stills, and the protocol that follows them from frame to frame, on drawn faces."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest

from pocketface.benchmarks.data.degrade import degrade_image, inter_ocular
from pocketface.benchmarks.data.motion import MotionSpec, frames, path
from pocketface.benchmarks.data.registry import DATASETS
from pocketface.benchmarks.data.synthetic import write_dataset
from pocketface.benchmarks.video import ROWS, evaluate_video
from pocketface.sdk import load_scheme, read_image
from pocketface.sdk.errors import AnnotationError, BadInputError
from pocketface.sdk.geometry import Box, Crop

IBUG = load_scheme("ibug68")
SPEC = MotionSpec(frames=7, size=96)


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drawn") / "data"
    write_dataset(folder, count=2, seed=5, size=96)
    return DATASETS["pts"](folder, scheme=IBUG)


class Follower:
    """Finds the landmarks exactly, where the box it is given holds their centre; else it says they fill the box."""

    def __init__(self, faces, error: float = 0.0):
        self.stage, self.error, self.boxes, self.images = SimpleNamespace(marks=IBUG), error, [], []
        self.truth = [[frame.points for frame in frames(face, SPEC)] for face in faces]
        self.pictures = [[frame.image for frame in frames(face, SPEC)] for face in faces]

    def __call__(self, image, boxes):
        (box,) = boxes
        self.boxes.append(box)
        self.images.append(image)
        points = next(
            points
            for shown, marked in zip(self.pictures, self.truth, strict=True)
            for picture, points in zip(shown, marked, strict=True)
            if np.array_equal(picture, image)
        )
        return [SimpleNamespace(points=points + self.error * inter_ocular(points))]


def test_the_path_is_smooth_bounded_and_starts_at_the_face():
    spec = MotionSpec(frames=300)
    moved = path(spec, name="a")
    assert moved.shape == (300, 4)
    np.testing.assert_array_equal(moved[0], 0)
    assert np.abs(moved).max() <= 1
    # Each wave is at most 2 pi / period steep, so their mean is too, and half of it half as much.
    steepest = np.pi / (spec.periods[0] * spec.fps)
    assert np.abs(np.diff(moved, axis=0)).max() <= steepest
    assert np.abs(moved).max(axis=0).min() > 0.2
    np.testing.assert_array_equal(moved[:9], path(MotionSpec(frames=9), name="a"))  # longer videos begin alike
    assert not np.array_equal(moved, path(spec, name="b"))
    assert not np.array_equal(moved, path(spec, name="a", seed=1))


def test_landmarks_move_with_the_picture(faces):
    """The same place of the face, looked up by the landmarks, looks the same in the still and in each frame."""
    face = faces[0]
    image = read_image(face.image).astype(float)
    shown = list(frames(face, MotionSpec(frames=5, size=192, roll=20.0)))
    assert len(shown) == 5
    first = Crop.from_box(face.box, 2.0).to_normalised(face.points)
    np.testing.assert_allclose(shown[0].points, (first + 0.5) * 192 - 0.5, atol=1e-3)
    for frame in shown:
        for place in (30, 33, 36, 45, 48, 54, 8):
            x, y = np.rint(face.points[place]).astype(int)
            u, v = np.rint(frame.points[place]).astype(int)
            still, found = (
                part.mean((0, 1))
                for part in (image[y - 1 : y + 2, x - 1 : x + 2], frame.image[v - 2 : v + 3, u - 2 : u + 3])
            )
            assert np.abs(still - found).max() < 60


def test_a_perfect_predictor_has_no_error_and_hands_its_box_on(faces):
    follower = Follower(faces)
    result = evaluate_video(follower, faces, motion=SPEC)
    assert (result.accuracy.nme, result.lost, result.faces, result.frames) == (pytest.approx(0), 0.0, 2, 6)
    assert result.accuracy.faces == 12  # the first frame of each face is not counted: its box was given
    given, before = follower.boxes[:7], [Box.around(points) for points in follower.truth[0]]
    np.testing.assert_allclose(given[0], before[0], atol=1e-4)
    for number, (earlier, later) in enumerate(pairwise(given)):
        np.testing.assert_allclose(later, before[number], atol=1e-4)
        assert earlier is not later


def test_frames_are_left_out_and_made_coarse(faces):
    follower = Follower(faces[:1])
    result = evaluate_video(follower, faces[:1], temporal=3, motion=SPEC)
    assert result.frames == 2
    seen = [
        next(i for i, picture in enumerate(follower.pictures[0]) if np.array_equal(picture, image))
        for image in follower.images
    ]
    assert seen == [0, 3, 6]
    coarse = []
    spy = SimpleNamespace(stage=follower.stage)
    spy_call = lambda image, boxes: coarse.append(image) or [SimpleNamespace(points=follower.truth[0][0])]  # noqa: E731
    evaluate_video(
        type("Spy", (), {"stage": spy.stage, "__call__": staticmethod(spy_call)})(), faces[:1], spatial=8, motion=SPEC
    )
    np.testing.assert_array_equal(coarse[0], degrade_image(follower.pictures[0][0], {"downsample": 8}, name="x"))


def test_the_error_is_counted_in_inter_ocular_distances(faces):
    result = evaluate_video(Follower(faces, error=0.1), faces, motion=SPEC)
    assert result.accuracy.nme == pytest.approx(10 * np.sqrt(2), rel=1e-4)


def test_a_box_that_misses_the_frame_is_not_used(faces):
    class Lost(Follower):
        def __call__(self, image, boxes):
            found = super().__call__(image, boxes)
            return found if len(self.boxes) == 1 else [SimpleNamespace(points=found[0].points + 1000)]

    follower = Lost(faces[:1])
    result = evaluate_video(follower, faces[:1], motion=SPEC)
    assert result.lost == pytest.approx(100 * 5 / 6)  # the second frame's box came from the first, which was found
    assert follower.boxes[2] == follower.boxes[1] == follower.boxes[-1]


def test_faces_of_another_mark_up_or_without_area_are_refused_by_name(faces):
    few = replace(faces[0], points=faces[0].points[:8])
    with pytest.raises(BadInputError, match=f"{few.name}: 8 points"):
        evaluate_video(Follower(faces[:1]), [few], motion=SPEC)
    one = replace(faces[0], points=np.full((68, 2), 5, np.float32))
    with pytest.raises(AnnotationError, match=one.name):
        list(frames(one, SPEC))


def test_every_third_frame_is_the_same_as_among_all(faces):
    every, third = list(frames(faces[0], SPEC)), list(frames(faces[0], SPEC, every=3))
    assert len(third) == 3
    for number, frame in enumerate(third):
        np.testing.assert_array_equal(frame.image, every[3 * number].image)


@pytest.mark.parametrize("changes", [{"spatial": 0}, {"temporal": 0}, {"temporal": 7}])
def test_what_leaves_nothing_to_follow_is_refused(faces, changes):
    with pytest.raises(BadInputError, match="two frames or more"):
        evaluate_video(Follower(faces[:1]), faces[:1], motion=SPEC, **changes)


def test_the_rows_are_the_paper_s():
    assert {(1, 1), (8, 1), (1, 10), (8, 10)} == set(ROWS.values())
