"""``run`` and ``inspect``, through the command line as users type it."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from bundle_factory import make_bundle, picture, zip_bundle
from PIL import Image
from typer.testing import CliRunner, Result

from pocketface.sdk import load, read_image
from pocketface.sdk.cli import app


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("commands")
    make_bundle(place / "bundle", size=16, variants=("fp32.onnx", "w8a8.onnx", "fp16.coreml"))
    zip_bundle(place / "bundle", place / "tiny.pface")
    Image.fromarray(picture(200, 160)).save(place / "photo.png")
    return place


def call(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def refused(result: Result, code: int, *texts: str) -> None:
    assert result.exit_code == code, result.output
    assert result.stdout == ""
    assert result.stderr.startswith("pocketface: ")
    assert result.stderr.count("\n") == 1
    for text in texts:
        assert text in result.stderr


def test_run_from_photo_to_picture_and_json(made: Path, tmp_path: Path) -> None:
    out, report = tmp_path / "new" / "out.png", tmp_path / "new" / "out.json"
    words = ["--bundle", made / "bundle", "--whole", "--out", out, "--json", report]
    result = call("run", made / "photo.png", *words)
    assert result.exit_code == 0, result.output
    assert "face 1: 68 points (ibug68), score 0." in result.stdout
    assert "tiny fp32.onnx by onnxruntime" in result.stdout
    faces = load(made / "bundle", detector=None)(made / "photo.png")
    content = json.loads(report.read_text())
    assert content["faces"] == [faces[0].to_dict()]
    assert (content["width"], content["height"], content["variant"]) == (200, 160, "fp32.onnx")
    assert content["timings"]["inference_ms"] > 0
    changed = (read_image(out) != read_image(made / "photo.png")).any(axis=-1)
    assert all(changed[int(y.round()), int(x.round())] for x, y in faces[0].points if 0 <= x < 199 and 0 <= y < 159)
    assert not changed.all()


def test_run_with_boxes_variant_threads_and_json_on_standard_output(made: Path) -> None:
    boxes = ["--box", "20,10,120,110", "--box", "-5,-5.5,50,50"]
    rest = ["--variant", "w8a8.onnx", "--threads", 2, "--json", "-"]
    result = call("run", made / "photo.png", "--bundle", made / "tiny.pface", *boxes, *rest)
    assert result.exit_code == 0, result.output
    content = json.loads(result.stdout)
    expected = load(made / "bundle", variant="w8a8.onnx")(made / "photo.png", [(20, 10, 120, 110), (-5, -5.5, 50, 50)])
    assert [face["box"] for face in content["faces"]] == [[20, 10, 120, 110], [-5, -5.5, 50, 50]]
    for face, other in zip(content["faces"], expected, strict=True):
        np.testing.assert_allclose(face["points"], other.points, atol=1e-4)


def test_run_against_another_bundle_shows_both(made: Path, tmp_path: Path) -> None:
    out, alone = tmp_path / "both.png", tmp_path / "alone.png"
    words = ["run", made / "photo.png", "--bundle", made / "bundle", "--delegate", "cpu"]
    result = call(*words, "--against", made / "tiny.pface", "--out", out)
    assert result.exit_code == 0, result.output
    assert "(cpu)" in result.stdout
    assert call(*words, "--out", alone).exit_code == 0
    both, one = read_image(out), read_image(alone)
    assert both.shape == (160, 200 + 4 + 200, 3)
    # The same network twice: the same drawing twice, under a label each.
    np.testing.assert_array_equal(both[40:, :200], one[40:])
    np.testing.assert_array_equal(both[40:, 204:], one[40:])
    assert (both[:, 200:204] == 255).all()


def test_run_never_overwrites_without_force(made: Path, tmp_path: Path) -> None:
    words = ["run", made / "photo.png", "--bundle", made / "bundle"]
    for option, name in (("--out", "out.png"), ("--json", "out.json")):
        (tmp_path / name).write_text("mine")
        refused(call(*words, option, tmp_path / name), 2, "exists already", "--force")
        assert (tmp_path / name).read_text() == "mine"
        assert call(*words, option, tmp_path / name, "--force").exit_code == 0
        assert (tmp_path / name).read_bytes() != b"mine"


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["nothing.jpg"], 2, "nothing.jpg: no such file"),
        (["PHOTO", "--box", "1,2,3"], 2, "expected four numbers x0,y0,x1,y1"),
        (["PHOTO", "--box", "1,2,x,4"], 2, "box '1,2,x,4'"),
        (["PHOTO", "--box", "9,9,3,3"], 2, "no area"),
        (["PHOTO", "--box", "900,900,903,903"], 2, "outside the image of 200 x 160"),
        (["PHOTO", "--variant", "w4"], 2, "no variant 'w4'. Valid: fp32.onnx, w8a8.onnx, fp16.coreml"),
        (["PHOTO", "--variant", "fp16.coreml"], 3, "nothing here can run. Valid: fp32.onnx, w8a8.onnx"),
        (["PHOTO", "--threads", "0"], 2, "threads 0, expected a whole number from 1"),
        (["PHOTO", "--threads", "many"], 2, "--threads"),
        (["PHOTO", "--delegate", "npu"], 3, "no delegate 'npu' on this machine. Valid: auto"),
        (["PHOTO", "--against", "other"], 2, "--against without --out"),
        (["PHOTO", "--out", "x.xyz"], 2, "cannot write images of type '.xyz'. Valid: .png"),
        (["PHOTO", "--colour", "red"], 2, "No such option: --colour"),
        ([], 2, "nothing to look at, expected one photo or video, or a camera"),
        (["PHOTO", "--camera", "0"], 2, "a file and a camera"),
        (["PHOTO", "--seconds", "3"], 2, "--seconds 3 for a photo"),
    ],
)
def test_run_refuses_bad_input_in_one_line(made: Path, words: list[str], code: int, text: str) -> None:
    words = [str(made / "photo.png") if word == "PHOTO" else word for word in words]
    refused(call("run", *words, "--bundle", made / "bundle"), code, text)


def test_run_with_a_damaged_bundle(made: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(made / "bundle", tmp_path / "bundle"))
    with open(folder / "models" / "tiny.fp32.onnx", "r+b") as file:
        file.truncate(1000)
    out = tmp_path / "out.png"
    refused(call("run", made / "photo.png", "--bundle", folder, "--out", out), 2, "has 1000 bytes, expected", "again")
    assert not out.exists()
    refused(call("inspect", folder), 2, "has 1000 bytes")


def test_inspect_shows_tables_and_writes_the_manifest(made: Path, tmp_path: Path) -> None:
    for bundle in (made / "bundle", made / "tiny.pface"):
        result = call("inspect", bundle)
        assert result.exit_code == 0, result.output
        assert "fp32.onnx (default)" in result.stdout
        assert "CC0-1.0" in result.stdout
    result = call("inspect", made / "bundle", "--json", "-")
    assert json.loads(result.stdout) == json.loads((made / "bundle" / "manifest.json").read_text())
    call("inspect", made / "bundle", "--json", tmp_path / "m.json")
    assert json.loads((tmp_path / "m.json").read_text()) == json.loads(result.stdout)
    refused(call("inspect", made / "bundle", "--json", tmp_path / "m.json"), 2, "--force")
    refused(call("inspect", tmp_path / "nothing"), 2, "no such bundle")


@pytest.mark.parametrize("command", ["run", "inspect"])
def test_help_has_an_example(command: str) -> None:
    result = call(command, "--help")
    assert result.exit_code == 0
    assert f"Example: pocketface {command} " in result.stdout
