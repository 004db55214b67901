"""A chain's bundle: written, opened, run, verified; and every way in which one of its stages can be wrong."""

from __future__ import annotations

import io
import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
from bundle_factory import edit_manifest, picture, replace_file
from onnx import numpy_helper
from PIL import Image
from tiny_chain import BOX, NETWORKS, candidate, golden, net, run_of, stage, stages, write
from verify_command import Run

from pocketface.converters.bundle import add_measurements, npz_bytes, pack
from pocketface.converters.golden import golden_problems
from pocketface.converters.reference import golden_case, golden_references
from pocketface.converters.verdict import GATES
from pocketface.sdk.bundle import open_bundle
from pocketface.sdk.errors import BadInputError, BundleError, GateFailedError
from pocketface.sdk.geometry import Crop
from pocketface.sdk.manifest import Tolerances
from pocketface.sdk.measured import ChainRun
from pocketface.sdk.predictor import load
from pocketface.sdk.preprocess import network_input


def failed(name: str) -> Any:
    """The stage's candidate, held against a bound that it cannot keep."""
    return replace(candidate(name), tolerances=Tolerances(max_tensor_error=0.0, max_relative_error=0.0))


def damage(folder: Path, path: str, factor: float = -1) -> None:
    """Flip the sign of the largest weight of the last layer (or scale it), and mend the manifest's hash."""
    model = onnx.load(folder / path)
    last = [item for item in model.graph.initializer if numpy_helper.to_array(item).ndim > 1][-1]
    values = numpy_helper.to_array(last).copy()
    place = np.unravel_index(np.abs(values).argmax(), values.shape)
    values[place] *= factor
    last.CopyFrom(numpy_helper.from_array(values, last.name))
    replace_file(folder, path, model.SerializeToString())


def write_faces(folder: Path, bundle: Path, noise: float = 0.3) -> Path:
    """Pictures with .pts files: what the fp32 chain says, and some noise; the box is around the points."""
    folder.mkdir()
    predictor, rng = load(bundle, variant="fp32.onnx"), np.random.default_rng(1)
    for number in range(3):
        image = picture(seed=10 + number)
        points = predictor(image, [BOX])[0].points
        points = points + rng.normal(0, noise, points.shape)
        Image.fromarray(image).save(folder / f"{number}.png")
        rows = "\n".join(f"{x + 1} {y + 1}" for x, y in points)  # .pts counts from 1
        (folder / f"{number}.pts").write_text(f"version: 1\nn_points: 68\n{{\n{rows}\n}}\n")
    return folder


def test_a_golden_case_follows_the_chain() -> None:
    """Against the paper's steps, one by one, with nothing of the runtime but resampling."""
    image = picture(seed=0)
    case = golden_case({name: run_of(name) for name in NETWORKS}, image, BOX, stages())
    crop = Crop.from_box(BOX)
    first = network_input(image, crop, stage("relocalize").preprocess)
    assert np.array_equal(case["step0.input.image"], first)
    dx, dy, sw, sh = run_of("relocalize")(first)["box"][0].astype(np.float64)
    cx, cy = crop.cx + dx * crop.side, crop.cy + dy * crop.side
    width, height = sw * crop.side, sh * crop.side
    corrected = [cx - width / 2, cy - height / 2, cx + width / 2, cy + height / 2]
    assert case["step0.decoded.box"] == pytest.approx(corrected)
    better = Crop(cx, cy, max(width, height))
    second = network_input(image, better, stage("uniformize").preprocess)
    assert case["step1.input.image"] == pytest.approx(second, abs=1e-4)
    clean = run_of("uniformize")(second)["picture"]
    assert case["step1.decoded.image"] == pytest.approx(255 * clean[0].transpose(1, 2, 0), abs=1e-2)
    third = (255 * clean - 127.5) / 127.5
    assert case["step2.input.image"] == pytest.approx(third, abs=1e-4)
    outputs = run_of("landmarks")(third.astype(np.float32))
    wanted = (outputs["points"][0] + 0.5) * better.side + (better.cx - better.side / 2, better.cy - better.side / 2)
    assert case["step2.decoded.points"] == pytest.approx(wanted, abs=1e-2)
    assert case["step2.decoded.pose"] == pytest.approx(90 * outputs["pose"][0], abs=1e-3)
    with pytest.raises(BadInputError, match="stage 'uniformize' has no network"):
        golden_case({"relocalize": run_of("relocalize")}, image, BOX, stages())


