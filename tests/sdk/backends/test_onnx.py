from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
from bundle_factory import forward, make_bundle, onnx_bytes, weights
from onnx import TensorProto, helper

from pocketface.sdk import manifest
from pocketface.sdk.backends import onnx as module
from pocketface.sdk.backends.onnx import OnnxBackend
from pocketface.sdk.errors import BundleError, EnvironmentProblemError
from pocketface.sdk.manifest import Binding, Variant


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Variant]:
    folder = make_bundle(tmp_path_factory.mktemp("bundle"), size=16, points=5)
    variant = manifest.decode((folder / "manifest.json").read_bytes()).variant()[1]
    return folder / variant.files[0].path, variant


def tensor(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(1, 3, 16, 16)).astype(np.float32)


@pytest.mark.parametrize("threads", [1, 2])
def test_agrees_with_numpy(made: tuple[Path, Variant], threads: int) -> None:
    backend = OnnxBackend(*made, threads=threads)
    for seed in range(3):
        result, expected = backend.run({"image": tensor(seed)}), forward(tensor(seed), weights(5))
        assert set(result) == {"points", "score"}
        for name, value in result.items():
            assert value.dtype == np.float32
            np.testing.assert_allclose(value, expected[name], atol=1e-5)


def test_executor_names_the_runtime_and_its_version(made: tuple[Path, Variant]) -> None:
    import onnxruntime

    assert OnnxBackend(*made).executor == f"onnxruntime {onnxruntime.__version__}"


def test_session_options(made: tuple[Path, Variant], monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime

    seen: dict[str, Any] = {}
    real = onnxruntime.InferenceSession

    def spy(data: bytes, options: onnxruntime.SessionOptions, **rest: object) -> onnxruntime.InferenceSession:
        seen.update(options=options, data=data, **rest)
        return real(data, options, **rest)

    monkeypatch.setattr(onnxruntime, "InferenceSession", spy)
    OnnxBackend(*made, threads=2)
    assert seen["options"].intra_op_num_threads == 2
    assert seen["options"].inter_op_num_threads == 1
    assert seen["options"].execution_mode == onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    assert seen["providers"] == ["CPUExecutionProvider"]
    assert seen["data"] == made[0].read_bytes()  # the hashed bytes, not a path


def test_other_names_types_and_layout_at_the_border(tmp_path: Path) -> None:
    # y = x in float16 and NHWC; the contract sees float32 NCHW.
    shape = [1, 4, 6, 3]
    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT16, shape) for name in ("in:0", "out:0")]
    graph = helper.make_graph([helper.make_node("Identity", ["in:0"], ["out:0"])], "g", info[:1], info[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    path = tmp_path / "half.onnx"
    path.write_bytes(model.SerializeToString())
    binding = Binding(tensor="in:0", shape=(1, 4, 6, 3), dtype="float16", layout="NHWC")
    variant = Variant(
        id="fp16.onnx",
        format="onnx",
        precision="fp16",
        files=(),
        inputs={"image": binding},
        outputs={"image": msgspec.structs.replace(binding, tensor="out:0")},
        tolerances=manifest.Tolerances(),
        status="passed",
    )
    value = np.random.default_rng(0).normal(size=(1, 3, 4, 6)).astype(np.float32)
    result = OnnxBackend(path, variant).run({"image": value})["image"]
    assert np.array_equal(result, value.astype(np.float16).astype(np.float32))


def test_a_file_that_is_no_model(made: tuple[Path, Variant], tmp_path: Path) -> None:
    path = tmp_path / "bad.onnx"
    path.write_bytes(b"this is not a model")
    with pytest.raises(BundleError, match=r"bad.onnx: onnxruntime refuses it") as caught:
        OnnxBackend(path, msgspec.structs.replace(made[1], files=()))
    assert caught.value.__cause__ is not None


def test_a_tensor_the_file_does_not_have(made: tuple[Path, Variant]) -> None:
    path, variant = made
    wrong = msgspec.structs.replace(variant.outputs["score"], tensor="logit_x")
    renamed = msgspec.structs.replace(variant, outputs=variant.outputs | {"score": wrong})
    with pytest.raises(BundleError, match=r"no output 'logit_x' \(for 'score'\). Valid: points, score"):
        OnnxBackend(path, renamed)


def test_a_network_that_fails_when_it_runs(made: tuple[Path, Variant], tmp_path: Path) -> None:
    broken = onnx.load_from_string(onnx_bytes(16, 5, weights(5)))
    for initializer in broken.graph.initializer:  # points reshaped to a shape that cannot be
        if initializer.name == "xy_shape":
            initializer.CopyFrom(onnx.numpy_helper.from_array(np.array([1, 7, 2], np.int64), "xy_shape"))
    path = tmp_path / "broken.onnx"
    path.write_bytes(broken.SerializeToString())

    def use() -> None:  # some versions notice on loading, some on running
        OnnxBackend(path, msgspec.structs.replace(made[1], files=())).run({"image": tensor()})

    with pytest.raises(BundleError, match=r"broken.onnx: onnxruntime refuses it"):
        use()


def test_a_missing_runtime_is_an_environment_problem(
    made: tuple[Path, Variant], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(EnvironmentProblemError, match="pip install onnxruntime"):
        OnnxBackend(*made)
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    assert not OnnxBackend.available()
