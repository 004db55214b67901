"""Evaluation against a predictor whose errors are known, and of a real bundle against its network in plain numpy."""

from __future__ import annotations

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
from bundle_factory import MEAN, STD, forward, make_bundle, picture, weights
from PIL import Image

from pocketface.benchmarks.accuracy import evaluate
from pocketface.benchmarks.data.face import Face
from pocketface.sdk import load
from pocketface.sdk.errors import AnnotationError, BadInputError, BundleError, ImageError
from pocketface.sdk.geometry import Crop
from pocketface.sdk.preprocess import normalise, resample
from pocketface.sdk.results import Landmarks
from pocketface.sdk.schemes import load_scheme


class Known:
    """Predicts the corners of each box moved by (3, 4), plus a shift in y given by the red of the first pixel."""

    def __init__(self, truth, score=0.75):
        self.stage = SimpleNamespace(marks=load_scheme("ibug68"))
        self.id, self.executor = "known", "by hand 1"
        self.truth, self.score, self.boxes = iter(truth), score, []

    def __call__(self, image, boxes):
        (box,) = boxes
        self.boxes.append(box)
        offset = (3, 4) if image[0, 0, 0] == 0 else (0, 0)
        return [Landmarks(next(self.truth) + np.float32(offset), self.score, box, "ibug68")]


@pytest.fixture
def faces(tmp_path):
    rng = np.random.default_rng(0)
    made = []
    for name, red in (("a/1", 0), ("a/2", 1), ("b/1", 0)):
        image = tmp_path / f"{name.replace('/', '')}.png"
        Image.new("RGB", (120, 110), (red, 0, 0)).save(image)
        points = rng.uniform(10, 100, (68, 2)).astype(np.float32)
        points[36], points[45] = (20, 50), (70, 50)  # 50 pixels apart
        made.append(Face(name, image, points))
    return made


def test_known_errors_come_out(faces):
    predictor = Known([face.points for face in faces])
    steps: list[tuple[int, int]] = []
    result = evaluate(predictor, faces, progress=lambda done, total: steps.append((done, total)))
    # Faces with a black image are 5 pixels off, of 50; the other is right.
    np.testing.assert_allclose(result.errors, [0.1, 0, 0.1], atol=1e-6)
    assert result.accuracy.nme == pytest.approx(20 / 3, abs=1e-4)
    assert result.accuracy.median == pytest.approx(10, abs=1e-4)
    assert result.names == ("a/1", "a/2", "b/1")
    assert result.landmark_errors.shape == (3, 68)
    assert result.predictions.shape == (3, 68, 2)
    assert steps == [(1, 3), (2, 3), (3, 3)]
    assert (result.variant, result.executor, result.scheme) == ("known", "by hand 1", "ibug68")
    assert (result.mean_score, result.missed) == (0.75, 0)
    folders = result.by_folder()
    assert {name: figures.faces for name, figures in folders.items()} == {"a": 2, "b": 1}
    assert folders["a"].nme == pytest.approx(5, abs=1e-4)
    assert folders["b"].nme == pytest.approx(10, abs=1e-4)
    assert [name for name, _ in result.worst(2)] == ["a/1", "b/1"]
    assert "known by by hand 1: NME 6.667 %" in str(result)


