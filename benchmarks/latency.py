"""How long a variant, or chain, takes on this machine, from image and box to landmarks, and how much memory it needs.

All variants are loaded at once and take turns, run by run, in an order drawn anew each round: whatever else the machine
does in a second hits all of them alike, so that ratios hold even where absolute times do not.

pre: crop, resample, normalise. inference: the runtime, layout and quantization at the file's border included. post:
decoding. Of a chain these are sums over its stages, whose own times are listed too. Peak memory is that of a fresh
process per variant and thread count (`peak_rss`).
"""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table

from pocketface.benchmarks.machine import Machine, busy_share, this_machine
from pocketface.benchmarks.peak_rss import peak_rss_mb
from pocketface.sdk.any_predictor import AnyPredictor, predictor_of
from pocketface.sdk.backends.delegates import AUTO
from pocketface.sdk.backends.registry import has_executor
from pocketface.sdk.bundle import Bundle
from pocketface.sdk.errors import BadInputError, BundleError, EnvironmentProblemError
from pocketface.sdk.files import write_atomic
from pocketface.sdk.manifest import Latency
from pocketface.sdk.predictor import runnable

Progress = Callable[[int, int], None]
"""Called with (steps done, steps in all); a step is a round of all variants, or a memory measurement."""

Times = tuple[NDArray[np.float64], dict[str, NDArray[np.float64]]]

SETTLE_MS = 1.0
"""Pause before each run: with several threads, runtimes let theirs spin for a moment after a run, and the next variant
would share the cores with them. It is short because a pause costs too: cropping took 2 % longer after 1 ms of sleep,
8 % after 5 ms."""

BUSY = 0.1
"""Share of the CPU in others' hands from which the figures come with a warning."""


@dataclass(frozen=True)
class LatencyResult(Sequence[tuple[str, Latency]]):
    """What was measured: a sequence of (variant id, `Latency`), by thread count, then in the bundle's order.

    Attributes:
        rows: the same as a tuple.
        reference: variant whose median inference time has the ratio 1.
        machine: where it was measured.
        skipped: variant id -> why it was not measured.
        warmup, seed: untimed runs of each variant, and seed of the order.
        busy: share of the CPU that other processes used just before, in [0, 1]; None where the system does not tell.
    """

    rows: tuple[tuple[str, Latency], ...]
    reference: str
    machine: Machine
    skipped: dict[str, str] = field(default_factory=dict)
    warmup: int = 0
    seed: int = 0
    busy: float | None = None

    @property
    def warning(self) -> str:
        """Why the figures should not be trusted; empty if nothing speaks against them."""
        if self.busy is None or self.busy < BUSY:
            return ""
        return (
            f"the machine was busy: others used {self.busy:.0%} of the CPU. Times are too long and ratios unsure, "
            "most of all with several threads: measure again when it is idle"
        )

    def __getitem__(self, index: Any) -> Any:
        return self.rows[index]

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[tuple[str, Latency]]:
        return iter(self.rows)

    def of(self, variant: str) -> tuple[Latency, ...]:
        """Figures of one variant, one entry a thread count, as its manifest entry holds them; empty if skipped."""
        return tuple(latency for name, latency in self.rows if name == variant)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "machine": self.machine.to_dict(),
            "reference": self.reference,
            "warmup": self.warmup,
            "seed": self.seed,
            "busy": self.busy,
            "rows": [{"variant": name, **msgspec.to_builtins(latency)} for name, latency in self.rows],
            "skipped": self.skipped,
        }

    def save(self, path: str | Path, *, force: bool = False) -> None:
        """Write ``to_dict`` as JSON.

        Raises:
            BadInputError: the file exists and ``force`` is not set.
        """
        write_atomic(path, (json.dumps(self.to_dict(), indent=2, allow_nan=False) + "\n").encode(), force=force)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        runs = self.rows[0][1].runs if self.rows else 0
        yield f"{self.machine}"
        yield f"{runs} runs each, taking turns; milliseconds; ratio of inference to {self.reference}"
        table = Table("variant")
        for name in ("threads", "p50", "p90", "p99", "pre", "inference", "post", "ratio", "peak MB"):
            table.add_column(name, justify="right")
        table.add_column("executor")
        for name, item in self.rows:
            times = (item.p50_ms, item.p90_ms, item.p99_ms, item.pre_ms, item.inference_ms, item.post_ms, item.ratio)
            texts = [f"{value:.2f}" for value in times]
            table.add_row(name, str(item.threads), *texts, f"{item.peak_rss_mb:.0f}", item.executor)
        yield table
        if any(item.stages for _, item in self.rows):
            yield "each stage of a chain: median of its pre + inference + post, milliseconds"
            yield self._stage_table()
        for name, reason in self.skipped.items():
            yield f"{name}: not measured: {reason}"
        if self.warning:
            yield f"Warning: {self.warning}."

    def _stage_table(self) -> Table:
        table, names = Table("chain"), list(dict.fromkeys(name for _, item in self.rows for name in item.stages))
        for name in ("threads", *names):
            table.add_column(name, justify="right")
        for chain, item in self.rows:
            texts = [f"{item.stages[name]:.2f}" if name in item.stages else "" for name in names]
            table.add_row(chain, str(item.threads), *texts)
        return table

    def __str__(self) -> str:
        console = Console(width=160, color_system=None, highlight=False)
        with console.capture() as capture:
            console.print(self)
        return capture.get().rstrip()


