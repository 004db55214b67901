"""Peak memory of a variant in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from bundle_factory import make_bundle

from pocketface.benchmarks import peak_rss
from pocketface.sdk.errors import EnvironmentProblemError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("memory") / "bundle", variants=("fp32.onnx", "fp16.coreml"))


@pytest.mark.skipif(sys.platform != "linux", reason="the pitfall is Linux's")
def test_memory_of_a_small_process_does_not_start_at_its_large_parents(folder: Path):
    """getrusage's figure survives exec: a child of a process with torch in it would be charged for torch."""
    small = peak_rss.peak_rss_mb(folder, "fp32.onnx")
    ballast = np.ones(400_000_000 // 8)
    large = peak_rss.peak_rss_mb(folder, "fp32.onnx")
    assert ballast.sum() == 50_000_000
    assert large < small + 40


def test_memory_counts_what_a_process_held_even_if_it_was_freed():
    code = "from pocketface.benchmarks.peak_rss import own_peak_rss as peak; x = b'x' * {}; del x; print(peak())"
    small, large = (
        int(subprocess.run([sys.executable, "-c", code.format(size)], capture_output=True, check=True).stdout)
        for size in (1, 100_000_000)
    )
    assert large - small == pytest.approx(100e6, abs=5e6)


def test_memory_of_a_variant_that_fails_names_the_cause(folder: Path):
    with pytest.raises(EnvironmentProblemError, match=r"fp16\.coreml failed .*nothing here can run"):
        peak_rss.peak_rss_mb(folder, "fp16.coreml")
