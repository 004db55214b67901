"""Latency on a tiny bundle: what is timed, in which order, against what; and variants that cannot run."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest
from bundle_factory import make_bundle, replace_file, zip_bundle

from pocketface.benchmarks import latency
from pocketface.benchmarks.latency import LatencyResult, measure
from pocketface.benchmarks.machine import this_machine
from pocketface.benchmarks.peak_rss import peak_rss_mb
from pocketface.sdk.bundle import open_bundle
from pocketface.sdk.errors import BadInputError, BundleError, EnvironmentProblemError
from pocketface.sdk.manifest import Latency
from pocketface.sdk.results import Timings

VARIANTS = ("w8a8.onnx", "fp32.onnx", "fp16.coreml")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("latency") / "bundle", variants=VARIANTS)


@pytest.fixture(autouse=True)
def _idle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looking whether the machine is busy takes a third of a second a call."""
    monkeypatch.setattr(latency, "busy_share", lambda: 0.25)


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch):
    """Replaces the predictor by one whose times are known: variant -> times of each call; returns the calls made."""
    calls: list[tuple[str, int]] = []

    def install(script: dict[str, list[tuple[float, float, float]]]) -> list[tuple[str, int]]:
        class Scripted:
            def __init__(self, bundle, *, variant: str, threads: int, delegate: str) -> None:
                if (delegate, variant) == ("npu", "w8a8.onnx"):
                    raise EnvironmentProblemError("no delegate 'npu' for w8a8")
                self.variant, self.threads, self.times = variant, threads, iter(script[variant])
                self.executor = f"script of {variant}"

            def __call__(self, image, boxes) -> None:
                calls.append((self.variant, self.threads))
                self.timings = Timings(*next(self.times))

        monkeypatch.setattr(latency, "predictor_of", Scripted)
        return calls

    return install


def test_figures_by_hand(folder: Path, scripted):
    # First the load run and one warm-up, far off, to be left out; then four runs.
    off = [(900.0, 900.0, 900.0)] * 2
    slow = [(1.0, 10.0, 0.5), (2.0, 20.0, 0.5), (3.0, 30.0, 0.5), (4.0, 40.0, 0.5)]
    fast = [(1.0, 5.0, 0.5), (1.0, 5.0, 0.5), (1.0, 5.0, 0.5), (1.0, 9.0, 0.5)]
    scripted({"fp32.onnx": off + slow, "w8a8.onnx": off + fast})
    with open_bundle(folder) as bundle:
        result = measure(bundle, threads=(1,), runs=4, warmup=1, memory=False, settle_ms=0)
    assert [name for name, _ in result] == ["w8a8.onnx", "fp32.onnx"]
    assert result.reference == "fp32.onnx"  # although it is not the first
    (w8a8,), (fp32,) = result.of("w8a8.onnx"), result.of("fp32.onnx")
    # Totals of fp32 are 11.5, 22.5, 33.5, 44.5: linear percentiles between the sorted values.
    assert (fp32.p50_ms, fp32.p90_ms, fp32.p99_ms) == pytest.approx((28.0, 41.2, 44.17))
    assert (fp32.pre_ms, fp32.inference_ms, fp32.post_ms, fp32.ratio) == pytest.approx((2.5, 25.0, 0.5, 1.0))
    assert w8a8.ratio == pytest.approx(5 / 25)
    assert (w8a8.threads, w8a8.runs, w8a8.executor) == (1, 4, "script of w8a8.onnx")
    assert fp32.cpu == this_machine().cpu


def test_without_fp32_onnx_the_first_is_the_reference(folder: Path, scripted):
    scripted({"w8a8.onnx": [(1.0, 2.0, 3.0)] * 2})
    with open_bundle(folder) as bundle:
        result = measure(bundle, ["w8a8.onnx"], threads=(1,), runs=1, warmup=0, memory=False)
    assert result.reference == "w8a8.onnx"
    assert result[0][1].ratio == 1
    assert result.skipped == {}


def test_variants_take_turns_in_an_order_that_changes_and_repeats_with_the_seed(folder: Path, scripted):
    names = ("fp32.onnx", "w8a8.onnx")
    orders = []
    for seed in (3, 3, 4):
        calls = scripted({name: [(1.0, 1.0, 1.0)] * 50 for name in names})
        calls.clear()
        with open_bundle(folder) as bundle:
            measure(bundle, threads=(1,), runs=30, warmup=5, memory=False, settle_ms=0, seed=seed)
        order = [name for name, _ in calls[2:]]  # the first two load
        rounds = [tuple(order[i : i + 2]) for i in range(0, len(order), 2)]
        assert len(rounds) == 35
        assert all(set(one) == set(names) for one in rounds)  # each once a round
        assert len(set(rounds)) == 2  # and both orders occur
        orders.append(order)
    assert orders[0] == orders[1] != orders[2]