def measure(
    bundle: Bundle,
    variants: Sequence[str] | None = None,
    *,
    threads: Sequence[int] = (1, 2),
    delegate: str = AUTO,
    runs: int = 100,
    warmup: int = 10,
    image: NDArray[np.uint8] | None = None,
    box: Sequence[float] | None = None,
    seed: int = 0,
    memory: bool = True,
    settle_ms: float = SETTLE_MS,
    progress: Progress | None = None,
) -> LatencyResult:
    """Time variants of a bundle against each other in this process.

    Args:
        bundle: opened; it must stay open meanwhile.
        variants: ids of variants or chains, as ``Manifest.chain`` takes them; default: all. Those that cannot run here
            are left out, with the reason in ``skipped``.
        threads: thread counts, each measured by itself.
        delegate: what the runtimes hand the networks to. Variants whose runtime has it not here are left out, too.
        runs: timed runs of each variant at each thread count; use at least 100 for figures that are published.
        warmup: untimed rounds before them.
        image: (H, W, 3) uint8 RGB; default: image and box of the first golden case.
        box: x0, y0, x1, y1 in the image's pixels; default: the whole image.
        seed: of the order within each round.
        memory: measure peak memory too, in a process of its own for each variant and thread count (about a second
            each); otherwise it is 0.
        settle_ms: pause before each run, outside the timing.
        progress: told after each step.

    Returns:
        Percentiles are of the sum of the three parts, run by run; the parts are medians.

    Raises:
        BadInputError: an argument out of range, an unusable image or box.
        BundleError: no such variant.
        EnvironmentProblemError: no variant can run here.
    """
    check_plan(threads, runs, warmup, settle_ms)
    image, boxes = _input(bundle, image, box)
    manifest = bundle.manifest
    wanted = list(dict.fromkeys(manifest.chains if variants is None else variants))
    skipped: dict[str, str] = {}
    for name in wanted:
        missing = dict.fromkeys(v.format for _, v in manifest.chain(name) if not has_executor(v.format))
        if missing:
            skipped[name] = f"nothing here can run {' or '.join(missing)}"
    able = [name for name in wanted if name not in skipped]
    machine, busy = this_machine(), busy_share()
    # Known beforehand, so that the progress has an end; variants that turn out to be broken make it come sooner.
    steps, done = len(threads) * (warmup + runs + (len(able) if memory else 0)), 0

    def step() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, steps)

    rows: list[tuple[str, Latency]] = []
    reference = ""
    for count in threads:
        able = [name for name in able if name not in skipped]
        predictors = _ready(bundle, able, count, delegate, image, boxes, skipped)
        if not predictors:
            break
        times = interleave(predictors, image, boxes, runs, warmup, seed + count, settle_ms, step)
        executors = {name: predictor.executor for name, predictor in predictors.items()}
        predictors.clear()  # free the models before memory is measured beside them
        reference = _reference(bundle, list(times))
        base = float(np.median(times[reference][0][:, 1]))
        for name, (parts, each) in times.items():
            peak = peak_rss_mb(bundle.root, name, threads=count, delegate=delegate) if memory else 0.0
            if memory:
                step()
            found = latency_of(parts, executors[name], machine, count, base, peak)
            medians = {stage: float(np.median(total)) for stage, total in each.items()}
            rows.append((name, msgspec.structs.replace(found, stages=medians)))
    rows = [(name, latency) for name, latency in rows if name not in skipped]
    if not rows:
        raise EnvironmentProblemError(
            "none of the variants can be measured here ("
            + "; ".join(f"{name}: {reason.rstrip('.')}" for name, reason in skipped.items())
            + ")",
            choices=runnable(manifest),
            next="Choose one of these, or install the runtime that is missing",
        )
    return LatencyResult(tuple(rows), reference, machine, skipped, warmup, seed, busy)


