"""Differences between a file's tensors and its bindings."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from bundle_factory import onnx_bytes, weights

from pocketface.converters.signature import Signature, TensorInfo, check_signature, read_signature
from pocketface.sdk.errors import BundleError, UnknownNameError
from pocketface.sdk.manifest import Binding

INPUTS = {"image": Binding(tensor="image", shape=(1, 3, 32, 32), layout="NCHW")}
OUTPUTS = {"points": Binding(tensor="points", shape=(1, 4, 2)), "score": Binding(tensor="score", shape=(1,))}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "a.onnx"
    file.write_bytes(onnx_bytes(32, 4, weights(4)))
    return file


def test_a_file_that_fits_has_no_differences(path: Path) -> None:
    found = read_signature("onnx", path)
    assert found.inputs == {"image": TensorInfo((1, 3, 32, 32), "float32")}
    assert check_signature(found, INPUTS, OUTPUTS) == []


@pytest.mark.parametrize(
    ("binding", "words"),
    [
        (Binding(tensor="other", shape=(1, 4, 2)), "should be tensor 'other', the file has points, score"),
        (Binding(tensor="points", shape=(1, 5, 2)), r"is float32 \(1, 4, 2\) in the file, float32 \(1, 5, 2\) in its"),
        (Binding(tensor="points", shape=(1, 4, 2), dtype="float16"), r"is float32 .* float16 \(1, 4, 2\) in its"),
    ],
)
def test_each_difference_is_named(path: Path, binding: Binding, words: str) -> None:
    problems = check_signature(read_signature("onnx", path), INPUTS, {**OUTPUTS, "points": binding})
    assert any(re.search(words, problem) for problem in problems)


def test_tensors_that_nothing_binds_are_differences_too() -> None:
    found = Signature({"image": TensorInfo((1, 3, 32, 32), "float32"), "mask": TensorInfo((1,), "float32")}, {})
    assert check_signature(found, INPUTS, {}) == ["input 'mask' of the file is in no binding"]


def test_dynamic_shapes_are_a_difference() -> None:
    found = Signature({"image": TensorInfo(("batch", 3, 32, 32), "float32")}, {})
    assert check_signature(found, INPUTS, {}) == [
        "input 'image' is float32 (batch, 3, 32, 32) in the file, float32 (1, 3, 32, 32) in its binding"
    ]


def test_unreadable_files_and_unknown_formats(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(b"no model")
    (tmp_path / "a.tflite").write_bytes(b"no model")
    for format in ("onnx", "tflite"):
        with pytest.raises(BundleError, match=f"a.{format} cannot be read as {format}"):
            read_signature(format, tmp_path / f"a.{format}")
    with pytest.raises(UnknownNameError, match="did you mean 'onnx'"):
        read_signature("onx", tmp_path / "a.onnx")
