"""What a stage hands to the next: equation 1 by hand, pictures, and a stage on its own."""

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
from bundle_factory import MEAN, STD, make_bundle, picture
from chain_factory import MARKS, Nets, make_chain

from pocketface.sdk.bundle import open_bundle
from pocketface.sdk.chain import StageRunner, View, onward, runnable
from pocketface.sdk.errors import BadInputError, BundleError, EnvironmentProblemError
from pocketface.sdk.geometry import Box, Crop
from pocketface.sdk.manifest import Preprocess
from pocketface.sdk.postprocess import corrected_crop, decode, unit_image
from pocketface.sdk.predictor import Predictor
from pocketface.sdk.preprocess import network_input, reduced, resample, stage_input


def test_equation_1_by_hand() -> None:
    box, crop = corrected_crop(np.array([0.1, -0.2, 1.5, 0.5], np.float32), Crop(100, 50, 40))
    np.testing.assert_allclose(box, (104 - 30, 42 - 10, 104 + 30, 42 + 10), atol=1e-5)
    assert (crop.cx, crop.cy, crop.side) == pytest.approx((104, 42, 60), abs=1e-5)  # the longer side
    box, crop = corrected_crop([0, 0, 1, 1], Crop(100, 50, 40))
    assert box == (80, 30, 120, 70)
    assert crop == Crop(100, 50, 40)


def test_a_turned_crop_moves_along_its_own_axes_and_stays_turned() -> None:
    # At 90 degrees the crop's x axis is the image's y axis, and its y axis the image's -x axis.
    _, crop = corrected_crop([0.1, -0.2, 1, 1], Crop(100, 50, 40, angle=90))
    assert (crop.cx, crop.cy, crop.side, crop.angle) == pytest.approx((108, 54, 40, 90))


@pytest.mark.parametrize(("factor", "kept"), [(0.1, 0.25), (-3, 0.25), (0.25, 0.25), (4, 4), (1e30, 4)])
def test_factors_are_kept_within_a_quarter_and_four(factor: float, kept: float) -> None:
    box, crop = corrected_crop([0, 0, factor, 0.25], Crop(0, 0, 8))
    assert (box.width, box.height, crop.side) == pytest.approx((8 * kept, 2, 8 * max(kept, 0.25)))


@pytest.mark.parametrize(("shift", "kept"), [(1e3, 1), (-1e3, -1), (3e38, 1), (-3e38, -1), (1, 1), (0.99, 0.99)])
def test_shifts_are_kept_within_a_side_of_the_crop(shift: float, kept: float) -> None:
    box, crop = corrected_crop(np.array([shift, -0.5, 1, 1], np.float32), Crop(100, 50, 40))
    assert (crop.cx, crop.cy, crop.side) == pytest.approx((100 + 40 * kept, 30, 40))
    assert (box.x0, box.y0) == pytest.approx((80 + 40 * kept, 10))
    _, crop = corrected_crop([0, shift, 1, 1], Crop(100, 50, 40, angle=90))  # along its own axes
    assert (crop.cx, crop.cy) == pytest.approx((100 - 40 * kept, 50))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_correction_or_picture_that_is_not_finite_is_refused(bad: float) -> None:
    for place in range(4):
        values = np.array([0, 0, 1, 1.0])
        values[place] = bad
        with pytest.raises(BundleError, match="NaN or infinity"):
            corrected_crop(values, Crop(0, 0, 1))
    image = np.zeros((1, 3, 2, 2), np.float32)
    image[0, 1, 1, 0] = bad
    with pytest.raises(BundleError, match="NaN or infinity"):
        unit_image(image)


def test_the_right_correction_brings_any_moved_box_back() -> None:
    rng, truth = np.random.default_rng(0), Crop(60, 45, 38)
    for _ in range(20):
        # Less than a side away: 0.6 * 38 > 22.
        x, y = rng.normal(0, 9, 2).clip(-22, 22)
        moved = Crop(60 + x, 45 + y, 38 * rng.uniform(0.6, 1.5))
        correction = [
            (truth.cx - moved.cx) / moved.side,
            (truth.cy - moved.cy) / moved.side,
            38 / moved.side,
            38 / moved.side,
        ]
        box, crop = corrected_crop(correction, moved)
        assert (crop.cx, crop.cy, crop.side) == pytest.approx((60, 45, 38), abs=1e-9)
        assert box == pytest.approx(truth.box, abs=1e-9)


def test_a_unit_image_becomes_pixels_channel_last_and_clipped() -> None:
    values = np.arange(12, dtype=np.float32).reshape(1, 3, 2, 2) / 8 - 0.25
    pixels = unit_image(values)
    assert (pixels.shape, pixels.dtype) == ((2, 2, 3), np.float32)
    for y, x, c in itertools.product(range(2), range(2), range(3)):
        assert pixels[y, x, c] == pytest.approx(255 * min(max(float(values[0, c, y, x]), 0), 1))


