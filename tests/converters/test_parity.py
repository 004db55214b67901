"""Figures by hand, verdicts at their bounds, and a damaged network that does not get through."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper
from tiny_export import exported, inputs, tiny_net

from pocketface.converters.examine import examine
from pocketface.converters.formats.registry import EXPORTERS
from pocketface.converters.parity import References, compare, measure, probability
from pocketface.converters.reference import references, torch_run
from pocketface.converters.verdict import GATES, ParityResult, judge
from pocketface.sdk.backends.registry import has_executor
from pocketface.sdk.errors import BadInputError, BundleError
from pocketface.sdk.manifest import OutputParity, Tolerances
from pocketface.sdk.postprocess import sigmoid

Array = NDArray[np.float32]


def made(count: int = 3, points: int = 4, seed: int = 0) -> References:
    """References with truth, for normaliser (0, 1)."""
    rng = np.random.default_rng(seed)
    return References(
        rng.normal(size=(count, 3, 8, 8)).astype(np.float32),
        {
            "points": rng.uniform(-0.4, 0.4, (count, points, 2)).astype(np.float32),
            "score": rng.normal(size=count).astype(np.float32),
        },
        rng.uniform(-0.4, 0.4, (count, points, 2)).astype(np.float32),
    )


def shifted(part: References, points: Array, score: Array) -> object:
    """A variant that adds these (N, n, 2) and (N,) to the references' outputs; it knows faces by their input."""

    def run(tensor: Array) -> Mapping[str, Array]:
        index = next(i for i in range(len(part)) if np.array_equal(part.inputs[i], tensor[0]))
        return {
            "points": part.outputs["points"][index : index + 1] + points[index : index + 1],
            "score": part.outputs["score"][index : index + 1] + score[index : index + 1],
        }

    return run


def result(**changes: object) -> ParityResult:
    """A result well inside every bound."""
    small = OutputParity(max_error=1e-6, mean_error=1e-7, relative_error=1e-6)
    base = ParityResult(
        variant="fp32.onnx",
        executor="test 1",
        faces=10,
        golden_faces=2,
        outputs={"points": small, "score": small},
        max_pixel_error=1e-4,
        mean_pixel_error=1e-5,
        golden_error=1e-7,
        nme_reference=4.0,
        nme=4.01,
        broken=0,
        input_size=128,
        tolerances=GATES["fp32"],
    )
    return replace(base, **changes)  # type: ignore[arg-type]


def test_errors_by_hand() -> None:
    part = made(2)
    points = np.zeros((2, 4, 2), np.float32)
    points[1, 3] = (0.03, -0.04)
    found = compare(
        shifted(part, points, np.array([0, 1], np.float32)),  # type: ignore[arg-type]
        variant="v",
        executor="e",
        faces=part,
        normaliser=(0, 1),
    )
    assert found.faces == 2
    assert found.outputs["points"].max_error == pytest.approx(0.04, abs=1e-6)
    assert found.outputs["points"].mean_error == pytest.approx(0.07 / 16, abs=1e-6)
    assert found.max_pixel_error == pytest.approx(0.05 * 8, abs=1e-5)  # 8 px inputs
    assert found.mean_pixel_error == pytest.approx(0.05 * 8 / 8, abs=1e-5)  # 8 landmarks in all
    gap = abs(sigmoid(float(part.outputs["score"][1]) + 1) - sigmoid(float(part.outputs["score"][1])))
    assert found.outputs["score"].max_error == pytest.approx(gap, abs=1e-6)
    assert found.outputs["score"].mean_error == pytest.approx(gap / 2, abs=1e-6)
    # Raw outputs: the logit is off by 1, the points by 0.04, each over the largest value of either face.
    largest = {name: float(np.abs(value).max()) for name, value in part.outputs.items()}
    assert found.outputs["points"].relative_error == pytest.approx(0.04 / largest["points"], rel=1e-4)
    assert found.outputs["score"].relative_error == pytest.approx(1 / largest["score"], rel=1e-4)


def test_nme_against_a_slow_loop() -> None:
    part = made(3)
    assert part.truth is not None
    points = np.random.default_rng(5).normal(0, 0.01, (3, 4, 2)).astype(np.float32)
    found = compare(
        shifted(part, points, np.zeros(3, np.float32)),  # type: ignore[arg-type]
        variant="v",
        executor="e",
        faces=part,
        normaliser=(0, 1),
    )
    for value, shift in ((found.nme_reference, 0 * points), (found.nme, points)):
        total = 0.0
        for face in range(3):
            unit = math.dist(part.truth[face, 0], part.truth[face, 1])
            distances = [math.dist(part.main[face, i] + shift[face, i], part.truth[face, i]) for i in range(4)]
            total += sum(distances) / 4 / unit
        assert value == pytest.approx(100 * total / 3, rel=1e-5)


