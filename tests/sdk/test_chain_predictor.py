"""A whole chain from image and box to landmarks, against results by hand."""

import dataclasses
import io
import json
from pathlib import Path

import numpy as np
import pytest
from bundle_factory import make_bundle, picture, replace_file
from chain_factory import MARKS, Nets, make_chain
from PIL import Image
from typer.testing import CliRunner

from pocketface.sdk import Box, load
from pocketface.sdk.backends.onnx import OnnxBackend
from pocketface.sdk.bundle import open_bundle
from pocketface.sdk.cli import app
from pocketface.sdk.errors import BundleError
from pocketface.sdk.geometry import Crop
from pocketface.sdk.predictor import Predictor
from pocketface.sdk.results import Timings

SIDE = 40
TARGET = Crop(60, 45, SIDE)
SLOPE = np.array([[0.1, 0], [0, 0.2], [0, 0]], np.float32)


def gradient() -> np.ndarray:
    """Red is twice x, green twice y: the mean colour of a crop inside tells where its centre is."""
    y, x = np.mgrid[0:100, 0:120]
    return np.stack([2 * x, 2 * y, np.zeros_like(x)], axis=-1).astype(np.uint8)


def centring() -> Nets:
    """A relocalizer that sees where it is on ``gradient``, and moves a crop of 40 pixels to the target's centre.

    Mean of normalised red = (2 cx - 127.5) / 127.5, so dx = (60 - cx) / 40 is linear in it; green likewise.
    """
    weights = np.zeros((3, 4), np.float32)
    weights[0, 0] = weights[1, 1] = -127.5 / 2 / SIDE
    correction = ((TARGET.cx - 63.75) / SIDE, (TARGET.cy - 63.75) / SIDE, 1.0, 1.0)
    return Nets(correction=correction, box_weights=weights)


@pytest.mark.parametrize(("dx", "dy"), [(0.2, 0), (-0.2, 0.2), (0, -0.2), (0, 0)])
def test_a_box_that_slipped_by_a_fifth_of_its_side_comes_back(tmp_path: Path, dx: float, dy: float) -> None:
    predictor = load(make_chain(tmp_path / "chain", nets={"fp32": centring()}))
    box = Box(*(edge + shift * SIDE for edge, shift in zip(TARGET.box, (dx, dy, dx, dy), strict=True)))
    (face,) = predictor(gradient(), [box])
    assert face.box == box  # what was asked
    np.testing.assert_allclose(face.crop_box, TARGET.box, atol=1e-2)
    np.testing.assert_allclose(face.points, (TARGET.cx, TARGET.cy) + SIDE * MARKS, atol=1e-2)


def test_a_face_is_followed_from_frame_to_frame_by_its_landmarks_box(tmp_path: Path) -> None:
    predictor, image = load(make_chain(tmp_path / "chain", nets={"fp32": centring()})), gradient()
    (face,) = predictor(image, [(48, 20, 88, 60)])
    again = Box.around(face.points, SIDE / 25)  # the marks extend over 25 pixels
    (next_face,) = predictor(image, [again])
    np.testing.assert_allclose(next_face.points, face.points, atol=0.05)


@pytest.mark.parametrize(("gain", "red"), [(1.0, 200), (-1.0, 55), (0.5, 163.75)])
def test_the_landmark_network_sees_what_the_uniformizer_drew(tmp_path: Path, gain: float, red: float) -> None:
    predictor = load(make_chain(tmp_path / "chain", nets={"fp32": Nets(gain=gain, slope=SLOPE)}, sizes=(8, 32, 16)))
    image = np.full((50, 50, 3), (200, 100, 0), np.uint8)
    (face,) = predictor(image, [(9.5, 9.5, 41.5, 41.5)])
    green = gain * 100 + (1 - gain) * 127.5
    shift = np.array([0.1 * (red - 127.5) / 127.5, 0.2 * (green - 127.5) / 127.5])
    np.testing.assert_allclose(face.points, 25.5 + 32 * (MARKS + shift), atol=1e-3)


def test_every_stage_is_shown_the_crop_of_the_one_before_it(tmp_path: Path) -> None:
    """The square of the longer side, and then the same crop for the picture and the landmarks."""
    predictor = load(make_chain(tmp_path / "chain", nets={"fp32": Nets(correction=(0.1, -0.1, 0.5, 0.75))}))
    (face,) = predictor(picture(), [(20, 10, 60, 50)])
    assert face.crop_box == pytest.approx((44 - 15, 26 - 15, 44 + 15, 26 + 15), abs=1e-4)
    np.testing.assert_allclose(face.points, (44, 26) + 30 * MARKS, atol=1e-3)
    assert face.pose == pytest.approx((9, -18, 27), abs=1e-4)


