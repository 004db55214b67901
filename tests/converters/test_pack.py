"""``pocketface pack`` on a network whose landmarks can be computed by hand."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from foreign_model import CONTRACT, PIXELS, SIZE, by_hand, write_contract, write_model
from PIL import Image
from tiny_export import exported

from pocketface.converters import pack as module
from pocketface.sdk.bundle import open_bundle
from pocketface.sdk.cli import main
from pocketface.sdk.predictor import load

Command = Callable[..., tuple[int, str, str]]

BOX = (10.0, 20.0, 74.0, 84.0)
COLOUR = (150, 125, 60)


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """``pocketface …`` -> exit code, standard output, standard error."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["pocketface", *(str(item) for item in arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return call


def outputs(**changes: Any) -> dict[str, Any]:
    return {"points": {"decode": "pixel_points", **changes}}


def one_colour() -> np.ndarray:
    return np.full((100, 100, 3), COLOUR, np.uint8)


def expected_points() -> np.ndarray:
    """By hand: a crop pixel p covers the edges p to p + 1 of the crop, whose 32 pixels span the box's 64."""
    pixels = by_hand(COLOUR)
    np.testing.assert_allclose(pixels - PIXELS, np.tile([2.0, -0.5], (4, 1)))
    return np.stack([10 + (pixels[:, 0] + 0.5) * 2, 20 + (pixels[:, 1] + 0.5) * 2], axis=1)


@pytest.mark.parametrize(
    ("units", "decode", "shape"),
    [
        ("pixels", "pixel_points", (1, 8)),
        ("unit", "unit_points", (1, 4, 2)),
        ("normalised", "normalised_points", (1, 8, 1, 1)),
    ],
)
def test_landmarks_come_out_as_computed_by_hand(
    tmp_path: Path, command: Command, units: str, decode: str, shape: tuple[int, ...]
) -> None:
    model = write_model(tmp_path / "m.onnx", units=units, shape=shape)
    contract = write_contract(tmp_path, outputs=outputs(decode=decode))
    assert command("pack", model, "--contract", contract, "--out", tmp_path / "b")[0] == 0
    (face,) = load(tmp_path / "b")(one_colour(), [BOX])
    np.testing.assert_allclose(face.points, expected_points(), atol=1e-3)
    assert face.score is None
    assert "no score" in str(face)


def test_the_manifest_says_where_everything_comes_from(tmp_path: Path, command: Command) -> None:
    model = write_model(tmp_path / "m.onnx", score=True)
    contract = write_contract(
        tmp_path, outputs={**outputs(), "score": {}}, data=[{"name": "faces", "licence": "CC-BY"}], golden_faces=2
    )
    code, out, _ = command("pack", model, "--contract", contract, "--out", tmp_path / "b")
    assert code == 0
    # What was found without being told is told.
    assert "m.onnx: image is its only input, 'picture', float32 (1, 3, 32, 32), NCHW" in out
    assert "m.onnx: points is output 'landmarks', float32 (1, 8), the only one that fits" in out
    assert "m.onnx: score is output 'face', float32 (1, 1), the only one that fits" in out
    with open_bundle(tmp_path / "b") as bundle:
        manifest, cases = bundle.manifest, bundle.golden()
    text = contract.read_text()
    origin = manifest.provenance
    assert (origin.recipe, origin.recipe_sha256) == (text, hashlib.sha256(text.encode()).hexdigest())
    assert (origin.git_commit, origin.reference, manifest.default) == ("", "fp32.onnx", "fp32.onnx")
    assert [(item.name, item.licence, item.sha256) for item in origin.data] == [("faces", "CC-BY", "")]
    (variant,) = manifest.stages[0].variants
    assert variant.outputs["points"].shape == (1, 8)
    assert (variant.status, variant.parity.golden_error if variant.parity else None) == ("passed", 0.0)
    assert manifest.stages[0].parameters == 3 * 8 + 8 + 3 + 1  # both layers
    # Golden outputs are the network's own, computed here from the recorded inputs.
    assert len(cases) == 2
    for case in cases:
        red, green, blue = case["step0.input.image"].astype(np.float64).mean(axis=(0, 2, 3))
        np.testing.assert_allclose(case["step0.output.points"][0], PIXELS + np.array([2 * red, -green]), atol=1e-4)
        assert float(case["step0.decoded.score"]) == pytest.approx(1 / (1 + math.exp(-0.5 - blue)), abs=1e-5)
    shown = command("inspect", tmp_path / "b")[1]
    assert "the file fp32.onnx" in shown
    assert "FLOPs not known" in shown
    assert "torch fp32" not in shown
    card = (tmp_path / "b/card.md").read_text()
    assert "not trained with pocketface" in card
    assert "faces (CC-BY)" in card
    assert "CC0-1.0" in card


