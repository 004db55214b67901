import io
import math
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundle_factory import MEAN, STD, edit_manifest, forward, make_bundle, picture, replace_file, weights, zip_bundle
from PIL import Image

from pocketface.sdk.bundle import Bundle, open_bundle
from pocketface.sdk.errors import BadInputError, BundleError, EnvironmentProblemError, ImageError
from pocketface.sdk.geometry import Box
from pocketface.sdk.images import read_image
from pocketface.sdk.predictor import Predictor, checked_boxes, load, runnable


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("predictor") / "bundle"
    return make_bundle(place, size=16, variants=("fp32.onnx", "w8a8.onnx", "fp16.coreml"))


@pytest.fixture(scope="module")
def bundle(folder: Path) -> Bundle:
    return open_bundle(folder)


@pytest.fixture
def predictor(bundle: Bundle) -> Predictor:
    return Predictor(bundle)


def by_hand(image: np.ndarray, box: Box, values: dict[str, np.ndarray]) -> tuple[np.ndarray, float]:
    """For a box of 16 x 16 whole pixels inside the image: no resampling at all."""
    x, y = int(box.x0 + 0.5), int(box.y0 + 0.5)
    tensor = (image[y : y + 16, x : x + 16].astype(np.float32) - MEAN[0]) / STD[0]
    raw = forward(np.ascontiguousarray(tensor.transpose(2, 0, 1)[None], np.float32), values)
    points = np.array([[box.x0 + (u + 0.5) * 16, box.y0 + (v + 0.5) * 16] for u, v in raw["points"][0].astype(float)])
    return points, 1 / (1 + math.exp(-raw["score"][0]))


@pytest.mark.parametrize("variant", [None, "fp32.onnx", "w8a8.onnx"])
def test_points_are_mapped_back_exactly(bundle: Bundle, variant: str | None) -> None:
    image, box = picture(), Box(30.5, 20.5, 46.5, 36.5)
    face = Predictor(bundle, variant=variant)(image, [box])[0]
    points, score = by_hand(image, box, weights(68, (variant or "fp32").split(".")[0]))
    assert face.points.dtype == np.float32
    np.testing.assert_allclose(face.points, points, atol=1e-4)
    assert face.score == pytest.approx(score, abs=1e-5)
    assert (face.box, face.scheme) == (box, "ibug68")


def test_golden_cases_come_out_as_they_were_made(bundle: Bundle, predictor: Predictor) -> None:
    for case in bundle.golden():
        face = predictor(case["image"], [tuple(case["box"])])[0]
        np.testing.assert_allclose(face.points, case["step0.decoded.points"], atol=1e-3)
        assert face.score == pytest.approx(float(case["step0.decoded.score"]), abs=1e-5)
        raw = predictor.predict_tensor(case["step0.input.image"])
        np.testing.assert_allclose(raw["points"], case["step0.output.points"], atol=1e-5)


def test_without_boxes_the_whole_image_is_one(predictor: Predictor) -> None:
    image = picture(90, 70)
    (face,) = predictor(image)
    assert face.box == (-0.5, -0.5, 89.5, 69.5)
    assert np.array_equal(face.points, predictor(image, [(-0.5, -0.5, 89.5, 69.5)])[0].points)
    # The crop is the square around it: the longer side, same centre.
    assert np.array_equal(face.points, predictor(image, [(-0.5, -10.5, 89.5, 79.5)])[0].points)


def test_boxes_keep_their_order_and_none_gives_none(predictor: Predictor) -> None:
    image, boxes = picture(), [(0, 0, 30, 30), (40, 20, 80, 60), (0, 0, 30, 30)]
    faces = predictor(image, boxes)
    assert [tuple(face.box) for face in faces] == boxes
    assert np.array_equal(faces[0].points, faces[2].points)
    assert not np.array_equal(faces[0].points, faces[1].points)
    assert predictor(image, []) == []
    assert np.array_equal(predictor(image, np.array(boxes))[1].points, faces[1].points)
    assert predictor(image, np.zeros((0, 4))) == []


def test_array_path_and_pillow_image_are_the_same(predictor: Predictor, tmp_path: Path) -> None:
    image = picture()
    Image.fromarray(image).save(tmp_path / "a.png")
    expected = predictor(image)[0].points
    for other in (tmp_path / "a.png", str(tmp_path / "a.png"), Image.fromarray(image)):
        assert np.array_equal(predictor(other)[0].points, expected)
    grey = Image.fromarray(image[:, :, 0])
    assert np.array_equal(predictor(grey)[0].points, predictor(np.stack([image[:, :, 0]] * 3, axis=-1))[0].points)


def test_the_image_is_not_changed(predictor: Predictor) -> None:
    image = picture()
    image.flags.writeable = False
    predictor(image, [(0, 0, 30, 30)])


