"""A bundle whose networks take uint8 pixels: written, verified, and run as an app would."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
import torch
from bundle_factory import edit_manifest, picture, replace_file
from onnx import numpy_helper
from tiny_export import SIZE, pixel_exported, pixel_inputs, pixel_net, tiny_net

from pocketface.converters.bundle import Candidate, write_bundle
from pocketface.converters.executors import executor_of
from pocketface.converters.formats.registry import EXPORTERS
from pocketface.converters.parity import measure
from pocketface.converters.reference import golden_case, golden_references, references, torch_run
from pocketface.converters.signature import read_signature
from pocketface.converters.verify import verify_bundle
from pocketface.sdk.bundle import open_bundle
from pocketface.sdk.errors import BadInputError, BundleError
from pocketface.sdk.geometry import Box, Crop
from pocketface.sdk.manifest import Provenance, Stage, TensorSpec
from pocketface.sdk.predictor import Predictor
from pocketface.sdk.preprocess import resample

BOX = Box(20, 8, 71, 59)
FORMATS = [name for name in EXPORTERS if executor_of(name) is not None]


@pytest.fixture(scope="module")
def pixel_stage(stage: Stage) -> Stage:
    return msgspec.structs.replace(
        stage,
        preprocess=pixel_net().described(stage.preprocess),
        inputs=(TensorSpec(name="image", shape=(1, 3, SIZE, SIZE), dtype="uint8"),),
    )


@pytest.fixture(scope="module")
def cases(pixel_stage: Stage) -> list[dict[str, Any]]:
    return [golden_case(torch_run(pixel_net()), picture(seed=seed), BOX, pixel_stage) for seed in range(2)]


@pytest.fixture(scope="module")
def folder(
    tmp_path_factory: pytest.TempPathFactory, pixel_stage: Stage, cases: list[dict[str, Any]], provenance: Provenance
) -> Path:
    files = [pixel_exported(name) for name in FORMATS]
    return write_bundle(
        tmp_path_factory.mktemp("pixels") / "bundle",
        name="tiny",
        stage=pixel_stage,
        candidates=[Candidate(item, measure(item, golden=golden_references(cases))) for item in files],
        default="fp32.onnx",
        golden=cases,
        card="# tiny\n",
        provenance=provenance,
        weights_licence="CC0-1.0",
    )


def by_hand(image: np.ndarray) -> np.ndarray:
    """Landmarks in pixels of the image, from the plain network and rounded pixels, without PixelInput."""
    crop = Crop.from_box(BOX)
    mean, std = (np.array(values).reshape(3, 1, 1) for values in (pixel_net().mean, pixel_net().std))
    pixels = np.round(resample(image, crop, SIZE)).transpose(2, 0, 1)
    with torch.no_grad():
        points, _ = tiny_net()(torch.tensor(((pixels - mean) / std)[None], dtype=torch.float32))
    return np.array([(crop.cx + u * crop.side, crop.cy + v * crop.side) for u, v in points[0].numpy().astype(float)])


def test_the_bundle_verifies(folder: Path) -> None:
    with open_bundle(folder) as bundle:
        report = verify_bundle(bundle)
        assert report.failures() == []
        assert [item.id for item in report.variants] == [f"fp32.{name}" for name in FORMATS]
        assert all(item.golden is not None for item in report.variants)
        assert bundle.manifest.stages[0].preprocess.inside == "multiply-add"


@pytest.mark.parametrize("format", FORMATS)
def test_the_runtime_finds_what_torch_finds_on_rounded_pixels(folder: Path, format: str) -> None:
    with open_bundle(folder) as bundle:
        predictor = Predictor(bundle, variant=f"fp32.{format}", executor=executor_of(format))
        found = predictor(picture(seed=5), [BOX])[0].points
    np.testing.assert_allclose(found, by_hand(picture(seed=5)), atol=2e-3)


@pytest.mark.parametrize("format", FORMATS)
def test_the_file_itself_takes_uint8(format: str) -> None:
    item = pixel_exported(format)
    (tensor,) = read_signature(format, item.path).inputs.values()
    assert tensor.dtype == "uint8"
    assert sorted(tensor.shape) == sorted((1, 3, SIZE, SIZE))
    assert item.inputs["image"].scale is None


@pytest.mark.parametrize(("format", "precision"), [("onnx", "fp16"), ("tflite", "fp16"), ("coreml", "fp16")])
def test_half_precision_keeps_its_gate(format: str, precision: str) -> None:
    if executor_of(format) is None:
        pytest.skip(f"nothing here runs {format}")
    found = measure(
        pixel_exported(format, precision), golden=references(torch_run(pixel_net()), pixel_inputs(4, seed=2))
    )
    assert found is not None
    assert found.verdict.status == "passed"
    assert found.outputs["points"].max_error > 0


def test_a_core_ml_file_takes_an_image_in_the_contract_s_channel_order() -> None:
    pytest.importorskip("coremltools")
    import coremltools

    spec = coremltools.utils.load_spec(str(pixel_exported("coreml").path))
    image = spec.description.input[0].type.imageType
    assert (image.width, image.height) == (SIZE, SIZE)
    assert image.colorSpace == coremltools.proto.FeatureTypes_pb2.ImageFeatureType.RGB


def test_a_wrong_normalisation_constant_is_caught(folder: Path, tmp_path: Path) -> None:
    import shutil

    own = shutil.copytree(folder, tmp_path / "bundle")
    with open_bundle(own) as bundle:
        path = bundle.manifest.variant("fp32.onnx")[1].files[0].path
    model = onnx.load(own / path)
    constant = next(item for item in model.graph.initializer if item.name == "pixel_shift")
    constant.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(constant) + np.float32(0.05), "pixel_shift"))
    replace_file(own, path, model.SerializeToString())
    with open_bundle(own) as bundle:
        (found,) = verify_bundle(bundle, variants=["fp32.onnx"]).variants
    assert found.status == "failed"
    assert "max error of points" in found.reasons[0]


def test_golden_pixels_that_the_image_does_not_give_are_caught(folder: Path, tmp_path: Path) -> None:
    import io
    import shutil

    for name, change in (("one", lambda x: x ^ (np.indices(x.shape)[3] % 8 == 0)), ("two", lambda x: x // 2)):
        own = shutil.copytree(folder, tmp_path / name)
        with np.load(own / "golden" / "000.npz") as arrays:
            case = dict(arrays)
        case["step0.input.image"] = change(case["step0.input.image"]).astype(np.uint8)
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **case)
        with open_bundle(replace_file(own, "golden/000.npz", buffer.getvalue())) as bundle:
            problems = verify_bundle(bundle, variants=["fp32.onnx"]).problems
        assert any(("pixels are off" if name == "one" else "network input off by") in text for text in problems)


def test_a_manifest_that_says_float_for_a_file_of_pixels_is_refused(folder: Path, tmp_path: Path) -> None:
    import shutil

    own = shutil.copytree(folder, tmp_path / "bundle")
    edit_manifest(own, lambda raw: raw["stages"][0]["preprocess"].update(inside=""))
    with pytest.raises(BundleError, match=r"'image' is uint8 with preprocess.inside ''"):
        open_bundle(own)

    def as_float(raw: dict[str, Any]) -> None:
        stage = raw["stages"][0]
        stage["preprocess"]["inside"] = ""
        stage["inputs"][0]["dtype"] = "float32"

    with pytest.raises(BundleError, match=r"tensor 'image' is uint8 with scale None"):
        open_bundle(edit_manifest(own, as_float))


def test_a_stage_of_pixels_takes_no_float_file(
    tmp_path: Path, pixel_stage: Stage, cases: list[dict[str, Any]], provenance: Provenance
) -> None:
    item = pixel_exported("onnx")
    floats = dataclasses.replace(item, inputs={"image": msgspec.structs.replace(item.inputs["image"], dtype="float32")})
    with pytest.raises(BundleError, match="uint8 without a scale"):
        write_bundle(
            tmp_path / "bundle",
            name="tiny",
            stage=pixel_stage,
            candidates=[Candidate(floats, measure(item, golden=golden_references(cases)))],
            default="fp32.onnx",
            golden=cases,
            card="",
            provenance=provenance,
            weights_licence="CC0-1.0",
        )
    with pytest.raises(BadInputError, match="input 'image' is float32, expected uint8 pixels"):
        measure(item, golden=references(torch_run(pixel_net()), pixel_inputs(1).astype(np.float32)))