def test_golden_references_are_those_of_the_stage() -> None:
    for number, name in enumerate(NETWORKS):
        found = golden_references(golden(), stage(name), number)
        assert list(found.outputs) == [spec.name for spec in stage(name).outputs]
        assert len(found) == 2


@pytest.mark.parametrize(
    ("array", "words"),
    [
        ("step0.input.image", "stage relocalize: network input off by 1"),
        ("step0.output.box", "stage uniformize: network input off by"),
        ("step0.decoded.box", "stage relocalize: decoded box off by 1"),
        ("step1.input.image", "stage uniformize: network input off by 1"),
        ("step1.output.picture", "stage uniformize: decoded picture off by"),
        ("step1.decoded.image", "stage uniformize: decoded picture off by 1"),
        ("step2.input.image", "stage landmarks: network input off by 1"),
        ("step2.output.points", "stage landmarks: decoded landmarks off by"),
        ("step2.decoded.points", "stage landmarks: decoded landmarks off by 1"),
        ("step2.output.pose", "stage landmarks: decoded head pose off by 90"),
        ("step2.decoded.pose", "stage landmarks: decoded head pose off by 1"),
    ],
)
def test_every_step_of_a_golden_case_counts(array: str, words: str) -> None:
    case = dict(golden()[0])
    assert golden_problems([case], stages()) == []
    case[array] = case[array] + case[array].dtype.type(1)
    assert any(words in problem for problem in golden_problems([case], stages()))


@pytest.mark.slow
def test_a_chain_goes_round(tmp_path: Path, run: Run) -> None:
    runs = [ChainRun(id="fp32.onnx", metrics={"nme": 4.0}), ChainRun(id="w8a8.onnx", metrics={"nme": 5.0})]
    out = write(tmp_path / "b", runs=runs)
    with open_bundle(out) as bundle:
        manifest = bundle.manifest
        assert [variant.id for part in manifest.stages for variant in part.variants] == [
            "relocalize.fp32.onnx",
            "uniformize.fp32.onnx",
            "landmarks.fp32.onnx",
        ]
        assert [run.id for run in manifest.runs] == ["fp32.onnx"]  # the other is not shipped
        assert manifest.chain()[0][1].files[0].path == "models/chain.relocalize.fp32.onnx"
        recorded = bundle.golden()[1]
    add_measurements(out, runs=[ChainRun(id="fp32.onnx", metrics={"nme": 3.0})])
    packed = pack(out, tmp_path / "chain.pface")
    found = load(packed)(picture(seed=1), [BOX])[0]
    assert found.points == pytest.approx(recorded["step2.decoded.points"], abs=0.05)
    with open_bundle(packed) as bundle:
        assert bundle.manifest.runs == (ChainRun(id="fp32.onnx", metrics={"nme": 3.0}),)
    with pytest.raises(BundleError, match="w8a8"):
        add_measurements(out, runs=[ChainRun(id="w8a8.onnx")])
    code, text, err = run(out)
    assert (code, err) == (0, "")
    assert text.count("passed") == 3
    code, text, _ = run(out, "--variant", "landmarks.fp32.onnx", "--json", "-")
    assert [item["id"] for item in json.loads(text)["variants"]] == ["landmarks.fp32.onnx"]
    assert run(out, "--variant", "w8a8.onnx")[0] == 2


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_a_damaged_stage_fails_and_is_named(name: str, tmp_path: Path, run: Run) -> None:
    out = write(tmp_path / "b")
    damage(out, f"models/chain.{name}.fp32.onnx")
    code, _, err = run(out)
    assert code == 1
    assert f"{name}.fp32.onnx failed: golden cases: " in err
    assert err.count("failed") == 1


