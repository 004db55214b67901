"""``pocketface verify`` on a sound bundle, and on every way in which one can be wrong."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from bundle_factory import edit_manifest, make_bundle, picture, replace_file
from onnx import numpy_helper
from PIL import Image
from tiny_export import exported
from verify_command import Run

from pocketface.converters import verify
from pocketface.converters.bundle import Candidate, npz_bytes
from pocketface.converters.executors import executor_of
from pocketface.sdk.geometry import Box
from pocketface.sdk.predictor import load


def change_variant(folder: Path, id: str, change: Callable[[dict[str, Any]], None]) -> None:
    """Edit one variant of the manifest in place."""

    def edit(raw: dict[str, Any]) -> None:
        change(next(item for item in raw["stages"][0]["variants"] if item["id"] == id))

    edit_manifest(folder, edit)


def damage(folder: Path, path: str, factor: float = -1.0) -> None:
    """Scale the weights of one convolution in an ONNX file of a bundle, and mend the manifest's hash."""
    model = onnx.load(folder / path)
    tensor = next(item for item in model.graph.initializer if item.name == "features.4.0.weight")
    values = numpy_helper.to_array(tensor)
    values = (values * factor).astype(values.dtype)
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    replace_file(folder, path, model.SerializeToString())


def write_faces(folder: Path, bundle: Path, count: int = 3, noise: float = 0.3) -> Path:
    """Pictures with .pts files: what the fp32 variant says, and some noise."""
    folder.mkdir()
    predictor, rng = load(bundle, variant="fp32.onnx"), np.random.default_rng(1)
    for number in range(count):
        image = picture(seed=10 + number)
        points = predictor(image, [Box(20, 8, 71, 59)])[0].points
        points = points + rng.normal(0, noise, points.shape)
        Image.fromarray(image).save(folder / f"{number}.png")
        rows = "\n".join(f"{x + 1} {y + 1}" for x, y in points)  # .pts counts from 1
        (folder / f"{number}.pts").write_text(f"version: 1\nn_points: 68\n{{\n{rows}\n}}\n")
    return folder


@pytest.mark.slow
def test_a_sound_bundle_passes(bundle: Path, run: Run, tmp_path: Path) -> None:
    code, out, err = run(bundle, "--json", tmp_path / "r.json")
    assert (code, err) == (0, "")
    assert out.count("passed") == 3
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["passed"] is True
    assert [item["id"] for item in report["variants"]] == ["fp32.onnx", "fp16.onnx", "fp32.tflite"]
    for item in report["variants"]:
        assert item["golden"]["faces"] == 3
        assert 0 <= item["golden"]["outputs"]["points"]["max_error"] <= 2e-3
        assert item["task"] is None
    assert run(bundle, "--json", tmp_path / "r.json")[0] == 2  # exists
    code, out, _ = run(bundle, "--variant", "fp32.tflite", "--json", "-")
    assert code == 0
    assert [item["id"] for item in json.loads(out)["variants"]] == ["fp32.tflite"]


@pytest.mark.slow
def test_a_damaged_network_fails_and_is_named(bundle: Path, run: Run) -> None:
    damage(bundle, "models/tiny.fp16.onnx")
    code, out, err = run(bundle)
    assert code == 1
    assert "fp16.onnx failed: golden cases: max error of points" in err
    assert "> 0.002 crop sides" in err
    assert len(err.strip().splitlines()) == 1
    assert "fp32.onnx failed" not in err
    assert out.count("passed") == 2
    assert run(bundle, "--variant", "fp32.onnx")[0] == 0
    assert run(bundle, "--variant", "fp16.onnx", "--allow-unchecked")[0] == 1


@pytest.mark.slow
def test_nan_weights_fail(bundle: Path, run: Run) -> None:
    damage(bundle, "models/tiny.fp32.onnx", factor=float("nan"))
    code, _, err = run(bundle)
    assert code == 2  # refused before anything runs
    assert "holds NaN or infinity" in err