def test_golden_cases_of_a_chain_come_out_as_they_were_made(tmp_path: Path) -> None:
    nets = {"fp32": Nets(correction=(0.05, 0.1, 1.1, 0.9), gain=-0.7, slope=SLOPE)}
    folder = make_chain(tmp_path / "chain", nets=nets, sizes=(8, 16, 8), golden=2)
    with open_bundle(folder) as bundle:
        predictor, cases = Predictor(bundle), bundle.golden()
    for case in cases:
        (face,) = predictor(case["image"], [tuple(case["box"])])
        np.testing.assert_allclose(face.points, case["step2.decoded.points"], atol=1e-3)
        np.testing.assert_allclose(face.pose, case["step2.decoded.pose"], atol=1e-4)
        for step, runner in enumerate(predictor.stages):
            raw = runner.predict_tensor(case[f"step{step}.input.image"])
            for name, value in raw.items():
                np.testing.assert_allclose(value, case[f"step{step}.output.{name}"], atol=1e-5)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("step0.decoded.box", r"'step0.decoded.box' is missing, expected float64 \(4,\)"),
        ("step1.decoded.image", r"'step1.decoded.image' is missing, expected float32 \(16, 16, 3\)"),
        ("step2.decoded.points", r"'step2.decoded.points' is missing, expected float32 \(4, 2\)"),
        ("step2.decoded.pose", r"'step2.decoded.pose' is missing, expected float32 \(3,\)"),
        ("step1.output.picture", r"'step1.output.picture' is missing"),
    ],
)
def test_a_golden_case_without_an_array_is_refused(tmp_path: Path, name: str, message: str) -> None:
    folder = make_chain(tmp_path / "chain")
    with np.load(folder / "golden" / "000.npz") as arrays:
        case = {key: arrays[key] for key in arrays.files if key != name}
    buffer = io.BytesIO()
    np.savez(buffer, **case)
    altered = replace_file(folder, "golden/000.npz", buffer.getvalue())
    with open_bundle(altered) as bundle, pytest.raises(BundleError, match=message):
        bundle.golden()


def test_timings_of_a_chain_are_of_each_stage_and_add_up(tmp_path: Path) -> None:
    predictor = load(make_chain(tmp_path / "chain"))
    predictor(picture(), [(0, 0, 30, 30), (10, 10, 40, 40)])
    spent = predictor.timings
    assert spent is not None
    assert list(spent.stages) == ["relocalize", "uniformize", "landmarks"]
    for part in ("pre_ms", "inference_ms", "post_ms"):
        each = [getattr(stage, part) for stage in spent.stages.values()]
        assert min(each) > 0
        assert getattr(spent, part) == pytest.approx(sum(each))
    assert spent.total_ms == pytest.approx(sum(stage.total_ms for stage in spent.stages.values()))
    assert "; relocalize " in str(spent)
    assert str(Timings(1, 2, 3, {"a": Timings(0.5, 1, 1.5)})) == (
        "6.00 ms (pre 1.00, inference 2.00, post 3.00; a 3.00)"
    )


def test_a_single_network_has_no_stages_in_its_timings_nor_a_corrected_box(tmp_path: Path) -> None:
    predictor = load(make_bundle(tmp_path / "one", size=16))
    (face,) = predictor(picture(), [(0, 0, 30, 30)])
    assert predictor.timings is not None
    assert predictor.timings.stages == {}
    assert (face.pose, face.crop_box) == (None, None)
    assert set(face.to_dict()) == {"scheme", "score", "box", "points"}
    assert (predictor.id, len(predictor.stages)) == ("fp32.onnx", 1)


@pytest.mark.parametrize(
    ("variant", "centre", "side"),
    [
        (None, 30, 40),
        ("w8a8.onnx", 34, 20),
        ("relocalize.w8a8.onnx+uniformize.fp32.onnx+landmarks.fp32.onnx", 34, 20),
        ("landmarks.w8a8.onnx+relocalize.fp32.onnx+uniformize.w8a8.onnx", 30, 40),
    ],
)
def test_each_stage_runs_the_variant_that_the_id_names(
    tmp_path: Path, variant: str | None, centre: float, side: float
) -> None:
    nets = {"fp32": Nets(), "w8a8": Nets(correction=(0.1, 0.1, 0.5, 0.5))}
    predictor = load(make_chain(tmp_path / "chain", nets=nets), variant=variant)
    (face,) = predictor(picture(), [(10, 10, 50, 50)])
    np.testing.assert_allclose(face.points, centre + side * MARKS, atol=1e-3)
    assert predictor.id == (variant or "fp32.onnx")
    assert [runner.stage.task for runner in predictor.stages] == ["relocalize", "uniformize", "landmarks"]
    assert predictor.stage.name == "landmarks"
    assert predictor.variant is predictor.stages[-1].variant
    assert predictor.backend is predictor.stages[-1].backend
    assert predictor.executor.startswith("onnxruntime ")
    assert "," not in predictor.executor