def test_golden_cases_count_for_errors_and_not_for_the_nme() -> None:
    golden, faces = made(2, seed=1), made(3, seed=2)
    both = References(
        np.concatenate([golden.inputs, faces.inputs]),
        {name: np.concatenate([golden.outputs[name], faces.outputs[name]]) for name in ("points", "score")},
    )
    points = np.zeros((5, 4, 2), np.float32)
    points[:2, :, 0] = 0.02
    run = shifted(both, points, np.zeros(5, np.float32))
    found = compare(run, variant="v", executor="e", golden=golden, faces=faces, normaliser=(0, 1))  # type: ignore[arg-type]
    assert (found.faces, found.golden_faces) == (5, 2)
    assert found.golden_error == pytest.approx(0.02, abs=1e-6)
    assert found.outputs["points"].max_error == pytest.approx(0.02, abs=1e-6)
    assert found.nme == pytest.approx(found.nme_reference)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("where", ["points", "score"])
def test_one_value_that_is_not_finite_fails(bad: float, where: str) -> None:
    part = made(3)
    points, score = np.zeros((3, 4, 2), np.float32), np.zeros(3, np.float32)
    if where == "points":
        points[1, 2, 0] = bad
    else:
        score[1] = bad
    found = compare(
        shifted(part, points, score),  # type: ignore[arg-type]
        variant="v",
        executor="e",
        faces=part,
        tolerances=Tolerances(max_tensor_error=1e30, max_nme_increase=1e30),
        normaliser=(0, 1),
    )
    assert found.verdict.status == "failed"
    assert "1 of 3 faces gave NaN" in found.verdict.reason
    assert found.outputs["points"].max_error == math.inf
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["outputs"]["points"]["max_error"] is None
    with pytest.raises(BadInputError, match="NaN"):
        found.to_manifest()


def test_an_output_of_the_wrong_shape_fails() -> None:
    part = made(1)
    found = compare(
        lambda _: {"points": part.main[:, :3], "score": part.outputs["score"]},
        variant="v",
        executor="e",
        faces=part,
        normaliser=(0, 1),
    )
    assert found.broken == 1


def test_no_faces_never_pass() -> None:
    found = compare(lambda _: {}, variant="v", executor="e", tolerances=GATES["fp32"])
    assert found.verdict == ("failed", "no face was compared")
    with pytest.raises(BadInputError):
        found.to_manifest()
    assert judge(result(faces=0), GATES["fp32"]).status == "failed"


def test_probabilities_agree_with_the_runtime_and_do_not_overflow() -> None:
    logits = np.array([-1000, -40, -1.5, 0, 0.2, 40, 1000])
    assert probability(logits) == pytest.approx([sigmoid(float(logit)) for logit in logits], abs=1e-15)


def far(name: str, error: float, relative: float | None = 1e-6) -> dict[str, OutputParity]:
    return {
        **result().outputs,
        name: OutputParity(max_error=error, mean_error=error / 10, relative_error=relative),
    }


POSE_BOUNDS = {"w8": 0.03, "w8a8": 0.05, "pal6": 0.05, "pal4": 0.1}


def with_pose(error: float) -> ParityResult:
    kinds = {"points": "normalised_points", "score": "face_logit", "pose": "head_pose"}
    return result(outputs=far("pose", error), kinds=kinds)


@pytest.mark.parametrize(
    ("found", "bounds", "words"),
    [
        (result(), GATES["fp32"], None),
        (result(outputs=far("points", 1e-4)), GATES["fp32"], None),
        (result(outputs=far("points", 1.01e-4)), GATES["fp32"], "max error of points 0.000101 > 0.0001"),
        (result(outputs=far("score", 2e-4)), GATES["fp32"], "max error of score 0.0002 > 0.0001"),
        (result(outputs=far("score", 1e-6, 1.1e-5)), GATES["fp32"], "relative error of score 1.1e-05 > 1e-05"),
        (result(outputs=far("points", 1e-6, None)), GATES["fp32"], "relative error of points was not measured"),
        (result(outputs=far("points", 2e-3)), GATES["fp16"], None),
        (result(outputs=far("points", 2.1e-3)), GATES["fp16"], "max error of points 0.0021 > 0.002"),
        (result(outputs=far("points", 0.5)), GATES["w8"], None),
        (result(nme=4.019), GATES["w8"], None),
        (result(nme=4.03), GATES["w8"], "NME increase 0.03 > 0.02 percentage points"),
        (result(nme=3.0), GATES["w8"], None),
        (result(nme=4.599), GATES["w8a8"], None),
        (result(nme=4.61), GATES["w8a8"], "NME increase 0.61 > 0.6"),
        (result(outputs=far("score", 0.11)), GATES["w8a8"], "max error of score 0.11 > 0.1"),
        *((with_pose(0.99 * bound), GATES[name], None) for name, bound in POSE_BOUNDS.items()),
        *((with_pose(1.01 * bound), GATES[name], "max error of pose") for name, bound in POSE_BOUNDS.items()),
        (with_pose(2.1e-3), GATES["fp16"], "max error of pose 0.0021 > 0.002 degrees / 90"),
        (with_pose(math.nan), GATES["w8a8"], "max error of pose nan > 0.05"),
        (result(nme=None), GATES["w8a8"], "NME increase was not measured"),
        (result(nme=math.nan), GATES["w8a8"], "NME increase nan > 0.6"),
        (result(), Tolerances(), "no bound is set"),
        (result(), Tolerances(max_score_error=1.0), "no bound is set"),
        (result(broken=1), GATES["fp32"], "1 of 10 faces gave NaN"),
    ],
)
def test_verdicts(found: ParityResult, bounds: Tolerances, words: str | None) -> None:
    verdict = judge(found, bounds)
    if words is None:
        assert verdict == ("passed", "")
    else:
        assert verdict.status == "failed"
        assert words in verdict.reason


