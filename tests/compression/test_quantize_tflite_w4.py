"""int4 weights in TFLite, unpacked here from the file: which ones they are, and what their values are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tiny_export import SIZE, exported, inputs, tiny_net, torch_outputs
from tiny_quantize import DEPTHWISE, FIRST, LARGE, Layer, errors, modules, quantized, runner, tflite_layers, values
from torch import Tensor, nn

from pocketface.compression.quantize.registry import QUANTIZERS
from pocketface.converters.formats.base import Exported
from pocketface.converters.formats.registry import EXPORTERS
from pocketface.converters.parity import backend_of
from pocketface.sdk.errors import ConfigError

NAME = "tflite.w4"
FOUR = Layer("FLOAT32", "INT4", True, "FLOAT32")
EIGHT = Layer("FLOAT32", "INT8", True, "FLOAT32")
IN_FLOAT = Layer("FLOAT32", "FLOAT32", False, "FLOAT32")


def made(folder: Path, **settings: Any) -> Exported:
    quantizer = QUANTIZERS[NAME]
    source, config = exported("tflite"), quantizer.configure(settings)
    result: Exported = quantizer(source, folder / "a.tflite", inputs(8, seed=1), config=config, force=True)
    return result


def stored_points(item: Exported) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """(136, 128) values in [-8, 7] of the points' weights, and (136,) scales: the file's only int4 matrix."""
    from ai_edge_litert.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model(str(item.path))
    int4 = flatbuffer_utils.schema_fb.TensorType.INT4
    (tensor,) = [one for one in model.subgraphs[0].tensors if one.type == int4 and len(one.shape) == 2]
    packed = np.frombuffer(bytes(model.buffers[tensor.buffer].data), np.uint8)
    found = np.stack([packed & 15, packed >> 4], 1).reshape(tensor.shape).astype(np.int8)  # the low half first
    assert not np.any(tensor.quantization.zeroPoint)
    return np.where(found > 7, found - 16, found).astype(np.int8), np.asarray(tensor.quantization.scale, np.float32)


@pytest.mark.slow
def test_large_weights_have_4_bits_and_others_8_or_32() -> None:
    """8192 values or more, 1024 or more, fewer; all arithmetic in float."""
    kinds = {**dict.fromkeys(LARGE, FOUR), "features.2.0": EIGHT}
    assert [values(name) >= 8192 for name in LARGE] == [True, True]
    assert values("features.2.0") == 1024
    assert tflite_layers(quantized(NAME)) == {name: kinds.get(name, IN_FLOAT) for name in modules()}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "kinds"),
    [
        ({"min_elements": 1024}, dict.fromkeys((*LARGE, "features.2.0"), FOUR)),
        ({"min_elements": 8193}, {"points": FOUR, **dict.fromkeys(("features.4.0", "features.2.0"), EIGHT)}),
        ({"min_elements_8": 8192}, dict.fromkeys(LARGE, FOUR)),
        (
            {"min_elements_8": 500},
            {**dict.fromkeys(LARGE, FOUR), **dict.fromkeys(("features.2.0", DEPTHWISE[1]), EIGHT)},
        ),
        ({"min_elements_8": 500, "depthwise": False}, {**dict.fromkeys(LARGE, FOUR), "features.2.0": EIGHT}),
        ({"keep_float": ["features"]}, {"points": FOUR}),
    ],
)
def test_options(settings: dict[str, Any], kinds: dict[str, Layer], tmp_path: Path) -> None:
    item = made(tmp_path, **settings)
    assert tflite_layers(item) == {name: kinds.get(name, IN_FLOAT) for name in modules()}
    assert errors(item)[0] < 0.05


@pytest.mark.slow
def test_depthwise_kernels_never_have_4_bits(tmp_path: Path) -> None:
    kinds = {name: EIGHT if name in DEPTHWISE else FOUR for name in modules()}
    assert kinds[FIRST] == FOUR
    assert tflite_layers(made(tmp_path, min_elements=1, min_elements_8=1)) == kinds


@pytest.mark.slow
def test_scales_from_the_extremes_are_rounding_to_the_nearest() -> None:
    """One scale an output channel: the largest weight is 7 steps."""
    found, scales = stored_points(quantized(NAME))
    weight = tiny_net().points.weight.detach().numpy()
    assert scales.shape == (len(weight),)
    assert np.allclose(scales, np.abs(weight).max(1) / 7, rtol=1e-4)
    assert np.abs(found).max() == 7
    assert np.abs(weight - found * scales[:, None]).max() <= 0.501 * scales.max()


@pytest.mark.slow
def test_octav_clips_and_is_nearer_on_the_whole(tmp_path: Path) -> None:
    weight = tiny_net().points.weight.detach().numpy()

    def error(item: Exported) -> float:
        found, scales = stored_points(item)
        return float(np.square(weight - found * scales[:, None]).mean())

    clipped, usual = made(tmp_path, scales="octav"), quantized(NAME)
    assert (stored_points(clipped)[1] <= 1.001 * stored_points(usual)[1]).all()
    assert error(clipped) < 0.95 * error(usual)


@pytest.mark.slow
def test_corrected_biases_take_back_what_rounding_moves_on_average(tmp_path: Path) -> None:
    """Of one layer with 4 bits, all others in float: over the calibration images its mean is right."""
    images = inputs(8, seed=1)
    truth = torch_outputs(images)[0].mean(0)

    def off(**settings: Any) -> float:
        item = made(tmp_path, keep_float=["features", "score"], **settings)
        return float(np.abs(runner(item)(images)[0].mean(0) - truth).max())

    assert off(correct_biases=True) < 1e-5 < 1e-4 < off(correct_biases=False)


class Twins(nn.Module):
    """Two layers whose biases are equal, which a converter may store once."""

    output_names = ("one", "two")

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 16, 1), nn.Conv2d(3, 16, 3)
        for layer in (self.one, self.two):
            nn.init.constant_(layer.bias, 0.25)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.one(x), self.two(x)


@pytest.mark.slow
def test_biases_of_two_layers_are_corrected_apart(tmp_path: Path) -> None:
    torch.manual_seed(3)
    net, images = Twins().eval(), inputs(8, seed=1)
    fp32 = EXPORTERS["tflite"].export(net, precision="fp32", path=tmp_path / "a.tflite", input_size=SIZE)
    quantizer = QUANTIZERS[NAME]
    with torch.no_grad():
        truth = dict(zip(net.output_names, net(torch.from_numpy(images.copy())), strict=True))
    far = {}
    for corrected in (True, False):
        config: Any = quantizer.configure({"min_elements": 1, "min_elements_8": 1, "correct_biases": corrected})
        item = quantizer(fp32, tmp_path / f"{corrected}.tflite", images, config=config)
        backend = backend_of(item)
        found = [backend.run({"image": image[None]}) for image in images]
        for name, wanted in truth.items():
            given = np.concatenate([one[name] for one in found])
            assert given.shape == tuple(wanted.shape)
            far[name, corrected] = float(np.abs(given.mean((0, 2, 3)) - wanted.numpy().mean((0, 2, 3))).max())
    assert far["one", True] < 1e-5 < 1e-3 < far["one", False]
    assert far["two", True] < 0.3 * far["two", False]  # its windows see less of the borders than of the middle


@pytest.mark.slow
def test_bad_settings_are_refused(tmp_path: Path) -> None:
    for settings, message in (
        ({"min_elements_8": 0}, "min_elements_8: 0, expected 1 or more"),
        ({"scales": "mse"}, "Invalid enum value 'mse'"),
        ({"min_elements": values("points") + 1}, r"no weight is left to quantize\. Lower min_elements"),
        ({"keep_float": list(LARGE)}, "no weight is left to quantize"),
        ({"keep_float": ["pionts"]}, r"keep_float: no module 'pionts' \(did you mean 'points'\?\)"),
    ):
        with pytest.raises(ConfigError, match=message):
            made(tmp_path, **settings)
    assert list(tmp_path.glob("*.tflite")) == []
