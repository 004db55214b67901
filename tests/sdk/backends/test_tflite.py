"""A tiny TFLite file, written by hand as a flatbuffer, against numpy."""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from pocketface.sdk.backends import tflite as module
from pocketface.sdk.backends.tflite import TfliteBackend
from pocketface.sdk.errors import BundleError, EnvironmentProblemError, MissingExtraError
from pocketface.sdk.manifest import Binding, Tolerances, Variant

litert = pytest.importorskip("ai_edge_litert.interpreter")
schema: Any = pytest.importorskip("ai_edge_litert.schema_py_generated")
flatbuffers: Any = pytest.importorskip("flatbuffers")

SIDE, POINTS = 4, 3
FEATURES = SIDE * SIDE * 3
RNG = np.random.default_rng(5)
W = RNG.normal(size=(2 * POINTS, FEATURES)).astype(np.float32)
V = RNG.normal(size=(1, FEATURES)).astype(np.float32)


def model_bytes(*, signature: bool = True, quantized: bool = False, op: int | None = None) -> bytes:
    """image (1, 4, 4, 3) -> points (1, 3, 2) = W image and score (1,) = V image; ``quantized``: int8 in and out."""
    s = schema
    model, graph = s.ModelT(), s.SubGraphT()
    model.version, model.subgraphs, model.buffers, model.operatorCodes = 3, [graph], [s.BufferT()], []
    graph.tensors, graph.operators = [], []

    def tensor(name: str, shape: tuple[int, ...], data: np.ndarray | None = None, scale: float | None = None) -> int:
        made = s.TensorT()
        made.name, made.shape, made.buffer = name, list(shape), 0
        made.type = s.TensorType.FLOAT32 if scale is None else s.TensorType.INT8
        if data is not None:
            made.type = s.TensorType.INT32 if data.dtype == np.int32 else s.TensorType.FLOAT32
            buffer = s.BufferT()
            buffer.data = np.frombuffer(data.tobytes(), np.uint8)
            model.buffers.append(buffer)
            made.buffer = len(model.buffers) - 1
        if scale is not None:
            made.quantization = s.QuantizationParametersT()
            made.quantization.scale, made.quantization.zeroPoint = [scale], [5]
        graph.tensors.append(made)
        return len(graph.tensors) - 1

    def add(code: int, inputs: list[int], output: int, kind: int, options: Any) -> None:
        entry = s.OperatorCodeT()
        entry.builtinCode = code if op is None else op
        entry.deprecatedBuiltinCode, entry.version = min(entry.builtinCode, 127), 1
        model.operatorCodes.append(entry)
        made = s.OperatorT()
        made.opcodeIndex, made.inputs, made.outputs = len(model.operatorCodes) - 1, inputs, [output]
        made.builtinOptionsType, made.builtinOptions = kind, options
        graph.operators.append(made)

    codes, kinds = s.BuiltinOperator, s.BuiltinOptions
    shape = (1, SIDE, SIDE, 3)
    start = image = tensor("serving_image:0", shape, scale=1 / 64 if quantized else None)
    if quantized:
        image = tensor("float_image", shape)
        add(codes.DEQUANTIZE, [start], image, kinds.DequantizeOptions, s.DequantizeOptionsT())
    flat = tensor("flat", (1, FEATURES))
    add(codes.RESHAPE, [image, tensor("s", (2,), np.array([1, FEATURES], np.int32))], flat, 0, None)
    ends = []
    for name, values, final in (("points", W, (1, POINTS, 2)), ("score", V, (1,))):
        made = tensor(f"{name}_flat", (1, len(values)))
        options = s.FullyConnectedOptionsT()
        add(
            codes.FULLY_CONNECTED,
            [flat, tensor(f"{name}_w", values.shape, values), -1],
            made,
            kinds.FullyConnectedOptions,
            options,
        )
        end = tensor(f"Identity_{name}", final)
        add(codes.RESHAPE, [made, tensor(f"{name}_s", (len(final),), np.array(final, np.int32))], end, 0, None)
        if quantized:
            whole = tensor(f"Int_{name}", final, scale=0.25)
            add(codes.QUANTIZE, [end], whole, kinds.QuantizeOptions, s.QuantizeOptionsT())
            end = whole
        ends.append((name, end))
    graph.inputs, graph.outputs = [start], [index for _, index in ends]
    if signature:
        made = s.SignatureDefT()
        made.signatureKey, made.subgraphIndex = b"serving_default", 0
        made.inputs, made.outputs = [], []
        for side, pairs in ((made.inputs, [("args_0", start)]), (made.outputs, ends)):
            for name, index in pairs:
                entry = s.TensorMapT()
                entry.name, entry.tensorIndex = name.encode(), index
                side.append(entry)
        model.signatureDefs = [made]
    builder = flatbuffers.Builder(4096)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def variant(image: str, points: str, score: str, **border: Any) -> Variant:
    out = {**border, "scale": 0.25} if border else {}
    return Variant(
        id="fp32.tflite",
        format="tflite",
        precision="fp32",
        files=(),
        inputs={"image": Binding(tensor=image, shape=(1, SIDE, SIDE, 3), layout="NHWC", **border)},
        outputs={
            "points": Binding(tensor=points, shape=(1, POINTS, 2), **out),
            "score": Binding(tensor=score, shape=(1,), **out),
        },
        tolerances=Tolerances(),
        status="passed",
    )