def test_timings_are_of_the_last_call(predictor: Predictor) -> None:
    assert predictor.timings is None
    predictor(picture(), [(0, 0, 30, 30)])
    one = predictor.timings
    assert one is not None
    assert min(one.pre_ms, one.inference_ms, one.post_ms) > 0
    predictor(picture(), [])
    assert predictor.timings is not None
    assert predictor.timings.total_ms == 0


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        ([(100, 0, 120, 20)], "outside the image of 90 x 70 pixels"),
        ([(0, 0, 10, 10), (10, 10, 5, 20)], "no area"),
        ([(0, 0, math.nan, 10)], "not a number"),
        ([(0, 0, 10)], "expected four numbers"),
        ((0, 0, 10, 10), "Give a list of boxes, even for one"),
        ([("a", 0, 10, 10)], "expected four numbers"),
        ([None], "expected four numbers"),
    ],
)
def test_boxes_that_cannot_be_used(predictor: Predictor, boxes: Any, message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        predictor(picture(), boxes)


def test_images_that_cannot_be_used(predictor: Predictor, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="no such file"):
        predictor(tmp_path / "nothing.jpg")
    for image in (picture()[:, :, 0], picture() / 255, picture()[:0], "x.png" * 2, [[1]]):
        with pytest.raises(BadInputError):
            predictor(image)


def test_predict_tensor_checks_shape_and_type(predictor: Predictor) -> None:
    good = np.zeros((1, 3, 16, 16), np.float32)
    assert set(predictor.predict_tensor(good)) == {"points", "score"}
    for bad in (good[0], good.astype(np.float64), np.zeros((2, 3, 16, 16), np.float32)):
        with pytest.raises(BadInputError, match=r"expected \(1, 3, 16, 16\) float32"):
            predictor.predict_tensor(bad)


def test_channels_and_box_scale_follow_the_manifest(folder: Path, tmp_path: Path) -> None:
    import shutil

    other = Path(shutil.copytree(folder, tmp_path / "bgr"))
    edit_manifest(other, lambda raw: raw["stages"][0]["preprocess"].update(channels="BGR", box_scale=2.0))
    image, values = picture(), weights(68)
    face = load(other)(image[:, :, ::-1].copy(), [(34.5, 24.5, 42.5, 32.5)])[0]
    points, score = by_hand(image, Box(30.5, 20.5, 46.5, 36.5), values)  # 8 x 8 scaled by 2 around the same centre
    np.testing.assert_allclose(face.points, points, atol=1e-4)
    assert face.score == pytest.approx(score, abs=1e-5)


def test_unknown_variant(bundle: Bundle) -> None:
    with pytest.raises(BundleError, match=r"no variant 'w4'. Valid: fp32.onnx, w8a8.onnx, fp16.coreml"):
        Predictor(bundle, variant="w4")


def test_a_format_without_executor_names_the_variants_that_run(bundle: Bundle) -> None:
    with pytest.raises(
        EnvironmentProblemError, match=r"'fp16.coreml' is coreml.*Valid: fp32.onnx, w8a8.onnx"
    ) as caught:
        Predictor(bundle, variant="fp16.coreml")
    assert caught.value.exit_code == 3
    assert runnable(bundle.manifest) == ["fp32.onnx", "w8a8.onnx"]


@pytest.mark.parametrize("threads", [0, -1, 1.5, True, 10**9, "2"])
def test_threads(bundle: Bundle, threads: Any) -> None:
    with pytest.raises(BadInputError, match="expected a whole number from 1"):
        Predictor(bundle, threads=threads)


def test_a_stage_with_states_needs_a_newer_version(folder: Path, tmp_path: Path) -> None:
    import shutil

    other = Path(shutil.copytree(folder, tmp_path / "state"))
    state = {"name": "s", "shape": [1], "input": "image", "output": "score"}
    edit_manifest(other, lambda raw: raw["stages"][0].update(states=[state]))
    with pytest.raises(BundleError, match="Update pocketface"):
        load(other)


def test_load_leaves_no_unpacked_files(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "unpacked"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    predictor = load(zip_bundle(folder, tmp_path / "a.pface"), variant="w8a8.onnx", threads=2, detector=None)
    assert list(place.iterdir()) == []
    assert predictor.variant.id == "w8a8.onnx"
    assert len(predictor(picture())[0].points) == 68


def test_checked_boxes() -> None:
    assert checked_boxes([[1, 2, 3, 4]], (10, 10)) == [Box(1, 2, 3, 4)]
    assert all(isinstance(v, float) for v in checked_boxes(np.array([[1, 2, 3, 4]]), (10, 10))[0])


def test_a_photo_with_exif_rotation_gives_points_of_the_upright_picture(predictor: Predictor, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.ascontiguousarray(np.rot90(picture()))).save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(read_image(tmp_path / "a.png"), picture())
    assert np.array_equal(predictor(tmp_path / "a.png")[0].points, predictor(picture())[0].points)


def test_a_network_that_takes_pixels_is_fed_rounded_ones(tmp_path: Path) -> None:
    with open_bundle(make_bundle(tmp_path / "pixels", size=16, pixels=True)) as bundle:
        predictor, cases = Predictor(bundle), bundle.golden()
    image, box = picture(), Box(30.5, 20.5, 46.5, 36.5)
    points, score = by_hand(image, box, weights(68))  # whole pixels: rounding changes nothing
    face = predictor(image, [box])[0]
    np.testing.assert_allclose(face.points, points, atol=1e-4)
    assert face.score == pytest.approx(score, abs=1e-5)
    for case in cases:
        assert case["step0.input.image"].dtype == np.uint8
        found = predictor(case["image"], [tuple(case["box"])])[0]
        np.testing.assert_allclose(found.points, case["step0.decoded.points"], atol=1e-3)
    with pytest.raises(BadInputError, match=r"type float32, expected \(1, 3, 16, 16\) uint8"):
        predictor.predict_tensor(cases[0]["step0.input.image"].astype(np.float32))


def test_golden_pixels_of_another_type_are_refused(tmp_path: Path) -> None:
    folder = make_bundle(tmp_path / "pixels", size=16, pixels=True)
    with np.load(folder / "golden" / "000.npz") as arrays:
        case = dict(arrays)
    case["step0.input.image"] = case["step0.input.image"].astype(np.float32)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **case)
    with (
        open_bundle(replace_file(folder, "golden/000.npz", buffer.getvalue())) as bundle,
        pytest.raises(BundleError, match=r"'step0\.input\.image' is float32"),
    ):
        bundle.golden()
