"""Every backend, and what adding one takes."""

import subprocess
import sys
import types
from importlib.util import find_spec

import pytest

from pocketface.sdk.backends.registry import BACKENDS, has_executor
from pocketface.sdk.manifest import FORMATS


def test_backends_are_for_known_formats() -> None:
    assert set(BACKENDS) <= set(FORMATS)
    assert {"onnx", "tflite", "coreml", "executorch"} <= set(BACKENDS)


@pytest.mark.parametrize("name", BACKENDS)
def test_every_backend_has_the_shape_of_one(name: str) -> None:
    backend = BACKENDS[name]
    assert isinstance(backend.available(), bool)
    assert callable(backend.run)


def test_onnx_can_run_here_and_coreml_on_a_mac() -> None:
    assert has_executor("onnx")
    assert has_executor("coreml") == (sys.platform == "darwin" and find_spec("coremltools") is not None)
    assert has_executor("executorch") == (find_spec("executorch") is not None)


def test_asking_imports_no_runtime() -> None:
    code = (
        "import sys; from pocketface.sdk.backends.registry import BACKENDS, has_executor;"
        "[has_executor(name) for name in BACKENDS];"
        "print({m.split('.')[0] for m in sys.modules} & "
        "{'onnxruntime', 'ai_edge_litert', 'tflite_runtime', 'coremltools', 'executorch', 'torch'})"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
        == "set()"
    )


def test_a_dummy_backend_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    class Dummy:
        @classmethod
        def available(cls) -> bool:
            return True

    module = types.ModuleType("pf_dummy_backend")
    module.Dummy = Dummy  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pf_dummy_backend", module)
    BACKENDS.register("dummy", "pf_dummy_backend:Dummy")
    try:
        assert has_executor("dummy")
    finally:
        BACKENDS.unregister("dummy")
    assert not has_executor("dummy")