@pytest.mark.slow
def test_accuracy_is_compared_on_annotated_faces(bundle: Path, run: Run, tmp_path: Path) -> None:
    data = write_faces(tmp_path / "faces", bundle)
    code, out, err = run(bundle, "--data", data, "--json", "-")
    assert (code, err) == (0, "")
    report = json.loads(out)
    assert (report["reference"], report["faces"]) == ("fp32.onnx", 3)
    for item in report["variants"]:
        assert item["task"]["nme_reference"] == pytest.approx(item["task"]["nme"], abs=0.05)
        assert item["task"]["nme"] > 0.1
    assert json.loads(run(bundle, "--data", data, "--limit", 2, "--json", "-")[1])["faces"] == 2
    # The same change that is far beyond 0.001 points of NME is far within 10.
    damage(bundle, "models/tiny.fp16.onnx", 1.5)
    for bound, expected in ((1e-3, 1), (10, 0)):

        def loose(variant: dict[str, Any], bound: float = bound) -> None:
            variant["tolerances"] = {"max_nme_increase": bound}
            variant["parity"]["golden_error"] = 0.5

        change_variant(bundle, "fp16.onnx", loose)
        code, out, err = run(bundle, "--data", data)
        assert code == expected
        assert ("fp16.onnx failed: annotated faces: NME increase" in err) == bool(expected)


@pytest.mark.slow
def test_a_recorded_golden_error_must_come_out_again(bundle: Path, run: Run) -> None:
    """How quantized variants, which have no bound on tensors, are held."""

    def like_quantized(variant: dict[str, Any]) -> None:
        variant["tolerances"] = {"max_nme_increase": 0.6}

    change_variant(bundle, "fp16.onnx", like_quantized)
    assert run(bundle)[0] == 0
    damage(bundle, "models/tiny.fp16.onnx")
    code, _, err = run(bundle)
    assert code == 1
    assert "fp16.onnx failed: golden cases: mean landmark distance to torch" in err
    change_variant(bundle, "fp16.onnx", lambda variant: variant["parity"].update(golden_error=None))
    code, _, err = run(bundle)
    assert code == 1
    assert "fp16.onnx unchecked: no golden error was recorded" in err


@pytest.mark.slow
def test_what_cannot_run_here_is_unchecked(
    tmp_path: Path, write: Any, candidate: Any, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verify, "executor_of", lambda format: executor_of(format) if format != "coreml" else None)
    coreml = Candidate(exported("coreml"), None)
    bundle = write(tmp_path / "b", [candidate("onnx", "fp32"), coreml], allow_unverified=("fp32.coreml",))
    code, out, err = run(bundle)
    assert code == 1
    assert "fp32.coreml unchecked: nothing here can run coreml" in err
    assert "--allow-unchecked" in err
    assert "unchecked" in out
    assert run(bundle, "--allow-unchecked")[0] == 0
    code, _, err = run(bundle, "--allow-unchecked", "--variant", "fp32.coreml")
    assert code == 1
    assert "nothing was checked" in err
    # Its tensors are read all the same.
    change_variant(bundle, "fp32.coreml", lambda variant: variant["outputs"]["score"].update(tensor="logit"))
    code, _, err = run(bundle, "--allow-unchecked")
    assert code == 1
    assert "fp32.coreml failed: output 'score' should be tensor 'logit', the file has points, score" in err


@pytest.mark.slow
def test_libraries_that_chatter_on_import_are_not_heard(tmp_path: Path, write: Any, candidate: Any) -> None:
    """coremltools warns on import of what is missing here; a process of its own, as it is imported once."""
    coreml = Candidate(exported("coreml"), None)
    bundle = write(tmp_path / "b", [candidate("onnx", "fp32"), coreml], allow_unverified=("fp32.coreml",))
    code = "import sys; from pocketface.sdk.cli import main; main()"
    command = [sys.executable, "-c", code, "verify", str(bundle)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "COLUMNS": "160"})
    assert (done.returncode, done.stderr) == (0, "")
    assert "coremltools" not in done.stdout
    assert "mil-reference" in done.stdout or "Core ML" in done.stdout


