"""Doctor's export checks: one layer really exported and run, and each way in which that can go wrong."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pocketface.converters import doctor
from pocketface.converters.executors.registry import executor_of
from pocketface.converters.formats.base import ConversionError
from pocketface.converters.formats.registry import EXPORTERS
from pocketface.sdk.doctor import layer, runtimes
from pocketface.sdk.doctor.base import Finding
from pocketface.sdk.doctor.isolated import examine


def quiet(text: str) -> None:
    pass


def look(format: str) -> Finding:
    (finding,) = doctor.run(format, quiet)
    return finding


def test_the_layer_in_torch_is_the_layer_in_numpy() -> None:
    with torch.no_grad():
        found = doctor.network()(torch.from_numpy(layer.image())).numpy()
    np.testing.assert_allclose(found, layer.expected(layer.image()), atol=1e-6)


def check_one(finding: Finding, format: str) -> None:
    assert (finding.subject, finding.level) == (format, "ok"), finding
    assert str(finding.values["export"]).startswith("ok, ")
    if executor_of(format) is None:
        assert (finding.state, finding.values["run"]) == ("exports", "nothing here runs it")
        return
    assert (finding.state, finding.values["run"]) == ("works", "ok")
    assert finding.values["executor"]
    assert float(finding.values["max error"] or 0) < 1e-5


def test_onnx_works_here_in_a_process_of_its_own() -> None:
    (finding,) = examine("formats", "onnx", doctor.CHECK)
    check_one(finding, "onnx")


@pytest.mark.slow
@pytest.mark.parametrize("format", [name for name in EXPORTERS if name != "onnx"])
def test_every_other_format_works_here(format: str) -> None:
    """In this process, where other tests have loaded the converters already."""
    check_one(look(format), format)


def test_formats_are_those_of_the_registry() -> None:
    assert list(doctor.CHECK.cases()) == list(EXPORTERS)


class Fake:
    """An exporter that ends as it is told, or hands out a stored file of the layer."""

    suffix = ".onnx"

    def __init__(self, end: Callable[[], Any] | None = None) -> None:
        self.end = end

    def export(self, net: Any, *, precision: str, path: Path, input_size: int) -> Any:
        Path(f"{path}.log").write_text("what the converter said\n")
        if self.end is not None:
            self.end()
        path.write_bytes(runtimes.probes()["onnx"].data)
        described = runtimes.variant("onnx", "NCHW")
        return type(
            "E", (), {"path": path, "format": "onnx", "inputs": described.inputs, "outputs": described.outputs}
        )()


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Callable[[Fake], None]:
    def install(exporter: Fake) -> None:
        monkeypatch.setitem(sys.modules, "pf_fake_exporter", type("m", (), {"EXPORTER": exporter}))  # type: ignore[arg-type]
        monkeypatch.setitem(EXPORTERS._table, "fake", "pf_fake_exporter:EXPORTER")

    return install


def test_a_fake_export_works_as_a_real_one_does(
    fake: Callable[[Fake], None], capsys: pytest.CaptureFixture[str]
) -> None:
    fake(Fake())
    assert look("fake").state == "works"
    assert "what the converter said" in capsys.readouterr().out  # for --debug


def raising(error: BaseException, cause: BaseException | None = None) -> Callable[[], None]:
    def end() -> None:
        raise error from cause

    return end


@pytest.mark.parametrize(
    ("module", "extra"), [("torch", "compress"), ("coremltools", "coreml"), ("ai_edge_litert", "tflite")]
)
def test_a_package_that_is_not_installed_is_no_problem_and_its_extra_is_named(
    module: str, extra: str, fake: Callable[[Fake], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "find_spec", lambda name: None)
    cause = ModuleNotFoundError(f"No module named '{module}.part'", name=f"{module}.part")
    fake(Fake(raising(ConversionError("converting failed"), cause)))
    finding = look("fake")
    assert (finding.level, finding.state) == ("note", "not installed")
    assert finding.mend == f"pip install 'pocketface[{extra}]'"
    assert module in finding.reason


@pytest.mark.parametrize(
    "error",
    [
        ModuleNotFoundError("No module named 'torch.gone'", name="torch.gone"),  # torch itself is there
        ImportError("libgone.so: cannot open shared object file"),
        ConversionError("layer.onnx: converting Conv2d failed", next="See the log"),
    ],
)
def test_an_export_that_fails_is_a_problem_with_a_way_out(error: Exception, fake: Callable[[Fake], None]) -> None:
    fake(Fake(raising(error)))
    finding = look("fake")
    assert (finding.level, finding.state, finding.values["export"]) == ("problem", "export failed", "failed")
    assert str(error).split(". ")[0] in finding.reason
    assert finding.mend.startswith("pip install ")


def test_a_runtime_that_fails_is_told_from_an_export_that_fails(
    fake: Callable[[Fake], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    fake(Fake())
    monkeypatch.setattr(doctor, "executor", lambda exported: raising(RuntimeError("illegal instruction"))())
    finding = look("fake")
    assert (finding.level, finding.state, finding.values["run"]) == ("problem", "run failed", "failed")
    assert finding.values["export"] != "failed"
    assert "illegal instruction" in finding.reason


def test_nothing_that_runs_it_is_said_and_no_problem(
    fake: Callable[[Fake], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    fake(Fake())
    monkeypatch.setattr(doctor, "executor_of", lambda format: None)
    finding = look("fake")
    assert (finding.level, finding.state, finding.values["run"]) == ("ok", "exports", "nothing here runs it")


@pytest.mark.parametrize("result", ["sign", "nan", "shape"])
def test_a_wrong_result_is_a_problem(
    result: str, fake: Callable[[Fake], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    fake(Fake())
    right = layer.expected(layer.image())
    wrong = {"sign": -right, "nan": right * np.float32("nan"), "shape": right[..., :1]}[result]
    backend = type("B", (), {"executor": "fake 1", "run": lambda self, inputs: {layer.OUTPUT: wrong}})()
    monkeypatch.setattr(doctor, "executor", lambda exported: backend)
    finding = look("fake")
    assert (finding.level, finding.state, finding.values["executor"]) == ("problem", "wrong result", "fake 1")


def test_the_stored_tflite_file_holds_the_layer() -> None:
    data = runtimes.probes()["tflite"].data
    assert layer.weights().transpose(0, 2, 3, 1).tobytes() in data  # TFLite: output, height, width, input
    assert b"image" in data
    assert b"value" in data
