"""Against files that LiteRT's own schema classes wrote, with the number in every place that can hold one."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundle_factory import replace_file

from pocketface.sdk.backends.tflite_file import check_tflite
from pocketface.sdk.bundle import open_bundle
from pocketface.sdk.errors import BundleError

s: Any = pytest.importorskip("ai_edge_litert.schema_py_generated")
flatbuffers: Any = pytest.importorskip("flatbuffers")

FINE = [0.5, -2.0, 3e4]


def packed(values: list[float], kind: str) -> np.ndarray:
    """Bytes of the values in a TensorType."""
    if kind == "BFLOAT16":
        return (np.array(values, "<f4").view("<u4") >> 16).astype("<u2").view(np.uint8)
    types = {"FLOAT32": "<f4", "FLOAT16": "<f2", "FLOAT64": "<f8", "COMPLEX64": "<c8", "COMPLEX128": "<c16"}
    return np.array(values, types.get(kind, "<f4")).view(np.uint8)


def model(values: list[float], kind: str = "FLOAT32", *, scale: list[float] | None = None, graphs: int = 1) -> bytes:
    """A file whose last subgraph has a tensor called "w" with these values, in a buffer of its own."""
    made = s.ModelT()
    made.version, made.operatorCodes = 3, []
    made.buffers = [s.BufferT(), s.BufferT()]
    made.buffers[1].data = packed(values, kind)
    made.subgraphs = []
    for number in range(graphs):
        graph, tensor = s.SubGraphT(), s.TensorT()
        tensor.name, tensor.shape = "w", [len(values)]
        tensor.type = getattr(s.TensorType, kind)
        tensor.buffer = 1 if number == graphs - 1 else 0
        if scale is not None:
            tensor.quantization = s.QuantizationParametersT()
            tensor.quantization.scale = scale
        graph.tensors, graph.inputs, graph.outputs, graph.operators = [tensor], [], [], []
        made.subgraphs.append(graph)
    builder = flatbuffers.Builder(256)
    builder.Finish(made.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


KINDS = ["FLOAT32", "FLOAT16", "FLOAT64", "BFLOAT16", "COMPLEX64", "COMPLEX128"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_constant_that_is_not_finite_is_refused(kind: str, bad: float) -> None:
    check_tflite(model(FINE, kind), "a.tflite")
    with pytest.raises(BundleError, match=r"a\.tflite: constant 'w'"):
        check_tflite(model([*FINE, bad], kind), "a.tflite")


def test_only_the_last_subgraph_holds_it() -> None:
    check_tflite(model(FINE, graphs=3), "a.tflite")
    with pytest.raises(BundleError, match="constant 'w'"):
        check_tflite(model([np.nan], graphs=3), "a.tflite")


def test_integers_may_look_like_anything_but_their_scales_are_finite() -> None:
    looks = packed([np.nan], "FLOAT32").view("<i4").tolist()
    assert np.isnan(np.array(looks, "<i4").view("<f4")[0])
    check_tflite(model([np.nan], "INT32", scale=[0.1, 2.0]), "a.tflite")
    with pytest.raises(BundleError, match="its scale"):
        check_tflite(model([0.0], "INT8", scale=[0.1, np.inf]), "a.tflite")


def test_a_constant_behind_the_flatbuffer_is_seen() -> None:
    """As files of more than 2 GB keep them: the buffer says where in the file."""
    made = s.ModelT.InitFromObj(s.Model.GetRootAs(model(FINE), 0))
    # Numbers that fit no other field, to be replaced in the bytes: a file's own size is known only once it is written.
    made.buffers[1].data, made.buffers[1].offset, made.buffers[1].size = None, 2**40 + 7, 2**41 + 9
    builder = flatbuffers.Builder(256)
    builder.Finish(made.Pack(builder), file_identifier=b"TFL3")
    written = bytes(builder.Output())
    for values, fine in ((FINE, True), ([1.0, np.nan], False)):
        tail = packed(values, "FLOAT32").tobytes()
        place = len(written).to_bytes(8, "little"), len(tail).to_bytes(8, "little")
        data = written.replace((2**40 + 7).to_bytes(8, "little"), place[0])
        data = data.replace((2**41 + 9).to_bytes(8, "little"), place[1]) + tail
        if fine:
            check_tflite(data, "a.tflite")
        else:
            with pytest.raises(BundleError, match="constant 'w'"):
                check_tflite(data, "a.tflite")


def test_what_is_no_flatbuffer_is_refused_as_such() -> None:
    whole = model(FINE, graphs=2)
    for data in (b"", b"TFL3", b"\xff" * 64, whole[: len(whole) // 2]):
        with pytest.raises(BundleError, match="not a readable TFLite file"):
            check_tflite(data, "a.tflite")


def test_broken_files_are_refused_or_pass_and_nothing_else() -> None:
    whole, rng = model(FINE, graphs=3, scale=[1.0]), np.random.default_rng(0)
    outcomes = set()
    for _ in range(3000):
        data = bytearray(whole)
        for place in rng.integers(0, len(data), rng.integers(1, 6)):
            data[place] = rng.integers(0, 256)
        try:
            check_tflite(bytes(data), "a.tflite")
            outcomes.add("passed")
        except BundleError as error:
            outcomes.add("constant" if "constant" in error.what else "unreadable")
    assert outcomes == {"passed", "constant", "unreadable"}


def test_a_file_that_leads_round_and_round_ends() -> None:
    """A vector of tables whose entries are all the same subgraph, whose tensors are all the same tensor."""
    builder = flatbuffers.Builder(2**16)
    count = 20_000

    def table(fields: dict[int, int], *, type: int = 0) -> int:
        builder.StartObject(6)
        for number, there in fields.items():
            builder.PrependUOffsetTRelativeSlot(number, there, 0)
        builder.PrependInt8Slot(1, type, 0)
        return int(builder.EndObject())

    def repeated(there: int) -> int:
        builder.StartVector(4, count, 4)
        for _ in range(count):
            builder.PrependUOffsetTRelative(there)
        return int(builder.EndVector())

    graph = table({0: repeated(table({}, type=s.TensorType.INT8))})
    builder.Finish(table({2: repeated(graph)}))
    with pytest.raises(BundleError, match="add up to more than the file"):
        check_tflite(bytes(builder.Output()), "a.tflite")


def test_a_bundle_with_such_a_file_is_not_opened(tmp_path: Path) -> None:
    interpreter: Any = pytest.importorskip("ai_edge_litert.interpreter")
    folder = tmp_path / "bundle"
    with open_bundle("face-detector") as bundle:
        shutil.copytree(bundle.root, folder)
        path = bundle.manifest.variant("w8.tflite")[1].files[0].path
    data = (folder / path).read_bytes()
    loaded = interpreter.Interpreter(model_content=data)
    biases = (item for item in loaded.get_tensor_details() if item["dtype"] == np.float32 and len(item["shape"]) == 1)
    place = data.index(loaded.get_tensor(next(biases)["index"]).tobytes())  # a constant's own bytes, by the runtime
    with open_bundle(folder):
        pass
    replace_file(folder, path, data[:place] + np.float32("nan").tobytes() + data[place + 4 :])
    with pytest.raises(BundleError, match=r"w8\.tflite: constant .* holds NaN"):
        open_bundle(folder)