def check_plan(threads: Sequence[int], runs: int, warmup: int, settle_ms: float) -> None:
    """Refuse numbers that make no measurement.

    Raises:
        BadInputError: naming the first one.
    """
    if not threads or any(isinstance(count, bool) or not isinstance(count, int) or count < 1 for count in threads):
        raise BadInputError(f"threads {threads!r}", expected="whole numbers from 1 on", next="For example: 1,2")
    if len(set(threads)) != len(threads):
        raise BadInputError(f"threads {threads!r}", expected="each number once")
    for name, value, least in (("runs", runs, 1), ("warmup", warmup, 0)):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise BadInputError(f"{name} {value!r}", expected=f"a whole number from {least} on")
    if not 0 <= settle_ms <= 1000:
        raise BadInputError(f"settle_ms {settle_ms!r}", expected="0 to 1000 milliseconds")


def _input(
    bundle: Bundle, image: NDArray[np.uint8] | None, box: Sequence[float] | None
) -> tuple[NDArray[np.uint8], list[tuple[float, ...]] | None]:
    if image is not None:
        return image, None if box is None else [tuple(float(value) for value in box)]
    if box is not None:
        raise BadInputError("a box without an image", next="Give the image too, or neither")
    case = bundle.golden()[0]  # an opened bundle has at least one
    return case["image"], [tuple(float(value) for value in case["box"])]


def _ready(
    bundle: Bundle,
    names: Sequence[str],
    threads: int,
    delegate: str,
    image: NDArray[np.uint8],
    boxes: Sequence[Sequence[float]] | None,
    skipped: dict[str, str],
) -> dict[str, AnyPredictor]:
    """Load each variant and run it once; one whose file is broken, or whose runtime has no such delegate, goes to
    ``skipped``, the others are measured."""
    predictors = {}
    for name in names:
        try:
            predictor = predictor_of(bundle, variant=name, threads=threads, delegate=delegate)
            predictor(image, boxes)
        except (BundleError, EnvironmentProblemError) as error:
            if delegate == AUTO and not isinstance(error, BundleError):
                raise
            skipped[name] = str(error)
        else:
            predictors[name] = predictor
    return predictors


def interleave(
    predictors: dict[str, AnyPredictor],
    image: NDArray[np.uint8],
    boxes: Sequence[Sequence[float]] | None,
    runs: int,
    warmup: int,
    seed: int,
    settle_ms: float,
    step: Callable[[], None],
) -> dict[str, Times]:
    """Id -> milliseconds of each timed run: (runs, 3) pre, inference and post; stage of a chain -> (runs,) totals."""
    rng, names = np.random.default_rng(seed), list(predictors)
    times: dict[str, Times] = {name: (np.zeros((runs, 3)), {}) for name in names}
    collecting = gc.isenabled()
    gc.collect()
    gc.disable()  # a collection in the middle of a run would be counted as the variant's
    try:
        for number in range(-warmup, runs):
            for index in rng.permutation(len(names)):
                name = names[index]
                if settle_ms:
                    time.sleep(settle_ms / 1000)
                predictors[name](image, boxes)
                spent = predictors[name].timings
                if number >= 0 and spent is not None:
                    times[name][0][number] = spent.pre_ms, spent.inference_ms, spent.post_ms
                    for stage, part in spent.stages.items():
                        times[name][1].setdefault(stage, np.zeros(runs))[number] = part.total_ms
            step()
    finally:
        if collecting:
            gc.enable()
    return times


def _reference(bundle: Bundle, names: list[str]) -> str:
    """The fp32 ONNX variant, or chain of such, if it was measured, else the first."""
    for name in names:
        if all((item.format, item.precision) == ("onnx", "fp32") for _, item in bundle.manifest.chain(name)):
            return name
    return names[0]


def latency_of(
    parts: NDArray[np.float64], executor: str, machine: Machine, threads: int, base: float, peak: float
) -> Latency:
    p50, p90, p99 = np.percentile(parts.sum(axis=1), (50, 90, 99))
    pre, inference, post = np.median(parts, axis=0)
    return Latency(
        executor=executor,
        cpu=machine.cpu,
        cpu_features=machine.features,
        threads=threads,
        runs=len(parts),
        p50_ms=float(p50),
        p90_ms=float(p90),
        p99_ms=float(p99),
        pre_ms=float(pre),
        inference_ms=float(inference),
        post_ms=float(post),
        peak_rss_mb=peak,
        ratio=float(inference) / base,
    )