def test_every_violation_is_named() -> None:
    reason = judge(
        result(outputs=far("points", 1.0), nme=9.0), Tolerances(max_tensor_error=0.1, max_nme_increase=1)
    ).reason
    assert "points 1 > 0.1 crop sides" in reason
    assert "NME increase 5 > 1" in reason


def test_a_result_prints_its_figures_and_gates() -> None:
    text = str(result(variant="w8a8.tflite", nme=5.0, tolerances=GATES["w8a8"]))
    assert text.splitlines()[0] == "ParityResult  w8a8.tflite  by test 1  on 10 faces   FAILED"
    assert "NME      4.000 -> 5.000   (+1.000, gate +0.600)" in text
    assert "keep_float" in text
    assert "PASSED" in str(result())


def test_the_manifest_gets_the_figures() -> None:
    kept = result().to_manifest()
    assert (kept.faces, kept.nme_reference, kept.nme, kept.golden_error) == (10, 4.0, 4.01, 1e-7)
    assert kept.outputs["points"].max_error == 1e-6


def test_references_that_do_not_belong_together_are_refused() -> None:
    part = made(2)
    with pytest.raises(BadInputError, match="references of shapes"):
        References(part.inputs, {**part.outputs, "points": part.main[:1]})
    with pytest.raises(BadInputError, match="references of shapes"):
        References(part.inputs, part.outputs, part.main[:, :2])
    broken = part.main.copy()
    broken[0, 0, 0] = np.nan
    with pytest.raises(BadInputError, match="reference points hold NaN"):
        References(part.inputs, {**part.outputs, "points": broken})


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("format", list(EXPORTERS))
def test_real_files_pass_their_gates(format: str, precision: str) -> None:
    found = measure(exported(format, precision), faces=references(torch_run(tiny_net()), inputs(4)))
    assert found is not None
    assert found.executor.startswith("mil-reference") == (format == "coreml" and not has_executor(format))
    assert found.verdict.status == "passed"
    assert found.faces == 4
    assert 0 < found.outputs["points"].max_error < (1e-5 if precision == "fp32" else 2e-3)


@pytest.mark.slow
def test_one_flipped_weight_of_a_core_ml_package_does_not_pass(tmp_path: Path) -> None:
    good = exported("coreml")
    path = shutil.copytree(good.path, tmp_path / "bad.mlpackage")
    weights = path / "Data" / "com.apple.CoreML" / "weights" / "weight.bin"
    data = bytearray(weights.read_bytes())
    wanted = tiny_net().points.weight.detach().numpy().ravel()
    place = bytes(data).index(wanted.tobytes()) + 4 * int(np.abs(wanted).argmax())
    data[place + 3] ^= 0x80  # the sign bit of one little-endian float32
    weights.write_bytes(data)
    reference = references(torch_run(tiny_net()), inputs(4))
    assert examine(good, golden=reference).status == "passed"
    found = examine(replace(good, path=path), golden=reference)
    assert found.status == "failed"
    assert "relative error of points" in found.reason


@pytest.mark.slow
def test_a_file_that_no_runtime_takes_fails_without_ending_the_run(tmp_path: Path, monkeypatch: Any) -> None:
    class Refuses:
        def __init__(self, *_: object, **__: object) -> None:
            raise BundleError("tiny.onnx: the runtime refuses it")

    monkeypatch.setattr("pocketface.converters.parity.executor_of", lambda format: Refuses)
    found = examine(exported("onnx"), golden=references(torch_run(tiny_net()), inputs(2)))
    assert (found.status, found.parity) == ("failed", None)
    assert "the runtime refuses it" in found.reason


@pytest.mark.slow
def test_a_damaged_file_does_not_pass(tmp_path: Path) -> None:
    """The sign of one channel of one convolution is flipped; everything else about the file is in order."""
    good = exported("onnx")
    path = tmp_path / "bad.onnx"
    shutil.copyfile(good.path, path)
    model = onnx.load(path)
    tensor = next(item for item in model.graph.initializer if item.name == "features.2.0.weight")
    values = numpy_helper.to_array(tensor).copy()
    values[0] *= -1
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    onnx.save(model, path)
    part = references(torch_run(tiny_net()), inputs(4))
    found = measure(replace(good, path=path), faces=part)
    assert found is not None
    assert found.verdict.status == "failed"
    assert "max error of points" in found.verdict.reason
