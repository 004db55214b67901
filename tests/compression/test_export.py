"""``pocketface export``: a checkpoint to files, each compared with torch."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pocketface.benchmarks.data.synthetic import write_dataset
from pocketface.compression import export
from pocketface.compression.models.checkpoint import save_network
from pocketface.compression.models.registry import ModelSpec
from pocketface.compression.trial import random_network
from pocketface.converters.formats.registry import EXPORTERS
from pocketface.converters.verdict import GATES
from pocketface.sdk.cli import main
from pocketface.sdk.errors import BadInputError
from pocketface.sdk.manifest import Tolerances

pytestmark = pytest.mark.slow

SPEC = ModelSpec(name="mobilenetv2", width=0.25, input_size=32)
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    net = random_network(SPEC)
    turn = torch.arange(68) * (2 * torch.pi / 68)
    net.set_mean_shape(torch.stack([0.3 * turn.cos(), 0.35 * turn.sin()], 1))  # type: ignore[operator]
    path = tmp_path_factory.mktemp("checkpoint") / "net.safetensors"
    save_network(net, path, SPEC)  # type: ignore[arg-type]
    return path


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("faces")
    write_dataset(root / "drawn", count=12, seed=5, size=64)
    return root


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["pocketface", "export", *(str(item) for item in arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), " ".join(out.split()), " ".join(err.split())

    return call


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_every_combination_that_exists_is_made(checkpoint: Path, faces: Path, tmp_path: Path, run: Run) -> None:
    out = tmp_path / "out"
    code, _, err = run(checkpoint, "--to", "onnx", "--precision", "fp32,pal4", "--out", out, "--data", faces)
    assert code == 2  # no format of these has palettes
    assert "onnx has no 'pal4'" in err
    code, _, err = run(checkpoint, "--to", "onnx", "--precision", "fp32,w8,w8a8", "--out", out, "--data", faces)
    assert code == 0, err
    assert names(out) == ["export.json", "net.fp32.onnx", "net.w8.onnx", "net.w8a8.onnx"]
    stored = json.loads((out / "export.json").read_text())
    assert stored["network"] == "net"
    assert [(row["id"], row["status"]) for row in stored["rows"]] == [
        ("fp32.onnx", "passed"), ("w8.onnx", "passed"), ("w8a8.onnx", "passed")
    ]  # fmt: skip
    assert all(row["nme"] is not None for row in stored["rows"])
    assert stored["rows"][0]["relative_error"] <= 1e-5
    assert str(tmp_path) not in (out / "export.json").read_text()
    code, _, err = run(checkpoint, "--to", "onnx", "--out", out)
    assert code == 2
    assert "net.fp32.onnx" in err
    assert "exists" in err


def test_a_precision_that_one_format_lacks_is_said(checkpoint: Path, tmp_path: Path, run: Run) -> None:
    code, text, _ = run(checkpoint, "--to", "onnx,coreml", "--precision", "pal4", "--out", tmp_path / "out")
    assert code == 0
    assert "onnx has fp32, fp16, w8, w8a8" in text
    # Whether rounding costs accuracy is not known without faces.
    assert "pal4.coreml: its NME is not known without annotated faces: give --data" in text


def test_calibration_needs_faces(checkpoint: Path, tmp_path: Path, run: Run) -> None:
    code, _, err = run(checkpoint, "--to", "onnx", "--precision", "w8a8", "--out", tmp_path / "out")
    assert code == 2
    assert "w8a8 of onnx looks at faces" in err
    assert "pocketface synth" in err
    assert not (tmp_path / "out").exists()


def test_a_file_beyond_its_bound_is_set_apart(
    checkpoint: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(GATES, "fp32", Tolerances(max_tensor_error=1e-12))
    code, text, err = run(checkpoint, "--to", "onnx", "--out", tmp_path / "out")
    assert code == 1
    assert "fp32.onnx do not give what torch gives" in err
    assert "max error of points" in text
    assert names(tmp_path / "out") == ["export.json", "failed/net.fp32.onnx"]


def test_rounding_apart_a_broken_file_fails_without_faces_too(
    checkpoint: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnx
    from onnx import numpy_helper

    original = export.make

    def make(net: Any, format: str, precision: str, *args: Any, **settings: Any) -> Any:
        made = original(net, format, precision, *args, **settings)
        if precision == "w8":
            model = onnx.load(made.path)
            scale = next(tensor for tensor in model.graph.initializer if tensor.name.endswith(".scale"))
            values = numpy_helper.to_array(scale).copy()
            values[0] = np.nan
            scale.CopyFrom(numpy_helper.from_array(values, scale.name))
            onnx.save(model, made.path)
        return made

    monkeypatch.setattr(export, "make", make)
    out = tmp_path / "out"
    code, text, err = run(checkpoint, "--to", "onnx", "--precision", "fp32,w8", "--out", out)
    assert code == 1
    assert "w8.onnx do not give what torch gives" in err
    assert "NaN" in text
    assert names(out) == ["export.json", "failed/net.w8.onnx", "net.fp32.onnx"]
    code, text, err = run(checkpoint, "--to", "onnx", "--precision", "w8", "--out", out)
    assert code == 2  # the failed one would be replaced
    assert "failed/net.w8.onnx" in err


def test_a_variant_lies_in_one_place_and_the_record_holds_all(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"

    def made(precision: str, **bounds: float) -> list[str]:
        if bounds:
            monkeypatch.setitem(GATES, "fp32", Tolerances(**bounds))
        export.export_checkpoint(checkpoint, out, formats=["onnx"], precisions=[precision], force=True)
        return names(out)

    assert made("fp32") == ["export.json", "net.fp32.onnx"]
    assert made("fp32", max_tensor_error=1e-12) == ["export.json", "failed/net.fp32.onnx"]
    assert made("fp32", max_tensor_error=1.0) == ["export.json", "net.fp32.onnx"]
    assert made("fp16") == ["export.json", "net.fp16.onnx", "net.fp32.onnx"]
    record = json.loads((out / "export.json").read_text())
    assert [row["id"] for row in record["rows"]] == ["fp32.onnx", "fp16.onnx"]
    other = tmp_path / "net.safetensors"
    save_network(random_network(SPEC, seed=1), other, SPEC)  # type: ignore[arg-type]
    with pytest.raises(BadInputError, match="files of another checkpoint"):
        export.export_checkpoint(other, out, formats=["onnx"], precisions=["w8"])


def test_the_log_of_a_failed_conversion_is_kept(
    checkpoint: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        print("details of the converter")
        raise RuntimeError("no such thing")

    monkeypatch.setattr(type(EXPORTERS["onnx"]), "convert", refuse)
    code, text, _ = run(checkpoint, "--to", "onnx", "--out", tmp_path / "out")
    assert code == 1
    assert names(tmp_path / "out") == ["export.json", "failed/net.fp32.onnx.log"]
    assert "details of the converter" in (tmp_path / "out/failed/net.fp32.onnx.log").read_text()
    assert "failed/net.fp32.onnx.log" in text.replace(" ", "")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ("onnx.opset=[1", "no YAML value"),
        ("onnx.opset=5", "opset: 5, expected 18 to 23"),
        ("onnx.fp32.opset=20", "expected onnx.opset=..."),
        ("tflite.x=1", "'tflite' is not exported to"),
    ],
)
def test_settings_that_make_no_sense_are_refused(
    settings: str, words: str, checkpoint: Path, tmp_path: Path, run: Run
) -> None:
    code, _, err = run(checkpoint, "--to", "onnx", "--out", tmp_path / "out", "--set", settings)
    assert code == 2
    assert words in err
    assert not (tmp_path / "out").exists()


def test_a_file_is_no_folder(checkpoint: Path, tmp_path: Path, run: Run) -> None:
    (tmp_path / "out").write_text("mine")
    code, _, err = run(checkpoint, "--to", "onnx", "--out", tmp_path / "out")
    assert code == 2
    assert "is a file, expected a folder" in err
    code, _, err = run(checkpoint, "--to", "onnx", "--out", tmp_path / "out" / "below")
    assert code in (2, 3)
    assert "Traceback" not in err


def test_settings_reach_the_exporter(checkpoint: Path, tmp_path: Path, run: Run) -> None:
    import onnx

    out = tmp_path / "out"
    code, _, err = run(checkpoint, "--to", "onnx", "--out", out, "--set", "onnx.opset=20")
    assert code == 0, err
    model = onnx.load(out / "net.fp32.onnx")
    assert [item.version for item in model.opset_import if item.domain == ""] == [20]
    code, _, err = run(checkpoint, "--to", "onnx", "--out", out, "--force", "--set", "onnx.opest=20")
    assert code == 2
    assert "did you mean 'opset'" in err
    assert run(checkpoint, "--to", "onnx", "--out", out, "--set", "opset=20")[0] == 2


def test_pixels_go_in_where_asked(checkpoint: Path, tmp_path: Path, run: Run) -> None:
    import onnx

    code, text, err = run(checkpoint, "--to", "onnx", "--pixels", "--out", tmp_path / "out")
    assert code == 0, err
    model = onnx.load(tmp_path / "out" / "net.fp32.onnx")
    assert model.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert "passed" in text


def test_what_is_no_checkpoint_is_refused(tmp_path: Path, run: Run) -> None:
    code, _, err = run(tmp_path / "no.safetensors", "--out", tmp_path / "out")
    assert code == 2
    assert "no such checkpoint" in err
    assert "Traceback" not in err
