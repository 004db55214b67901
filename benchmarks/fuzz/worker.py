"""A process that tries mutants one after the other and says a line about each; it may crash, its parent may not.

Run by ``campaign``: python -m pocketface.benchmarks.fuzz.worker, with its `Order` as JSON on standard input.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
import warnings
from pathlib import Path

import msgspec

from pocketface.benchmarks.fuzz.mutants import Files, mutant
from pocketface.benchmarks.fuzz.trial import Place
from pocketface.sdk.bundle import open_bundle

MOST_MEMORY = 4 * 2**30
"""Bytes of addresses that a process may have, libraries that are mapped included; with torch it has 1.2 GB of them."""


class Order(msgspec.Struct, frozen=True):
    """Mutants ``first`` to ``last`` (without) of the bundle, to be tried in the folder ``root``, which is made.

    Attributes:
        mended: files whose content is broken and whose hash is mended; none for any other kind of mutant.
        variants: those that are run of a bundle that opens; None for all that can run here.
    """

    bundle: str
    root: str
    seed: int
    first: int
    last: int
    mended: tuple[str, ...] = ()
    variants: tuple[str, ...] | None = None


def read_files(bundle: Path) -> Files:
    """All files of a bundle's folder, by path."""
    return {
        path.relative_to(bundle).as_posix(): path.read_bytes() for path in sorted(bundle.rglob("*")) if path.is_file()
    }


def work(order: Order) -> None:
    """Try them; a line of JSON each: number, kind, result, detail, the largest memory so far in MB, and the
    processor time that it took in milliseconds."""
    files = read_files(Path(order.bundle))
    say = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever a runtime prints stays out of what the parent reads
    warnings.simplefilter("ignore")  # of this process, whose warnings nobody sees
    if sys.platform == "linux":  # a broken file may ask its runtime for anything, and gets it from the whole machine
        resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))
    place = Place(Path(order.root), files, order.variants)
    with open_bundle(order.bundle) as whole:  # runtimes that make themselves at home do so before anybody looks
        place.use(whole)
    for number in range(order.first, order.last):
        began = time.process_time()
        made = mutant(files, order.seed, number, mended=order.mended)
        outcome = place.run(made)
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
        spent = 1e3 * (time.process_time() - began)
        line = [number, made.kind, outcome.result, outcome.detail, round(memory, 1), round(spent, 1)]
        say.write(json.dumps(line) + "\n")
        say.flush()


if __name__ == "__main__":
    work(msgspec.json.decode(sys.stdin.buffer.read(), type=Order))
