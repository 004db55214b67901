"""Errors of every kind of output by hand, and a damaged network of each kind that does not get through."""

from __future__ import annotations

import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import get_args, get_type_hints

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from tiny_chain import NETWORKS, candidate, exported, golden, judged, net, run_of, stage, stages

from pocketface.converters.examine import examine
from pocketface.converters.kinds import KINDS, corners, main_output
from pocketface.converters.parity import References, compare, measure
from pocketface.converters.reference import golden_references, references
from pocketface.sdk.errors import BadInputError
from pocketface.sdk.manifest import OutputSpec, Tolerances

Array = NDArray[np.float32]


def part(decode: str, value: Array, truth: Array | None = None, size: int = 8) -> References:
    return References(np.zeros((len(value), 3, size, size), np.float32), {"out": value}, truth, {"out": decode})


def test_every_decode_of_the_contract_can_be_compared() -> None:
    assert set(KINDS) == set(get_args(get_type_hints(OutputSpec)["decode"]))


def test_corners_of_a_corrected_box_by_hand() -> None:
    """A crop of side 1 around the origin, moved by (0.1, -0.2), half as wide and twice as high."""
    found = corners(np.array([0.1, -0.2, 0.5, 2.0]))
    assert found == pytest.approx(np.array([(-0.15, -1.2), (0.35, -1.2), (0.35, 0.8), (-0.15, 0.8)]))


@pytest.mark.parametrize("far", [1e3, 3e38])
def test_corners_are_clipped_as_the_runtime_does(far: float) -> None:
    assert corners(np.array([far, -far, 1, 1])) == pytest.approx(corners(np.array([1.0, -1, 1, 1])))
    assert corners(np.array([0, 0, far, -far])) == pytest.approx(corners(np.array([0, 0, 4, 0.25])))


def test_box_errors_by_hand() -> None:
    """The box moves by (0.03, 0.04), each corner by 0.05 sides of the crop; the true box has half of its side."""
    want = np.array([[0.0, 0.0, 0.5, 0.5]], np.float32)
    moved = want + np.array([[0.03, 0.04, 0, 0]], np.float32)
    found = compare(lambda _: {"out": moved}, variant="v", executor="e", faces=part("box_correction", want, want))
    assert found.outputs["out"].max_error == pytest.approx(0.04, abs=1e-6)
    assert found.outputs["out"].mean_error == pytest.approx(0.035, abs=1e-6)
    assert found.outputs["out"].relative_error == pytest.approx(0.04 / 0.5, abs=1e-6)
    assert (found.max_pixel_error, found.mean_pixel_error) == pytest.approx((0.4, 0.4), abs=1e-5)  # 8 px inputs
    assert (found.nme_reference, found.nme) == pytest.approx((0, 10), abs=1e-4)
    # A box that is wider by 0.2: two corners of each side move by 0.1.
    wider = want + np.array([[0, 0, 0.2, 0]], np.float32)
    found = compare(lambda _: {"out": wider}, variant="v", executor="e", faces=part("box_correction", want, want))
    assert (found.outputs["out"].max_error, found.nme) == pytest.approx((0.1, 20), abs=1e-4)


def test_picture_errors_by_hand() -> None:
    want = np.full((1, 3, 8, 8), 0.5, np.float32)
    other = want.copy()
    other[0, 1, 2, 3] += 0.25
    other[0, 0, 0, 0] -= 0.1
    clean = want + np.float32(0.02)
    found = compare(lambda _: {"out": other}, variant="v", executor="e", faces=part("unit_image", want, clean))
    assert found.outputs["out"].max_error == pytest.approx(0.25)
    assert found.outputs["out"].mean_error == pytest.approx(0.35 / 192, rel=1e-5)
    assert found.max_pixel_error == pytest.approx(63.75)  # grey levels
    assert found.mean_pixel_error == pytest.approx(255 * 0.35 / 192, rel=1e-5)
    assert found.nme_reference == pytest.approx(2, rel=1e-5)
    assert found.nme == pytest.approx(100 * (0.02 * 190 + 0.23 + 0.12) / 192, rel=1e-5)
    assert "grey levels" in str(found)


def test_an_extra_output_is_held_by_the_bound_on_tensors() -> None:
    references_ = judged("landmarks")
    run = run_of("landmarks")

    def turned(tensor: Array) -> dict[str, Array]:
        outputs = dict(run(tensor))
        return {**outputs, "pose": outputs["pose"] + np.float32(0.01)}  # 0.9 degrees

    bounds = Tolerances(max_tensor_error=2e-3, max_relative_error=1e-5)
    found = compare(turned, variant="v", executor="e", faces=references_, tolerances=bounds)  # type: ignore[arg-type]
    assert found.outputs["pose"].max_error == pytest.approx(0.01, abs=1e-6)
    assert "max error of pose 0.01 > 0.002 degrees / 90" in found.verdict.reason
    assert "relative error of pose" in found.verdict.reason
    assert "points" not in found.verdict.reason


