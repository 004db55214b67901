"""Faults planted in exported files, one at a time: the place that is named must be theirs."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper
from tiny_export import exported, inputs, tiny_net
from tiny_quantize import quantized

from pocketface.converters.formats.base import Exported
from pocketface.converters.layers.compare import LayerReport, localise
from pocketface.converters.layers.registry import TRACERS
from pocketface.converters.module_paths import coreml_paths, onnx_path, tflite_path
from pocketface.sdk.errors import BundleError, UnknownNameError
from pocketface.sdk.manifest import Tolerances, Variant

pytestmark = pytest.mark.slow

FORMATS = ["onnx", "tflite", "coreml"]
BLOCKS = range(5)
HEADS = {"points", "score", "output points", "output score"}
# A convolution's output is that of the batch norm which is part of it; in TFLite, of the activation.
ENDS = {"onnx": ("1", "2"), "tflite": ("2",), "coreml": ("1", "2")}
Edit = Callable[[NDArray[np.float32]], NDArray[np.float32]]


def flipped(weight: NDArray[np.float32]) -> NDArray[np.float32]:
    return -weight


def height_and_width_swapped(weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """Of kernels (…, H, W), or of (…, H, W, C) as TFLite has them."""
    first = next(axis for axis in range(4) if weight.shape[axis : axis + 2] == (3, 3))
    return np.ascontiguousarray(weight.swapaxes(first, first + 1))


def located(item: Exported) -> LayerReport:
    """The tiny network's report of a file."""
    variant = Variant(
        id=f"{item.precision}.{item.format}",
        format=item.format,
        precision=item.precision,
        files=(),
        inputs=dict(item.inputs),
        outputs=dict(item.outputs),
        tolerances=Tolerances(),
        status="unverified",
    )
    return localise(tiny_net(), item.path, variant, {"image": inputs(1)})


def edit_onnx(path: Path, module: str, edit: Edit) -> None:
    model = onnx.load(path)
    name = next(node.input[1] for node in model.graph.node if onnx_path(node.name) == module)
    tensor = next(item for item in model.graph.initializer if item.name == name)
    tensor.CopyFrom(numpy_helper.from_array(edit(numpy_helper.to_array(tensor)), name))
    onnx.save_model(model, path)


def edit_tflite(path: Path, module: str, edit: Edit) -> None:
    from ai_edge_litert.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model(str(path))
    graph = model.subgraphs[0]
    weights = []
    for op in graph.operators:
        constants = [graph.tensors[index] for index in op.inputs]
        kernel = next((tensor for tensor in constants if len(tensor.shape) == 4 and _data(model, tensor)), None)
        if kernel is not None and tflite_path(graph.tensors[op.outputs[0]].name.decode()) == module:
            weights.append(kernel)
    (kernel,) = weights
    dtype = np.int8 if kernel.type == flatbuffer_utils.schema_fb.TensorType.INT8 else np.float32
    value = np.frombuffer(_data(model, kernel), dtype).reshape(kernel.shape)
    model.buffers[kernel.buffer].data = np.frombuffer(edit(value).tobytes(), np.uint8)
    flatbuffer_utils.write_model(model, str(path))


def _data(model: Any, tensor: Any) -> bytes:
    data = model.buffers[tensor.buffer].data
    return b"" if data is None else bytes(data)


def edit_coreml(path: Path, module: str, edit: Edit) -> None:
    """Changes bytes of the weight file; where they are, the program as coremltools reads it tells."""
    import coremltools as ct
    from coremltools.converters.mil.frontend.milproto.load import load

    spec = ct.utils.load_spec(str(path))
    folder = path / "Data/com.apple.CoreML/weights"
    program = load(spec, spec.specificationVersion, file_weights_dir=str(folder))
    paths = coreml_paths(dict(spec.description.metadata.userDefined))
    (weight,) = [
        op.weight.val
        for op in program.functions["main"].operations
        if op.op_type == "conv" and paths.get(op.outputs[0].name) == module
    ]
    data = (folder / "weight.bin").read_bytes()
    assert data.count(weight.tobytes()) == 1
    (folder / "weight.bin").write_bytes(data.replace(weight.tobytes(), edit(weight).tobytes()))


EDITS = {"onnx": edit_onnx, "tflite": edit_tflite, "coreml": edit_coreml}


def damaged(item: Exported, folder: Path, module: str, edit: Edit) -> Exported:
    """A copy in which one kernel was edited."""
    path = folder / item.path.name
    (shutil.copytree if item.path.is_dir() else shutil.copy)(item.path, path)
    EDITS[item.format](path, module, edit)
    return replace(item, path=path)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("format", FORMATS)
def test_a_sound_file_agrees_in_every_module(format: str, precision: str) -> None:
    """Each block is compared, under the network's own path, and nothing else is."""
    found = located(exported(format, precision))
    assert (found.status, found.first) == ("agrees", None)
    assert {item.module for item in found.compared} == HEADS | {
        f"features.{block}.{end}" for block in BLOCKS for end in ENDS[format]
    }
    assert set(found.uncovered) == {
        f"features.{block}.{part}" for block in BLOCKS for part in "012" if part not in ENDS[format]
    }
    assert max(item.relative for item in found.compared) < (1e-6 if precision == "fp32" else 5e-3)
    assert [item.module for item in found.worst(1)] == [max(found.compared, key=lambda item: item.relative).module]


