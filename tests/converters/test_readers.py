"""What each reader finds, against graphs made by hand, the network itself, and the format's own runtime."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tiny_export import SIZE, exported, tiny_net
from tiny_quantize import LARGE, modules, quantized, values
from torch import nn

from pocketface.converters.formats.registry import EXPORTERS
from pocketface.converters.readers.base import Operation, TensorInfo
from pocketface.converters.readers.registry import READERS, read_contents, read_signature
from pocketface.sdk.errors import BundleError, MissingExtraError, UnknownNameError

NAMES = [name for name in READERS if name in EXPORTERS and name != "executorch"]
"""Formats that list operations one by one. What is inside an ExecuTorch delegate is the business of its own tests."""

FLOAT = [(name, precision) for name in NAMES for precision in EXPORTERS[name].precisions]
LAYERS = ("conv", "gemm", "linear", "fullyconnected")


def layers(operations: tuple[Operation, ...]) -> list[Operation]:
    plain = [item for item in operations if not item.converts]
    return [item for item in plain if any(part in item.type.lower().replace("_", "") for part in LAYERS)]


def onnx_file(path: Path, nodes: list[Any], constants: dict[str, Any], side: Any = 1, **opsets: int) -> Path:
    """A graph from ``x`` (side, 2, 4, 4) to ``y``, both float32."""
    graph = helper.make_graph(
        nodes,
        "hand-made",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [side, 2, 4, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    sets = [helper.make_opsetid("", 18), *(helper.make_opsetid(name, version) for name, version in opsets.items())]
    onnx.save(helper.make_model(graph, opset_imports=sets, ir_version=10), path)
    return path


SCALES = {"s": np.float32(0.1), "z": np.uint8(3), "ws": np.float32(0.1), "bs": np.float32(0.01)}
WEIGHTS = {
    "a.0.weight_q": np.ones((2, 2, 1, 1), np.int8),
    "a.0.bias_q": np.ones(2, np.int32),
    "b.weight": np.ones((2, 2, 1, 1), np.float32),
    "shape": np.array([1, 32]),
    "zero": np.float32(0),
}


def pairs(name: str, quantized: str) -> list[Any]:
    return [
        helper.make_node("QuantizeLinear", [name, "s", "z"], [quantized]),
        helper.make_node("DequantizeLinear", [quantized, "s", "z"], [f"{quantized}_d"]),
    ]


def test_pairs_decide_what_runs_on_integers(tmp_path: Path) -> None:
    """Between dequantize and quantize: on integers, also with a Relu before the quantize. Without one: in float."""
    nodes = [
        helper.make_node("DequantizeLinear", ["a.0.weight_q", "ws"], ["a.0.weight"]),
        helper.make_node("DequantizeLinear", ["a.0.bias_q", "bs"], ["a.0.bias"]),
        *pairs("x", "xq"),
        helper.make_node("Conv", ["xq_d", "a.0.weight", "a.0.bias"], ["c"], name="c"),
        helper.make_node("Relu", ["c"], ["r"], name="some/where/Relu"),
        *pairs("r", "rq"),
        helper.make_node("Conv", ["rq_d", "a.0.weight"], ["e"], name="e"),  # no quantize behind it
        helper.make_node("Clip", ["e", "zero"], ["f"]),
        helper.make_node("Conv", ["f", "b.weight"], ["g"]),  # fed by float
        *pairs("g", "gq"),
        helper.make_node("Reshape", ["gq_d", "shape"], ["y"]),
    ]
    found = read_contents("onnx", onnx_file(tmp_path / "a.onnx", nodes, {**SCALES, **WEIGHTS}))
    plain = [item for item in found.operations if not item.converts]
    assert [(item.type, item.name, item.module, item.compute, item.weights) for item in plain] == [
        ("Conv", "c", "a.0", "uint8", "int8"),
        ("Relu", "some/where/Relu", "some.where", "uint8", ""),
        ("Conv", "e", "a.0", "float32", "int8"),
        ("Clip", "f", "", "float32", ""),
        ("Conv", "g", "b", "float32", "float32"),
        ("Reshape", "y", "", "float32", ""),
    ]
    assert [item.compute for item in found.operations[:4]] == ["", "", "float32", "uint8"]
    # Scales and the zero point are stored too; the shape is no weight; a bias behind a dequantize is one.
    assert found.weights == {"int8": 4, "int32": 2, "float32": 4 + 4, "uint8": 1}
    assert found.version == "ai.onnx 18"


def test_an_operation_that_reads_something_in_float_stays_in_float(tmp_path: Path) -> None:
    """A layer left in float between quantized ones; a sum of which one side is in float."""
    nodes = [
        *pairs("x", "xq"),
        helper.make_node("Conv", ["xq_d", "b.weight"], ["c"]),
        *pairs("c", "cq"),
        helper.make_node("Add", ["cq_d", "x"], ["d"]),
        *pairs("d", "dq"),
        helper.make_node("Add", ["dq_d", "cq_d"], ["e"]),
        *pairs("e", "eq"),
        helper.make_node("Clip", ["eq_d", "zero"], ["f"]),
        *pairs("f", "fq"),
        helper.make_node("Reshape", ["fq_d", "shape"], ["y"]),
    ]
    found = read_contents("onnx", onnx_file(tmp_path / "a.onnx", nodes, {**SCALES, **WEIGHTS}))
    plain = [(item.type, item.compute) for item in found.operations if not item.converts]
    assert plain == [
        ("Conv", "float32"),
        ("Add", "float32"),
        ("Add", "uint8"),
        ("Clip", "uint8"),
        ("Reshape", "float32"),
    ]


def test_bookkeeping_constants_and_other_domains(tmp_path: Path) -> None:
    half = numpy_helper.from_array(np.ones((3, 2), np.float16), "half")
    nodes = [
        helper.make_node("Constant", [], ["k"], value=half),
        helper.make_node("Shape", ["x"], ["n"]),
        helper.make_node("Cast", ["x"], ["h"], to=TensorProto.FLOAT16),
        helper.make_node("QuickGelu", ["h"], ["q"], domain="com.microsoft"),
        helper.make_node("Cast", ["q"], ["y"], to=TensorProto.FLOAT),
    ]
    path = onnx_file(tmp_path / "a.onnx", nodes, {"many": np.arange(9), "few": np.arange(3, dtype=np.int32)}, com=1)
    model = onnx.load(path)
    model.opset_import[1].domain = "com.microsoft"
    onnx.save(model, path)
    found = read_contents("onnx", path)
    assert found.weights == {"float16": 6}
    assert [(item.type, item.compute) for item in found.operations] == [
        ("Shape", ""),
        ("Cast", "float32"),
        ("com.microsoft.QuickGelu", "float16"),
        ("Cast", "float16"),
    ]
    assert found.version == "ai.onnx 18, com.microsoft 1"


@pytest.mark.parametrize("side", ["batch", None])
def test_dynamic_sides_are_names_or_minus_one(side: str | None, tmp_path: Path) -> None:
    path = onnx_file(tmp_path / "a.onnx", [helper.make_node("Relu", ["x"], ["y"])], {}, side=side)
    assert read_signature("onnx", path).inputs == {"x": TensorInfo((side or -1, 2, 4, 4), "float32")}


@pytest.mark.slow
@pytest.mark.parametrize(("format", "precision"), FLOAT)
def test_layers_and_weights_are_the_networks(format: str, precision: str) -> None:
    """All convolutions and linear layers in order, by their modules; every weight, and a bias for each channel."""
    found = read_contents(format, exported(format, precision).path)
    dtype = {"fp32": "float32", "fp16": "float16"}[precision]
    inside = layers(found.operations)
    assert [item.weights for item in inside] == [dtype] * len(modules())
    in_float = "float32" if format == "tflite" else dtype  # TFLite expands float16 weights
    assert {item.compute for item in inside} == {in_float}
    for item, name in zip(inside, modules(), strict=True):
        # A batch norm that became part of a convolution may give it its name.
        assert item.module in (name, name[:-1] + "1"), item
    biases = sum(part.weight.shape[0] for part in modules().values())
    total = sum(found.weights.values())
    assert values(*modules()) + biases <= total <= values(*modules()) + biases + 12  # bounds of ReLU6
    assert found.weights[dtype] >= values(*modules())
    assert all(item.outputs for item in found.operations)
    assert found.signature == read_signature(format, exported(format, precision).path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["onnx.w8a8", "tflite.w8a8", "coreml.w8a8"])
def test_static_int8_keeps_the_first_layer_and_the_heads_in_float(name: str) -> None:
    inside = layers(read_contents(name.split(".")[0], quantized(name).path).operations)
    kind = "int8" if name.startswith("tflite") else "uint8"
    between = [(kind, "int8")] * (len(modules()) - 3)
    expected = [("float32", "float32"), *between, ("float32", "int8"), ("float32", "int8")]
    assert [(item.compute, item.weights) for item in inside] == expected
    assert [item.module for item in inside] == list(modules())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "stored"), [("coreml.w8", "int8"), ("coreml.pal4", "uint4-lut"), ("coreml.pal6", "uint6-lut")]
)
def test_small_core_ml_weights_have_their_stored_type(name: str, stored: str) -> None:
    found = read_contents("coreml", quantized(name).path)
    assert found.weights[stored] == values(*LARGE)
    assert [item.weights == stored for item in layers(found.operations)] == [part in LARGE for part in modules()]
    assert {item.compute for item in layers(found.operations)} == {"float32"}
    assert not any("const" in item.type for item in found.operations)
    assert found.version == "CoreML6 (iOS 16, macOS 13)"


def core_ml(path: Path, build: Any, target: str = "iOS18") -> Path:
    """A program of one input (1, 4) as an ``.mlpackage``."""
    import coremltools as ct
    from coremltools.converters.mil import Builder as mb  # noqa: N813

    program = mb.program(input_specs=[mb.TensorSpec(shape=(1, 4))], opset_version=getattr(ct.target, target))(build)
    target = getattr(ct.target, target)
    model = ct.convert(program, compute_precision=ct.precision.FLOAT32, minimum_deployment_target=target)
    model.save(str(path))
    return path


@pytest.mark.slow
def test_core_ml_since_ios_18_packs_tables_and_blocks_otherwise(tmp_path: Path) -> None:
    from coremltools.converters.mil import Builder as mb  # noqa: N813
    from coremltools.converters.mil.mil import types

    indices = np.array([[0, 1, 2, 3], [3, 2, 1, 0]]).astype(types.type_mapping.string_to_nptype("uint2"))
    table = np.array([1, 2, 3, 4], np.float32).reshape(1, 1, 4, 1)
    data = np.arange(8, dtype=np.int8).reshape(4, 2)

    def build(x: Any) -> Any:
        first = mb.constexpr_lut_to_dense(indices=indices, lut=table)
        second = mb.constexpr_blockwise_shift_scale(data=data, scale=np.ones((4, 1), np.float32))
        return mb.linear(x=mb.linear(x=x, weight=first), weight=second)

    found = read_contents("coreml", core_ml(tmp_path / "a.mlpackage", build))
    assert [item.weights for item in layers(found.operations)] == ["uint2-lut", "int8"]
    # The table and the scales belong to their weight; a linear layer has a bias of zeros.
    assert {dtype: count for dtype, count in found.weights.items() if dtype != "float32"} == {"uint2-lut": 8, "int8": 8}
    assert found.weights.get("float32", 0) <= 6
    assert found.version == "CoreML8 (iOS 18, macOS 15)"


def described(path: Path, change: Any) -> Path:
    """The tiny Core ML package with another description of its input."""
    import shutil

    from coremltools.proto import Model_pb2

    shutil.copytree(exported("coreml").path, path)
    file = next(path.rglob("*.mlmodel"))
    spec = Model_pb2.Model.FromString(file.read_bytes())
    change(spec.description.input[0].type)
    file.write_bytes(spec.SerializeToString())
    return path


def _image(type: Any) -> None:
    type.imageType.width, type.imageType.height, type.imageType.colorSpace = 48, SIZE, 20


def _grey(type: Any) -> None:
    type.imageType.width, type.imageType.height, type.imageType.colorSpace = 48, SIZE, 10


def _range(type: Any) -> None:
    for side in (1, 3, SIZE, SIZE):
        span = type.multiArrayType.shapeRange.sizeRanges.add()
        span.lowerBound, span.upperBound = side, side if side != SIZE else 2 * SIZE


def _enumerated(type: Any) -> None:
    for batch in (1, 2):
        type.multiArrayType.enumeratedShapes.shapes.add().shape.extend((batch, 3, SIZE, SIZE))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (_image, TensorInfo((1, 3, SIZE, 48), "uint8")),
        (_grey, TensorInfo((1, 1, SIZE, 48), "uint8")),
        (_range, TensorInfo((1, 3, -1, -1), "float32")),
        (_enumerated, TensorInfo((-1, 3, SIZE, SIZE), "float32")),
    ],
)
def test_core_ml_images_and_flexible_shapes(change: Any, expected: TensorInfo, tmp_path: Path) -> None:
    path = described(tmp_path / "a.mlpackage", change)
    assert read_signature("coreml", path).inputs == {"image": expected}


@pytest.mark.slow
def test_tflite_dynamic_batches_are_minus_one(tmp_path: Path) -> None:
    from ai_edge_litert.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model(str(exported("tflite").path))
    graph = model.subgraphs[0]
    graph.tensors[graph.inputs[0]].shapeSignature = np.array([-1, SIZE, SIZE, 3], np.int32)
    flatbuffer_utils.write_model(model, str(tmp_path / "a.tflite"))
    found = read_signature("tflite", tmp_path / "a.tflite")
    assert found.inputs == {"image": TensorInfo((-1, SIZE, SIZE, 3), "float32")}


@pytest.mark.slow
def test_tflite_operations_are_those_that_the_runtime_lists() -> None:
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    for name in ("tflite.w8", "tflite.w8a8"):
        path = quantized(name).path
        kernels = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        listed = Interpreter(str(path), experimental_op_resolver_type=kernels)._get_ops_details()
        assert [item.type for item in read_contents("tflite", path).operations] == [op["op_name"] for op in listed]


@pytest.mark.slow
def test_tflite_runtime_alone_gives_the_border_and_says_what_the_rest_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    path = exported("tflite").path
    monkeypatch.setitem(sys.modules, "ai_edge_litert.tools", None)
    assert set(read_signature("tflite", path).inputs) == {"image"}
    with pytest.raises(MissingExtraError, match=r"looking into .tflite files needs the extra 'tflite'"):
        read_contents("tflite", path)


@pytest.mark.parametrize("format", [name for name in READERS if name != "executorch"])
def test_a_reader_is_imported_without_any_converter(format: str) -> None:
    """Nor torch: what a model holds can be looked up on a machine that only runs it."""
    code = (
        "import sys\n"
        "for name in ('torch', 'onnx', 'ai_edge_litert', 'coremltools', 'executorch'): sys.modules[name] = None\n"
        "from pocketface.converters.readers.registry import READERS, read_contents\n"
        f"assert READERS[{format!r}].format == {format!r}\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_unreadable_files_and_unknown_formats(tmp_path: Path) -> None:
    for format, suffix in (("onnx", "onnx"), ("tflite", "tflite")):
        path = tmp_path / f"a.{suffix}"
        path.write_bytes(b"no model" * 50)
        with pytest.raises(BundleError, match=f"a.{suffix} cannot be read as {format}"):
            read_contents(format, path)
    with pytest.raises(UnknownNameError, match=r"unknown format 'onx' \(did you mean 'onnx'\?\)"):
        read_contents("onx", tmp_path / "a.onnx")


def test_every_layer_of_the_tiny_network_is_one_of_torchs() -> None:
    """Guards the tests above: the list they compare with is not empty."""
    assert len(modules()) == sum(isinstance(part, (nn.Conv2d, nn.Linear)) for part in tiny_net().modules()) == 7
