"""Quantizing a network that takes pixels: its cast and normalisation stay in float, and nothing is lost by them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from tiny_export import MEAN, STD, exported, pixel_exported, pixel_inputs, pixel_net, tiny_net
from tiny_quantize import LARGE

from pocketface.compression.quantize.registry import QUANTIZERS
from pocketface.converters.formats.base import Exported
from pocketface.converters.parity import backend_of
from pocketface.converters.reference import torch_run
from pocketface.sdk.errors import BadInputError

FORMATS = ("onnx", "tflite")


def normalised(pixels: np.ndarray) -> np.ndarray:
    mean, std = (np.array(values, np.float32).reshape(1, 3, 1, 1) for values in (MEAN, STD))
    return (pixels - mean) / std


def quantized(format: str, precision: str, folder: Path, pixels: bool, **config: Any) -> Exported:
    quantizer = QUANTIZERS[f"{format}.{precision}"]
    source, images = (pixel_exported if pixels else exported)(format), pixel_inputs(8, seed=1)
    path = folder / f"{'pixels' if pixels else 'floats'}.{precision}{source.path.suffix}"
    settings = quantizer.configure(config)
    return quantizer(source, path, images if pixels else normalised(images), config=settings)


def error(item: Exported, pixels: bool) -> float:
    """Mean error of the landmarks to torch's, over 8 pictures."""
    run, backend, found = torch_run(pixel_net() if pixels else tiny_net()), backend_of(item), []
    for image in pixel_inputs(8, seed=2)[:, None]:
        tensor = image if pixels else normalised(image)
        found.append(np.abs(backend.run({"image": tensor})["points"] - run(tensor)["points"]).mean())
    return float(np.mean(found))


@pytest.mark.parametrize("float_first", [True, False])
@pytest.mark.parametrize("format", FORMATS)
def test_eight_bits_cost_no_more_than_with_the_normalisation_outside(
    format: str, float_first: bool, tmp_path: Path
) -> None:
    inside, outside = (
        error(quantized(format, "w8a8", tmp_path, pixels, float_first=float_first), pixels) for pixels in (True, False)
    )
    assert 0 < inside <= 1.1 * outside


@pytest.mark.parametrize("format", FORMATS)
def test_weights_alone_can_be_quantized_too(format: str, tmp_path: Path) -> None:
    item = quantized(format, "w8", tmp_path, True, keep_float=(LARGE[0],))
    assert item.inputs["image"].dtype == "uint8"
    assert 0 < error(item, True) < 1e-3


def test_between_the_pixels_and_the_first_convolution_onnx_has_no_eight_bit_step(tmp_path: Path) -> None:
    model = onnx.load(quantized("onnx", "w8a8", tmp_path, True).path)
    types = [node.op_type for node in model.graph.node if node.op_type != "DequantizeLinear"]
    assert types[: types.index("Conv")] == ["Cast", "Mul", "Add"]


@pytest.mark.parametrize("float_first", [True, False])
def test_between_the_pixels_and_the_first_convolution_tflite_has_no_eight_bit_step(
    tmp_path: Path, float_first: bool
) -> None:
    from ai_edge_litert.tools import flatbuffer_utils

    path = quantized("tflite", "w8a8", tmp_path, True, float_first=float_first).path
    model = flatbuffer_utils.read_model(str(path))
    graph, kinds = model.subgraphs[0], flatbuffer_utils.schema_fb.BuiltinOperator
    codes = [model.operatorCodes[operator.opcodeIndex].builtinCode for operator in graph.operators]
    assert codes[:3] == [kinds.CAST, kinds.MUL, kinds.ADD]
    types = [graph.tensors[operator.outputs[0]].type for operator in graph.operators[:3]]
    assert types == [flatbuffer_utils.schema_fb.TensorType.FLOAT32] * 3


@pytest.mark.parametrize("format", FORMATS)
def test_calibration_images_must_be_what_the_network_takes(format: str, tmp_path: Path) -> None:
    quantizer, path = QUANTIZERS[f"{format}.w8a8"], tmp_path / f"x{exported(format).path.suffix}"
    with pytest.raises(BadInputError, match=r"of type float32, expected \(N, 3, 32, 32\) uint8"):
        quantizer(pixel_exported(format), path, normalised(pixel_inputs(2)))
    with pytest.raises(BadInputError, match=r"of type uint8, expected \(N, 3, 32, 32\) float32"):
        quantizer(exported(format), path, pixel_inputs(2))