@pytest.mark.slow
def test_a_quantized_landmark_network_with_a_spoilt_head_pose_fails(tmp_path: Path, run: Run) -> None:
    """Its landmarks are as good as before, so only the bound on the pose can tell."""
    out = write(tmp_path / "b", {name: [candidate(name), candidate(name, precision="fp16")] for name in NETWORKS})

    def like_quantized(raw: dict[str, Any]) -> None:
        raw["stages"][2]["variants"][1]["tolerances"] = {"max_nme_increase": 0.6, "max_pose_error": 0.05}

    edit_manifest(out, like_quantized)
    assert run(out)[0] == 0
    path = "models/chain.landmarks.fp16.onnx"
    model = onnx.load(out / path)
    biases = [item for item in model.graph.initializer if numpy_helper.to_array(item).shape == (3,)]
    (bias,) = [item for item in biases if numpy_helper.to_array(item).dtype.kind == "f"]
    values = numpy_helper.to_array(bias)
    bias.CopyFrom(numpy_helper.from_array(values + values.dtype.type(0.2), bias.name))  # 18 degrees
    replace_file(out, path, model.SerializeToString())
    for more in ((), ("--data", write_faces(tmp_path / "faces", out))):
        code, _, err = run(out, *more)
        assert code == 1
        assert "landmarks.fp16.onnx failed: golden cases: max error of pose 0.2" in err
        assert err.count("failed") == 1
    assert "annotated faces: max error of pose 0.2" in err


@pytest.mark.slow
def test_only_a_network_with_a_head_pose_is_written_with_a_bound_on_it(tmp_path: Path) -> None:
    bounds = msgspec.structs.replace(GATES["fp32"], max_pose_error=0.05)
    files = {name: [replace(candidate(name), tolerances=bounds)] for name in NETWORKS}
    raw = json.loads((write(tmp_path / "b", files) / "manifest.json").read_text())
    found = [part["variants"][0]["tolerances"].get("max_pose_error", "not written") for part in raw["stages"]]
    assert found == ["not written", "not written", 0.05]


@pytest.mark.slow
def test_chains_are_compared_on_annotated_faces(tmp_path: Path, run: Run) -> None:
    files = {name: [candidate(name), candidate(name, precision="fp16")] for name in NETWORKS}
    out = write(tmp_path / "b", files)
    data = write_faces(tmp_path / "faces", out)
    code, text, err = run(out, "--data", data, "--json", "-")
    assert (code, err) == (0, "")
    report = json.loads(text)
    assert [(item["id"], item["status"]) for item in report["chains"]] == [
        ("fp32.onnx", "passed"),
        ("fp16.onnx", "passed"),
    ]
    assert report["chains"][1]["nme"] == pytest.approx(report["chains"][1]["nme_reference"], abs=0.1)
    assert [item["id"] for item in report["variants"] if item["task"]] == ["landmarks.fp32.onnx", "landmarks.fp16.onnx"]
    assert "whole chains" in run(out, "--data", data)[1]
    # One stage of the fp16 chain is spoilt, and all its own bounds are lifted: the chain's landmarks tell.
    damage(out, "models/chain.relocalize.fp16.onnx", 30)

    def lift(raw: dict[str, Any]) -> None:
        variant = raw["stages"][0]["variants"][1]
        variant["tolerances"] = {"max_tensor_error": 10, "max_nme_increase": 50}

    edit_manifest(out, lift)
    code, text, err = run(out, "--data", data)
    assert code == 1
    assert "fp16.onnx failed: annotated faces: NME increase" in err
    assert "relocalize.fp16.onnx failed" not in err


