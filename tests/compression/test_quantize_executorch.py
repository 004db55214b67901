"""int8 in ExecuTorch, seen through executorch's own deserializers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from executorch_files import deserialized, method
from tiny_export import SIZE, exported, inputs, tiny_net
from tiny_quantize import FIRST, HEADS, modules, quantized
from torch import Tensor, nn

from pocketface.compression.quantize.registry import QUANTIZERS
from pocketface.converters.formats.registry import EXPORTERS
from pocketface.sdk.errors import ConfigError

pytestmark = pytest.mark.slow

NAME = "executorch.w8a8"
FLOAT = ("xnn_datatype_fp32", "xnn_datatype_fp32", "xnn_datatype_fp32")
STATIC = ("xnn_datatype_qint8", "xnn_datatype_qcint8", "xnn_datatype_qint8")
DYNAMIC = ("xnn_datatype_qdint8", "xnn_datatype_qcint8", "xnn_datatype_fp32")


def layers(path: Path) -> list[tuple[str, str, str]]:
    """Types of input, weights and output of each layer with weights, in order."""
    program, (graph,) = deserialized(path)
    assert program.execution_plan[0].operators == []  # all of it in one delegate
    types = {}
    for value in graph["xvalues"]:
        tensor = value["xvalue_union"].get("tensor_value", value["xvalue_union"])
        types[tensor["id_out"]] = tensor["datatype"]
    nodes = [node["xnode_union"] for node in graph["xnodes"] if "filter_id" in node["xnode_union"]]
    return [tuple(types[node[key]] for key in ("input1_id", "filter_id", "output_id")) for node in nodes]  # type: ignore[misc]


def kinds(path: Path) -> list[str]:
    return [node["xnode_union_type"] for node in deserialized(path)[1][0]["xnodes"]]


def test_the_first_layer_and_the_heads_give_float() -> None:
    special = {FIRST: FLOAT, **dict.fromkeys(HEADS, DYNAMIC)}
    assert layers(quantized(NAME).path) == [special.get(name, STATIC) for name in modules()]


def test_a_relu6_belongs_to_its_convolution() -> None:
    """Otherwise what it cuts off would have taken most of the steps."""
    _, (graph,) = deserialized(quantized(NAME).path)
    assert "XNNClamp" not in kinds(quantized(NAME).path)
    convolutions = [node for node in graph["xnodes"] if "Conv2d" in node["xnode_union_type"]]
    assert [node["output_min_max"] for node in convolutions] == 5 * [{"output_min": 0.0, "output_max": 6.0}]


def test_options(tmp_path: Path) -> None:
    quantizer = QUANTIZERS[NAME]
    config = quantizer.configure({"float_first": False, "weights_only": ["points"], "keep_float": ["score"]})
    item = quantizer(exported("executorch"), tmp_path / "a.pte", inputs(4, 1), net=tiny_net(), config=config)
    special = {"points": DYNAMIC, "score": FLOAT}
    assert layers(item.path) == [special.get(name, STATIC) for name in modules()]


class _Spatial(nn.Module):
    """A head of convolutions with batch norm, as the students have, and a channel whose weights are all zero."""

    output_names = ("points",)

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, 2, 1)
        self.body = nn.Sequential(nn.Conv2d(8, 16, 1), nn.ReLU())
        self.points = nn.Sequential(
            nn.Conv2d(16, 8, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU6(), nn.Conv2d(8, 10, SIZE // 2)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.points(self.body(self.first(x))).reshape(-1, 5, 2)


def test_a_head_of_convolutions(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = _Spatial().eval()
    with torch.no_grad():
        net.body[0].weight[3], net.body[0].bias[3] = 0, 10  # type: ignore[index]
        net.points[3].weight.mul_(1e-2)  # type: ignore[operator,union-attr]
    before = {name: value.clone() for name, value in net.state_dict().items()}
    source = EXPORTERS["executorch"].export(net, precision="fp32", path=tmp_path / "a.pte", input_size=SIZE)
    config = QUANTIZERS[NAME].configure({"weights_only": ["points"]})
    item = QUANTIZERS[NAME](source, tmp_path / "b.pte", inputs(4, 1), net=net, config=config)
    assert layers(item.path) == [FLOAT, STATIC, DYNAMIC, DYNAMIC]
    for image in inputs(3):
        with torch.no_grad():
            expected: Any = net(torch.from_numpy(image[None].copy())).numpy()
        assert np.abs(method(item.path)(image[None])[0] - expected).max() < 0.05 * np.abs(expected).max()
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


class _Padded(nn.Module):
    """Pads as TensorFlow's networks do, with zeros and with something else."""

    output_names = ("map",)

    def __init__(self, value: float) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 3, 2)
        self.value = value

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.relu6(self.first(x))
        return self.second(nn.functional.pad(x, (0, 1, 0, 1), value=self.value))


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_zeros_are_padded_in_8_bits(value: float, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = _Padded(value).eval()
    source = EXPORTERS["executorch"].export(net, precision="fp32", path=tmp_path / "a.pte", input_size=SIZE)
    config = QUANTIZERS[NAME].configure({"weights_only": [], "float_first": False})
    item = QUANTIZERS[NAME](source, tmp_path / "b.pte", inputs(4, 1), net=net, config=config)
    assert layers(item.path) == 2 * [STATIC]
    around = [kind for kind in kinds(item.path) if kind in ("XNNConvert", "XNNStaticConstantPad")]
    between = [] if value == 0 else 2 * ["XNNConvert"]
    assert around == ["XNNConvert", *between[:1], "XNNStaticConstantPad", *between[1:], "XNNConvert"]
    image = inputs(4, 1)[:1]
    with torch.no_grad():
        expected = net(torch.from_numpy(image.copy())).numpy()
    assert np.abs(method(item.path)(image)[0] - expected).max() < 0.03 * np.abs(expected).max()


class _Grids(nn.Module):
    """Two grids, the second of what the first one's head reads too, and their outputs put together, as detectors do."""

    output_names = ("faces",)

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 3, 2)
        self.fine, self.coarse = nn.Conv2d(8, 1, 1), nn.Conv2d(8, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.relu(self.first(x))
        y = nn.functional.relu(self.second(nn.functional.pad(x, (0, 1, 0, 1))))
        return torch.cat((self.fine(x).flatten(1), self.coarse(y).flatten(1)), dim=1)


@pytest.mark.parametrize("option", ["weights_only", "keep_float"])
def test_heads_on_two_grids_of_which_one_reads_what_is_padded(option: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = _Grids().eval()
    with torch.no_grad():
        net.coarse.weight.mul_(1e3)  # in steps of the larger grid's values the smaller one's would be all alike
    cells = (SIZE**2, (SIZE // 2) ** 2)
    source = EXPORTERS["executorch"].export(net, precision="fp32", path=tmp_path / "a.pte", input_size=SIZE)
    config = QUANTIZERS[NAME].configure({"weights_only": [], "float_first": False, option: ["fine", "coarse"]})
    item = QUANTIZERS[NAME](source, tmp_path / "b.pte", inputs(4, 1), net=net, config=config)
    head = DYNAMIC if option == "weights_only" else FLOAT
    assert sorted(layers(item.path)) == sorted((STATIC, STATIC, head, head))
    for image in inputs(4, 1)[:2]:
        with torch.no_grad():
            expected = net(torch.from_numpy(image[None].copy())).numpy()
        found = method(item.path)(image[None])[0]
        for part, wanted in zip(np.split(found, [cells[0]], 1), np.split(expected, [cells[0]], 1), strict=True):
            assert np.abs(part - wanted).max() < 0.05 * np.abs(wanted).max()


def test_there_are_no_weights_alone() -> None:
    assert "executorch.w8" not in QUANTIZERS
    with pytest.raises(ConfigError, match="Invalid enum value"):
        QUANTIZERS[NAME].configure({"calibration": "histogram"})