def test_real_variants_memory_progress_and_json(folder: Path, tmp_path: Path):
    seen: list[tuple[int, int]] = []
    with open_bundle(zip_bundle(folder, tmp_path / "tiny.pface")) as bundle:
        result = measure(bundle, threads=(2,), runs=3, warmup=1, progress=lambda done, all: seen.append((done, all)))
    steps = 1 + 3 + 2
    assert seen == [(i, steps) for i in range(1, steps + 1)]
    assert [(name, item.threads) for name, item in result] == [("w8a8.onnx", 2), ("fp32.onnx", 2)]
    for _, item in result:
        assert 0 < item.p50_ms <= item.p90_ms <= item.p99_ms
        assert min(item.pre_ms, item.inference_ms, item.post_ms, item.ratio) > 0
        assert item.executor.startswith("onnxruntime ")
        assert 20 < item.peak_rss_mb < 2000
    assert list(result.skipped) == ["fp16.coreml"]
    assert "coreml" in result.skipped["fp16.coreml"]

    result.save(tmp_path / "latency.json")
    saved = json.loads((tmp_path / "latency.json").read_text())
    variant = saved["rows"][0].pop("variant")
    assert (variant, msgspec.convert(saved["rows"][0], Latency)) == result[0]
    assert saved["skipped"] == result.skipped
    assert saved["busy"] == 0.25
    with pytest.raises(BadInputError, match="--force"):
        result.save(tmp_path / "latency.json")
    text = str(result)
    assert all(name in text for name in VARIANTS)
    assert "ratio of inference to fp32.onnx" in text


def test_a_warning_when_the_machine_was_busy():
    assert "busy" in str(LatencyResult((), "", this_machine(), busy=0.6))
    for busy in (None, 0.01):
        quiet = LatencyResult((), "", this_machine(), busy=busy)
        assert quiet.warning == ""
        assert "Warning" not in str(quiet)


def test_a_broken_variant_is_skipped_with_its_reason_and_the_rest_is_measured(tmp_path: Path):
    folder = make_bundle(tmp_path / "bundle", variants=("fp32.onnx", "fp16.onnx"))
    replace_file(folder, "models/tiny.fp16.onnx", b"")
    with open_bundle(folder) as bundle:
        result = measure(bundle, threads=(1,), runs=1, warmup=0, memory=False)
        assert [name for name, _ in result] == ["fp32.onnx"]
        assert "tiny.fp16.onnx" in result.skipped["fp16.onnx"]
        with pytest.raises(EnvironmentProblemError, match=r"tiny\.fp16\.onnx"):
            measure(bundle, ["fp16.onnx"], threads=(1,), runs=1, memory=False)


def test_nothing_that_can_run_is_an_error_that_names_what_can(folder: Path):
    with open_bundle(folder) as bundle, pytest.raises(EnvironmentProblemError, match="coreml") as caught:
        measure(bundle, ["fp16.coreml"], memory=False)
    assert caught.value.choices == ("w8a8.onnx", "fp32.onnx")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"runs": 0}, "runs 0"),
        ({"runs": 2.5}, "runs 2.5"),
        ({"warmup": -1}, "warmup -1"),
        ({"threads": ()}, "threads"),
        ({"threads": (0,)}, "threads"),
        ({"threads": (1, 1)}, "once"),
        ({"threads": (True,)}, "threads"),
        ({"settle_ms": -1}, "settle_ms"),
        ({"settle_ms": float("nan")}, "settle_ms"),
        ({"box": (0, 0, 1, 1)}, "box without an image"),
        ({"image": np.zeros((4, 4), np.uint8)}, "image"),
        ({"image": np.zeros((9, 9, 3), np.uint8), "box": (20, 20, 30, 30)}, "outside"),
    ],
)
def test_bad_arguments_are_refused(folder: Path, arguments: dict, message: str):
    with open_bundle(folder) as bundle, pytest.raises(BadInputError, match=message):
        measure(bundle, **{"memory": False, "runs": 1, "warmup": 0, **arguments})


def test_variants_whose_runtime_lacks_the_delegate_are_left_out(folder: Path, scripted):
    calls = scripted({"fp32.onnx": [(1, 2, 3)] * 3, "w8a8.onnx": [(1, 2, 3)] * 3})
    with open_bundle(folder) as bundle:
        found = measure(bundle, threads=(1,), delegate="npu", runs=1, warmup=0, memory=False)
    assert [name for name, _ in found] == ["fp32.onnx"]
    assert found.skipped["w8a8.onnx"] == "no delegate 'npu' for w8a8."
    assert {name for name, _ in calls} == {"fp32.onnx"}


def test_a_delegate_is_asked_for_by_every_process_and_named(folder: Path):
    with open_bundle(folder) as bundle:
        ((_, row),) = measure(bundle, ["fp32.onnx"], threads=(1,), delegate="cpu", runs=1, warmup=0)
        assert row.executor.endswith("(cpu)")
        assert row.peak_rss_mb > 0
        with pytest.raises(EnvironmentProblemError, match="no delegate 'npu'"):
            measure(bundle, ["fp32.onnx"], threads=(1,), delegate="npu", runs=1, memory=False)
    with pytest.raises(EnvironmentProblemError, match="no delegate 'npu'"):
        peak_rss_mb(folder, "fp32.onnx", delegate="npu")


def test_unknown_variant_and_an_image_of_the_callers(folder: Path):
    with open_bundle(folder) as bundle:
        with pytest.raises(BundleError, match=r"fp99\.onnx"):
            measure(bundle, ["fp99.onnx"])
        image = np.zeros((9, 9, 3), np.uint8)
        result = measure(bundle, image=image, box=(1, 1, 8, 8), threads=(2, 1), runs=1, warmup=0, memory=False)
    rows = [(name, item.threads, item.peak_rss_mb) for name, item in result]
    assert rows == [("w8a8.onnx", 2, 0), ("fp32.onnx", 2, 0), ("w8a8.onnx", 1, 0), ("fp32.onnx", 1, 0)]
