"""Every registered quantizer on a real export: the file it gives, what that computes, what is left when it fails."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from executorch_files import deserialized
from numpy.typing import NDArray
from tiny_export import exported, inputs, tiny_net, torch_outputs
from tiny_quantize import LARGE, errors, mil_operations, modules, quantized, runner, tflite_operations, values
from torch import nn

from pocketface.compression.quantize.base import StaticConfig, for_network
from pocketface.compression.quantize.registry import QUANTIZERS
from pocketface.compression.quantize.report import report
from pocketface.converters.formats.base import ConversionError
from pocketface.converters.signature import read_signature
from pocketface.sdk.errors import BadInputError, ConfigError

pytestmark = pytest.mark.slow

W8 = [name for name in QUANTIZERS if QUANTIZERS[name].precision == "w8"]
WEIGHTS = [name for name in QUANTIZERS if QUANTIZERS[name].precision not in ("w8a8", "w8a16")]
BITS = {"pal4": 4, "pal6": 6, "w4": 4}
"""Of a stored weight, where they are not 8."""
STORED = {"pal4": "uint4-lut", "pal6": "uint6-lut", "w4": "int4"}
"""Type of a stored weight, where it is not int8."""
BOUNDS = {"pal4": (2e-2, 0.3), "pal6": (5e-3, 0.06), "w4": (2e-2, 0.3)}
"""Of the error of points (crop sides) and of the score's logit, where they are not those of 8 bits."""
STATIC = [name for name in QUANTIZERS if name not in WEIGHTS]


def left_in(folder: Path) -> list[str]:
    """All files but logs."""
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".log")


def content(path: Path) -> dict[str, bytes]:
    """Bytes of a file, or of each file of a folder."""
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    return {file.relative_to(path).as_posix(): file.read_bytes() for file in files}


@pytest.mark.parametrize("name", QUANTIZERS)
def test_the_border_stays_as_it_was(name: str) -> None:
    source, item = exported(QUANTIZERS[name].format), quantized(name)
    assert read_signature(item.format, item.path) == read_signature(source.format, source.path)
    assert {info.dtype for info in read_signature(item.format, item.path).outputs.values()} == {"float32"}
    assert (item.inputs, item.outputs) == (source.inputs, source.outputs)
    assert (item.format, item.precision) == (QUANTIZERS[name].format, QUANTIZERS[name].precision)


@pytest.mark.parametrize("name", QUANTIZERS)
def test_each_quantized_weight_saves_its_bits(name: str) -> None:
    saved = exported(QUANTIZERS[name].format).total_bytes - quantized(name).total_bytes
    small = values(*LARGE) if name in WEIGHTS else values(*list(modules())[1:])
    assert saved == pytest.approx((32 - BITS.get(QUANTIZERS[name].precision, 8)) / 8 * small, rel=0.2)
    assert quantized(name).total_bytes < 0.45 * exported(QUANTIZERS[name].format).total_bytes


@pytest.mark.parametrize("name", QUANTIZERS)
def test_it_computes_nearly_the_same(name: str) -> None:
    """Points differ by up to 0.03 between these images; a step of 4 bits would be beyond the bounds of 8."""
    points, score = errors(quantized(name))
    most_points, most_score = BOUNDS.get(QUANTIZERS[name].precision, (1.5e-3, 0.02))
    assert 1e-5 < points < most_points
    assert 1e-5 < score < most_score


@pytest.mark.parametrize("name", QUANTIZERS)
def test_what_was_done_is_written_down(name: str) -> None:
    notes = dict(quantized(name).quantization)
    config = msgspec.json.decode(notes.pop("config"), type=QUANTIZERS[name].config_type)
    wanted = QUANTIZERS[name].configure()
    assert config == (for_network(wanted, None) if isinstance(wanted, StaticConfig) else wanted)
    images = {"calibration_images": "8"} if QUANTIZERS[name].calibrated else {}
    assert notes == {"method": name, "version": str(QUANTIZERS[name].version), **images}


