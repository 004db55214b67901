"""What ``pocketface pack`` refuses, and whether it says what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from foreign_model import write_contract, write_model
from onnx import numpy_helper

from pocketface.converters.formats.registry import EXPORTERS
from pocketface.converters.pack import pack_files
from pocketface.converters.pack_contract import load_contract
from pocketface.converters.pack_files import STATIC, SUFFIXES, format_of, precision_of
from pocketface.sdk.errors import BadInputError, PocketfaceError

POINTS = {"decode": "pixel_points"}


def refused(folder: Path, *files: Path, **contract: Any) -> str:
    """The message of the refusal; nothing may be written."""
    loaded = load_contract(write_contract(folder, **contract))
    with pytest.raises(PocketfaceError) as caught:
        pack_files(files, loaded, folder / "b")
    assert caught.value.exit_code == 2
    assert not (folder / "b").exists()
    return str(caught.value)


def test_suffixes_are_the_exporters_own() -> None:
    assert {exporter.suffix: name for name, exporter in ((name, EXPORTERS[name]) for name in EXPORTERS)} == SUFFIXES
    assert set(STATIC) == set(SUFFIXES.values())


def test_what_is_no_model_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"suffix '.pt'. Valid: .onnx, .tflite, .mlpackage, .pte"):
        format_of(tmp_path / "m.pt")
    with pytest.raises(BadInputError, match="no such file"):
        format_of(tmp_path / "m.onnx")
    (tmp_path / "m.onnx").mkdir()
    (tmp_path / "m.mlpackage").write_bytes(b"zip")
    with pytest.raises(BadInputError, match="is a folder, expected a file"):
        format_of(tmp_path / "m.onnx")
    with pytest.raises(BadInputError, match="is a file, expected a folder"):
        format_of(tmp_path / "m.mlpackage")


def test_external_data_is_refused(tmp_path: Path) -> None:
    path = write_model(tmp_path / "m.onnx")
    model = onnx.load(path)
    big = numpy_helper.from_array(np.zeros(4096, np.float32), "big")
    model.graph.initializer.append(big)
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=16)
    message = refused(tmp_path, path)
    assert "m.onnx keeps tensors in other files, expected an ONNX file without external data" in message
    assert "onnx.save(onnx.load('m.onnx'), 'whole.onnx')" in message
    path.write_bytes(b"\xff" * 40)
    assert "m.onnx is not a readable ONNX file" in refused(tmp_path, path)


def test_links_in_a_package_are_refused(tmp_path: Path) -> None:
    package = tmp_path / "m.mlpackage"
    (package / "Data").mkdir(parents=True)
    (package / "Data/weights").symlink_to("/etc/hostname")
    assert "m.mlpackage: Data/weights is a link, expected plain files" in refused(tmp_path, package)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ({"batch": "N"}, "input 'picture' is float32 (N, 3, 32, 32), a dynamic shape, expected fixed sizes"),
        ({"side": "S"}, "float32 (1, 3, S, S), a dynamic shape"),
        ({"batch": 2, "shape": (2, 8)}, "float32 (2, 3, 32, 32), batch 2, expected batch 1"),
        ({"two_inputs": True}, "takes 2 inputs: picture float32 (1, 3, 32, 32), other float32 (1, 3, 32, 32)"),
        ({"side": 64}, "is float32 (1, 3, 64, 64), expected (1, 3, 32, 32) or (1, 32, 32, 3), of preprocess.size 32"),
        ({"twice": True}, "leaves outputs.points.tensor open, and more than one fits"),
        ({"outputs": 5, "shape": (1, 5, 2)}, "The scheme has 4 points: choose another, or write your own as JSON"),
        ({"shape": (1, 2, 4)}, "All x come before all y: transpose them inside the model"),
        ({"outputs": 6, "shape": (1, 4, 3)}, "It gives three values a landmark: cut the third off inside the model"),
        ({"int8_scale": 0.5}, "is int8 (1, 8), and neither the file nor the contract says its scale"),
    ],
)
def test_files_that_do_not_fit_are_refused(tmp_path: Path, model: dict[str, Any], words: str) -> None:
    message = refused(tmp_path, write_model(tmp_path / "m.onnx", **model))
    assert words in message
    assert "m.onnx" in message
    if "dynamic" in words or "batch" in words:
        assert "make_dynamic_shape_fixed" in message


@pytest.mark.parametrize(
    ("contract", "words"),
    [
        ({"precision": None}, "its precision is not declared. Write precision: fp32"),
        ({"reference": "n.onnx"}, "reference: 'n.onnx' is not among the files given. Valid: m.onnx"),
        ({"files": {"n.onnx": {}}}, "files: 'n.onnx' is not among the files given. Valid: m.onnx"),
        (
            {"inputs": {"image": {"tensor": "image"}}},
            "has no tensor 'image' for inputs.image. Valid: picture. Correct it, or, for this file alone, write it "
            "under files: m.onnx: inputs.image.tensor",
        ),
        ({"inputs": {"image": {"layout": "NHWC"}}}, "of preprocess.size 32 and the layout NHWC"),
        ({"inputs": {"image": {"dtype": "float16"}}}, "expected float16, as inputs.image.dtype says"),
        ({"outputs": {"points": {**POINTS, "tensor": "face"}}}, "output 'face' is float32 (1, 1), expected (1, 4, 2)"),
        ({"outputs": {"points": POINTS, "score": {"tensor": "landmarks"}}}, "output 'landmarks' is float32 (1, 8)"),
        ({"outputs": {"points": {**POINTS, "scale": 0.1}}}, "an integer type, as outputs.points has a scale"),
        (
            {"preprocess": {"size": 32, "input": "pixels"}},
            "expected uint8, as preprocess.input is pixels. For float pixel values write input: normalised, mean",
        ),
    ],
)
def test_contracts_that_do_not_fit_are_refused(tmp_path: Path, contract: dict[str, Any], words: str) -> None:
    model = write_model(tmp_path / "m.onnx", score=True)
    assert words in refused(tmp_path, model, **contract)


def test_two_files_of_one_kind_are_refused(tmp_path: Path) -> None:
    files = [write_model(tmp_path / name) for name in ("m.onnx", "n.onnx")]
    assert "m.onnx and n.onnx are both fp32.onnx" in refused(tmp_path, *files)
    assert "m.onnx is given 2 times" in refused(tmp_path, files[0], files[0])
    assert "no model files" in refused(tmp_path)


def test_a_files_own_entry_counts_before_the_general_one(tmp_path: Path) -> None:
    files = [write_model(tmp_path / "m.onnx"), write_model(tmp_path / "n.onnx", twice=True)]
    own = {"precision": "mixed", "outputs": {"points": {"tensor": "again"}}}
    changes: dict[str, Any] = {
        "files": {"n.onnx": own},
        "tolerances": {"mixed": {"max_tensor_error": 1e-5}},
        "outputs": {"points": {**POINTS, "tensor": "landmarks"}},
    }
    packed = pack_files(files, load_contract(write_contract(tmp_path, **changes)), tmp_path / "b")
    assert [item.exported.outputs["points"].tensor for item in packed.candidates] == ["landmarks", "again"]
    assert packed.candidates[1].exported.unused == ("landmarks",)
    assert packed.failures == ()


def test_a_reference_that_is_no_float_file_is_told(tmp_path: Path) -> None:
    files = [write_model(tmp_path / "m.onnx"), write_model(tmp_path / "n.onnx")]
    contract = write_contract(tmp_path, files={"m.onnx": {"precision": "mixed"}})
    packed = pack_files(files, load_contract(contract), tmp_path / "b")
    assert packed.reference == "mixed.onnx"
    assert any("n.onnx is fp32: name it as reference" in note for note in packed.notes)


def test_the_precision_of_a_file_can_be_seen(tmp_path: Path) -> None:
    assert precision_of(write_model(tmp_path / "m.onnx"), "onnx") == "fp32"