def test_a_bundle_built_without_torch_is_verified_without_torch(tmp_path: Path) -> None:
    folder = make_bundle(tmp_path / "b")
    code = (
        "import sys; sys.modules['torch'] = None; sys.modules['onnx'] = None\n"
        "from pocketface.sdk.cli import main; sys.argv = ['pocketface', 'verify', sys.argv[1]]; main()"
    )
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_unverified_without_leave_fails(tmp_path: Path, run: Run) -> None:
    folder = make_bundle(tmp_path / "b", variants=("fp32.onnx", "fp32.coreml"))
    code, _, err = run(folder, "--allow-unchecked")
    assert code == 1
    assert "without being listed in allow_unverified" in err


def test_failed_variants_that_are_shipped_fail(tmp_path: Path, run: Run) -> None:
    folder = make_bundle(tmp_path / "b")
    change_variant(folder, "fp32.onnx", lambda variant: variant.update(status="failed", reason="NME"))
    code, _, err = run(folder)
    assert code == 1
    assert "shipped although it failed when it was built: NME" in err


def test_wrong_bindings_fail(tmp_path: Path, run: Run) -> None:
    folder = make_bundle(tmp_path / "b", variants=("fp32.onnx", "fp16.onnx"))
    change_variant(folder, "fp16.onnx", lambda variant: variant["outputs"]["points"].update(tensor="landmarks"))
    code, _, err = run(folder)
    assert code == 1
    assert "fp16.onnx failed: output 'points' should be tensor 'landmarks', the file has points, score" in err


@pytest.mark.parametrize(
    ("array", "words"),
    [
        ("step0.input.image", "network input off by 1"),
        ("step0.decoded.points", "decoded landmarks off by 1"),
        ("step0.decoded.score", "decoded score off by 1"),
        ("step0.output.points", "max error of points"),
        ("step0.output.score", "max error of score"),
    ],
)
def test_every_step_of_a_golden_case_counts(tmp_path: Path, run: Run, array: str, words: str) -> None:
    folder = make_bundle(tmp_path / "b", golden=1)
    with np.load(folder / "golden/000.npz") as case:
        arrays = {name: case[name] for name in case.files}
    arrays[array] = arrays[array] + arrays[array].dtype.type(1)
    replace_file(folder, "golden/000.npz", npz_bytes(arrays))
    code, _, err = run(folder)
    assert code == 1
    assert words in err


def test_altered_files_and_bad_requests_are_bad_input(tmp_path: Path, run: Run) -> None:
    folder = make_bundle(tmp_path / "b")
    assert run(folder, "--variant", "w4.onnx")[0] == 2
    assert run(folder, "--limit", -1)[0] == 2
    assert run(folder, "--data", tmp_path / "nowhere")[0] == 2
    data = bytearray((folder / "models/tiny.fp32.onnx").read_bytes())
    data[len(data) // 2] ^= 1
    (folder / "models/tiny.fp32.onnx").write_bytes(bytes(data))
    code, _, err = run(folder)
    assert code == 2
    assert "models/tiny.fp32.onnx has SHA-256" in err


def test_golden_npz_files_hold_what_numpy_reads(tmp_path: Path) -> None:
    """The helper above rewrites golden cases as the bundle writer does; numpy must agree on their content."""
    folder = make_bundle(tmp_path / "b", golden=1)
    with np.load(folder / "golden/000.npz") as case:
        again = np.load(io.BytesIO(npz_bytes({name: case[name] for name in case.files})))
        assert all(np.array_equal(case[name], again[name]) for name in case.files)
