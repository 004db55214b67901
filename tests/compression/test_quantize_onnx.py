"""int8 in ONNX: rounding against a slow loop, hand-made graphs, and the report against what onnxruntime does."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from tiny_export import exported
from tiny_quantize import DEPTHWISE, HEADS, LARGE, modules, outputs, quantized, values

from pocketface.compression.quantize.onnx_weights import quantize_channels, store_as_int8, weights
from pocketface.compression.quantize.report import report
from pocketface.converters.formats.base import Exported
from pocketface.sdk.errors import UnknownNameError


def slow(weight: NDArray[np.float32], axis: int) -> tuple[NDArray[np.int8], list[float]]:
    """Channel by channel and value by value."""
    result, steps = np.zeros(weight.shape, np.int8), []
    for channel in range(weight.shape[axis]):
        largest = max(abs(value) for value in np.take(weight, channel, axis).flat)
        step = np.float32(largest) / np.float32(127) if largest > 0 else np.float32(1)
        steps.append(float(step))
        for index in np.ndindex(weight.shape):
            if index[axis] == channel:
                result[index] = round(float(weight[index] / step))
    return result, steps


@pytest.mark.parametrize(
    ("shape", "axis"), [((5, 3, 2, 2), 0), ((3, 5, 2, 2), 1), ((4, 6), 0), ((4, 6), 1), ((7, 1), 0)]
)
def test_rounding_agrees_with_a_slow_loop(shape: tuple[int, ...], axis: int) -> None:
    rng = np.random.default_rng(sum(shape) + axis)
    sizes = np.expand_dims(10.0 ** rng.uniform(-6, 6, shape[axis]), tuple(i for i in range(len(shape)) if i != axis))
    weight = (rng.normal(size=shape) * sizes).astype(np.float32)
    found, scale = quantize_channels(weight, axis)
    expected, steps = slow(weight, axis)
    assert (found.dtype, scale.dtype, scale.shape) == (np.int8, np.float32, (shape[axis],))
    assert np.array_equal(found, expected)
    assert scale.tolist() == steps
    channels = np.abs(np.moveaxis(found, axis, 0).reshape(shape[axis], -1).astype(int))
    assert (channels.max(axis=1) == 127).all()
    step = np.moveaxis(np.broadcast_to(scale, (*np.delete(shape, axis), shape[axis])), -1, axis)
    assert (np.abs(found * step - weight) <= step * 0.50001).all()


def test_ties_zeros_and_signs() -> None:
    weight = np.array([[127, 0.5, 1.5, -0.5, -2.5], [0, 0, 0, 0, 0], [-254, 2, 126.9, 254, 1]], np.float32)
    found, scale = quantize_channels(weight, 0)
    assert found.tolist() == [[127, 0, 2, 0, -2], [0, 0, 0, 0, 0], [-127, 1, 63, 127, 0]]
    assert scale.tolist() == [1, 1, 2]


def graph_of_all_kinds() -> tuple[onnx.ModelProto, dict[str, NDArray[np.float32]]]:
    """ConvTranspose -> depthwise Conv -> Flatten -> Gemm (transposed) -> Gemm -> MatMul."""
    rng = np.random.default_rng(2)
    arrays = {
        "up.weight": rng.normal(size=(2, 3, 2, 2)),
        "dw.weight": rng.normal(size=(3, 1, 3, 3)),
        "a.weight": rng.normal(size=(5, 12)),
        "a.bias": rng.normal(size=5),
        "b.weight": rng.normal(size=(5, 4)),
        "c.weight": rng.normal(size=(4, 2)),
    }
    arrays = {name: array.astype(np.float32) for name, array in arrays.items()}
    nodes = [
        helper.make_node("ConvTranspose", ["x", "up.weight"], ["u"], strides=[2, 2]),
        helper.make_node("Conv", ["u", "dw.weight"], ["d"], group=3),
        helper.make_node("Flatten", ["d"], ["f"]),
        helper.make_node("Gemm", ["f", "a.weight", "a.bias"], ["g"], transB=1),
        helper.make_node("Gemm", ["g", "b.weight"], ["h"]),
        helper.make_node("MatMul", ["h", "c.weight"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "kinds",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2, 2, 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2])],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), arrays


def ort(model: onnx.ModelProto, x: NDArray[np.float32]) -> NDArray[np.float32]:
    import onnxruntime

    # As it stands: optimising, onnxruntime rounds the activations too for weights that it would have to transpose.
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    result: NDArray[np.float32] = session.run(None, {"x": x})[0]
    return result


def test_every_kind_of_weight_is_found_with_its_output_channels() -> None:
    model, arrays = graph_of_all_kinds()
    found = list(weights(model.graph))
    axes = {"up.weight": 1, "dw.weight": 0, "a.weight": 0, "b.weight": 1, "c.weight": 1}
    assert {item.name: item.axis for item in found} == axes
    assert [item.module for item in found] == ["up", "dw", "a", "b", "c"]
    assert [item.name for item in found if item.depthwise] == ["dw.weight"]

    for name, axis in axes.items():
        q, steps = slow(arrays[name], axis)
        shape = [1] * q.ndim
        shape[axis] = -1
        arrays[name] = (q * np.reshape(steps, shape)).astype(np.float32)
    x = np.random.default_rng(3).normal(size=(1, 2, 2, 2)).astype(np.float32)
    before = ort(model, x)
    store_as_int8(model, found)
    onnx.checker.check_model(model, full_check=True)
    after = ort(model, x)
    expected, _ = graph_of_all_kinds()
    for tensor in expected.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(arrays[tensor.name], tensor.name))
    assert np.allclose(after, ort(expected, x), rtol=1e-5, atol=1e-5)
    assert 1e-4 < np.abs(after - before).max() < 0.05 * np.abs(before).max()


def counted(path: Path) -> tuple[Counter[str], Counter[str]]:
    """Constant values by type (64-bit shapes left out), and 8-bit weights among them: those with more than one axis."""
    every: Counter[str] = Counter()
    weight: Counter[str] = Counter()
    for tensor in onnx.load(path).graph.initializer:
        array = numpy_helper.to_array(tensor)
        if array.dtype != np.int64:
            every[str(array.dtype)] += array.size
            weight[str(array.dtype)] += array.size if array.ndim > 1 else 0
    return every, weight


@pytest.mark.slow
@pytest.mark.parametrize("name", [None, "onnx.w8", "onnx.w8a8"])
def test_the_reports_weights_are_those_in_the_file(name: str | None) -> None:
    item = exported("onnx") if name is None else quantized(name)
    found = report(item)
    every, weight = counted(item.path)
    assert found.weights == every
    assert list(found.weights.values()) == sorted(found.weights.values(), reverse=True)
    assert (found.name, found.bytes) == (item.path.name, item.path.stat().st_size)
    small = {None: (), "onnx.w8": LARGE, "onnx.w8a8": tuple(modules())[1:]}[name]
    assert weight["int8"] == values(*small)
    assert weight["float32"] == values(*modules()) - values(*small)
    if name != "onnx.w8a8":  # biases, scales, and the two bounds of ReLU6
        assert every["float32"] == weight["float32"] + outputs(*modules()) + outputs(*small) + 2
        assert every["int8"] == weight["int8"]


def as_run(item: Exported, folder: Path) -> Counter[str]:
    """Operations that onnxruntime runs, after its own fusions."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(folder / "optimized.onnx")
    onnxruntime.InferenceSession(str(item.path), options, providers=["CPUExecutionProvider"])
    return Counter(node.op_type for node in onnx.load(folder / "optimized.onnx").graph.node)


