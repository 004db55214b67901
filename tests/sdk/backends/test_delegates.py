"""A delegate by name: what there is runs and says so, what there is not is refused with what there is."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from bundle_factory import make_bundle

from pocketface.sdk import load
from pocketface.sdk.backends.executorch import ExecutorchBackend
from pocketface.sdk.backends.onnx import OnnxBackend
from pocketface.sdk.bundle import open_bundle
from pocketface.sdk.chain import StageRunner
from pocketface.sdk.errors import BadInputError, EnvironmentProblemError


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("delegates") / "bundle")


def test_auto_and_cpu_give_the_same_and_only_what_was_asked_for_is_named(bundle: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)
    auto, cpu = load(bundle, detector=None), load(bundle, delegate="cpu", detector=None)
    np.testing.assert_array_equal(auto(image)[0].points, cpu(image)[0].points)
    assert auto.executor == f"onnxruntime {onnxruntime.__version__}"
    assert cpu.executor == f"{auto.executor} (cpu)"


def test_a_delegate_that_is_not_there_is_refused_with_those_that_are(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        onnxruntime, "get_available_providers", lambda: ["AzureExecutionProvider", "CPUExecutionProvider"]
    )
    with pytest.raises(EnvironmentProblemError, match=r"no delegate 'cuda' on this machine. Valid: auto, cpu\."):
        load(bundle, delegate="cuda")
    with pytest.raises(EnvironmentProblemError, match="'azure'"):
        load(bundle, delegate="azure")
    with pytest.raises(BadInputError, match="delegate 3"):
        load(bundle, delegate=3)  # type: ignore[arg-type]


def test_a_provider_that_cannot_be_set_up_is_no_silent_cpu(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """onnxruntime itself would print a warning and take the CPU."""
    monkeypatch.setattr(
        onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"]
    )
    real, asked = onnxruntime.InferenceSession, []

    def session(data: bytes, options: object, providers: list[str]) -> object:
        asked.append(providers)
        return real(data, options, providers=["CPUExecutionProvider"])

    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    with pytest.raises(EnvironmentProblemError, match="the delegate 'cuda' and cannot set it up here"):
        load(bundle, delegate="cuda")
    assert asked == [["CUDAExecutionProvider", "CPUExecutionProvider"]]


def test_an_executor_of_ones_own_takes_no_delegate(bundle: Path) -> None:
    with open_bundle(bundle) as opened, pytest.raises(BadInputError, match="executor of your own"):
        StageRunner(opened, opened.manifest.default, delegate="cpu", executor=OnnxBackend)


def test_executorch_files_hold_their_delegate(bundle: Path) -> None:
    pytest.importorskip("executorch")
    with open_bundle(bundle) as opened:
        _, variant = opened.manifest.variant(opened.manifest.default)
        with pytest.raises(EnvironmentProblemError, match=r"hold their delegate.*Valid: auto\."):
            ExecutorchBackend(bundle, variant, delegate="cpu")
