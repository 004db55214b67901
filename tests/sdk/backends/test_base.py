from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundle_factory import make_bundle

from pocketface.sdk import manifest
from pocketface.sdk.backends.base import checked_names, feed, from_file, read_model, to_file
from pocketface.sdk.errors import BadInputError, BundleError, EnvironmentProblemError
from pocketface.sdk.manifest import Binding, Variant


def bind(**values: Any) -> Binding:
    return Binding(tensor="t", **values)


def test_layout() -> None:
    value = np.arange(24, dtype=np.float32).reshape(1, 2, 3, 4)  # NCHW
    stored = to_file(value, "image", bind(shape=(1, 3, 4, 2), layout="NHWC"))
    assert stored.flags.c_contiguous
    assert all(stored[0, y, x, c] == value[0, c, y, x] for c in range(2) for y in range(3) for x in range(4))
    assert np.array_equal(from_file(stored, "image", bind(shape=(1, 3, 4, 2), layout="NHWC")), value)
    assert np.array_equal(to_file(value, "image", bind(shape=(1, 2, 3, 4), layout="NCHW")), value)


def test_float16() -> None:
    value = np.array([0.1, 65504, -2], np.float32)
    stored = to_file(value, "x", bind(shape=(3,), dtype="float16"))
    assert stored.dtype == np.float16
    result = from_file(stored, "x", bind(shape=(3,), dtype="float16"))
    assert result.dtype == np.float32
    assert result.tolist() == [float(np.float16(0.1)), 65504, -2]


def test_quantization_by_hand() -> None:
    binding = bind(shape=(6,), dtype="int8", scale=0.5, zero_point=-3)
    # value / 0.5, half to even, minus 3, into [-128, 127]
    stored = to_file(np.array([0, 1, 0.25, 0.75, 1e9, -1e9], np.float32), "x", binding)
    assert stored.dtype == np.int8
    assert stored.tolist() == [-3, -1, -3, -1, 127, -128]
    assert from_file(stored, "x", binding).tolist() == [0, 1, 0, 1, 65, -62.5]
    unsigned = bind(shape=(2,), dtype="uint8", scale=1 / 127.5, zero_point=128)
    assert to_file(np.array([-1.2, 1.2], np.float32), "x", unsigned).tolist() == [0, 255]


def test_wrong_shapes() -> None:
    with pytest.raises(BadInputError, match=r"input 'x' has shape \(2,\).*expected \(3,\)"):
        to_file(np.zeros(2, np.float32), "x", bind(shape=(3,)))
    with pytest.raises(BundleError, match=r"output 'x' has shape \(2,\), expected \(3,\)"):
        from_file(np.zeros(2, np.float32), "x", bind(shape=(3,)))


@pytest.fixture
def variant(tmp_path: Path) -> tuple[Path, Variant]:
    folder = make_bundle(tmp_path / "b")
    found = manifest.decode((folder / "manifest.json").read_bytes()).variant()[1]
    return folder / found.files[0].path, found


def test_feed_needs_every_input(variant: tuple[Path, Variant]) -> None:
    with pytest.raises(BadInputError, match=r"input 'image' is missing. Valid: image"):
        feed({}, variant[1])
    assert list(feed({"image": np.zeros((1, 3, 32, 32), np.float32)}, variant[1])) == ["image"]


def test_read_model_gives_only_the_bytes_that_were_hashed(variant: tuple[Path, Variant]) -> None:
    path, found = variant
    data = path.read_bytes()
    assert read_model(path, found) == data
    path.write_bytes(data[:-1] + b"x")
    with pytest.raises(BundleError, match="not the file the manifest describes"):
        read_model(path, found)
    path.unlink()
    with pytest.raises((BadInputError, EnvironmentProblemError), match="cannot read"):
        read_model(path, found)


def test_checked_names() -> None:
    checked_names({"image": bind(shape=())}, {"t", "u"}, "input", Path("m"))
    with pytest.raises(BundleError, match=r"m.onnx has no output 't' \(for 'points'\). Valid: a, b"):
        checked_names({"points": bind(shape=())}, {"b", "a"}, "output", Path("x/m.onnx"))


def test_pixels_pass_through_in_the_file_s_layout() -> None:
    pixels = np.arange(24, dtype=np.uint8).reshape(1, 2, 3, 4)
    stored = to_file(pixels, "image", bind(shape=(1, 3, 4, 2), layout="NHWC", dtype="uint8"))
    assert (stored.dtype, stored.flags.c_contiguous) == (np.uint8, True)
    assert all(stored[0, y, x, c] == pixels[0, c, y, x] for c in range(2) for y in range(3) for x in range(4))


def test_pixels_and_normalised_values_are_not_mistaken_for_each_other() -> None:
    with pytest.raises(BadInputError, match="input 'x' is float32, expected uint8 pixels"):
        to_file(np.zeros(3, np.float32), "x", bind(shape=(3,), dtype="uint8"))
    for dtype, scale in (("float32", None), ("float16", None), ("uint8", 0.1), ("int8", 0.1)):
        with pytest.raises(BadInputError, match="input 'x' is uint8, expected normalised float32"):
            to_file(np.zeros(3, np.uint8), "x", bind(shape=(3,), dtype=dtype, scale=scale))