def test_the_task_error_is_bounded_under_its_own_name() -> None:
    want = np.array([[0.0, 0.0, 1.0, 1.0]], np.float32)
    moved = want + np.array([[0.01, 0, 0, 0]], np.float32)
    found = compare(
        lambda _: {"out": moved},
        variant="relocalize.w8a8.onnx",
        executor="e",
        faces=part("box_correction", want, want),
        tolerances=Tolerances(max_nme_increase=0.6),
    )
    assert found.verdict.reason == "box error increase 1 > 0.6 percentage points"
    assert "keep_float" in str(found)
    assert (
        "no bound is set for the out"
        in compare(
            lambda _: {"out": want}, variant="v", executor="e", faces=part("box_correction", want)
        ).verdict.reason
    )


def test_outputs_without_a_task_or_with_two_are_refused() -> None:
    with pytest.raises(BadInputError, match="exactly one of"):
        main_output({"score": "face_logit"})
    with pytest.raises(BadInputError, match="exactly one of"):
        main_output({"a": "box_correction", "b": "unit_image"})
    with pytest.raises(BadInputError, match="no comparison"):
        main_output({"a": "heat_map"})


@pytest.mark.parametrize(
    ("decode", "shape"),
    [
        ("box_correction", (1, 5)),
        ("unit_image", (1, 8, 8)),
        ("normalised_points", (1, 4, 3)),
        ("unit_image", (2, 3, 8, 8)),
    ],
)
def test_references_of_another_shape_than_their_kind_are_refused(decode: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(BadInputError, match="references of shapes"):
        References(np.zeros((1, 3, 8, 8), np.float32), {"out": np.zeros(shape, np.float32)}, None, {"out": decode})


def test_an_output_that_is_missing_or_not_finite_is_broken() -> None:
    want = np.full((1, 3, 8, 8), 0.5, np.float32)
    for outputs in ({}, {"out": want[:, :2]}, {"out": np.full_like(want, math.nan)}):
        found = compare(lambda _: outputs, variant="v", executor="e", faces=part("unit_image", want, want))  # noqa: B023
        assert (found.broken, found.nme) == (1, math.inf)
        assert found.verdict.status == "failed"


def test_golden_cases_and_faces_of_different_outputs_are_refused() -> None:
    want = np.full((1, 3, 8, 8), 0.5, np.float32)
    box = part("box_correction", np.array([[0, 0, 1, 1]], np.float32))
    with pytest.raises(BadInputError, match="different outputs"):
        compare(lambda _: {}, variant="v", executor="e", golden=part("unit_image", want), faces=box)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_reference_gives_what_the_network_gives(name: str) -> None:
    inputs = judged(name).inputs
    with torch.no_grad():
        batch = net(name)(torch.from_numpy(inputs.copy()))
    found = references(run_of(name), inputs, stage=stage(name))
    for spec, value in zip(stage(name).outputs, batch, strict=True):
        assert np.abs(found.outputs[spec.name] - value.numpy()).max() < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "format", "precision"),
    [*((name, "onnx", kind) for name in NETWORKS for kind in ("fp32", "fp16")), ("uniformize", "tflite", "fp32")],
)
def test_files_of_every_task_pass_their_gates(name: str, format: str, precision: str) -> None:
    found = measure(exported(name, format, precision), faces=judged(name))
    assert found is not None
    assert found.verdict == ("passed", "")
    assert found.nme == pytest.approx(found.nme_reference, abs=0.01 if precision == "fp32" else 0.5)


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_one_flipped_weight_does_not_pass(name: str, tmp_path: Path) -> None:
    good = exported(name)
    path = tmp_path / "bad.onnx"
    shutil.copyfile(good.path, path)
    model = onnx.load(path)
    # The largest weight of the last layer.
    last = [item for item in model.graph.initializer if numpy_helper.to_array(item).ndim > 1][-1]
    values = numpy_helper.to_array(last).copy()
    place = np.unravel_index(np.abs(values).argmax(), values.shape)
    values[place] *= -1
    last.CopyFrom(numpy_helper.from_array(values, last.name))
    onnx.save(model, path)
    reference = golden_references(golden(), stage(name), list(NETWORKS).index(name))
    assert candidate(name).status == "passed"
    found = examine(replace(good, path=path), golden=reference)
    assert found.status == "failed"
    assert f"relative error of {stages()[list(NETWORKS).index(name)].outputs[0].name}" in found.reason or (
        "relative error of pose" in found.reason
    )
