"""Finding faces with a detector's bundle whose faces are white cells."""

from __future__ import annotations

import itertools
from pathlib import Path

import msgspec
import numpy as np
import pytest
from bundle_factory import make_bundle, picture
from detector_factory import detector_stage, make_detector_bundle, places, white_cells

from pocketface.sdk import load, load_detector, load_mask
from pocketface.sdk.bundle import open_bundle
from pocketface.sdk.decode_faces import decode_faces
from pocketface.sdk.detection import Detection
from pocketface.sdk.errors import BadInputError, BundleError
from pocketface.sdk.face_detector import FaceDetector, Later, squares
from pocketface.sdk.geometry import Box
from pocketface.sdk.manifest import decode, encode


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return make_detector_bundle(tmp_path / "detector")


def test_white_cells_are_found_where_they_are(path: Path) -> None:
    found = load_detector(path)(white_cells([(2, 3), (6, 6)]))
    centres = sorted(((box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2) for box in (one.box for one in found))
    assert np.array(centres) == pytest.approx(np.array([(69.5, 49.5), (129.5, 129.5)]))
    assert [one.box.width for one in found] == pytest.approx([40, 40])


def test_no_face_is_no_error(path: Path) -> None:
    assert load_detector(path)(np.zeros((50, 80, 3), np.uint8)) == []


def test_a_wide_picture_is_seen_as_a_square_around_its_middle(path: Path) -> None:
    image = np.zeros((80, 160, 3), np.uint8)
    image[20:40, 120:140] = 255  # in the square of 160, whose top is at -40: row 3, column 6
    (found,) = load_detector(path)(image)
    assert found.box == pytest.approx((109.5, 9.5, 149.5, 49.5))


def test_smaller_faces_are_found_in_smaller_squares_and_each_once(path: Path) -> None:
    image = white_cells([(3, 3)], grid=16)  # a quarter of a cell of the whole picture: too dark a mean
    assert load_detector(path)(image) == []
    (found,) = load_detector(path, levels=2)(image)
    assert ((found.box.x0 + found.box.x1) / 2, (found.box.y0 + found.box.y1) / 2) == pytest.approx((34.5, 34.5))


@pytest.mark.parametrize(("width", "height"), [(100, 100), (1280, 720), (90, 700), (1, 1), (33, 32)])
def test_squares_cover_the_picture_and_overlap(width: int, height: int) -> None:
    found = squares(width, height, 3)
    assert found[0].side == max(width, height)
    for level in (1, 2):
        side = max(width, height) / 2**level
        boxes = [crop.box for crop in found if crop.side == side]
        for x, y in ((0, 0), (width - 1, height - 1), (width - 1, 0), (width / 2, height / 3)):
            assert any(b.x0 <= x <= b.x1 and b.y0 <= y <= b.y1 for b in boxes)
        starts = sorted({b.x0 for b in boxes})
        assert all(after - before <= side / 2 + 1e-9 for before, after in itertools.pairwise(starts))


def test_a_lower_score_finds_more(path: Path) -> None:
    grey = white_cells([(2, 3)])
    grey[grey == 255] = 180  # mean 0.41: logit -1.06, probability 0.26
    assert load_detector(path)(grey) == []
    assert len(load_detector(path, min_score=0.2)(grey)) == 1


def test_refused_settings(path: Path) -> None:
    for levels in (0, 9, True, 1.5):
        with pytest.raises(BadInputError, match="levels"):
            load_detector(path, levels=levels)  # type: ignore[arg-type]
    with pytest.raises(BadInputError, match="min_score"):
        load_detector(path, min_score=1.0)
    with pytest.raises(BadInputError):
        load_detector(path)(np.zeros((4, 4), np.uint8))


def test_other_bundles_are_refused_with_the_way_to_load_them(path: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="load_detector"):
        load(path)
    with pytest.raises(BundleError, match="gives detection"):
        load_mask(path)
    with open_bundle(make_bundle(tmp_path / "b")) as bundle, pytest.raises(BundleError, match="gives landmarks"):
        FaceDetector(bundle)


def test_a_predictor_asks_its_detector_only_where_no_boxes_are_given(tmp_path: Path) -> None:
    asked = []

    def detector(image: np.ndarray) -> list[Detection]:
        asked.append(image.shape)
        return [Detection(Box(10, 10, 50, 50), 0.9), Detection(Box(20, 5, 60, 45), 0.6)]

    image, bundle = picture(), make_bundle(tmp_path / "b")
    predictor = load(bundle, detector=detector)
    assert len(predictor(image, [(5, 5, 40, 40)])) == 1
    assert asked == []
    faces = predictor(image)
    assert [face.box for face in faces] == [Box(10, 10, 50, 50), Box(20, 5, 60, 45)]
    assert len(asked) == 1
    assert predictor(image, []) == []
    given = predictor(image, [Box(10, 10, 50, 50)])
    assert (faces[0].points == given[0].points).all()


def test_without_a_detector_the_whole_picture_is_the_box(tmp_path: Path) -> None:
    (face,) = load(make_bundle(tmp_path / "b"), detector=None)(picture())
    assert face.box == Box.of_image(90, 70)


def test_no_face_gives_no_landmarks(path: Path, tmp_path: Path) -> None:
    predictor = load(make_bundle(tmp_path / "b"), detector=path)
    assert predictor(np.zeros((60, 60, 3), np.uint8)) == []
    assert predictor.timings is not None
    assert len(predictor(white_cells([(2, 3)]))) == 1


def test_the_detector_is_opened_when_it_is_needed_first(tmp_path: Path) -> None:
    predictor = load(make_bundle(tmp_path / "b"), detector=tmp_path / "not-there.pface")
    assert len(predictor(picture(), [(5, 5, 40, 40)])) == 1
    with pytest.raises(BundleError):
        predictor(picture())
    later = Later(make_detector_bundle(tmp_path / "d"))
    assert len(later(white_cells([(1, 1)]))) == len(later(white_cells([(4, 4)]))) == 1


def test_a_detection_outside_the_picture_is_left_out(path: Path) -> None:
    # The square around a wide black picture has 8 x 8 cells of 20 pixels, from y = -60.5. All of them are "faces" of
    # the same logit, 12 x -1 - 6: a probability of 1.5e-8.
    image = np.zeros((40, 160, 3), np.uint8)
    assert load_detector(path, min_score=2e-8)(image) == []
    found = load_detector(path, min_score=1e-9)(image)
    logits = np.full((1, 64, 1), -18, np.float32)
    (crop,) = squares(160, 40, 1)
    everywhere = decode_faces({"faces": np.concatenate((logits, places(8)), 2)}, detector_stage(), crop, min_score=1e-9)
    inside = [row for row in everywhere if row[3] > -0.5 and row[1] < 39.5]
    assert 0 < len(inside) < len(everywhere)
    kept = np.array(sorted(one.box for one in found))
    assert kept == pytest.approx(np.array(sorted(row[:4].tolist() for row in inside)))


def test_contradictions_are_refused(path: Path) -> None:
    manifest = decode((path / "manifest.json").read_bytes())
    stage = manifest.stages[0]
    detector = stage.detector
    assert detector is not None
    wrong = {
        "points": msgspec.structs.replace(stage, detector=msgspec.structs.replace(detector, points=("one",))),
        "eyes": msgspec.structs.replace(stage, detector=msgspec.structs.replace(detector, eyes=(1, 1))),
        "score": msgspec.structs.replace(stage, detector=msgspec.structs.replace(detector, min_score=1.0)),
        "box": msgspec.structs.replace(
            stage,
            detector=msgspec.structs.replace(detector, face_box=msgspec.structs.replace(detector.face_box, scale=0.0)),
        ),
        "none": msgspec.structs.replace(stage, detector=None),
        "task": msgspec.structs.replace(stage, task="landmarks"),
        "alone": None,
    }
    for changed in wrong.values():
        stages = (stage, stage) if changed is None else (changed,)
        (path / "manifest.json").write_bytes(encode(msgspec.structs.replace(manifest, stages=stages)))
        with pytest.raises(BundleError):
            open_bundle(path)


def test_releases_of_before_read_manifests_that_have_no_detector(tmp_path: Path) -> None:
    assert b'"detector"' not in (make_bundle(tmp_path / "b") / "manifest.json").read_bytes()
