"""Flicker of label maps by hand; the known motion against the landmarks that motion.py knows."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from PIL import Image

from pocketface.benchmarks.data.degrade import inter_ocular
from pocketface.benchmarks.data.face import Face
from pocketface.benchmarks.data.motion import MotionSpec, frames, still_crops
from pocketface.benchmarks.temporal_masks import (
    Clip,
    flicker,
    joined,
    motion_between,
    still_labels,
    warp_labels,
)
from pocketface.sdk.errors import BadInputError
from pocketface.sdk.geometry import Crop

CLASSES = ("background", "hair", "nose")
A = np.array([[0, 0, 1, 1], [0, 0, 1, 1]], np.uint8)
B = np.array([[0, 1, 1, 1], [0, 0, 1, 1]], np.uint8)


def test_frames_as_they_are_by_hand():
    got = flicker([A, B, B], CLASSES)
    # First pair: background 3 of 4 in common, hair 4 of 5; second pair: nothing changes.
    assert got.by_class["background"] == pytest.approx(100 * (1 / 4 + 0) / 2)
    assert got.by_class["hair"] == pytest.approx(100 * (1 / 5 + 0) / 2)
    assert got.by_class["nose"] is None
    assert got.overall == pytest.approx(100 * ((1 / 4 + 1 / 5) / 2 + 0) / 2)
    assert got.changed == pytest.approx(100 * (1 / 8 + 0) / 2)
    assert not got.warped
    assert "motion counted in" in str(got)
    json.dumps(got.to_dict(), allow_nan=False)


def test_a_class_counts_in_the_pairs_in_which_it_occurs():
    nose = A.copy()
    nose[0, 0] = 2
    got = flicker([A, A, nose], CLASSES)
    assert got.by_class["nose"] == pytest.approx(100)  # only the second pair knows it, and there it is new
    assert got.overall == pytest.approx(100 * (0 + (1 / 4 + 0 + 1) / 3) / 2)


def test_a_known_shift_is_no_flicker():
    # The picture moves right by one: pixel x of a frame was at x - 1 in the frame before.
    wide = np.array([[0, 0, 1, 1, 0, 0, 2, 0]], np.uint8)
    moving = [np.roll(wide, step, axis=1) for step in range(3)]
    motion = [[[1, 0, -1], [0, 1, 0]]] * 2
    assert flicker(moving, CLASSES, motion=motion).overall == 0
    assert flicker(moving, CLASSES).overall > 30
    assert flicker(moving, CLASSES, motion=motion).warped


def test_ignored_pixels_and_what_comes_into_view_are_not_compared():
    before, now = np.array([[0, 1, 1]], np.uint8), np.array([[2, 0, 255]], np.uint8)
    got = flicker([before, now], CLASSES, motion=[[[1, 0, -1], [0, 1, 0]]])
    assert got.changed == 0  # only the middle pixel is in both: background before and now
    assert got.by_class == {"background": 0.0, "hair": None, "nose": None}


def test_frames_after_a_cut_are_not_compared_with_the_frame_before():
    assert flicker([A, A, 1 - A, 1 - A], CLASSES, cuts=[2]).overall == 0
    assert len(flicker([A, A, 1 - A, 1 - A], CLASSES, cuts=[2]).pairs) == 2
    assert flicker([A, A, 1 - A, 1 - A], CLASSES).overall == pytest.approx(100 / 3)


def test_clips_join_pair_by_pair():
    one, two = flicker([A, B], CLASSES), flicker([A, A, A], CLASSES)
    assert joined([one, two]).overall == pytest.approx(one.overall / 3)
    assert joined([one, two]).changed == pytest.approx(one.changed / 3)
    with pytest.raises(BadInputError):
        joined([])
    with pytest.raises(BadInputError):
        joined([one, flicker([A, A], CLASSES, motion=[[[1, 0, 0], [0, 1, 0]]])])


def test_a_quarter_turn_is_rots():
    labels = np.arange(16, dtype=np.uint8).reshape(4, 4)
    middle = {"cx": 1.5, "cy": 1.5, "side": 4.0}
    # Turned clockwise as seen, the crop shows the picture turned the other way.
    np.testing.assert_array_equal(still_labels(labels, Crop(**middle, angle=90), 4), np.rot90(labels, 1))
    motion = motion_between(Crop(**middle), Crop(**middle, angle=90), 4)
    np.testing.assert_array_equal(warp_labels(labels, motion), np.rot90(labels, 1))


def test_a_crop_beyond_the_picture_is_ignored_there_and_a_finer_one_repeats_pixels():
    labels = np.array([[1, 2], [3, 4]], np.uint8)
    np.testing.assert_array_equal(still_labels(labels, Crop(0.5, 0.5, 2), 4), np.kron(labels, np.ones((2, 2), int)))
    got = still_labels(labels, Crop(1.5, 0.5, 2), 2)
    np.testing.assert_array_equal(got, [[2, 255], [4, 255]])


def test_the_motion_takes_every_place_of_the_still_from_frame_to_frame():
    before, now = Crop(30, 40, 50, 10), Crop(33, 38, 60, -15)
    points = np.random.default_rng(0).uniform(10, 60, (20, 2))
    seen = [(crop.to_normalised(points).astype(float) + 0.5) * 64 - 0.5 for crop in (before, now)]
    motion = motion_between(before, now, 64)
    np.testing.assert_allclose(seen[1] @ motion[:, :2].T + motion[:, 2], seen[0], atol=1e-4)


@pytest.fixture
def face(tmp_path):
    """A blob of a face whose landmarks are not symmetric."""
    picture = np.zeros((80, 90, 3), np.uint8)
    picture[20:60, 30:70] = 180
    Image.fromarray(picture).save(tmp_path / "a.png")
    points = np.random.default_rng(1).uniform(25, 65, (68, 2)).astype(np.float32)
    return Face("a", tmp_path / "a.png", points)


def test_still_crops_are_the_path_of_motion_py(face):
    spec = MotionSpec(frames=5, size=48)
    unit = inter_ocular(face.points, (36, 45))
    crops = still_crops(spec, face.box, unit, name=face.name, seed=3)
    picture = np.asarray(Image.open(face.image))
    clip = Clip.of_still(picture, (picture[..., 0] > 0).astype(np.uint8), crops, 48)
    film = list(frames(face, spec, seed=3))
    for frame, image, crop in zip(film, clip.images, crops, strict=True):
        np.testing.assert_array_equal(frame.image, image)
        np.testing.assert_allclose((crop.to_normalised(face.points) + 0.5) * 48 - 0.5, frame.points, atol=1e-3)
    for before, now, motion in zip(film, film[1:], clip.motion, strict=False):
        np.testing.assert_allclose(now.points @ motion[:, :2].T + motion[:, 2], before.points, atol=1e-3)


def test_the_true_labels_of_a_filmed_still_hardly_flicker_once_the_motion_is_taken_out(face):
    spec = MotionSpec(frames=6, size=96, fps=10)
    picture = np.asarray(Image.open(face.image))
    crops = still_crops(spec, face.box, 20.0, name="a", seed=0)
    clip = Clip.of_still(picture, (picture[..., 0] > 0).astype(np.uint8), crops, spec.size)
    floor = flicker(clip.labels, ("background", "hair"), motion=clip.motion)
    moving = flicker(clip.labels, ("background", "hair"))
    assert floor.overall < 3
    assert moving.overall > 3 * floor.overall
    assert math.isfinite(floor.changed)


def test_bad_clips_are_refused():
    with pytest.raises(BadInputError, match="1 frames, expected at least two"):
        flicker([A], CLASSES)
    with pytest.raises(BadInputError, match="frame 1: mask of shape"):
        flicker([A, A[:1]], CLASSES)
    with pytest.raises(BadInputError, match="frame 1: true class 9"):
        flicker([A, A + 9], CLASSES)
    with pytest.raises(BadInputError, match="1 motions of 3 frames"):
        flicker([A, A, A], CLASSES, motion=[[[1, 0, 0], [0, 1, 0]]])
    with pytest.raises(BadInputError, match="share no pixel"):
        flicker([A, A], CLASSES, motion=[[[1, 0, 99], [0, 1, 0]]])
    with pytest.raises(BadInputError, match=r"\(2, 3\), finite"):
        flicker([A, A], CLASSES, motion=[[[1, 0], [0, 1]]])