@pytest.mark.parametrize("name", ["onnx.w8", "onnx.w8a8", "tflite.w8", "tflite.w8a8", "tflite.w8a16", "tflite.dynamic"])
def test_a_quantized_file_names_no_place(name: str) -> None:
    found = located(quantized(name))
    assert found.status == "agrees"
    assert {item.module for item in found.compared} > {"points", "score"}
    assert 1e-3 < found.worst(1)[0].relative < 0.1
    if name.endswith("w8a8"):
        assert any(item.scale is not None for item in found.compared)


@pytest.mark.parametrize("block", [0, 2, 4])
@pytest.mark.parametrize("format", FORMATS)
def test_corrupted_weights_are_named(format: str, block: int, tmp_path: Path) -> None:
    module = f"features.{block}.{ENDS[format][0]}"
    found = located(damaged(exported(format), tmp_path, module, flipped))
    assert found.status == "diverges"
    assert found.first is not None
    assert (found.first.module, found.first.operation.lower()[:4]) == (module, "conv")
    assert found.first.inputs < 1e-6 < 1e-2 < found.first.relative
    assert f"first diverging tensor: {module}  (relative error " in str(found)
    assert found.to_dict()["first_diverging"]["module"] == module


@pytest.mark.parametrize("format", FORMATS)
def test_a_kernel_in_the_wrong_layout_is_named(format: str, tmp_path: Path) -> None:
    module = f"features.3.{ENDS[format][0]}"
    found = located(damaged(exported(format), tmp_path, module, height_and_width_swapped))
    assert found.first is not None
    assert found.first.module == module


def test_a_wrong_transpose_is_told_from_the_convolution_before_it(tmp_path: Path) -> None:
    """The mean behind it is the same, so the outputs would not tell."""
    from ai_edge_litert.tools import flatbuffer_utils

    path = tmp_path / "a.tflite"
    model = flatbuffer_utils.read_model(str(exported("tflite").path))
    graph, kinds = model.subgraphs[0], flatbuffer_utils.schema_fb.BuiltinOperator
    (op,) = [op for op in graph.operators if model.operatorCodes[op.opcodeIndex].builtinCode == kinds.TRANSPOSE]
    order = model.buffers[graph.tensors[op.inputs[1]].buffer]
    assert np.frombuffer(bytes(order.data), np.int32).tolist() == [0, 3, 1, 2]
    order.data = np.frombuffer(np.array([0, 3, 2, 1], np.int32).tobytes(), np.uint8)
    flatbuffer_utils.write_model(model, str(path))
    found = located(replace(exported("tflite"), path=path))
    assert found.first is not None
    assert (found.first.module, found.first.operation) == ("features.4.2", "TRANSPOSE")
    assert next(item for item in found.compared if item.module == "output points").relative < 1e-6


@pytest.mark.parametrize("name", ["tflite.w8a8", "onnx.w8a8"])
def test_corrupted_weights_are_named_in_a_quantized_file(name: str, tmp_path: Path) -> None:
    format = name.partition(".")[0]
    item = quantized(name)
    path = tmp_path / item.path.name
    shutil.copy(item.path, path)
    if format == "tflite":
        edit_tflite(path, "features.2.2", flipped)
        module = "features.2.2"
    else:
        model = onnx.load(path)
        tensor = next(item for item in model.graph.initializer if item.name == "features.2.0.weight_quantized")
        tensor.CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(tensor), tensor.name))
        onnx.save_model(model, path)
        module = "features.2.1"
    found = located(replace(item, path=path))
    assert found.first is not None
    assert found.first.module == module


def test_executorch_compares_what_its_tracer_gives() -> None:
    pytest.importorskip("executorch")
    from pocketface.converters.formats.registry import EXPORTERS

    if "executorch" not in EXPORTERS:
        pytest.skip("no exporter writes .pte files")
    found = located(exported("executorch"))
    assert found.status == "agrees"
    assert {item.module for item in found.compared} == {"output points", "output score"}
    assert any("opaque" in note for note in found.notes)
    assert any("mean" in name or "." in name for name in found.unmatched)


@pytest.mark.parametrize("format", ["onnx", "tflite"])
def test_a_file_that_no_runtime_takes_is_an_error(format: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{exported(format).path.suffix}"
    path.write_bytes(b"no model" * 100)
    with pytest.raises(BundleError, match=rf"{path.name}: .* refuse"):
        located(replace(exported(format), path=path))


def test_unknown_formats_are_refused() -> None:
    item: Any = replace(exported("onnx"), format="coreml")
    assert "coreml" in TRACERS
    with pytest.raises(UnknownNameError, match="tracer 'pal'"):
        _ = TRACERS["pal"]
    with pytest.raises(BundleError):
        located(item)
