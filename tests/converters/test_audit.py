"""The audit lets every file pass under its own name and no other, and lists operations as runtimes take them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tiny_export import exported, inputs
from tiny_quantize import quantized

from pocketface.compression.quantize.registry import QUANTIZERS
from pocketface.converters.audit import BOUNDS, Audit, audit, is_layer
from pocketface.converters.delegates.support import Delegate, delegates, support
from pocketface.converters.formats.base import Exported
from pocketface.converters.formats.registry import EXPORTERS
from pocketface.converters.readers.base import Operation
from pocketface.converters.readers.registry import READERS, read_contents
from pocketface.sdk.errors import BundleError, UnknownNameError
from pocketface.sdk.manifest import PRECISIONS

FILES = [
    *((name, precision) for name in EXPORTERS if name in READERS for precision in EXPORTERS[name].precisions),
    *((QUANTIZERS[name].format, QUANTIZERS[name].precision) for name in QUANTIZERS),
]
"""Every format and precision that can be made."""


def made(format: str, precision: str) -> Exported:
    name = f"{format}.{precision}"
    return quantized(name) if name in QUANTIZERS else exported(format, precision)


@pytest.mark.slow
@pytest.mark.parametrize(("format", "precision"), FILES)
def test_every_file_passes_as_what_it_is_and_as_nothing_else(format: str, precision: str) -> None:
    item = made(format, precision)
    found = audit(item, format, precision)
    assert found.problems == ()
    assert found.passed
    assert (found.file, found.weights) == (item.path.name, dict(read_contents(format, item.path).weights))
    for other in set(BOUNDS) - {precision, "mixed"}:
        assert not audit(item.path, format, other).passed, other


def test_every_precision_of_the_contract_has_bounds() -> None:
    assert set(BOUNDS) == set(PRECISIONS)
    assert all(bounds.why for name, bounds in BOUNDS.items() if name != "mixed")


@pytest.mark.slow
def test_float_passed_off_as_int8_fails_with_figure_and_bound() -> None:
    found = audit(exported("onnx"), "onnx", "w8a8")
    weights, layers = found.problems
    assert weights.startswith(
        "weights: 0.0 % of the values are int8 or uint8, w8a8 has at least 80.0 % (found: float32 100.0 %). Look at"
    )
    assert layers.startswith(
        "layers: 0.0 % of 7 compute on int8 or uint8, w8a8 has at least 50.0 % "
        "(in float: features.0.0, features.1.0, features.2.0 and 4 more). Look at"
    )
    assert "FAILED" in str(found)
    assert f"problem: {weights}" in str(found)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["onnx.w8a8", "tflite.w8a8"])
def test_int8_that_is_mostly_float_fails(name: str, tmp_path: Path) -> None:
    """All kept in float but the heads, whose weights alone are in 8 bits, and one convolution."""
    quantizer = QUANTIZERS[name]
    source = exported(quantizer.format)
    config = quantizer.configure({"keep_float": [f"features.{number}" for number in (1, 2, 4)]})
    item = quantizer(source, tmp_path / f"a{source.path.suffix}", inputs(2, 1), config=config)
    found = audit(item, item.format, "w8a8")
    assert [problem.split(":")[0] for problem in found.problems] == ["weights", "layers"]
    assert "features.1.0" in found.problems[1]


def dynamic_file(path: Path, sides: list[Any]) -> Path:
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "a.weight"], ["y"])],
        "hand-made",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, sides)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [sides[0], 2, *sides[2:]])],
        [numpy_helper.from_array(np.ones((2, 3, 1, 1), np.float32), "a.weight")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    return path


def test_dynamic_shapes_and_batches_are_refused_unless_asked_for(tmp_path: Path) -> None:
    path = dynamic_file(tmp_path / "a.onnx", ["batch", 3, 8, None])
    assert audit(path, "onnx", "fp32").problems == (
        "input 'x' is float32 (batch, 3, 8, -1): a dynamic shape. Export it with fixed sizes, or ask for dynamic "
        "shapes (dynamic=True)",
        "output 'y' is float32 (batch, 2, 8, -1): a dynamic shape. Export it with fixed sizes, or ask for dynamic "
        "shapes (dynamic=True)",
    )
    assert audit(path, "onnx", "fp32", dynamic=True).passed

    path = dynamic_file(tmp_path / "b.onnx", [4, 3, 8, 8])
    (problem,) = audit(path, "onnx", "fp32").problems
    assert problem == (
        "input 'x' is float32 (4, 3, 8, 8): batch 4, asked for 1. Export it with batch 1, or ask for this one (batch=4)"
    )
    assert audit(path, "onnx", "fp32", batch=4).passed
    assert audit(path, "onnx", "fp32", batch=None).passed


def test_a_file_without_weights_is_no_network(tmp_path: Path) -> None:
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])],
        "hand-made",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), tmp_path / "a.onnx")
    assert "no weights are in the file" in audit(tmp_path / "a.onnx", "onnx", "fp32").problems[0]


def test_bad_requests(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match=r"unknown precision 'w8a9' \(did you mean 'w8a8'\?\)"):
        audit(tmp_path / "a.onnx", "onnx", "w8a9")
    with pytest.raises(UnknownNameError, match="unknown format 'onxx'"):
        audit(tmp_path / "a.onnx", "onxx", "fp32")
    (tmp_path / "a.onnx").write_bytes(b"no model")
    with pytest.raises(BundleError, match=r"a\.onnx cannot be read as onnx"):
        audit(tmp_path / "a.onnx", "onnx", "fp32")


@pytest.mark.slow
def test_an_audit_prints_and_saves() -> None:
    found: Audit = audit(exported("onnx"), "onnx", "fp32")
    saved = json.loads(json.dumps(found.to_dict()))
    assert (saved["file"], saved["passed"], saved["problems"]) == ("tiny.fp32.onnx", True, [])
    shares = {item["delegate"]: item["share"] for item in saved["delegates"]}
    assert shares == {
        "onnxruntime CPU": 1,
        "onnxruntime CoreML EP": 1,
        "onnxruntime NNAPI EP": 1,
        "onnxruntime XNNPACK EP": 0.75,
    }
    assert str(found).splitlines()[0] == "Audit  tiny.fp32.onnx  onnx fp32  passed"
    assert "onnxruntime XNNPACK EP: 12 of 16 operations (75 %); not: Add float32 (Add), ReduceMean" in str(found)


# Delegates


def operation(type: str, compute: str = "float32", weights: str = "", module: str = "") -> Operation:
    return Operation(type, f"{type}_1", module, compute, weights, ("out",))


LIST = Delegate(
    name="list",
    format="onnx",
    source="-",
    version="-",
    fallback="-",
    silent="-",
    operations={"Conv": ("float32", "int8"), "Pool": ("float32",), "Any": ()},
    constant=("Conv",),
    expanded=("float16",),
    fused={"Relu": ("Conv",)},
)


@pytest.mark.parametrize(
    ("item", "before", "taken"),
    [
        (operation("Conv"), None, True),
        (operation("Conv", "int8", "int8"), None, True),
        (operation("Conv", "float16"), None, False),
        (operation("Conv", weights="float16"), None, True),  # expanded on loading
        (operation("Conv", weights="int8"), None, False),
        (operation("Pool", weights="int8"), None, True),  # it may read what something else expands
        (operation("Pool", "int8"), None, False),
        (operation("Any", "float16"), None, True),
        (operation("Pool", ""), None, True),  # bookkeeping has no type
        (operation("Relu"), operation("Conv"), True),
        (operation("Relu"), operation("Pool"), False),
        (operation("Relu"), operation("Conv", "float16"), False),
        (operation("Relu"), None, False),
        (operation("Other"), None, False),
    ],
)
def test_a_list_says_type_dtype_weights_and_what_is_taken_in(
    item: Operation, before: Operation | None, taken: bool
) -> None:
    assert LIST.takes(item, before) is taken


def test_unsupported_operations_are_named_with_their_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pocketface.converters.delegates.support.delegates", lambda: (LIST,))
    chain = [
        operation("Cast"),  # conversions are not counted
        operation("Conv", module="features.0"),
        operation("Gelu", module="features.1.act"),
        operation("Pool", "float16", module="features.2"),
        operation("Gelu"),
    ]
    (found,) = support("onnx", chain)
    assert (found.operations, found.supported, found.share) == (4, 1, 0.25)
    assert [(item.type, item.places, item.note) for item in found.unsupported] == [
        ("Gelu", ("features.1.act", "Gelu_1"), "not listed"),
        ("Pool", ("features.2",), "listed for float32"),
    ]
    assert str(found) == (
        "list: 1 of 4 operations (25 %); not: Gelu float32 (features.1.act, Gelu_1), Pool float16 (features.2)"
    )


def test_every_list_names_its_source_and_belongs_to_a_format() -> None:
    found = delegates()
    assert {item.format for item in found} == set(READERS)
    assert len({(item.format, item.name) for item in found}) == len(found) >= 9
    for item in found:
        assert item.source
        assert item.version
        assert item.silent, item.name
        assert item.operations is None or "undocumented" not in item.operations
        for kind in (*item.fused, *item.notes):
            assert item.operations is None or kind in item.operations or kind in item.fused, (item.name, kind)


def test_where_nothing_is_documented_nothing_is_claimed() -> None:
    (found,) = support("coreml", [operation("conv")])
    assert (found.supported, found.share, found.unsupported) == (None, None, ())
    assert str(found).startswith("Neural Engine: not documented.")


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "fp16", "w8", "w8a8", "dynamic"])
def test_xnnpack_takes_what_its_list_says(precision: str) -> None:
    """LiteRT's own delegate: one node from the file's inputs to its outputs has taken everything in between."""
    from ai_edge_litert.interpreter import Interpreter

    item = made("tflite", precision)
    interpreter = Interpreter(str(item.path), num_threads=1)
    interpreter.allocate_tensors()
    taken = [op for op in interpreter._get_ops_details() if op["op_name"] == "DELEGATE"]
    assert len(taken) == 1
    assert {tensor["index"] for tensor in interpreter.get_output_details()} <= set(taken[0]["outputs"])
    xnnpack = next(found for found in audit(item, "tflite", precision).delegates if found.delegate == "XNNPACK")
    assert xnnpack.share == 1


def test_the_list_of_onnxruntimes_kernels_is_that_of_its_version() -> None:
    import onnxruntime
    from onnxruntime.capi.onnxruntime_pybind11_state import get_all_opkernel_def

    listed = next(item for item in delegates() if item.name == "onnxruntime CPU")
    if listed.version != f"onnxruntime {onnxruntime.__version__}":
        pytest.skip(f"the list is of {listed.version}")
    kernels = {
        item.op_name if not item.domain else f"{item.domain}.{item.op_name}"
        for item in get_all_opkernel_def()
        if item.domain in ("", "com.microsoft") and (item.domain or item.version_range[1] >= 18)
    }
    assert set(listed.operations or ()) == kernels


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "fp16", "w8", "w8a8"])
def test_what_onnxruntime_runs_in_the_end_is_on_its_list(precision: str, tmp_path: Path) -> None:
    """After its own casts and fusions; before them, the list says what it has to cast."""
    import onnxruntime

    listed = next(item for item in delegates() if item.name == "onnxruntime CPU")
    path = made("onnx", precision).path
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    inside = read_contents("onnx", tmp_path / "optimized.onnx").operations
    assert [item for item in inside if not listed.takes(item)] == []
    before = read_contents("onnx", path).operations
    casts = sum(item.type == "Cast" for item in inside) - sum(item.type == "Cast" for item in before)
    assert (casts > 0) == any(not listed.takes(item) for item in before) == (precision == "fp16")


@pytest.mark.parametrize(
    ("type", "weights", "layer"),
    [
        ("Conv", "int8", True),
        ("com.microsoft.QGemm", "int8", True),
        ("DEPTHWISE_CONV_2D", "float32", True),
        ("XNNFullyConnected", "int8", True),
        ("conv_transpose", "uint4-lut", True),
        ("linear", "float16", True),
        ("MatMul", "", False),  # a product of two activations
        ("QuantizeLinear", "float32", False),
        ("Mul", "float32", False),
    ],
)
def test_layers_are_convolutions_and_products_with_weights(type: str, weights: str, layer: bool) -> None:
    assert is_layer(operation(type, weights=weights)) is layer