@pytest.mark.slow
def test_the_default_chain_must_have_passed_in_every_stage(tmp_path: Path) -> None:
    files = {name: [candidate(name)] for name in NETWORKS} | {"uniformize": [failed("uniformize")]}
    with pytest.raises(GateFailedError, match=r"'uniformize\.fp32\.onnx' is failed: max error of picture"):
        write(tmp_path / "b", files)
    assert not (tmp_path / "b").exists()
    for mix in ("+".join(f"{name}.fp32.onnx" for name in NETWORKS), "landmarks.fp32.onnx"):
        with pytest.raises(BadInputError, match=r"names files of single stages, expected PRECISION\.FORMAT"):
            write(tmp_path / "b", files, default=mix)
    with pytest.raises(BadInputError, match=r"'w8\.onnx' has no file in stage 'relocalize'"):
        write(tmp_path / "b", default="w8.onnx")
    with pytest.raises(BadInputError, match="no golden cases"):
        write(tmp_path / "b", golden=[])


@pytest.mark.slow
def test_a_chain_that_lacks_a_stage_is_left_out_and_its_other_files_stay(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files = {name: [candidate(name), candidate(name, precision="fp16")] for name in NETWORKS}
    files["uniformize"][1] = replace(files["uniformize"][1], problems=("mostly float",))
    with caplog.at_level(logging.WARNING):
        out = write(tmp_path / "b", files)
    assert "left out: uniformize.fp16.onnx, failed: mostly float" in caplog.text
    assert "no chain fp16.onnx: without uniformize.fp16.onnx" in caplog.text
    with open_bundle(out) as bundle:
        assert bundle.manifest.chains == ("fp32.onnx",)
        assert bundle.manifest.variant("landmarks.fp16.onnx")[1].status == "passed"
    mix = "relocalize.fp16.onnx+uniformize.fp32.onnx+landmarks.fp16.onnx"
    assert load(out, variant=mix)(picture(), [BOX])[0].points.shape == (68, 2)


@pytest.mark.slow
def test_unverified_files_of_a_chain_need_leave(tmp_path: Path) -> None:
    files = {name: [candidate(name), replace(candidate(name, precision="fp16"), parity=None)] for name in NETWORKS}
    out = write(tmp_path / "b", files, allow_unverified=["fp16.onnx"])
    with open_bundle(out) as bundle:
        assert bundle.manifest.chains == ("fp32.onnx", "fp16.onnx")
        assert bundle.manifest.allow_unverified == tuple(f"{name}.fp16.onnx" for name in NETWORKS)
    write(tmp_path / "c", files, allow_unverified=["landmarks.fp16.onnx"])
    with open_bundle(tmp_path / "c") as bundle:
        assert bundle.manifest.chains == ("fp32.onnx",)


@pytest.mark.slow
def test_golden_steps_that_were_tampered_with_are_refused(tmp_path: Path, run: Run) -> None:
    out = write(tmp_path / "b")
    with np.load(io.BytesIO((out / "golden/000.npz").read_bytes())) as case:
        arrays = {name: case[name] for name in case.files}
    for array, words in (("step1.input.image", "uniformize: network input"), ("step0.output.box", "relocalize.fp32")):
        changed = {**arrays, array: arrays[array] + np.float32(0.5)}
        replace_file(out, "golden/000.npz", npz_bytes(changed))
        code, _, err = run(out)
        assert code == 1
        assert words in err
    replace_file(out, "golden/000.npz", npz_bytes({name: v for name, v in arrays.items() if "step1" not in name}))
    code, _, err = run(out)
    assert code == 2
    assert "step1" in err


@pytest.mark.slow
def test_the_layers_of_every_stage_are_compared(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pocketface.converters.networks.load_network", lambda path: net(path.stem))
    out = write(tmp_path / "b")
    code, _, err = run(out, "--layers")
    assert code == 2
    assert "relocalize.safetensors: no such checkpoint" in err
    for name in NETWORKS:
        (tmp_path / f"{name}.safetensors").write_bytes(b"the tiny network")
    code, text, err = run(out, "--layers")
    assert (code, err) == (0, "")
    assert text.count("AGREES") == 3
    assert "relocalize: preprocess: agrees" in text
    damage(out, "models/chain.uniformize.fp32.onnx")
    code, _, err = run(out, "--layers", "--checkpoint", tmp_path)
    assert code == 1
    assert "uniformize.fp32.onnx: first diverging tensor" in err
