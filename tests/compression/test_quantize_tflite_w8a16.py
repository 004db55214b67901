"""int16 activations in TFLite: what computes in them, and that they cost next to nothing beside the weights."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_export import SIZE, exported, inputs, pixel_exported, pixel_inputs, pixel_net
from tiny_quantize import FIRST, HEADS, Layer, errors, modules, quantized, runner, tflite_layers, tflite_operations
from torch import Tensor, nn

from pocketface.compression.quantize.registry import QUANTIZERS
from pocketface.compression.quantize.report import report
from pocketface.compression.quantize.tflite_w8a16 import _avoid_powers_of_two
from pocketface.converters.formats.registry import EXPORTERS
from pocketface.converters.parity import backend_of
from pocketface.sdk.errors import ConfigError

NAME = "tflite.w8a16"
ON_INTEGERS = Layer("INT16", "INT8", False, "INT64")
IN_FLOAT = Layer("FLOAT32", "FLOAT32", False, "FLOAT32")
STORED = Layer("FLOAT32", "INT8", True, "FLOAT32")


@pytest.mark.slow
def test_all_but_the_first_layer_and_the_heads_are_on_int16() -> None:
    kinds = {FIRST: IN_FLOAT, **dict.fromkeys(HEADS, STORED)}
    assert tflite_layers(quantized(NAME)) == {name: kinds.get(name, ON_INTEGERS) for name in modules()}
    found = report(quantized(NAME))
    # Four convolutions, a sum, a padding, and what lies between the last of them and the heads: a transpose and a mean.
    assert (found.quantized_operations, found.weight_only_operations) == (8, 2)
    assert " 8 on integer activations" in str(found)


@pytest.mark.slow
def test_activations_have_no_zero_point() -> None:
    """LiteRT's kernels for 16 bits have none."""
    outputs = [op.output for op in tflite_operations(quantized(NAME)) if op.output["dtype"] == np.int16]
    assert outputs
    assert {tensor["quantization"][1] for tensor in outputs} == {0}


@pytest.mark.slow
def test_nothing_is_rounded_before_the_first_layer() -> None:
    kinds = [op.kind for op in tflite_operations(quantized(NAME))]
    assert "QUANTIZE" not in kinds[: kinds.index("CONV_2D")]


@pytest.mark.slow
def test_what_is_left_of_the_error_is_that_of_the_weights(tmp_path: Path) -> None:
    """The same weights with float arithmetic give almost the same points; 8-bit activations do not."""
    w8 = QUANTIZERS["tflite.w8"]
    config = w8.configure({"min_elements": 1, "keep_float": [FIRST]})
    weights = runner(w8(exported("tflite"), tmp_path / "w8.tflite", config=config))(inputs(4))[0]
    far = {name: float(np.abs(runner(quantized(name))(inputs(4))[0] - weights).max()) for name in (NAME, "tflite.w8a8")}
    assert 0 < 50 * far[NAME] < far["tflite.w8a8"]  # its steps are 128 times as fine
    assert errors(quantized(NAME))[0] < errors(quantized("tflite.w8a8"))[0]


@pytest.mark.slow
def test_options(tmp_path: Path) -> None:
    quantizer = QUANTIZERS[NAME]
    for number, (settings, special) in enumerate(
        (
            ({"float_first": False, "weights_only": []}, {}),
            (
                {"keep_float": ["score"], "weights_only": ["points"]},
                {FIRST: IN_FLOAT, "score": IN_FLOAT, "points": STORED},
            ),
        )
    ):
        config: Any = quantizer.configure(settings)
        item = quantizer(exported("tflite"), tmp_path / f"{number}.tflite", inputs(4, 1), config=config)
        assert tflite_layers(item) == {name: special.get(name, ON_INTEGERS) for name in modules()}
    config = quantizer.configure({"weights_only": ["point"]})
    with pytest.raises(ConfigError, match=r"weights_only: no module 'point' \(did you mean 'points'\?\)"):
        quantizer(exported("tflite"), tmp_path / "b.tflite", inputs(4, 1), config=config)


@pytest.mark.slow
@pytest.mark.parametrize("float_first", [True, False])
def test_pixels_are_normalised_in_float(float_first: bool, tmp_path: Path) -> None:
    quantizer = QUANTIZERS[NAME]
    config: Any = quantizer.configure({"float_first": float_first})
    item = quantizer(pixel_exported("tflite"), tmp_path / "a.tflite", pixel_inputs(8, 1), config=config)
    preparing = tflite_operations(item)[:3]
    assert [op.kind for op in preparing] == ["CAST", "MUL", "ADD"]
    assert {op.output["dtype"] for op in preparing} == {np.float32}
    image = pixel_inputs(1)
    with torch.no_grad():
        truth = pixel_net()(torch.from_numpy(image.copy()))[0].numpy()
    assert 0 < np.abs(backend_of(item).run({"image": image})["points"] - truth).max() < 2e-3


class Clamped(nn.Module):
    """Adds what is clamped to [-1, 1] twice: three scales that are powers of two."""

    output_names = ("points",)
    heads = ("points",)

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3, 2), nn.Conv2d(8, 8, 1)
        self.points = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> tuple[Tensor]:
        x = (9 * self.first(x)).clamp(-1, 1)
        y = (9 * self.second(x)).clamp(-1, 1)
        return (self.points((x + y).mean((2, 3))).reshape(-1, 4, 2),)


@pytest.mark.slow
def test_scales_that_litert_would_refuse_are_avoided(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net: Any = Clamped().eval()
    fp32 = EXPORTERS["tflite"].export(net, precision="fp32", path=tmp_path / "a.tflite", input_size=SIZE)
    item = QUANTIZERS[NAME](fp32, tmp_path / "b.tflite", inputs(8, 1), net=net)
    sums = [op for op in tflite_operations(item) if op.kind == "ADD" and op.output["dtype"] == np.int16]
    assert sums
    for op in sums:
        assert abs(math.remainder(math.log2(op.output["quantization"][0]), 1)) > 1e-3
    with torch.no_grad():
        truth = net(torch.from_numpy(inputs(1).copy()))[0].numpy()
    assert np.abs(backend_of(item).run({"image": inputs(1)})["points"] - truth).max() < 0.02


def test_only_ranges_near_a_power_of_two_are_widened() -> None:
    def one(low: float, high: float) -> dict[str, Any]:
        found: dict[str, Any] = {"x": {"min": np.array([low]), "max": np.array([high])}}
        _avoid_powers_of_two(found)
        return {key: float(value[0]) for key, value in found["x"].items()}

    assert one(-0.5, 2.0) == {"min": pytest.approx(-0.505), "max": pytest.approx(2.02)}
    assert one(-1.001, 0.1)["min"] == pytest.approx(-1.011, rel=1e-3)
    assert one(0.0, 6.0) == {"min": 0.0, "max": 6.0}
    assert one(0.0, 0.0) == {"min": 0.0, "max": 0.0}
