"""What the runtime costs without the network: ``python -m pocketface.benchmarks.runtime_speed BUNDLE --json FILE``.

crops: a rotated square of a frame of 1280 x 720 to the network's input, and its outputs to landmarks. overlays: dots
and lines drawn into such a frame. import: ``import pocketface.sdk`` in fresh processes. memory: resident, over a
long run.

Everything runs on one thread. Cases take turns, round by round, in an order drawn anew, and a fixed kernel (sorting 300
rows of 300 numbers) is timed among them: on a busy machine it tells how far the figures can be trusted. The least of
many rounds is what the work takes; the median is what it took here and now.
"""

from __future__ import annotations

import argparse
import gc
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from pocketface.benchmarks.machine import busy_share, this_machine
from pocketface.benchmarks.module_command import ended
from pocketface.sdk.bundle import open_bundle
from pocketface.sdk.errors import BadInputError, EnvironmentProblemError
from pocketface.sdk.files import refuse_existing
from pocketface.sdk.geometry import Crop
from pocketface.sdk.overlay import ContoursOverlay, PointsOverlay
from pocketface.sdk.postprocess import decode
from pocketface.sdk.predictor import Predictor
from pocketface.sdk.preprocess import network_input
from pocketface.sdk.terminal import console, write_json

FRAME = (720, 1280)
SIZES, SIDES, ANGLE = (128, 224), (200, 400, 800), 20.0
GOALS_MS = {128: 1.0, 224: 2.0}
"""Pre- and post-processing together, by the side of the network's input."""
GOAL_IMPORT_S = 0.25
KERNEL = "kernel"

_IMPORT = (
    "import time; wall, cpu = time.perf_counter(), time.process_time(); import {}; "
    "print(time.perf_counter() - wall, time.process_time() - cpu)"
)


class Spent(msgspec.Struct, frozen=True):
    """Milliseconds of one case: the least and the median of its rounds."""

    least_ms: float
    median_ms: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Spent:
        return cls(1000 * min(seconds), 1000 * float(np.median(seconds)))


def taking_turns(cases: Mapping[str, Callable[[], object]], rounds: int, seed: int = 0) -> dict[str, Spent]:
    """Time cases against each other, and the fixed kernel among them.

    Args:
        cases: name -> what to time; each is run twice beforehand.
        rounds: how often each is timed.
        seed: of the order within each round.
    """
    numbers = np.random.default_rng(1).random((300, 300)).astype(np.float32)
    every = {KERNEL: lambda: np.sort(numbers, axis=1), **cases}
    names, rng = list(every), np.random.default_rng(seed)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    collecting = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        for number in range(-2, rounds):
            for index in rng.permutation(len(names)):
                begin = time.perf_counter()
                every[names[index]]()
                if number >= 0:
                    seconds[names[index]].append(time.perf_counter() - begin)
    finally:
        if collecting:
            gc.enable()
    return {name: Spent.of(each) for name, each in seconds.items()}


def crop_cases(predictor: Predictor, frame: NDArray[np.uint8]) -> dict[str, Callable[[], object]]:
    """Pre-processing of each size, side and of angle 0 besides, and post-processing: decoding of this bundle's."""
    stage, centre = predictor.stage, (FRAME[1] / 2 + 0.3, FRAME[0] / 2 - 0.3)
    cases: dict[str, Callable[[], object]] = {}
    for size in SIZES:
        settings = msgspec.structs.replace(stage.preprocess, size=size)
        for side in SIDES:
            for angle in (0.0, ANGLE):
                crop = Crop(*centre, side, angle)

                def pre(crop: Crop = crop, settings: Any = settings) -> object:
                    return network_input(frame, crop, settings)

                cases[f"pre {size} px, side {side}, {angle:g} degrees"] = pre
    crop = Crop(*centre, SIDES[1], ANGLE)
    outputs = predictor.predict_tensor(predictor.preprocess(frame, crop))
    cases["post"] = lambda: decode(outputs, stage, crop)
    return cases


def overlay_cases(predictor: Predictor, frame: NDArray[np.uint8]) -> dict[str, Callable[[], object]]:
    """Dots and lines of a face, drawn into the frame, and into a copy each."""
    side = 400
    left, top = (FRAME[1] - side) / 2, (FRAME[0] - side) / 2
    faces = predictor(frame, [(left, top, left + side, top + side)])
    # Whatever the network makes of noise, the face drawn is of a known size: each part an arc of a circle.
    turn = np.linspace(0, 2 * np.pi, len(faces[0].points), endpoint=False)
    ring = np.stack([np.cos(turn), np.sin(turn)], axis=1) * side / 2 + (FRAME[1] / 2, FRAME[0] / 2)
    face = replace(faces[0], points=ring.astype(np.float32))
    lines, dots, target = ContoursOverlay(predictor.stage.marks), PointsOverlay(), frame.copy()
    return {
        "overlays in place": lambda: dots(lines(target, [face], out=target), [face], out=target),
        "overlays on copies": lambda: dots(lines(frame, [face]), [face]),
    }