@pytest.mark.parametrize("tasks", [("relocalize", "landmarks"), ("uniformize", "landmarks"), ("landmarks",)])
def test_stages_may_be_left_out(tmp_path: Path, tasks: tuple[str, ...]) -> None:
    predictor = load(make_chain(tmp_path / "chain", tasks=tasks, nets={"fp32": Nets(correction=(0.1, 0, 1, 1))}))
    (face,) = predictor(picture(), [(10, 10, 50, 50)])
    moved = "relocalize" in tasks
    np.testing.assert_allclose(face.points, (34 if moved else 30, 30) + 40 * MARKS, atol=1e-3)
    assert (face.crop_box is not None) == moved
    assert predictor.timings is not None
    assert len(predictor.timings.stages) == (len(tasks) if len(tasks) > 1 else 0)


def test_an_executor_may_be_given_for_one_format(tmp_path: Path) -> None:
    class Other(OnnxBackend):
        """Says another name."""

        def __init__(self, *args, **kwargs) -> None:
            super().__init__(*args, **kwargs)
            self.executor = "another 1"

    with open_bundle(make_chain(tmp_path / "chain")) as bundle:
        assert Predictor(bundle, executor=Other).executor == "another 1"
        assert Predictor(bundle, executor={"onnx": Other}).executor == "another 1"
        assert Predictor(bundle, executor={"coreml": Other}).executor.startswith("onnxruntime ")


def test_a_stage_that_gives_nan_is_an_error_not_a_crop(tmp_path: Path) -> None:
    nets = {"fp32": Nets(), "w8": Nets(correction=(float("nan"), 0, 1, 1))}
    with pytest.raises(BundleError, match=r"relocalize.* holds NaN"):
        load(make_chain(tmp_path / "chain", nets=nets), variant="w8.onnx")


def test_a_crop_that_leaves_the_image_is_black_and_no_crash(tmp_path: Path) -> None:
    predictor = load(make_chain(tmp_path / "chain", nets={"fp32": Nets(correction=(1e6, -1e30, 1, 1), slope=SLOPE)}))
    (face,) = predictor(picture(), [(-20, -20, 20, 20)])
    assert face.crop_box == (20, -60, 60, -20)  # a side to the right and a side up, and no further
    np.testing.assert_allclose(face.points[:, 0], 40 + 40 * (MARKS[:, 0] - 0.1), rtol=1e-5)


def test_run_prints_the_pose_and_each_stages_time(tmp_path: Path) -> None:
    folder = make_chain(tmp_path / "chain")
    Image.fromarray(picture()).save(tmp_path / "photo.png")
    words = ["run", tmp_path / "photo.png", "--bundle", folder, "--box", "10,10,50,50"]
    words += ["--json", tmp_path / "a.json", "--out", tmp_path / "out.png"]
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    assert "yaw 9.0, pitch -18.0, roll 27.0 degrees" in result.stdout
    assert "chain fp32.onnx by onnxruntime" in result.stdout
    assert "; relocalize " in result.stdout
    report = json.loads((tmp_path / "a.json").read_text())
    assert report["variant"] == "fp32.onnx"
    assert list(report["timings"]["stages"]) == ["relocalize", "uniformize", "landmarks"]
    assert set(report["timings"]["stages"]["landmarks"]) == {"pre_ms", "inference_ms", "post_ms"}
    (face,) = report["faces"]
    assert face["pose"] == pytest.approx({"yaw": 9, "pitch": -18, "roll": 27}, abs=1e-4)
    assert face["crop_box"] == pytest.approx([10, 10, 50, 50])


def test_a_face_without_pose_prints_none(tmp_path: Path) -> None:
    nets = {"fp32": dataclasses.replace(Nets(), pose=None)}
    (face,) = load(make_chain(tmp_path / "chain", nets=nets), detector=None)(picture())
    assert face.pose is None
    assert "yaw" not in str(face)
