"""Variants of different bundles against each other: the same interleaved run as `latency.measure`, which takes one.

So a chain can be held against any other network on the same machine in the same minute.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from pocketface.benchmarks.latency import SETTLE_MS, LatencyResult, check_plan, interleave, latency_of
from pocketface.benchmarks.machine import busy_share, this_machine
from pocketface.sdk.any_predictor import predictor_of
from pocketface.sdk.bundle import Bundle
from pocketface.sdk.errors import BadInputError
from pocketface.sdk.manifest import Latency


def measure_together(
    entries: Mapping[str, tuple[Bundle, str]],
    *,
    threads: Sequence[int] = (1, 2),
    runs: int = 100,
    warmup: int = 10,
    seed: int = 0,
    settle_ms: float = SETTLE_MS,
) -> LatencyResult:
    """Time variants or chains of several bundles in this process, taking turns.

    Args:
        entries: a name for each -> its bundle, opened, and the id of a variant or chain. The first one is what ratios
            refer to; its first golden case is what all of them look at.
        threads, runs, warmup, seed, settle_ms: as in `latency.measure`. Peak memory is not measured.

    Raises:
        BadInputError: nothing to measure, or a number out of range.
        BundleError, EnvironmentProblemError: one of them cannot run here.
    """
    if not entries:
        raise BadInputError("nothing to measure", expected="one bundle and the id of a variant, or more")
    check_plan(threads, runs, warmup, settle_ms)
    machine, busy = this_machine(), busy_share()
    reference, (bundle, _) = next(iter(entries.items()))
    case = bundle.golden()[0]
    boxes = [tuple(float(value) for value in case["box"])]
    rows: list[tuple[str, Latency]] = []
    for count in threads:
        predictors = {name: predictor_of(own, variant=id, threads=count) for name, (own, id) in entries.items()}
        times = interleave(predictors, case["image"], boxes, runs, warmup, seed + count, settle_ms, lambda: None)
        base = float(np.median(times[reference][0][:, 1]))
        for name, (parts, each) in times.items():
            found = latency_of(parts, predictors[name].executor, machine, count, base, 0.0)
            medians = {stage: float(np.median(total)) for stage, total in each.items()}
            rows.append((name, msgspec.structs.replace(found, stages=medians)))
    return LatencyResult(tuple(rows), reference, machine, {}, warmup, seed, busy)