def test_run_verify_bench_and_eval_work_on_it(tmp_path: Path, command: Command) -> None:
    model = write_model(tmp_path / "m.onnx", twice=True)
    contract = write_contract(tmp_path, outputs=outputs(tensor="landmarks"))
    bundle = tmp_path / "b.pface"
    figures = tmp_path / "f.json"
    arguments = ["pack", model, "--contract", contract, "--out", tmp_path / "b", "--zip", bundle, "--json", figures]
    assert command(*arguments)[0] == 0
    assert json.loads(figures.read_text())["written"] is True
    assert command(*arguments)[0] == 2  # they exist
    Image.fromarray(one_colour()).save(tmp_path / "i.png")
    box = ",".join(str(value) for value in BOX)
    code, out, _ = command("run", tmp_path / "i.png", "--bundle", bundle, "--box", box, "--json", "-")
    (face,) = json.loads(out)["faces"]
    np.testing.assert_allclose(face["points"], expected_points(), atol=1e-3)
    assert (code, face["score"]) == (0, None)
    drawn = tmp_path / "drawn.png"
    assert command("run", tmp_path / "i.png", "--bundle", bundle, "--box", box, "--out", drawn)[0] == 0
    code, out, err = command("verify", bundle)
    assert (code, err) == (0, "")
    assert "golden cases, against the file fp32.onnx" in out
    code, out, _ = command("bench", bundle, "--threads", 1, "--runs", 2, "--json", "-")
    assert (code, [row["variant"] for row in json.loads(out)["rows"]]) == (0, ["fp32.onnx"])
    faces = tmp_path / "faces"
    faces.mkdir()
    shutil.copy(tmp_path / "i.png", faces / "i.png")
    rows = "\n".join(f"{x + 1} {y + 1}" for x, y in expected_points())  # .pts counts from 1
    (faces / "i.pts").write_text(f"version: 1\nn_points: 4\n{{\n{rows}\n}}\n")
    code, out, _ = command("eval", bundle, "--data", faces, "--json", "-")
    (found,) = json.loads(out)["variants"]
    assert (code, found["face_score"]) == (0, None)
    assert found["faces"][0]["score"] is None
    code, out, _ = command("verify", bundle, "--data", faces, "--json", "-")
    assert (code, json.loads(out)["reference"]) == (0, "fp32.onnx")


def test_a_second_file_that_differs_fails_and_nothing_is_written(tmp_path: Path, command: Command) -> None:
    first = write_model(tmp_path / "m.onnx")
    other = write_model(tmp_path / "other.onnx", shift=0.25, layout="NHWC")
    bounds = {"mixed": {"max_tensor_error": 0.01}}
    contract = write_contract(tmp_path, files={"other.onnx": {"precision": "mixed"}}, tolerances=bounds)
    out = tmp_path / "b"
    assert command("pack", first, other, "--contract", contract, "--out", out)[0] == 0  # 0.0078 crop sides
    write_model(other, shift=0.5, layout="NHWC")
    code, shown, err = command("pack", first, other, "--contract", contract, "--out", tmp_path / "c", "--json", "-")
    assert code == 1
    assert "other.onnx (mixed.onnx) failed: max error of points 0.01563 > 0.01 crop sides" in err
    report = json.loads(shown)
    assert (report["written"], report["reference"]) == (False, "fp32.onnx")
    assert [item["status"] for item in report["variants"]] == ["passed", "failed"]
    assert not (tmp_path / "c").exists()
    # An altered file in a bundle is caught later on, too.
    write_contract(tmp_path, files={"other.onnx": {"precision": "mixed"}}, tolerances=bounds, reference="other.onnx")
    assert command("pack", first, other, "--contract", contract, "--out", tmp_path / "c")[0] == 1


def test_a_file_that_is_not_what_its_precision_promises_fails(tmp_path: Path, command: Command) -> None:
    contract = write_contract(tmp_path, precision="w8a8", tolerances={"w8a8": {"max_tensor_error": 0.1}})
    code, _, err = command("pack", write_model(tmp_path / "m.onnx"), "--contract", contract, "--out", tmp_path / "b")
    assert code == 1
    assert "m.onnx (w8a8.onnx) failed: weights: 0.0 % of the values are int8 or uint8" in err
    assert not (tmp_path / "b").exists()