def rounded(weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """Symmetric int8 per output channel, one value after the other."""
    result = np.zeros_like(weight)
    for channel in range(weight.shape[0]):
        step = max(abs(float(value)) for value in weight[channel].flat) / 127
        for index, value in np.ndenumerate(weight[channel]):
            result[(channel, *index)] = round(float(value) / step) * step
    return result


@pytest.mark.parametrize("name", W8)
def test_8_bit_weights_give_what_torch_gives_with_rounded_ones(name: str) -> None:
    net = copy.deepcopy(tiny_net())
    conv, norm = net.features[4][0], net.features[4][1]
    with torch.no_grad():  # in the file, batch norm is part of the convolution before it
        factor = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        folded = (conv.weight * factor.reshape(-1, 1, 1, 1)).numpy()
        bias = norm.bias - norm.running_mean * factor
        conv.weight.copy_(torch.from_numpy(rounded(folded)))
        conv.bias, net.features[4][1] = nn.Parameter(bias), nn.Identity()
        net.points.weight.copy_(torch.from_numpy(rounded(net.points.weight.numpy())))
        images = inputs(4)
        points, score = net(torch.from_numpy(images.copy()))
    found = runner(quantized(name))(images)
    assert np.abs(found[0] - points.numpy()).max() < 3e-5
    assert np.abs(found[1] - score.numpy()).max() < 3e-4
    assert np.abs(points.numpy() - torch_outputs(images)[0]).max() > 2e-4  # so those bounds tell the two apart


@pytest.mark.parametrize("name", W8)
def test_small_and_depthwise_weights_are_chosen_by_the_configuration(name: str, tmp_path: Path) -> None:
    source = exported(QUANTIZERS[name].format)
    for depthwise in (False, True):
        config = QUANTIZERS[name].configure({"min_elements": 1, "depthwise": depthwise})
        item = QUANTIZERS[name](source, tmp_path / f"{depthwise}{source.path.suffix}", config=config)
        wanted = [key for key, part in modules().items() if depthwise or getattr(part, "groups", 1) == 1]
        assert report(item).weights["int8"] == values(*wanted)
        assert report(item).weight_only_operations == len(wanted)
        assert errors(item)[0] < 2e-3
    config = QUANTIZERS[name].configure({"min_elements": values("points") + 1})
    with pytest.raises(ConfigError, match=r"no weight is left to quantize\. Lower min_elements"):
        QUANTIZERS[name](source, tmp_path / f"c{source.path.suffix}", config=config)
    assert left_in(tmp_path) == sorted(f"{value}{source.path.suffix}" for value in (False, True))


@pytest.mark.parametrize("name", QUANTIZERS)
def test_modules_can_be_kept_in_float(name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """All of a module, and nothing beside it; nothing is printed on the way."""
    source = exported(QUANTIZERS[name].format)
    before = content(source.path)
    config = QUANTIZERS[name].configure({"keep_float": ["features.4"]})
    item = QUANTIZERS[name](source, tmp_path / f"a{source.path.suffix}", inputs(2, 1), net=tiny_net(), config=config)
    small = list(modules())[1:] if name in STATIC else list(LARGE)
    found, usual = report(item), report(quantized(name))
    stored = STORED.get(item.precision, "int8")
    zero_points = 128 if name == "onnx.w8a8" else 0  # onnxruntime stores one an output channel
    assert usual.weights[stored] - found.weights[stored] == values("features.4.0") + zero_points
    assert found.weights[stored] >= values(*small) - values("features.4.0")
    if name in STATIC:
        assert found.quantized_operations < usual.quantized_operations
        assert found.weight_only_operations == usual.weight_only_operations == 2
    elif stored == "int8":
        # One on rounded weights, or on integers too where the runtime rounds activations.
        assert [one.quantized_operations + one.weight_only_operations for one in (usual, found)] == [2, 1]
    assert errors(item)[0] < max(2e-3, errors(quantized(name))[0])
    assert content(source.path) == before
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", QUANTIZERS)
def test_unknown_modules_are_refused_and_leave_nothing(name: str, tmp_path: Path) -> None:
    source = exported(QUANTIZERS[name].format)
    path = tmp_path / f"a{source.path.suffix}"
    for key in ("keep_float", *(["weights_only"] if hasattr(QUANTIZERS[name].config_type, "weights_only") else [])):
        config = QUANTIZERS[name].configure({key: ["score", "pionts"]})
        with pytest.raises(ConfigError, match=rf"{key}: no module 'pionts' \(did you mean 'points'\?\)") as caught:
            QUANTIZERS[name](source, path, inputs(2, 1), net=tiny_net(), config=config)
        assert caught.value.choices == tuple(sorted(modules()))
    config = QUANTIZERS[name].configure({"keep_float": ["features.44"]})
    with pytest.raises(ConfigError, match=r"keep_float: no module 'features\.44'"):
        QUANTIZERS[name](source, path, inputs(2, 1), net=tiny_net(), config=config)
    assert left_in(tmp_path) == []


@pytest.mark.parametrize("name", [name for name in QUANTIZERS if not QUANTIZERS[name].needs_network])
def test_a_broken_file_fails_as_a_conversion_and_leaves_its_log_at_most(name: str, tmp_path: Path) -> None:
    source = exported(QUANTIZERS[name].format)
    broken = tmp_path / f"broken{source.path.suffix}"
    broken.write_bytes(b"no model" * 100)
    with pytest.raises(ConversionError, match=rf"a{source.path.suffix}: quantizing {broken.name} with {name} failed"):
        QUANTIZERS[name](
            replace(source, path=broken), tmp_path / f"a{source.path.suffix}", inputs(2, 1), net=tiny_net()
        )
    assert left_in(tmp_path) == [broken.name]


@pytest.mark.parametrize("name", QUANTIZERS)
def test_files_are_replaced_only_on_request(name: str, tmp_path: Path) -> None:
    source = exported(QUANTIZERS[name].format)
    path = tmp_path / f"a{source.path.suffix}"
    path.write_text("mine")
    with pytest.raises(BadInputError, match="exists already"):
        QUANTIZERS[name](source, path, inputs(8, 1), net=tiny_net())
    assert path.read_text() == "mine"
    QUANTIZERS[name](source, path, inputs(8, 1), net=tiny_net(), force=True)
    assert content(path) == content(quantized(name).path)  # and the same again, byte by byte


def relu6_range(images: NDArray[np.float32]) -> NDArray[Any]:
    """(N,) largest sum behind the shortcut: the one activation whose range the network itself does not bound."""
    net = tiny_net()
    with torch.no_grad():
        x = net.features[0](torch.from_numpy(images.copy()))
        return (x + net.features[1](x)).amax((1, 2, 3)).numpy()


def shortcut_step(name: str, path: Path) -> float:
    """Step of the quantized sum behind the shortcut, from the file."""
    if name == "onnx.w8a8":
        import onnx

        graph = onnx.load(path).graph
        output = next(node for node in graph.node if node.op_type == "Add").output[0]
        scale = next(n for n in graph.node if n.op_type == "QuantizeLinear" and n.input[0] == output).input[1]
        return float(onnx.numpy_helper.to_array(next(t for t in graph.initializer if t.name == scale)))
    if name == "executorch.w8a8":
        _, (graph,) = deserialized(path)
        add = next(node["xnode_union"] for node in graph["xnodes"] if node["xnode_union_type"] == "XNNAdd")
        values = [value["xvalue_union"] for value in graph["xvalues"]]
        (sum_,) = (value for value in values if value.get("tensor_value", value)["id_out"] == add["output_id"])
        return float(sum_["quant_params"]["scale"])
    if name == "coreml.w8a8":
        (added,) = (operation for operation in mil_operations(path) if operation.op_type == "add")
        # The steps around the sum itself are divided by that of one of its sides; the one behind is whole.
        (rounded,) = added.outputs[0].child_ops
        return float(rounded.outputs[0].child_ops[0].scale.val)
    item = replace(quantized(name), path=path)
    return float(next(op for op in tflite_operations(item) if op.kind == "ADD").output["quantization"][0])


@pytest.mark.parametrize("name", STATIC)
def test_ranges_come_from_the_calibration_images(name: str, tmp_path: Path) -> None:
    images, source = inputs(8, seed=1), exported(QUANTIZERS[name].format)
    tops = relu6_range(images)
    steps = 32767 if QUANTIZERS[name].precision == "w8a16" else 255
    assert shortcut_step(name, quantized(name).path) == pytest.approx(tops.max() / steps, rel=1e-4)
    config = QUANTIZERS[name].configure({"calibration": "moving_average"})
    averaged = QUANTIZERS[name](source, tmp_path / f"a{source.path.suffix}", images, net=tiny_net(), config=config)
    assert tops.min() / steps < shortcut_step(name, averaged.path) < tops.max() / steps * 0.999
    dark = QUANTIZERS[name](source, tmp_path / f"b{source.path.suffix}", 0.02 * images, net=tiny_net())
    assert errors(dark)[0] > 3 * errors(quantized(name))[0]
