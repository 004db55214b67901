"""The ExecuTorch backend against torch, on the tiny network."""

from __future__ import annotations

import gc
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

pytest.importorskip("executorch")
from tiny_export import exported, inputs, torch_outputs

from pocketface.sdk.backends import executorch as module
from pocketface.sdk.backends.executorch import ExecutorchBackend
from pocketface.sdk.errors import BadInputError, BundleError, MissingExtraError
from pocketface.sdk.manifest import Binding, FileEntry, Tolerances, Variant

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def path() -> Path:
    return exported("executorch").path


@pytest.fixture(scope="module")
def variant() -> Variant:
    item = exported("executorch")
    return Variant(
        id="fp32.pte",
        format="executorch",
        precision="fp32",
        files=(),
        inputs=dict(item.inputs),
        outputs=dict(item.outputs),
        tolerances=Tolerances(),
        status="passed",
    )


def changed(variant: Variant, kind: str, name: str, **fields: Any) -> Variant:
    bindings: dict[str, Binding] = dict(getattr(variant, kind))
    bindings[name] = msgspec.structs.replace(bindings[name], **fields)
    return msgspec.structs.replace(variant, **{kind: bindings})


@pytest.mark.parametrize("threads", [1, 2])
def test_agrees_with_torch(path: Path, variant: Variant, threads: int) -> None:
    images = inputs(4)
    points, score = torch_outputs(images)
    backend = ExecutorchBackend(path, variant, threads=threads)
    found = [backend.run({"image": images[index : index + 1]}) for index in range(4)]  # kept: none overwrites another
    for index, result in enumerate(found):
        assert result["points"].dtype == np.float32
        assert np.abs(result["points"][0] - points[index]).max() < 1e-5
        assert np.abs(result["score"] - score[index]).max() < 1e-4
    assert backend.executor.startswith("ExecuTorch 1.5")
    assert backend.executor.endswith("(XNNPACK)")


def test_each_variant_runs_with_its_own_number_of_threads(path: Path, variant: Variant) -> None:
    """The pool is one for the process, so it changes from run to run, and what used the old one is loaded again."""
    backends = {count: ExecutorchBackend(path, variant, threads=count) for count in (1, 2, 3)}
    image = inputs(1)
    expected = torch_outputs(image)[0]
    for count in (1, 3, 2, 2, 1):
        assert np.abs(backends[count].run({"image": image})["points"] - expected).max() < 1e-5
        assert module._pool().threads() == count
    method = backends[1]._method
    backends[1].run({"image": image})
    assert backends[1]._method is method  # nothing is loaded again without need
    del backends, method
    gc.collect()
    assert not module._LOADED


def test_outputs_are_found_by_their_place(path: Path, variant: Variant) -> None:
    with pytest.raises(BundleError, match=r"output 'points' is float32 \(1,\), expected float32 \(1, 68, 2\)"):
        ExecutorchBackend(path, changed(variant, "outputs", "points", tensor="1"))
    with pytest.raises(BundleError, match=r"no output '2' \(for 'score'\). Valid: 0, 1"):
        ExecutorchBackend(path, changed(variant, "outputs", "score", tensor="2"))
    with pytest.raises(BundleError, match=r"no input 'image' \(for 'image'\). Valid: 0"):
        ExecutorchBackend(path, changed(variant, "inputs", "image", tensor="image"))
    with pytest.raises(BundleError, match=r"input 'image' is float32 .*expected uint8"):
        ExecutorchBackend(path, changed(variant, "inputs", "image", dtype="uint8"))
    with pytest.raises(BundleError, match=r"takes 1 inputs, its bindings name 0"):
        ExecutorchBackend(path, msgspec.structs.replace(variant, inputs={}))


def test_files_that_are_none(path: Path, variant: Variant, tmp_path: Path, capfd: Any) -> None:
    whole = path.read_bytes()
    bad = tmp_path / "bad.pte"
    for data, reason in ((b"", "offset"), (b"no model" * 40, "identifier"), (whole[:4000], "too small")):
        bad.write_bytes(data)
        with pytest.raises(BundleError, match=rf"bad\.pte: ExecuTorch refuses it \(.*{reason}.*error: 0x"):
            ExecutorchBackend(bad, variant)
    assert capfd.readouterr() == ("", "")


def test_bad_requests(path: Path, variant: Variant, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadInputError, match="threads 0, expected 1 or more"):
        ExecutorchBackend(path, variant, threads=0)
    with pytest.raises(BadInputError, match="input 'image' is missing"):
        ExecutorchBackend(path, variant).run({})
    listed = (FileEntry(path="models/a.pte", bytes=1, sha256="0" * 64),)
    with pytest.raises(BundleError, match="not the file the manifest describes"):
        ExecutorchBackend(path, msgspec.structs.replace(variant, files=listed))
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    assert not ExecutorchBackend.available()
    with pytest.raises(MissingExtraError, match=r"pocketface\[executorch\]"):
        ExecutorchBackend(path, variant)


def test_loading_prints_nothing_and_changes_no_filter(path: Path, variant: Variant) -> None:
    """In a process of its own: the runtime speaks when it is loaded for the first time."""
    code = (
        "import logging, sys, warnings, msgspec, numpy as np; from pathlib import Path;"
        "from pocketface.sdk.backends.executorch import ExecutorchBackend; from pocketface.sdk.manifest import Variant;"
        "state = lambda: (list(warnings.filters), logging.root.handlers[:], logging.root.level);"
        "before = state(); variant = msgspec.json.decode(sys.argv[2], type=Variant);"
        "image = np.zeros((1, 3, 32, 32), np.float32); image.flags.writeable = False;"
        "ExecutorchBackend(Path(sys.argv[1]), variant).run({'image': image});"
        "assert state() == before, (state(), before)"
    )
    command = [sys.executable, "-c", code, str(path), msgspec.json.encode(variant).decode()]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