def import_seconds(module: str, times: int) -> dict[str, float]:
    """Least wall and CPU seconds of importing a module in a fresh process."""
    found = []
    for _ in range(times):
        command = [sys.executable, "-P", "-c", _IMPORT.format(module)]
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
        if done.returncode:
            raise EnvironmentProblemError(f"importing {module} failed ({done.stderr.strip().splitlines()[-1:]})")
        found.append([float(word) for word in done.stdout.split()])
    wall, cpu = np.min(found, axis=0)
    return {"wall_s": float(wall), "cpu_s": float(cpu)}


def resident_mb() -> float:
    """Resident memory of this process now, in megabytes (powers of 1000).

    Raises:
        EnvironmentProblemError: the system does not tell (only Linux does).
    """
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError as error:
        raise EnvironmentProblemError("this system does not tell a process its memory", expected="Linux") from error
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def memory_over(predictor: Predictor, frames: int, seed: int = 0) -> list[dict[str, float]]:
    """Run a predictor on a moving, growing and shrinking face; resident memory now and then.

    Returns:
        ``frame`` and ``resident_mb`` each: after a hundred frames, when every buffer has been made, then after each
        tenth of the run that comes later.
    """
    rng = np.random.default_rng(seed)
    pictures = [rng.integers(0, 256, (*FRAME, 3), np.uint8) for _ in range(4)]
    moments = {100} | {moment for tenth in range(1, 11) if (moment := tenth * frames // 10) > 100}
    found = []
    for number in range(1, frames + 1):
        side = rng.uniform(100, 700)
        x, y = rng.uniform(0, (FRAME[1], FRAME[0]))  # of the centre: some faces lie over the border
        box = (x - side / 2, y - side / 2, x + side / 2, y + side / 2)
        predictor(pictures[number % len(pictures)], [box])
        if number in moments:
            found.append({"frame": number, "resident_mb": resident_mb()})
    return found


def measure(bundle: str | os.PathLike[str], *, rounds: int, frames: int, imports: int) -> dict[str, Any]:
    """Everything, as plain values.

    Raises:
        BadInputError: numbers out of range.
        BundleError: no bundle of landmarks.
    """
    for name, value, least in (("rounds", rounds, 1), ("frames", frames, 200), ("imports", imports, 1)):
        if value < least:
            raise BadInputError(f"{name} {value}", expected=f"{least} or more")
    with open_bundle(bundle) as opened:
        predictor = Predictor(opened, threads=1)
    busy = busy_share()
    memory = memory_over(predictor, frames)
    frame = np.random.default_rng(0).integers(0, 256, (*FRAME, 3), np.uint8)
    spent = taking_turns(crop_cases(predictor, frame) | overlay_cases(predictor, frame), rounds)
    return {
        "machine": this_machine().to_dict(),
        "busy": busy,
        "bundle": predictor.manifest.name,
        "executor": predictor.executor,
        "rounds": rounds,
        "cases": {name: msgspec.to_builtins(item) for name, item in spent.items()},
        "imports": {name: import_seconds(name, imports) for name in ("numpy", "pocketface.sdk")},
        "memory": memory,
    }


def show(found: Mapping[str, Any]) -> None:
    """The figures as tables."""
    from rich.table import Table

    out = console()
    out.print(f"{found['bundle']} by {found['executor']}, one thread; others used {found['busy']} of the CPU")
    table = Table("case", *("least ms", "median ms"))
    for name, item in found["cases"].items():
        table.add_row(name, f"{item['least_ms']:.3f}", f"{item['median_ms']:.3f}")
    out.print(table)
    for name, item in found["imports"].items():
        out.print(f"import {name}: {item['wall_s']:.3f} s, of which {item['cpu_s']:.3f} s of computing")
    first, last = found["memory"][0], found["memory"][-1]
    most = max(item["resident_mb"] for item in found["memory"])
    out.print(
        f"memory: {first['resident_mb']:.1f} MB after {first['frame']:.0f} frames, {last['resident_mb']:.1f} MB after "
        f"{last['frame']:.0f}, never more than {most:.1f} MB"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m pocketface.benchmarks.runtime_speed", description=__doc__)
    parser.add_argument("bundle", help="folder or .pface file, of landmarks")
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--frames", type=int, default=10_000)
    parser.add_argument("--imports", type=int, default=10)
    parser.add_argument("--json", help="write the figures; - is standard output")
    parser.add_argument("--force", action="store_true", help="replace a file that exists")
    given = parser.parse_args(arguments)
    return ended(lambda: run(given))


def run(given: argparse.Namespace) -> None:
    """Measure, write, show."""
    if given.json not in (None, "-"):
        refuse_existing(Path(given.json), given.force)
    found = measure(given.bundle, rounds=given.rounds, frames=given.frames, imports=given.imports)
    if given.json is not None:
        write_json(found, given.json, force=given.force)
    if given.json != "-":
        show(found)


if __name__ == "__main__":
    sys.exit(main())