@pytest.mark.parametrize("step", [1, 2, 4])
def test_a_picture_is_reduced_as_an_image_would_be_resampled(step: int) -> None:
    image = picture(32, 32)
    found = reduced(image.astype(np.float32), 32 // step)
    np.testing.assert_allclose(found, resample(image, Crop(15.5, 15.5, 32), 32 // step), atol=1e-4)


def test_a_picture_three_times_as_large_gives_means_of_nine() -> None:
    pixels = np.random.default_rng(1).uniform(0, 255, (6, 6, 3)).astype(np.float32)
    found = reduced(pixels, 2)
    for y, x, c in itertools.product(range(2), range(2), range(3)):
        block = [float(pixels[3 * y + i, 3 * x + j, c]) for i in range(3) for j in range(3)]
        assert found[y, x, c] == pytest.approx(sum(block) / 9, abs=1e-3)


@pytest.mark.parametrize("shape", [(8, 8, 3), (10, 20, 3), (20, 20), (20, 20, 4)])
def test_a_picture_of_another_size_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(BadInputError, match=r"expected \(10, 10, 3\), or a whole multiple"):
        reduced(np.zeros(shape, np.float32), 10)


def test_a_picture_is_fed_unrounded_in_the_stages_colours_and_an_image_as_always() -> None:
    settings = Preprocess(size=2, mean=(10, 20, 30), std=(2, 4, 8), channels="BGR")
    drawn = np.full((4, 4, 3), (1.25, 2.5, 3.75), np.float32)
    tensor = stage_input(drawn, Crop(0, 0, 1), settings)
    assert tensor.shape == (1, 3, 2, 2)
    # Mean and deviation are in the order of the channels: blue first.
    np.testing.assert_allclose(tensor[0, :, 0, 0], ((3.75 - 10) / 2, (2.5 - 20) / 4, (1.25 - 30) / 8), atol=1e-6)
    image, crop = picture(), Crop(30, 30, 20)
    assert np.array_equal(stage_input(image, crop, settings), network_input(image, crop, settings))
    pixels = stage_input(drawn, crop, Preprocess(size=4, mean=(0, 0, 0), std=(1, 1, 1), inside="own"))
    assert pixels.dtype == np.uint8
    assert pixels[0, :, 0, 0].tolist() == [1, 2, 4]


def test_each_stage_of_a_chain_runs_alone(tmp_path: Path) -> None:
    nets = Nets(correction=(0.25, 0.0, 1.5, 1.25), gain=-1.0)
    image, crop = np.full((40, 40, 3), 200, np.uint8), Crop(20, 20, 16)
    with open_bundle(make_chain(tmp_path / "chain", nets={"fp32": nets}, sizes=(8, 16, 8))) as bundle:
        first, second, third = (StageRunner(bundle, f"{task}.fp32.onnx") for task in TASKS)
    outputs = first.predict_tensor(first.preprocess(image, crop))
    np.testing.assert_allclose(outputs["box"], [nets.correction], atol=1e-6)
    view = onward(outputs, first.stage, View(image, crop))
    assert view.source is image
    assert view.crop == Crop(24, 20, 24)
    outputs = second.predict_tensor(second.preprocess(*view))
    drawn = onward(outputs, second.stage, view)
    assert drawn.crop == view.crop
    np.testing.assert_allclose(drawn.source, np.full((16, 16, 3), 55), atol=1e-3)  # 255 - 200
    tensor = third.preprocess(*drawn)
    np.testing.assert_allclose(tensor, np.full((1, 3, 8, 8), (55 - MEAN[0]) / STD[0]), atol=1e-5)
    outputs = third.predict_tensor(tensor)
    np.testing.assert_allclose(decode(outputs, third.stage, drawn.crop).points, (24, 20) + 24 * MARKS, atol=1e-4)
    with pytest.raises(BundleError, match="'landmarks' ends the chain"):
        onward(outputs, third.stage, drawn)
    with pytest.raises(BundleError, match="output 'box' is missing"):
        onward(outputs, first.stage, view)


TASKS = ("relocalize", "uniformize", "landmarks")


def test_a_runner_of_a_single_network_is_what_the_predictor_runs(tmp_path: Path) -> None:
    with open_bundle(make_bundle(tmp_path / "one", size=16)) as bundle:
        runner, predictor = StageRunner(bundle, "fp32.onnx"), Predictor(bundle)
        (case, _) = bundle.golden()
    tensor = case["step0.input.image"]
    for name, value in predictor.predict_tensor(tensor).items():
        assert np.array_equal(runner.predict_tensor(tensor)[name], value)
    assert predictor.stages[0].variant is predictor.variant


def test_a_stage_that_nothing_runs_names_the_variants_that_do(tmp_path: Path) -> None:
    folder = make_chain(tmp_path / "chain", formats=("onnx", "coreml"))
    with open_bundle(folder) as bundle:
        assert runnable(bundle.manifest) == ["fp32.onnx"]
        told = r"'relocalize.fp32.coreml' .* Valid: relocalize.fp32.onnx. Choose a chain that runs here \(fp32.onnx\)"
        with pytest.raises(EnvironmentProblemError, match=told):
            Predictor(bundle, variant="fp32.coreml")


def test_head_pose_is_in_degrees_and_turns_with_the_crop(tmp_path: Path) -> None:
    with open_bundle(make_chain(tmp_path / "chain")) as bundle:
        stage = bundle.manifest.landmarks
    outputs = {"points": MARKS[None], "pose": np.array([[0.5, -0.25, 0.1]], np.float32)}
    upright, turned = (decode(outputs, stage, Crop(0, 0, 1, angle)).pose for angle in (0, 20))
    assert upright is not None
    assert turned is not None
    np.testing.assert_allclose(upright, (45, -22.5, 9), atol=1e-5)
    np.testing.assert_allclose(turned, (45, -22.5, 29), atol=1e-5)
    outputs["pose"][0, 1] = np.nan
    with pytest.raises(BundleError, match="'pose' holds NaN"):
        decode(outputs, stage, Crop(0, 0, 1))


def test_edges_of_a_crop_are_a_box() -> None:
    assert Crop.from_box(Box(10, 20, 30, 40)).box == (10, 20, 30, 40)