def test_files_that_nothing_can_run_ship_only_when_allowed(
    tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, other = write_model(tmp_path / "m.onnx"), write_model(tmp_path / "n.onnx")
    real = module.backend_of

    def never_the_other(item: Any, **more: Any) -> Any:
        assert item.precision == "fp32"
        return real(item, **more)

    monkeypatch.setattr(module, "backend_of", never_the_other)
    monkeypatch.setattr(module, "bind", lambda *given, real=module.bind: as_pte(real(*given)))
    monkeypatch.setattr(module, "executor_of", lambda format: None if format == "executorch" else object)
    monkeypatch.setattr(module, "audit", lambda item, *_, real=module.audit: real(item, "onnx", "fp32"))
    files = {"n.onnx": {"precision": "mixed"}}
    contract = write_contract(tmp_path, files=files, tolerances={"mixed": {"max_tensor_error": 0.1}})
    arguments = ["pack", first, other, "--contract", contract, "--out", tmp_path / "b"]
    code, _, err = command(*arguments)
    assert code == 1
    assert "n.onnx (mixed.executorch) unverified: nothing on the machine that built this can run executorch" in err
    assert "--allow-unverified" in err
    assert not (tmp_path / "b").exists()
    assert command(*arguments, "--allow-unverified")[0] == 0
    with open_bundle(tmp_path / "b") as bundle:
        assert bundle.manifest.allow_unverified == ("mixed.executorch",)
        assert [item.status for item in bundle.manifest.stages[0].variants] == ["passed", "unverified"]
    write_contract(tmp_path, files=files, tolerances={"mixed": {"max_tensor_error": 0.1}}, reference="n.onnx")
    code, _, err = command(*arguments, "--force")
    assert code == 3
    assert "nothing here can run n.onnx, the reference. Valid: m.onnx" in err


def as_pte(bound: Any) -> Any:
    """The second file, as if it were of a format without an executor."""
    import dataclasses

    if bound.exported.precision == "fp32":
        return bound
    return dataclasses.replace(bound, exported=dataclasses.replace(bound.exported, format="executorch"))


def test_pixels_go_in_where_the_contract_says_so(tmp_path: Path, command: Command) -> None:
    model = write_model(tmp_path / "m.onnx", uint8=True)
    contract = write_contract(tmp_path, preprocess={"size": SIZE, "input": "pixels"})
    assert command("pack", model, "--contract", contract, "--out", tmp_path / "b")[0] == 0
    predictor = load(tmp_path / "b")
    assert (predictor.stage.inputs[0].dtype, predictor.stage.preprocess.inside) == ("uint8", "own")
    np.testing.assert_allclose(predictor(one_colour(), [BOX])[0].points, expected_points(), atol=1e-3)
    assert command("verify", tmp_path / "b")[0] == 0
    contract = write_contract(tmp_path)
    code, _, err = command("pack", model, "--contract", contract, "--out", tmp_path / "c")
    assert code == 2
    assert "neither the file nor the contract says its scale" in err
    assert "preprocess.input: pixels" in err


def test_integer_outputs_are_read_with_the_scale_of_the_contract(tmp_path: Path, command: Command) -> None:
    model = write_model(tmp_path / "m.onnx", int8_scale=0.25)
    contract = write_contract(tmp_path, precision="mixed", outputs=outputs(scale=0.25, zero_point=3))
    assert command("pack", model, "--contract", contract, "--out", tmp_path / "b")[0] == 0
    (face,) = load(tmp_path / "b")(one_colour(), [BOX])
    np.testing.assert_allclose(face.points, expected_points(), atol=0.26)  # half a step, two pixels of the image each


def test_a_score_that_differs_fails_too(tmp_path: Path, command: Command) -> None:
    files = [write_model(tmp_path / "m.onnx", score=True), write_model(tmp_path / "n.onnx", score=True, bias=1.5)]
    changes: dict[str, Any] = {"files": {"n.onnx": {"precision": "mixed"}}, "outputs": {**outputs(), "score": {}}}
    for bound, expected in ((0.3, 0), (0.01, 1)):
        changes["tolerances"] = {"mixed": {"max_tensor_error": 1e-4, "max_score_error": bound}}
        contract = write_contract(tmp_path, **changes)
        code, _, err = command("pack", *files, "--contract", contract, "--out", tmp_path / str(bound))
        assert code == expected
    assert "max error of score" in err


def test_a_network_that_gives_no_numbers_is_refused(tmp_path: Path, command: Command) -> None:
    model = write_model(tmp_path / "m.onnx", shift=math.nan)
    code, _, err = command("pack", model, "--contract", write_contract(tmp_path), "--out", tmp_path / "b")
    assert code == 2
    assert "m.onnx: constant 'b' holds NaN or infinity" in err


def test_what_cannot_be_landmarks_of_a_face_is_refused(tmp_path: Path, command: Command) -> None:
    model, contract = write_model(tmp_path / "m.onnx"), write_contract(tmp_path, outputs=outputs(decode="unit_points"))
    code, _, err = command("pack", model, "--contract", contract, "--out", tmp_path / "b")
    assert code == 2
    assert "taken as unit_points, reach" in err
    assert "outputs.points.decode" in err
    write_model(model, units="unit")
    write_contract(tmp_path)
    assert "lie within" in command("pack", model, "--contract", contract, "--out", tmp_path / "b")[2]
    # Off by half a crop is possible; it is told.
    write_contract(tmp_path, outputs=outputs(decode="normalised_points"))
    code, out, _ = command("pack", model, "--contract", contract, "--out", tmp_path / "b")
    assert code == 0
    assert "is normalised_points right?" in out


def test_a_precision_bounded_by_its_nme_asks_for_faces_or_another_bound(tmp_path: Path, command: Command) -> None:
    files = [write_model(tmp_path / "m.onnx"), write_model(tmp_path / "n.onnx")]
    changes: dict[str, Any] = {"files": {"n.onnx": {"precision": "w8"}}}
    arguments = ["pack", *files, "--contract", write_contract(tmp_path, **changes), "--out", tmp_path / "b"]
    code, _, err = command(*arguments)
    assert code == 2
    assert "n.onnx: w8 has no bound on its landmarks that can be measured without annotated faces" in err
    faces = tmp_path / "faces"
    faces.mkdir()
    Image.fromarray(one_colour()).save(faces / "i.png")
    rows = "\n".join(f"{x + 1} {y + 1}" for x, y in expected_points())
    (faces / "i.pts").write_text(f"version: 1\nn_points: 4\n{{\n{rows}\n}}\n")
    code, out, _ = command(*arguments, "--data", faces, "--json", "-")
    report = json.loads(out)["variants"][1]["parity"]
    assert code == 1  # the audit: its weights are float
    assert (report["status"], report["nme"]) == ("passed", report["nme_reference"])


@pytest.mark.slow
def test_real_files_of_four_formats_agree(tmp_path: Path, command: Command) -> None:
    """Converted by our own exporters; bindings are found from the files alone."""
    kinds = (("onnx", "fp32"), ("tflite", "fp32"), ("coreml", "fp16"), ("executorch", "fp32"))
    files = [exported(format, precision).path for format, precision in kinds]
    contract = write_contract(
        tmp_path,
        scheme="ibug68",
        preprocess={"size": 32, "mean": [127, 120, 110], "std": [64, 60, 50]},
        outputs={"points": {"decode": "normalised_points"}, "score": {}},
        files={files[2].name: {"precision": "fp16"}},
    )
    code, out, err = command("pack", *files, "--contract", contract, "--out", tmp_path / "b")
    assert code == 0, err
    assert "mil-reference" in out
    code, out, _ = command("verify", tmp_path / "b", "--json", "-")
    assert code == 0
    assert [item["status"] for item in json.loads(out)["variants"]] == ["passed"] * 4
    with open_bundle(tmp_path / "b") as bundle:
        assert bundle.manifest.variant("fp32.tflite")[1].inputs["image"].layout == "NHWC"


@pytest.mark.slow
def test_a_tflite_file_without_signature_is_packed(tmp_path: Path, command: Command) -> None:
    """As older converters make them: its tensors have their own names."""
    from ai_edge_litert.tools import flatbuffer_utils

    item = exported("tflite")
    model = flatbuffer_utils.read_model(str(item.path))
    model.signatureDefs = []
    flatbuffer_utils.write_model(model, str(tmp_path / "old.tflite"))
    contract = write_contract(
        tmp_path,
        scheme="ibug68",
        preprocess={"size": 32, "mean": [127, 120, 110], "std": [64, 60, 50]},
        outputs={"points": {"decode": "normalised_points"}, "score": {}},
    )
    code, out, err = command("pack", tmp_path / "old.tflite", "--contract", contract, "--out", tmp_path / "b")
    assert code == 0, err
    assert "old.tflite: image is its only input" in out
    assert command("verify", tmp_path / "b")[0] == 0


def test_the_contract_of_these_tests_is_complete() -> None:
    assert set(CONTRACT) == {"name", "scheme", "preprocess", "outputs", "precision", "weights_licence", "golden_faces"}
