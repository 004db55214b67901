from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from pocketface.compression.pipeline import gates
from pocketface.compression.recipe import GateSpec
from pocketface.converters.bundle import Candidate
from pocketface.converters.formats.base import Exported
from pocketface.converters.verdict import ParityResult
from pocketface.sdk.errors import ConfigError
from pocketface.sdk.manifest import Latency, OutputParity, Tolerances


def candidate(
    precision="w8a8", *, error=0.01, increase: float | None = 0.1, ratio=1.0, bounds: Tolerances | None = None, run=True
) -> Candidate:
    bounds = bounds or Tolerances(max_nme_increase=0.6)
    parity = ParityResult(
        variant=f"{precision}.onnx",
        executor="test",
        faces=3,
        golden_faces=1,
        outputs={name: OutputParity(max_error=error, mean_error=error) for name in ("points", "score")},
        max_pixel_error=1.0,
        mean_pixel_error=0.5,
        golden_error=0.01,
        nme_reference=5.0,
        nme=None if increase is None else 5.0 + increase,
        broken=0,
        input_size=64,
        tolerances=bounds,
    )
    latency = Latency(
        executor="test", cpu="", cpu_features=(), threads=1, runs=1, p50_ms=1, p90_ms=1, p99_ms=1, pre_ms=0,
        inference_ms=1, post_ms=0, peak_rss_mb=1, ratio=ratio,
    )  # fmt: skip
    exported = Exported(Path("x.onnx"), "onnx" if run else "coreml", precision, {}, {})
    return Candidate(exported, parity if run else None, bounds, latency=(latency,) if run else ())


def test_a_figure_beyond_its_bound_fails_and_is_named():
    (found,) = gates.check(GateSpec(), [candidate(increase=0.7)], {"student": 4.0})
    assert found.passed is False
    assert (found.variant, found.gate) == ("w8a8.onnx", "NME increase")
    assert found.figure == pytest.approx(0.7)
    assert found.bound == 0.6


def test_within_its_bound_it_passes():
    (found,) = gates.check(GateSpec(), [candidate(increase=0.6 - 1e-6)], {"student": 4.0})
    assert found.passed is True


def test_tensor_errors_have_their_own_bound():
    bounds = Tolerances(max_tensor_error=1e-4)
    (found,) = gates.check(GateSpec(), [candidate("fp32", error=2e-4, bounds=bounds)], {"student": 4.0})
    assert (found.passed, found.gate) == (False, "tensor error")


def test_latency_ratio():
    spec = GateSpec(max_latency_ratio={"w8a8": 0.9})
    found = gates.check(spec, [candidate(ratio=1.1)], {"student": 4.0})
    assert [gate.passed for gate in found] == [True, False]


@pytest.mark.parametrize(("nme", "passed"), [(4.1, True), (4.3, False), (math.nan, False)])
def test_the_students_own_accuracy(nme: float, passed: bool):
    (found,) = gates.check(GateSpec(max_nme=4.2), [], {"student": nme})
    assert (found.variant, found.passed) == ("student", passed)


@pytest.mark.parametrize(("nme", "passed"), [(4.0, True), (4.19, True), (4.21, False), (float("nan"), False)])
def test_what_pruning_costs(nme: float, passed: bool):
    (found,) = gates.check(GateSpec(max_pruned_increase=0.2), [], {"student": 4.0, "pruned": nme})
    assert (found.variant, found.bound, found.passed) == ("student", 0.2, passed)
    assert gates.check(GateSpec(max_pruned_increase=0.2), [], {"student": nme}) == []


def test_every_step_has_its_own_bound():
    spec = GateSpec(max_pruned_increase=0.2, max_qat_increase=0.05)
    line = {"student": 4.0, "pruned": 4.1, "qat": 4.2}
    pruned, qat = gates.check(spec, [], line)
    assert (pruned.figure, pruned.passed) == (pytest.approx(0.1), True)
    assert (qat.figure, qat.passed) == (pytest.approx(0.1), False)
    (only,) = gates.check(spec, [], {"student": 4.0, "qat": 4.01})
    assert (only.gate, only.passed) == ("NME increase by training for 8 bits", True)


@pytest.mark.parametrize("name", ["max_nme", "max_pruned_increase", "max_qat_increase"])
def test_bounds_are_numbers_from_0_on(name: str):
    for value in (-0.1, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match=name):
            GateSpec(**{name: value})


def test_what_nothing_can_run_ships_only_if_it_is_listed():
    (refused,) = gates.check(GateSpec(), [candidate("fp32", run=False)], {"student": 4.0})
    (allowed,) = gates.check(
        GateSpec(allow_unverified=("fp32.coreml",)), [candidate("fp32", run=False)], {"student": 4.0}
    )
    assert refused.passed is False
    assert allowed.passed is None


def test_size_budgets(tmp_path: Path):
    file = tmp_path / "x.onnx"
    file.write_bytes(bytes(1_500_000))
    one = candidate()
    one = replace(one, exported=replace(one.exported, path=file))
    for budget, passed in (({"w8a8": 1.5}, True), ({"w8a8": 1.4}, False), ({"w8a8": 1.0, "w8a8.onnx": 2.0}, True)):
        _, found = gates.check(GateSpec(max_size_mb=budget), [one], {"student": 4.0})
        assert (found.gate, found.variant, found.passed) == ("size in MB", "w8a8.onnx", passed)
        assert found.figure == 1.5


def test_what_the_audit_found_fails():
    parity, audit = gates.check(GateSpec(), [replace(candidate(), problems=("it is mostly float",))], {"student": 4.0})
    assert parity.passed is True
    assert (audit.gate, audit.passed, audit.note) == ("audit", False, "it is mostly float")
