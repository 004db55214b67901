"""Each registered format and precision, against torch and against the format's own tools."""

from __future__ import annotations

import copy
import random
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from executorch_files import method
from onnx import helper
from tiny_export import POINTS, SIZE, TinyNet, exported, inputs, tiny_net, torch_outputs

from pocketface.converters.formats.base import ConversionError, Exported
from pocketface.converters.formats.onnx import OnnxOptions, sort_nodes
from pocketface.converters.formats.registry import EXPORTERS
from pocketface.converters.signature import read_signature
from pocketface.sdk.errors import BadInputError

ALL = [(name, precision) for name in EXPORTERS for precision in EXPORTERS[name].precisions]
BOUNDS = {"fp32": 1e-5, "fp16": 2e-3}

PLACES = {"image": "0", "points": "0", "score": "1"}
"""Of the tensors in a file that has no names."""

pytestmark = pytest.mark.slow


def run(item: Exported, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One image through the format's runtime, without our backends."""
    if item.format == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(str(item.path), providers=["CPUExecutionProvider"])
        points, score = session.run(["points", "score"], {"image": image})
        return points, score
    if item.format == "executorch":
        points, score = method(item.path)(image)
        return points, score
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(str(item.path)).get_signature_runner()
    result = runner(image=np.ascontiguousarray(image.transpose(0, 2, 3, 1)))
    return result["points"], result["score"]


@pytest.mark.parametrize(("format", "precision"), ALL)
def test_names_and_shapes_are_the_contracts(format: str, precision: str) -> None:
    item = exported(format, precision)
    found = read_signature(format, item.path)
    image = (1, SIZE, SIZE, 3) if format == "tflite" else (1, 3, SIZE, SIZE)
    names = PLACES if format == "executorch" else {name: name for name in PLACES}
    assert {name: (t.shape, t.dtype) for name, t in found.inputs.items()} == {names["image"]: (image, "float32")}
    assert {name: (t.shape, t.dtype) for name, t in found.outputs.items()} == {
        names["points"]: ((1, POINTS, 2), "float32"),
        names["score"]: ((1,), "float32"),
    }
    assert {name: binding.tensor for name, binding in {**item.inputs, **item.outputs}.items()} == names
    assert item.inputs["image"].shape == image
    assert item.inputs["image"].layout == ("NHWC" if format == "tflite" else "NCHW")
    assert (item.format, item.precision) == (format, precision)


@pytest.mark.parametrize(("format", "precision"), [pair for pair in ALL if pair[0] != "coreml"])
def test_gives_what_torch_gives(format: str, precision: str) -> None:
    images = inputs(4)
    points, score = torch_outputs(images)
    for index in range(4):
        found = run(exported(format, precision), images[index : index + 1])
        assert np.abs(found[0] - points[index]).max() < BOUNDS[precision]
        assert np.abs(found[1] - score[index]).max() < 10 * BOUNDS[precision]


@pytest.mark.parametrize("format", list(EXPORTERS))
def test_half_precision_halves_the_weights(format: str) -> None:
    fp32, fp16 = exported(format), exported(format, "fp16")
    values = sum(parameter.numel() for parameter in tiny_net().parameters())
    assert fp32.total_bytes > 4 * values
    assert fp32.total_bytes - fp16.total_bytes == pytest.approx(2 * values, rel=0.2)


def test_onnx_is_one_plain_file() -> None:
    for precision in ("fp32", "fp16"):
        model = onnx.load(exported("onnx", precision).path, load_external_data=False)
        assert [item.version for item in model.opset_import if item.domain in ("", "ai.onnx")] == [OnnxOptions().opset]
        assert not any(tensor.external_data for tensor in model.graph.initializer)
        assert not any(node.metadata_props or node.doc_string for node in model.graph.node)
        assert {node.op_type for node in model.graph.node}.isdisjoint({"BatchNormalization", "Identity", "Constant"})
    dtypes = {tensor.data_type for tensor in model.graph.initializer if len(tensor.dims) > 1}
    assert dtypes == {onnx.TensorProto.FLOAT16}


@pytest.mark.parametrize(("format", "precision"), ALL)
def test_no_file_tells_of_this_machine(format: str, precision: str) -> None:
    here = str(Path(__file__).parents[3]).encode()
    for file in exported(format, precision).files:
        assert here not in file.read_bytes()


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_coreml_program_holds_the_weights(precision: str) -> None:
    """Nothing on this machine runs it, so the program is read back and its weights compared with torch's."""
    import coremltools as ct
    from coremltools.converters.mil.frontend.milproto.load import load

    path = exported("coreml", precision).path
    spec = ct.utils.load_spec(str(path))
    assert spec.specificationVersion == ct.target.iOS15
    program = load(spec, spec.specificationVersion, file_weights_dir=str(path / "Data/com.apple.CoreML/weights"))
    operations = [op for op in program.functions["main"].operations if op.op_type == "linear"]
    assert len(operations) == 2
    found = next(op.weight.val for op in operations if op.weight.val.shape[0] == 2 * POINTS)
    assert found.dtype == (np.float32 if precision == "fp32" else np.float16)
    expected = tiny_net().points.weight.detach().numpy()
    assert np.abs(found.astype(np.float32) - expected).max() <= (0 if precision == "fp32" else 2e-4)


def test_the_network_is_left_as_it_was(tmp_path: Path) -> None:
    net = copy.deepcopy(tiny_net()).to(memory_format=torch.channels_last)  # as training leaves it
    before = {name: value.clone() for name, value in net.state_dict().items()}
    item = EXPORTERS["onnx"].export(net, precision="fp32", path=tmp_path / "a.onnx", input_size=SIZE)
    assert net.features[0][0].weight.is_contiguous(memory_format=torch.channels_last)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert np.abs(run(item, inputs(1))[0] - torch_outputs(inputs(1))[0]).max() < 1e-5


class _Refused(TinyNet):
    """Its graph depends on its data, which no exporter can follow."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        points, score = super().forward(x)
        return (points, score) if float(x.mean()) >= 0 else (points * 2, score)


@pytest.mark.parametrize("format", list(EXPORTERS))
def test_a_failed_conversion_leaves_only_its_log(format: str, tmp_path: Path, capfd: Any) -> None:
    exporter = EXPORTERS[format]
    path = tmp_path / f"a{exporter.suffix}"
    with pytest.raises(ConversionError, match=f"converting _Refused to {format} fp32 failed") as caught:
        exporter.export(_Refused().eval(), precision="fp32", path=path, input_size=SIZE)
    assert caught.value.__cause__ is not None
    assert "a" + exporter.suffix + ".log" in str(caught.value)
    assert [file.name for file in tmp_path.iterdir() if not file.name.endswith(".log")] == []
    assert capfd.readouterr() == ("", "")


class _Wrong(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def test_bad_requests_are_refused(tmp_path: Path) -> None:
    exporter = EXPORTERS["onnx"]
    good: dict[str, Any] = {"precision": "fp32", "path": tmp_path / "a.onnx", "input_size": SIZE}
    with pytest.raises(BadInputError, match=r"training mode.*net\.eval"):
        exporter.export(TinyNet(), **good)
    with pytest.raises(BadInputError, match=r"'w8a8'.*Valid: fp32, fp16"):
        exporter.export(tiny_net(), **{**good, "precision": "w8a8"})
    with pytest.raises(BadInputError, match=r"suffix '.tflite', expected .onnx"):
        exporter.export(tiny_net(), **{**good, "path": tmp_path / "a.tflite"})
    with pytest.raises(BadInputError, match=r"gives torch.float32 .*expected a tuple of float32.*points, score"):
        exporter.export(_Wrong().eval(), **good)
    with pytest.raises(BadInputError, match="onnx fp16, expected onnx fp32"):
        exporter.export(tiny_net(), **good, fp32=exported("onnx", "fp16"))
    (tmp_path / "a.onnx").write_bytes(b"mine")
    with pytest.raises(BadInputError, match="exists already"):
        exporter.export(tiny_net(), **good)
    assert (tmp_path / "a.onnx").read_bytes() == b"mine"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.onnx"]


def test_sort_nodes_restores_an_order_that_onnx_accepts() -> None:
    nodes = [helper.make_node("Relu", [f"x{i}"], [f"x{i + 1}"], f"n{i}") for i in range(12)]
    random.Random(1).shuffle(nodes)
    value = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in ("x0", "x12")]
    graph = helper.make_graph(nodes, "g", value[:1], value[1:])
    with pytest.raises(onnx.checker.ValidationError):
        onnx.checker.check_model(helper.make_model(graph))
    sort_nodes(graph)
    assert [node.name for node in graph.node] == [f"n{i}" for i in range(12)]
    onnx.checker.check_model(helper.make_model(graph))


def test_sort_nodes_names_a_cycle() -> None:
    nodes = [helper.make_node("Relu", ["a"], ["b"], "one"), helper.make_node("Relu", ["b"], ["a"], "two")]
    with pytest.raises(ValueError, match="one"):
        sort_nodes(helper.make_graph(nodes, "g", [], []))
