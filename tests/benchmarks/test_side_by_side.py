"""Variants of different bundles in one interleaved run."""

from __future__ import annotations

import pytest
from bundle_factory import make_bundle

from pocketface.benchmarks.side_by_side import measure_together
from pocketface.sdk.bundle import open_bundle
from pocketface.sdk.errors import BadInputError, BundleError


def test_each_is_measured_by_its_own_name_and_ratios_refer_to_the_first(tmp_path):
    make_bundle(tmp_path / "a", variants=("fp32.onnx",))
    make_bundle(tmp_path / "b", variants=("fp32.onnx", "w8.onnx"))
    with open_bundle(tmp_path / "a") as one, open_bundle(tmp_path / "b") as other:
        entries = {"one": (one, "fp32.onnx"), "other": (other, "w8.onnx"), "again": (one, "fp32.onnx")}
        found = measure_together(entries, threads=(1, 2), runs=3, warmup=1, settle_ms=0)
    assert [(name, item.threads) for name, item in found] == [
        (name, threads) for threads in (1, 2) for name in ("one", "other", "again")
    ]
    assert [item.ratio for item in found.of("one")] == [1.0, 1.0]
    assert found.reference == "one"
    for _, item in found:
        assert item.runs == 3
        assert 0 < item.p50_ms <= item.p99_ms


def test_what_cannot_be_measured_is_refused(tmp_path):
    make_bundle(tmp_path / "a", variants=("fp32.onnx",))
    with pytest.raises(BadInputError, match="nothing to measure"):
        measure_together({})
    with open_bundle(tmp_path / "a") as one:
        with pytest.raises(BadInputError, match="runs"):
            measure_together({"one": (one, "fp32.onnx")}, runs=0)
        with pytest.raises(BundleError, match=r"w8\.onnx"):
            measure_together({"one": (one, "w8.onnx")}, runs=1)