def save(folder: Path, **options: Any) -> Path:
    path = folder / "tiny.tflite"
    path.write_bytes(model_bytes(**options))
    return path


def expected(value: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    flat = value.transpose(0, 2, 3, 1).reshape(-1).astype(np.float64)
    return (W @ flat).reshape(1, POINTS, 2), V @ flat


IMAGE = np.random.default_rng(1).uniform(-1, 1, (1, 3, SIDE, SIDE)).astype(np.float32)
NAMED = variant("args_0", "points", "score")


@pytest.mark.parametrize("threads", [1, 2])
def test_by_signature(tmp_path: Path, threads: int) -> None:
    backend = TfliteBackend(save(tmp_path), NAMED, threads=threads)
    for _ in range(2):  # nothing of the first call is left in the second
        result = backend.run({"image": IMAGE})
        np.testing.assert_allclose(result["points"], expected(IMAGE)[0], atol=1e-4)
        np.testing.assert_allclose(result["score"], expected(IMAGE)[1], atol=1e-4)
        first = backend.run({"image": -IMAGE})
        np.testing.assert_allclose(result["points"], -first["points"], atol=1e-4)
    assert backend.executor.startswith("LiteRT 2.")


@pytest.mark.parametrize("signature", [True, False])
def test_by_tensor_names(tmp_path: Path, signature: bool) -> None:
    names = variant("serving_image:0", "Identity_points", "Identity_score")
    backend = TfliteBackend(save(tmp_path, signature=signature), names)
    result = backend.run({"image": IMAGE})
    again = backend.run({"image": -IMAGE})
    np.testing.assert_allclose(result["points"], expected(IMAGE)[0], atol=1e-4)  # not overwritten by the second call
    np.testing.assert_allclose(again["score"], -expected(IMAGE)[1], atol=1e-4)


def test_int8_at_the_border(tmp_path: Path) -> None:
    whole = variant("args_0", "points", "score", dtype="int8", scale=1 / 64, zero_point=5)
    result = TfliteBackend(save(tmp_path, quantized=True), whole).run({"image": IMAGE})
    seen = (np.rint(IMAGE * 64) / 64).clip((-128 - 5) / 64, (127 - 5) / 64)
    np.testing.assert_allclose(result["points"], expected(seen)[0].clip(-133 / 4, 122 / 4), atol=0.1251)
    np.testing.assert_allclose(result["score"], expected(seen)[1].clip(-133 / 4, 122 / 4), atol=0.1251)
    assert np.array_equal(result["points"] * 4, np.rint(result["points"] * 4))


def test_a_tensor_the_file_does_not_have(tmp_path: Path) -> None:
    path = save(tmp_path)
    with pytest.raises(BundleError, match=r"no output 'logit' \(for 'score'\). Valid: points, score"):
        TfliteBackend(path, variant("args_0", "points", "logit"))
    with pytest.raises(BundleError, match=r"no input 'x' \(for 'image'\). Valid: serving_image:0"):
        TfliteBackend(path, variant("x", "points", "score"))


@pytest.mark.parametrize("data", [b"", b"no model", b"\x1c\x00\x00\x00TFL3" + bytes(40)])
def test_a_file_that_is_no_model(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "bad.tflite"
    path.write_bytes(data)
    with pytest.raises(BundleError, match=r"bad.tflite: the runtime refuses it"):
        TfliteBackend(path, NAMED)


def test_an_operator_the_runtime_does_not_have(tmp_path: Path) -> None:
    path = save(tmp_path, op=32)  # CUSTOM
    with pytest.raises(BundleError, match=r"the runtime refuses it"):
        TfliteBackend(path, NAMED)


@pytest.mark.parametrize("signature", [True, False])
def test_a_name_that_is_no_text_is_refused(tmp_path: Path, signature: bool) -> None:
    """Found by the fuzzer: the interpreter loads such a file, and fails when it is asked for its tensors."""
    path = save(tmp_path, signature=signature)
    path.write_bytes(path.read_bytes().replace(b"serving_image:0", b"serving_\xffmage:0"))
    wanted = NAMED if signature else variant("serving_image:0", "points", "score")
    with pytest.raises(BundleError, match=r"the runtime refuses it \('utf-8' codec can't decode"):
        TfliteBackend(path, wanted)


def test_a_file_that_asks_for_too_much_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As C++ says it: std::bad_alloc is Python's MemoryError."""

    def allocate(self: object) -> None:
        raise MemoryError("std::bad_alloc")

    path = save(tmp_path)
    monkeypatch.setattr(litert.Interpreter, "allocate_tensors", allocate)
    with pytest.raises(BundleError, match=r"the runtime refuses it \(std::bad_alloc\)"):
        TfliteBackend(path, NAMED)


def test_hash_is_checked_on_loading(tmp_path: Path) -> None:
    from pocketface.sdk.manifest import FileEntry

    path = save(tmp_path)
    listed = msgspec.structs.replace(NAMED, files=(FileEntry(path="models/tiny.tflite", bytes=1, sha256="0" * 64),))
    with pytest.raises(BundleError, match="not the file the manifest describes"):
        TfliteBackend(path, listed)


def test_falls_back_to_tflite_runtime_and_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path)
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    assert not TfliteBackend.available()
    with pytest.raises(MissingExtraError, match=r"pocketface\[tflite\]"):
        TfliteBackend(path, NAMED)
    monkeypatch.setattr(module, "find_spec", lambda name: object() if name == "tflite_runtime" else None)
    monkeypatch.setitem(__import__("sys").modules, "tflite_runtime", object())
    monkeypatch.setitem(__import__("sys").modules, "tflite_runtime.interpreter", litert)
    assert TfliteBackend.available()
    backend = TfliteBackend(path, NAMED)
    assert backend.executor == "TFLite"  # its distribution is not installed here, so no version is known
    assert backend.run({"image": IMAGE})["score"].shape == (1,)


@pytest.mark.parametrize(("delegate", "said"), [("auto", ""), ("cpu", " (cpu)"), ("xnnpack", " (xnnpack)")])
def test_each_delegate_gives_the_same_and_is_named(tmp_path: Path, delegate: str, said: str) -> None:
    backend = TfliteBackend(save(tmp_path), NAMED, delegate=delegate)
    assert backend.executor.endswith(said)
    assert ("(" in backend.executor) == bool(said)
    np.testing.assert_allclose(backend.run({"image": IMAGE})["points"], expected(IMAGE)[0], atol=1e-4)


def test_delegates_that_are_not_there(tmp_path: Path) -> None:
    path = save(tmp_path)
    with pytest.raises(EnvironmentProblemError, match=r"no delegate 'gpu' on this machine\. Valid: auto, cpu, xnnpack"):
        TfliteBackend(path, NAMED, delegate="gpu")
    with pytest.raises(EnvironmentProblemError, match=r"cannot load the delegate .*nothing\.so"):
        TfliteBackend(path, NAMED, delegate=str(tmp_path / "nothing.so"))