def test_boxes_are_the_ground_truth_convention(faces):
    predictor = Known([face.points for face in faces])
    evaluate(predictor, faces)
    for face, box in zip(faces, predictor.boxes, strict=True):
        (x0, y0), (x1, y1) = face.points.min(axis=0), face.points.max(axis=0)
        side = 1.25 * max(x1 - x0, y1 - y0)
        np.testing.assert_allclose((box.x1 - box.x0, box.y1 - box.y0), side, rtol=1e-6)
        np.testing.assert_allclose(((box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2), ((x0 + x1) / 2, (y0 + y1) / 2))


def test_threshold_moves_the_failure_rate(faces):
    result = evaluate(Known([face.points for face in faces]), faces, threshold=0.05)
    assert result.accuracy.fr == pytest.approx(200 / 3)
    assert result.by_folder()["b"].fr == 100


def test_it_saves_as_json_and_does_not_overwrite(faces, tmp_path):
    result = evaluate(Known([face.points for face in faces], score=0.25), faces)
    path = tmp_path / "out" / "accuracy.json"
    result.save(path)
    read = json.loads(path.read_text())
    assert read["accuracy"]["faces"] == 3
    assert [face["name"] for face in read["faces"]] == ["a/1", "a/2", "b/1"]
    assert read["faces"][0]["error"] == pytest.approx(0.1, abs=1e-6)
    assert read["face_score"] == {"mean": 0.25, "below_half_percent": 100}
    assert len(read["per_landmark"]) == 68
    assert str(tmp_path) not in path.read_text()
    with pytest.raises(BadInputError, match="--force"):
        result.save(path)
    result.save(path, force=True)


def test_a_bundle_gives_what_its_network_gives_in_numpy(tmp_path):
    bundle = make_bundle(tmp_path / "bundle", size=32)
    rng = np.random.default_rng(4)
    faces, want, scores = [], [], []
    for seed in range(4):
        path = tmp_path / f"{seed}.png"
        Image.fromarray(picture(seed=seed)).save(path)
        points = rng.uniform((10, 5), (80, 65), (68, 2)).astype(np.float32)
        faces.append(Face(str(seed), path, points))
        # By hand: square of 1.25 x the longer side, cut out, normalised, through the network, back into the picture.
        low, high = points.min(axis=0), points.max(axis=0)
        crop = Crop(*((low + high) / 2).tolist(), 1.25 * float((high - low).max()))
        raw = forward(normalise(resample(picture(seed=seed), crop, 32), MEAN, STD), weights(68))
        found = raw["points"][0].astype(np.float64) * crop.side + (crop.cx, crop.cy)
        distances = [math.dist(a, b) for a, b in zip(found.tolist(), points.tolist(), strict=True)]
        want.append(sum(distances) / 68 / math.dist(points[36].tolist(), points[45].tolist()))
        scores.append(1 / (1 + math.exp(-float(raw["score"][0]))))
    result = evaluate(load(bundle), faces)
    np.testing.assert_allclose(result.errors, want, rtol=1e-4)
    np.testing.assert_allclose(result.scores, scores, rtol=1e-4)
    assert result.executor.startswith("onnxruntime")


def test_a_photo_with_several_faces_is_read_once(faces, monkeypatch):
    shared = [Face(f"a/{k}", faces[0].image, face.points) for k, face in enumerate(faces)]
    read: list[str] = []
    from pocketface.benchmarks import accuracy

    original = accuracy.read_image
    monkeypatch.setattr(accuracy, "read_image", lambda path: read.append(str(path)) or original(path))
    assert evaluate(Known([face.points for face in faces]), shared).accuracy.faces == 3
    assert len(read) == 1


def test_unusable_faces_are_named_or_left_out(faces):
    faces[0].image.write_bytes(b"no image")
    outside = Face("far", faces[2].image, faces[2].points + 1000)
    truth = [faces[1].points]
    with pytest.raises(ImageError, match=r"a1\.png"):
        evaluate(Known(truth), faces)
    with pytest.raises(AnnotationError, match=r"far: box .* lies outside the image of 120 x 110"):
        evaluate(Known(truth), [outside])
    told: list[str] = []
    result = evaluate(Known(truth), [faces[0], faces[1], outside], on_skip=lambda error: told.append(str(error)))
    assert result.names == ("a/2",)
    assert len(told) == 2
    with pytest.raises(BadInputError, match="none of 1 faces"):
        evaluate(Known([]), [outside], on_skip=lambda error: None)


def test_another_scheme_is_refused_before_anything_runs(faces):
    other = Face("w", faces[0].image, np.zeros((98, 2), np.float32))
    predictor = Known([face.points for face in faces])
    with pytest.raises(BadInputError, match="w: 98 points, expected 68, as the bundle's scheme ibug68"):
        evaluate(predictor, [*faces, other])
    assert predictor.boxes == []


def test_a_network_that_gives_nan_is_an_error_not_an_average(faces, tmp_path, monkeypatch):
    predictor = load(make_bundle(tmp_path / "bundle"))
    right = predictor.backend.run

    def broken(inputs):
        outputs = right(inputs)
        outputs["points"][0, 5, 1] = np.nan
        return outputs

    monkeypatch.setattr(predictor.backend, "run", broken)
    with pytest.raises(BundleError):
        evaluate(predictor, faces)
    # Neither would a predictor that does not check its outputs get through.
    with pytest.raises(BadInputError, match="prediction of face 1"):
        evaluate(Known([faces[0].points, faces[1].points * np.nan, faces[2].points]), faces)
