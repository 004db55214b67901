"""The reader of ``.pte`` files, against what executorch itself reads and against torch."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from executorch_files import deserialized
from tiny_export import POINTS, SIZE, exported
from tiny_quantize import modules, outputs, quantized, values

from pocketface.converters.formats.base import Exported
from pocketface.converters.readers import executorch as module
from pocketface.converters.readers.base import TensorInfo
from pocketface.converters.readers.registry import read_contents, read_signature
from pocketface.sdk.errors import BundleError, MissingExtraError

pytestmark = pytest.mark.slow

FILES = ("fp32", "fp16", "w8a8")
LAYERS = ("XNNConv2d", "XNNDepthwiseConv2d", "XNNFullyConnected")


def item(precision: str) -> Exported:
    return quantized("executorch.w8a8") if precision == "w8a8" else exported("executorch", precision)


@pytest.mark.parametrize("precision", FILES)
def test_the_border(precision: str) -> None:
    found = read_signature("executorch", item(precision).path)
    assert found.inputs == {"0": TensorInfo((1, 3, SIZE, SIZE), "float32")}
    assert found.outputs == {"0": TensorInfo((1, POINTS, 2), "float32"), "1": TensorInfo((1,), "float32")}


@pytest.mark.parametrize("precision", FILES)
def test_operations_are_those_executorch_reads(precision: str) -> None:
    program, graphs = deserialized(item(precision).path)
    expected: Counter[str] = Counter(node["xnode_union_type"] for graph in graphs for node in graph["xnodes"])
    (plan,) = program.execution_plan
    for instruction in plan.chains[0].instructions:
        index = getattr(instruction.instr_args, "op_index", None)
        if index is not None:
            expected[f"{plan.operators[index].name}.{plan.operators[index].overload}"] += 1
    contents = read_contents("executorch", item(precision).path)
    assert Counter(operation.type for operation in contents.operations) == expected
    assert contents.version == "ExecuTorch ET12"


def test_weights_are_those_of_the_network() -> None:
    """Batch norm is folded: each convolution has a bias, and nothing else is left of it."""
    total = values(*modules()) + outputs(*modules())
    for precision, dtype in (("fp32", "float32"), ("fp16", "float16")):
        assert read_contents("executorch", item(precision).path).weights == {dtype: total}


def test_types_of_layers() -> None:
    def layers(precision: str) -> list[tuple[str, str]]:
        operations = read_contents("executorch", item(precision).path).operations
        return [(operation.compute, operation.weights) for operation in operations if operation.type in LAYERS]

    assert layers("fp32") == 7 * [("float32", "float32")]
    assert layers("fp16") == 7 * [("float16", "float16")]
    assert layers("w8a8") == [("float32", "float32"), *4 * [("int8", "int8")], *2 * [("float32", "int8")]]
    kinds = read_contents("executorch", item("w8a8").path).operations
    assert [operation.compute for operation in kinds if operation.type == "XNNAdd"] == ["int8"]
    converting = [operation.compute for operation in kinds if operation.converts]
    assert converting == ["float32", "int8", "float32"]  # into the int8 part, out of it, into the heads


def test_it_imports_neither_torch_nor_executorch() -> None:
    code = (
        "import sys; from pathlib import Path; from pocketface.converters.readers.registry import read_contents;"
        "read_contents('executorch', Path(sys.argv[1]));"
        "print({name.split('.')[0] for name in sys.modules} & {'torch', 'executorch'})"
    )
    command = [sys.executable, "-c", code, str(exported("executorch").path)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == "set()"


def test_files_that_are_none(tmp_path: Path) -> None:
    whole = exported("executorch").path.read_bytes()
    path = tmp_path / "a.pte"
    for data in (b"", b"no model" * 40, whole[:500], whole[:4] + b"XX12" + whole[8:], b"\xff" * 4 + whole[4:]):
        path.write_bytes(data)
        with pytest.raises(BundleError, match=r"a\.pte cannot be read as executorch"):
            read_contents("executorch", path)


def test_infinity_and_not_a_number_are_read() -> None:
    text = '{"a": inf, "b": [-inf, nan,+inf], "c": "inf, nan"}'
    assert (
        module._NUMBER.sub(module._number, text) == '{"a": Infinity, "b": [-Infinity, NaN,Infinity], "c": "inf, nan"}'
    )


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pocketface\[executorch\]"):
        read_signature("executorch", exported("executorch").path)
