"""Try many mutants in worker processes, and count what became of them."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from pocketface.benchmarks.fuzz.mutants import kind_of
from pocketface.benchmarks.fuzz.worker import Order

NATIVE = ("crashed", "hung")
BAD = ("untyped", "machine", "wrote", *NATIVE)
"""Results that are a defect; of a model whose hash was mended, those of ``NATIVE`` are the runtime's."""

BATCH = 1000
"""Mutants a process: what one leaves behind in memory does not pile up for ever."""


@dataclass
class Counts:
    """What became of the mutants.

    Attributes:
        results: result -> how many.
        kinds: kind of mutant -> result -> how many.
        details: of those that were opened, what they did then -> how many.
        largest_mb: memory of the largest worker.
        slowest_ms: processor time of the slowest mutant.
        findings: every mutant with a result of ``BAD``: number, kind, result, detail.
    """

    mutants: int = 0
    results: Counter[str] = field(default_factory=Counter)
    kinds: dict[str, Counter[str]] = field(default_factory=dict)
    details: Counter[str] = field(default_factory=Counter)
    findings: list[dict[str, Any]] = field(default_factory=list)
    largest_mb: float = 0.0
    slowest_ms: float = 0.0
    seconds: float = 0.0

    def add(self, number: int, kind: str, result: str, detail: str) -> None:
        """Count one."""
        self.mutants += 1
        self.results[result] += 1
        self.kinds.setdefault(kind, Counter())[result] += 1
        if result in ("opened", "refused"):
            self.details[f"{result}: {detail}"] += 1
        if result in BAD:
            self.findings.append({"number": number, "kind": kind, "result": result, "detail": detail})

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        plain = asdict(self)
        return {
            **plain,
            "results": {name: self.results.get(name, 0) for name in ("refused", "opened", *BAD)},
            "kinds": {kind: dict(counts) for kind, counts in self.kinds.items()},
            "details": dict(self.details.most_common()),
            "largest_mb": round(self.largest_mb, 1),
            "slowest_ms": round(self.slowest_ms, 1),
            "seconds": round(self.seconds, 1),
        }


def campaign(
    bundle: Path,
    *,
    mutants: int,
    seed: int = 0,
    first: int = 0,
    mended: Sequence[str] = (),
    variants: Sequence[str] | None = None,
    limit: float = 60.0,
    workers: int = 1,
    progress: Callable[[int], None] | None = None,
) -> Counts:
    """Try mutants of a bundle.

    Args:
        bundle: its folder.
        mutants: how many.
        seed: of their random numbers.
        first: number of the first one, to try a single one again.
        mended: files whose contents are broken and whose hashes are mended, see ``mutant``.
        variants: those that are run of a bundle that opens (default: all that can run here).
        limit: seconds after which a mutant hangs, if it does so twice.
        workers: processes at a time; the mutants are the same with any number of them.
        progress: is told how many are done.
    """
    counts, lock = Counts(), threading.Lock()
    began = time.perf_counter()
    starts = range(first, first + mutants, BATCH)

    def batch(start: int) -> None:
        number, last = start, min(start + BATCH, first + mutants)
        silent: set[int] = set()
        while number < last:
            with tempfile.TemporaryDirectory(prefix="pocketface-fuzz-", ignore_cleanup_errors=True) as folder:
                order = Order(
                    bundle=str(bundle.resolve()),
                    root=f"{folder}/place",
                    seed=seed,
                    first=number,
                    last=last,
                    mended=tuple(mended),
                    variants=None if variants is None else tuple(variants),
                )
                for found, kind, result, detail, memory, ms in _lines(order, limit):
                    if result == "hung" and found not in silent:  # or the whole machine stood still: try it once more
                        silent.add(found)
                        continue
                    number = found + 1
                    with lock:
                        counts.add(found, kind, result, detail)
                        counts.largest_mb = max(counts.largest_mb, memory)
                        counts.slowest_ms = max(counts.slowest_ms, ms)
                        if progress is not None:
                            progress(counts.mutants)

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(batch, starts))
    counts.findings.sort(key=lambda item: item["number"])
    counts.seconds = time.perf_counter() - began
    return counts


def _lines(order: Order, limit: float) -> Iterator[tuple[int, str, str, str, float, float]]:
    """What a worker says: number, kind, result, detail, MB, milliseconds; the mutant in whose midst it ends, or falls
    silent, is the last line."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pocketface.benchmarks.fuzz.worker"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    ) as worker:
        if worker.stdin is None or worker.stdout is None or worker.stderr is None:
            raise RuntimeError("a pipe is missing")
        worker.stdin.write(msgspec.json.encode(order))
        worker.stdin.close()
        with selectors.DefaultSelector() as ready:
            ready.register(worker.stdout, selectors.EVENT_READ, "said")
            ready.register(worker.stderr, selectors.EVENT_READ, "complained")
            number, waiting, complaint = order.first, b"", b""
            heard = time.monotonic()
            while True:
                events = ready.select(limit)
                if not events or time.monotonic() - heard > limit:
                    worker.send_signal(signal.SIGKILL)
                    yield number, kind_of(number, order.mended), "hung", f"for more than {limit:g} s", 0.0, 1e3 * limit
                    return
                ended = False
                for key, _ in events:
                    data = os.read(key.fd, 2**16)
                    if key.data == "complained":
                        complaint = (complaint + data)[-2000:]
                        if not data:
                            ready.unregister(worker.stderr)
                        continue
                    ended = not data
                    *lines, waiting = (waiting + data).split(b"\n")
                    for line in lines:
                        heard = time.monotonic()
                        said, kind, result, detail, memory, ms = msgspec.json.decode(line)
                        number = said + 1
                        yield said, kind, result, detail, memory, ms
                if ended:
                    break
        code = worker.wait()
        if number < order.last:
            text = complaint.decode(errors="replace").strip().splitlines()
            how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            detail = f"{how}: {text[-1] if text else ''}"[:300]
            yield number, kind_of(number, order.mended), "crashed", detail, 0.0, 0.0
