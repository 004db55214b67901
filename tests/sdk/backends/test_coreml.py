"""What the Core ML backend does at the model's border. Core ML runs on macOS only: a stand-in takes its place."""

from __future__ import annotations

import enum
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pocketface.sdk.backends import coreml as module
from pocketface.sdk.backends.coreml import CoreMLBackend
from pocketface.sdk.errors import BundleError, EnvironmentProblemError, MissingExtraError
from pocketface.sdk.manifest import Binding, Tolerances, Variant

SIDE = 4
RGB, BGR, GRAYSCALE = 20, 30, 10
PIXELS = np.random.default_rng(0).integers(0, 256, (1, 3, SIDE, SIDE), np.uint8)


class _Type:
    def __init__(self, space: int | None) -> None:
        self.space = space
        self.imageType = types.SimpleNamespace(colorSpace=space)

    def WhichOneof(self, name: str) -> str:  # noqa: N802
        assert name == "Type"
        return "multiArrayType" if self.space is None else "imageType"


class _Model:
    """Gives what it was fed, so that a test can look at it."""

    space: int | None = None
    failure: Exception | None = None
    fed: dict[str, Any]
    options: dict[str, Any]

    def __init__(self, path: str, **options: Any) -> None:
        if self.failure:
            raise self.failure
        self.path = path
        _Model.options = options

    def get_spec(self) -> Any:
        feature = types.SimpleNamespace
        inputs = [feature(name="image", type=_Type(self.space))]
        outputs = [feature(name="points", type=_Type(None)), feature(name="score", type=_Type(None))]
        return feature(description=feature(input=inputs, output=outputs))

    def predict(self, fed: dict[str, Any]) -> dict[str, Any]:
        _Model.fed = fed
        return {"score": np.float32([3]), "points": np.arange(10, dtype=np.float16).reshape(1, 5, 2)}


@pytest.fixture
def mac(monkeypatch: pytest.MonkeyPatch) -> type[_Model]:
    """A Mac with coremltools."""
    fake = types.ModuleType("coremltools")
    fake.models = types.SimpleNamespace(MLModel=_Model)  # type: ignore[attr-defined]
    fake.ComputeUnit = enum.Enum("ComputeUnit", "ALL CPU_ONLY CPU_AND_GPU CPU_AND_NE")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "coremltools", fake)
    monkeypatch.setattr(module, "sys", types.SimpleNamespace(platform="darwin"))
    monkeypatch.setattr(module, "find_spec", lambda name: object() if name == "coremltools" else None)
    monkeypatch.setattr(_Model, "space", None)
    monkeypatch.setattr(_Model, "failure", None)
    return _Model


def variant(**image: Any) -> Variant:
    settings: dict[str, Any] = {"tensor": "image", "shape": (1, 3, SIDE, SIDE), "layout": "NCHW", **image}
    return Variant(
        id="fp32.mlpackage",
        format="coreml",
        precision="fp32",
        files=(),
        inputs={"image": Binding(**settings)},
        outputs={"points": Binding(tensor="points", shape=(1, 5, 2)), "score": Binding(tensor="score", shape=(1,))},
        tolerances=Tolerances(),
        status="passed",
    )


PATH = Path("a.mlpackage")


def test_arrays(mac: type[_Model]) -> None:
    assert CoreMLBackend.available()
    backend = CoreMLBackend(PATH, variant(), threads=2)
    image = np.random.default_rng(1).normal(size=(1, 3, SIDE, SIDE)).astype(np.float32)
    result = backend.run({"image": image})
    assert np.array_equal(mac.fed["image"], image)
    assert result["points"].dtype == np.float32
    assert result["points"].tolist() == [[[0, 1], [2, 3], [4, 5], [6, 7], [8, 9]]]
    assert result["score"].tolist() == [3]
    assert backend.executor.startswith("Core ML (coremltools ")


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("space", [RGB, BGR])
def test_pictures(mac: type[_Model], monkeypatch: pytest.MonkeyPatch, layout: str, space: int) -> None:
    """Core ML asks for an RGB picture whatever the file's order; the contract's pixels are in the file's order."""
    monkeypatch.setattr(_Model, "space", space)
    shape = (1, 3, SIDE, SIDE) if layout == "NCHW" else (1, SIDE, SIDE, 3)
    CoreMLBackend(PATH, variant(dtype="uint8", shape=shape, layout=layout)).run({"image": PIXELS})
    picture = mac.fed["image"]
    assert isinstance(picture, Image.Image)
    assert (picture.mode, picture.size) == ("RGB", (SIDE, SIDE))
    for row in range(SIDE):
        for column in range(SIDE):
            expected = PIXELS[0, :, row, column] if space == RGB else PIXELS[0, ::-1, row, column]
            assert picture.getpixel((column, row)) == tuple(expected)


def test_a_grey_picture(mac: type[_Model], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_Model, "space", GRAYSCALE)
    CoreMLBackend(PATH, variant(dtype="uint8", shape=(1, 1, SIDE, SIDE))).run({"image": PIXELS[:, :1]})
    assert mac.fed["image"].mode == "L"
    assert np.array_equal(np.asarray(mac.fed["image"]), PIXELS[0, 0])


def test_what_is_wrong_is_named(mac: type[_Model], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BundleError, match=r"no input 'picture' \(for 'image'\). Valid: image"):
        CoreMLBackend(PATH, variant(tensor="picture"))
    monkeypatch.setattr(_Model, "failure", RuntimeError("compiler error: bad\nmore"))
    with pytest.raises(BundleError, match=r"a\.mlpackage: Core ML refuses it \(compiler error: bad\)"):
        CoreMLBackend(PATH, variant())


def test_a_mac_without_coremltools(mac: type[_Model], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    assert not CoreMLBackend.available()
    with pytest.raises(MissingExtraError, match=r"pocketface\[coreml\]"):
        CoreMLBackend(PATH, variant())


def test_elsewhere_it_does_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "sys", types.SimpleNamespace(platform="linux"))
    assert not CoreMLBackend.available()
    with pytest.raises(EnvironmentProblemError, match="runs on macOS, this is linux"):
        CoreMLBackend(PATH, variant())


def test_the_delegate_is_a_compute_unit(mac: type[_Model]) -> None:
    assert CoreMLBackend(PATH, variant()).executor.startswith("Core ML")
    assert mac.options == {}
    backend = CoreMLBackend(PATH, variant(), delegate="ane")
    assert mac.options["compute_units"].name == "CPU_AND_NE"
    assert backend.executor.endswith(" (ane)")
    with pytest.raises(
        EnvironmentProblemError, match=r"no delegate 'tpu' on this machine\. Valid: auto, cpu, gpu, ane"
    ):
        CoreMLBackend(PATH, variant(), delegate="tpu")