@pytest.mark.slow
def test_the_reports_integer_operations_are_those_that_onnxruntime_runs(tmp_path: Path) -> None:
    plain = report(exported("onnx"))
    assert (plain.quantized_operations, plain.weight_only_operations) == (0, 0)
    # 5 convolutions with ReLU6, a sum, a mean, 2 linear layers, and a reshape behind each.
    assert plain.operations == 16
    w8 = report(quantized("onnx.w8"))
    assert (w8.operations, w8.quantized_operations, w8.weight_only_operations) == (16, 0, len(LARGE))
    static = report(quantized("onnx.w8a8"))
    run = as_run(quantized("onnx.w8a8"), tmp_path)
    assert run["QLinearConv"] == 4
    assert static.quantized_operations == sum(count for kind, count in run.items() if kind.startswith("QLinear")) == 5
    assert static.weight_only_operations == run["Gemm"] == len(HEADS)
    assert run["Conv"] + run["FusedConv"] == 1  # the first
    assert "int8" in str(static)
    assert "5 on integer activations, 2 on 8-bit weights alone" in str(static)
    assert static.to_dict()["weights"] == static.weights


@pytest.mark.slow
def test_files_are_plain(tmp_path: Path) -> None:
    for name in ("onnx.w8", "onnx.w8a8"):
        model = onnx.load(quantized(name).path, load_external_data=False)
        onnx.checker.check_model(model, full_check=True)
        assert {item.domain for item in model.opset_import} <= {"", "ai.onnx"}
        assert not model.graph.value_info
        assert not any(tensor.external_data for tensor in model.graph.initializer)
    kept = {tensor.name for tensor in onnx.load(quantized("onnx.w8").path).graph.initializer}
    assert {f"{name}.weight" for name in DEPTHWISE} <= kept
    with pytest.raises(UnknownNameError, match="unknown format 'torchscript'"):
        report(replace(quantized("onnx.w8"), format="torchscript"))
