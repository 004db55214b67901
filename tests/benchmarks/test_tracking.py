"""What margin and smoothing cost and gain, where the answer is known."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
from bundle_factory import make_bundle

from pocketface.benchmarks import tracking_command, video_memory
from pocketface.benchmarks.data.motion import Frame, MotionSpec
from pocketface.benchmarks.data.registry import DATASETS
from pocketface.benchmarks.data.synthetic import write_dataset
from pocketface.benchmarks.tracking import (
    BETAS,
    MARGINS,
    MIN_CUTOFFS,
    ROWS,
    SECOND_LOOKS,
    Row,
    TrackingFigures,
    Trail,
    choose_boxes,
    choose_filter,
    figures,
    film,
    follow,
    smoothed,
    sweep,
)
from pocketface.sdk import load_scheme
from pocketface.sdk.errors import BadInputError
from pocketface.sdk.results import Landmarks
from pocketface.sdk.video.one_euro import OneEuroSettings
from pocketface.sdk.video.settings import TrackerSettings
from pocketface.sdk.video.tracker import Tracker

IBUG = load_scheme("ibug68")
SPEC = MotionSpec(frames=8, size=64)


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drawn") / "data"
    write_dataset(folder, count=2, seed=5, size=96)
    return DATASETS["pts"](folder, scheme=IBUG)


def trail(error: np.ndarray, velocity: float = 30.0, late: float = 0.0, step: float = 0.1) -> Trail:
    """Two landmarks 10 px apart that move to the right and are found ``late`` seconds behind, plus an error (k, 2)."""
    times = step * np.arange(len(error))
    truth = np.zeros((len(error), 2, 2))
    truth[:, 1, 0] = 10
    truth[..., 0] += velocity * times[:, None]
    found = truth + error[:, None]
    found[..., 0] -= velocity * late
    ones = np.ones(len(error), np.int64)
    return Trail(
        times, np.arange(len(error)), ones, found.astype(np.float32), truth.astype(np.float32), len(error), len(error)
    )


def test_jitter_is_the_change_of_the_error_and_nme_its_size():
    error = np.array([[3.0, 4.0], [0, 0], [3, 4], [0, 0], [3, 4]])
    row = figures([trail(error)], "r", (1.0, None), None, (0, 1))
    assert row.jitter == pytest.approx(50)  # 5 px of 10, every step
    assert row.nme == pytest.approx(25)  # the first frame is not counted
    assert row.lost == 0
    constant = figures([trail(np.full((6, 2), 2.0))], "r", (1.0, None), None, (0, 1))
    assert (constant.jitter, constant.nme) == (pytest.approx(0, abs=1e-4), pytest.approx(20 * 2**0.5, rel=1e-5))


def test_lag_is_the_time_the_landmarks_are_behind():
    times = 0.05 * np.arange(200)
    truth = np.zeros((200, 2, 2))
    truth[:, 1, 0] = 40

    def at(when):
        return truth + 30 * np.sin(when)[:, None, None]

    ones = np.ones(200, np.int64)
    found = Trail(
        times, np.arange(200), ones, at(times - 0.03).astype(np.float32), at(times).astype(np.float32), 200, 200
    )
    assert figures([found], "r", (1.0, None), None, (0, 1)).lag_ms == pytest.approx(30, rel=0.02)


def test_frames_that_were_not_seen_are_lost_and_no_jitter():
    whole = trail(np.array([[0.0, 0], [0, 0], [5, 0], [5, 0]]))
    kept = np.array([0, 1, 3])
    holes = Trail(whole.times[kept], whole.numbers[kept], whole.ids[kept], whole.points[kept], whole.truth[kept], 4, 4)
    row = figures([holes], "r", (1.0, None), None, (0, 1))
    assert row.lost == 25
    assert row.jitter == pytest.approx(0, abs=1e-4)  # the jump lies across the hole
    with pytest.raises(BadInputError, match="no face was followed"):
        figures([], "r", (1.0, None), None, (0, 1))


class Near:
    """Finds the landmarks that the test put into the frame, with an error of its own for each."""

    def __init__(self, clip: list[Frame], sigma: float = 0.0):
        random = np.random.default_rng(0)
        self.answers = {
            frame.image.tobytes(): frame.points + random.normal(0, sigma, frame.points.shape) for frame in clip
        }
        self.stage, self.boxes = SimpleNamespace(marks=IBUG), []

    def __call__(self, image, boxes):
        self.boxes.append(boxes[0])
        return [Landmarks(self.answers[image.tobytes()].astype(np.float32), 0.9, boxes[0], "ibug68")]


def test_smoothing_afterwards_is_what_the_tracker_does_at_once(faces):
    clip = film(faces[0], Row(), SPEC, IBUG.normaliser)
    settings = OneEuroSettings(1.0, 5.0)
    near = Near(clip, 0.7)
    later = smoothed(follow(near, clip, 1 / 30, TrackerSettings()), settings)
    tracker = Tracker(near, None, TrackerSettings(smoothing=settings, cut=None))
    for number, frame in enumerate(clip):
        np.testing.assert_allclose(tracker(frame.image, number / 30)[0].points, later[number], rtol=1e-5)


def test_the_noise_is_each_frames_own_and_the_same_again(faces):
    row = Row(motion=0.0)
    first, again = (film(faces[0], row, SPEC, IBUG.normaliser) for _ in range(2))
    assert all((a.image == b.image).all() for a, b in zip(first, again, strict=True))
    assert (first[0].image != first[1].image).mean() > 0.5
    np.testing.assert_allclose(first[0].points, first[-1].points)
    still = film(faces[0], Row(motion=0.0, noise=0.0), SPEC, IBUG.normaliser)
    assert (still[0].image == still[1].image).all()


def test_the_grid_is_complete_and_runs_the_network_once_a_margin(faces):
    rows = {"all": Row(), "half": Row(every=2)}
    near = Near([frame for face in faces for row in rows.values() for frame in film(face, row, SPEC, IBUG.normaliser)])
    grid = {"margins": (1.0, 1.2), "second_looks": (None,), "min_cutoffs": (1.0,), "betas": (1.0, 9.0)}
    found = sweep(near, faces, rows=rows, **grid, motion=SPEC)
    assert len(found) == 2 * 2 + 2 * 2  # rows x margins without a filter, rows x filters with the best margin
    assert len(near.boxes) == 2 * 2 * (8 + 4)
    assert {row.looks for row in found} == {1.0}
    for row in found:
        if row.min_cutoff is None:
            assert (row.nme, row.lost) == (pytest.approx(0, abs=1e-4), 0)
        else:
            assert row.lag_ms > 0


def tracked(margin, cutoff, nme, jitter, lost=0.0, second=None, looks=1.0):
    beta = None if cutoff is None else 1.0
    return TrackingFigures(
        row="r",
        margin=margin,
        second_look=second,
        looks=looks,
        min_cutoff=cutoff,
        beta=beta,
        nme=nme,
        jitter=jitter,
        lag_ms=0,
        lost=lost,
    )


def test_the_choice_follows_its_rule():
    row = tracked
    wide = [row(1.2, None, 4.0, 1.0), row(1.2, 2.0, 4.1, 0.6), row(1.2, 1.0, 4.13, 0.3), row(1.2, 0.5, 3.9, 0.5)]
    # The narrow margin is better where it sees the face at all.
    narrow = [row(1.0, None, 3.5, 1.0, lost=2.0), row(1.0, 1.0, 3.5, 0.1, lost=2.0)]
    assert choose_boxes(wide + narrow) == (1.2, None)
    assert choose_filter(wide + narrow, (1.2, None)) == OneEuroSettings(0.5, 1.0)
    assert choose_filter([wide[0], wide[2]], (1.2, None)) is None
    # Looking twice is better, and may be done only so often.
    assert choose_boxes([*wide, row(1.2, None, 3.0, 1.0, second=0.9, looks=1.2)]) == (1.2, 0.9)
    assert choose_boxes([*wide, row(1.2, None, 3.0, 1.0, second=0.9, looks=1.3)]) == (1.2, None)


def test_the_command_draws_faces_and_writes_what_it_chose(tmp_path):
    make_bundle(tmp_path / "bundle", size=16)
    words = [str(tmp_path / "bundle"), "--faces", "1", "--frames", "11", "--size", "64", "--json"]
    assert tracking_command.main([*words, str(tmp_path / "a.json")]) == 0
    report = json.loads((tmp_path / "a.json").read_text())
    settings = len(MARGINS) * len(SECOND_LOOKS) + len(MIN_CUTOFFS) * len(BETAS)
    assert len(report["figures"]) == len(ROWS) * settings
    assert report["chosen"]["margin"] in MARGINS
    assert report["chosen"]["second_look"] in SECOND_LOOKS
    assert (report["data"]["name"], report["data"]["faces"]) == ("drawn", 1)
    assert tracking_command.main([*words, str(tmp_path / "a.json")]) == 2  # it exists


def test_the_memory_run_follows_one_face_through_its_clip(tmp_path):
    pytest.importorskip("av")
    make_bundle(tmp_path / "bundle", size=16)
    words = [str(tmp_path / "bundle"), "--frames", "80", "--every", "2", "--size", "64"]
    assert video_memory.main([*words, "--json", str(tmp_path / "a.json")]) == 0
    result = json.loads((tmp_path / "a.json").read_text())["result"]
    assert result["frames"] == 80
    assert len(result["rss_mb"]) == 40
    assert min(result["rss_mb"]) > 10
    assert video_memory.main([*words[:2], "80"]) == 2
