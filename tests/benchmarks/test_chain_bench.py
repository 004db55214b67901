"""Chains in the benchmarks: each stage timed, memory of all stages, accuracy under the chain's id, and the commands."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from bundle_factory import picture
from chain_factory import MARKS, Nets, make_chain
from PIL import Image
from typer.testing import CliRunner

from pocketface.benchmarks import latency
from pocketface.benchmarks.accuracy import evaluate
from pocketface.benchmarks.data.face import Face
from pocketface.benchmarks.data.pts import format_points
from pocketface.benchmarks.latency import measure
from pocketface.benchmarks.robustness import evaluate_degraded
from pocketface.sdk import load
from pocketface.sdk.bundle import open_bundle
from pocketface.sdk.cli import app
from pocketface.sdk.errors import BundleError
from pocketface.sdk.results import Timings

STAGES = ["relocalize", "uniformize", "landmarks"]
MIX = "relocalize.w8a8.onnx+uniformize.fp32.onnx+landmarks.fp32.onnx"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    nets = {"fp32": Nets(), "w8a8": Nets(correction=(0.1, 0.0, 1.0, 1.0))}
    return make_chain(tmp_path_factory.mktemp("chain") / "bundle", nets=nets, formats=("onnx", "coreml"))


@pytest.fixture(autouse=True)
def _idle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latency, "busy_share", lambda: 0.0)


def test_each_stage_has_the_median_of_its_own_totals(folder: Path, monkeypatch: pytest.MonkeyPatch):
    off = Timings(900, 900, 900, {"a": Timings(300, 300, 300), "b": Timings(600, 600, 600)})
    script = [
        Timings(2, 3, 1, {"a": Timings(1, 1, 0.5), "b": Timings(1, 2, 0.5)}),
        Timings(2, 9, 1, {"a": Timings(1, 7, 0.5), "b": Timings(1, 2, 0.5)}),
        Timings(2, 6, 1, {"a": Timings(1, 2, 0.5), "b": Timings(1, 4, 0.5)}),
    ]

    class Scripted:
        executor = "script"

        def __init__(self, *args, **kwargs) -> None:
            self.times = iter([off, off, *script])  # loading, a warm-up, three runs

        def __call__(self, image, boxes) -> None:
            self.timings = next(self.times)

    monkeypatch.setattr(latency, "predictor_of", Scripted)
    with open_bundle(folder) as bundle:
        result = measure(bundle, ["fp32.onnx"], threads=(1,), runs=3, warmup=1, memory=False, settle_ms=0)
    ((_, item),) = result
    assert item.stages == pytest.approx({"a": 3.5, "b": 3.5})
    assert (item.p50_ms, item.pre_ms, item.inference_ms, item.post_ms) == pytest.approx((9, 2, 6, 1))


def test_all_chains_of_a_bundle_and_a_mix_are_measured_with_memory(folder: Path):
    with open_bundle(folder) as bundle:
        every = measure(bundle, threads=(1,), runs=2, warmup=0, memory=False)
        mixed = measure(bundle, [MIX], threads=(1,), runs=1, warmup=0, settle_ms=0)
        with pytest.raises(BundleError, match="stage 'relocalize'"):
            measure(bundle, ["w4.onnx"], memory=False)
    assert [name for name, _ in every] == ["fp32.onnx", "w8a8.onnx"]
    assert (every.reference, mixed.reference) == ("fp32.onnx", MIX)
    assert every.skipped == dict.fromkeys(("fp32.coreml", "w8a8.coreml"), "nothing here can run coreml")
    for _, item in (*every, *mixed):
        assert list(item.stages) == STAGES
        assert min(item.stages.values()) > 0
        assert sum(item.stages.values()) == pytest.approx(item.p50_ms, rel=0.5)  # medians do not add up exactly
    assert 20 < mixed[0][1].peak_rss_mb < 2000
    assert "each stage of a chain" in str(every)
    assert every.to_dict()["rows"][0]["stages"] == every[0][1].stages


@pytest.fixture
def faces(tmp_path: Path) -> list[Face]:
    made = []
    for number in range(2):
        path = tmp_path / "data" / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(picture(seed=number)).save(path)
        made.append(Face(str(number), path, (45, 35) + (20 + 4 * number) * MARKS))
        path.with_suffix(".pts").write_text(format_points(made[-1].points))
    return made


def test_accuracy_of_a_chain_is_told_under_its_id(folder: Path, faces: list[Face]):
    """The mix looks a tenth of a box to the right, so every landmark is a tenth of a box off, in eye distances."""
    plain, moved = (evaluate(load(folder, variant=id), faces) for id in ("fp32.onnx", MIX))
    assert (plain.variant, moved.variant, moved.scheme) == ("fp32.onnx", MIX, "kite4")
    assert plain.executor.startswith("onnxruntime ")
    shift = np.mean([0.1 * face.box.width / np.hypot(*(face.points[0] - face.points[1])) for face in faces])
    difference = [np.linalg.norm(a - b, axis=-1) for a, b in zip(plain.predictions, moved.predictions, strict=True)]
    assert np.ptp(difference[0]) < 1e-4  # every landmark moves alike
    eyes = [np.hypot(*(face.points[0] - face.points[1])) for face in faces]
    assert np.mean([d.mean() / e for d, e in zip(difference, eyes, strict=True)]) == pytest.approx(shift, rel=1e-4)
    robust = evaluate_degraded(load(folder), faces, names=("none", "noise"))
    assert robust.variant == "fp32.onnx"
    assert robust["none"].nme == pytest.approx(plain.accuracy.nme)


def call(*words: object) -> str:
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    return result.output


def test_bench_and_eval_take_chains(folder: Path, faces: list[Face], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(latency, "peak_rss_mb", lambda *args, **kwargs: 50.0)
    shown = call("bench", folder, "--runs", 1, "--threads", 1, "--json", tmp_path / "bench.json")
    for text in (*STAGES, "w8a8.onnx", "fp32.coreml: not measured: nothing here can run coreml"):
        assert text in shown
    rows = json.loads((tmp_path / "bench.json").read_text())["rows"]
    assert [list(row["stages"]) for row in rows] == [STAGES, STAGES]
    data = faces[0].image.parent
    call("eval", folder, "--data", data, "--variant", "all", "--json", tmp_path / "all.json")
    report = json.loads((tmp_path / "all.json").read_text())
    assert [row["variant"] for row in report["variants"]] == ["fp32.onnx", "w8a8.onnx"]
    assert report["not_run"] == dict.fromkeys(("fp32.coreml", "w8a8.coreml"), "nothing here runs coreml")
    call("eval", folder, "--data", data, "--variant", MIX, "--json", tmp_path / "mix.json")
    assert json.loads((tmp_path / "mix.json").read_text())["variants"][0]["variant"] == MIX
