"""Does memory stay flat over a long video? ``python -m pocketface.benchmarks.video_memory BUNDLE --frames 10000``.

A drawn face that a camera wanders over is written as a video, to and fro until it is long enough; then the whole path
of ``pocketface run`` reads, follows, draws and writes it, and the process' resident memory is looked at on the way.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np

from pocketface.benchmarks.data.motion import MotionSpec, frames
from pocketface.benchmarks.data.registry import DATASETS
from pocketface.benchmarks.data.synthetic import write_dataset
from pocketface.benchmarks.machine import this_machine
from pocketface.benchmarks.module_command import ended
from pocketface.benchmarks.peak_rss import own_peak_rss
from pocketface.sdk.errors import BadInputError
from pocketface.sdk.geometry import Box
from pocketface.sdk.manifest import Part, Scheme
from pocketface.sdk.predictor import Predictor, load
from pocketface.sdk.progress import track
from pocketface.sdk.terminal import write_json
from pocketface.sdk.video.reader import VideoReader
from pocketface.sdk.video.run import run_video
from pocketface.sdk.video.writer import VideoWriter

FPS = 30
WARM_UP = 0.1
"""Share of the samples that the slope leaves out: runtimes take their memory in the first frames."""


class VideoMemory(Part, frozen=True, kw_only=True):
    """One long run.

    Attributes:
        frames: of the video.
        with_faces: in how many of them a face was seen.
        ids: how many faces were told apart; there is one.
        fps: frames a second of the whole path.
        every: frames between two samples.
        rss_mb: resident memory at each sample, MB (powers of 1000).
        first_half_mb, last_half_mb: the largest sample of each half, without the warm-up.
        slope_mb: growth in MB over 1,000 frames, by least squares, without the warm-up.
    """

    frames: int
    with_faces: int
    ids: int
    fps: float
    every: int
    rss_mb: tuple[float, ...]
    first_half_mb: float
    last_half_mb: float
    slope_mb: float


def resident_mb() -> float:
    """Resident memory of this process now; where the system does not say, its peak so far. MB."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:  # not Linux
        return own_peak_rss() / 1e6
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def write_clip(path: Path, count: int, scheme: Scheme, size: int = 192) -> Box:
    """Write a video of ``count`` frames; returns the box of the face in the first."""
    with tempfile.TemporaryDirectory() as folder:
        write_dataset(Path(folder) / "drawn", count=1, size=size)
        (face,) = DATASETS["pts"](Path(folder) / "drawn", scheme=scheme)
        shown = list(frames(face, MotionSpec(size=size), normaliser=scheme.normaliser))
    period = 2 * len(shown) - 2
    with VideoWriter(path, size, size, time_base=Fraction(1, FPS), rate=Fraction(FPS)) as video:
        for number in range(count):
            there = number % period
            video.write(shown[min(there, period - there)].image, number)
    return Box.around(shown[0].points)


def measure(predictor: Predictor, count: int, *, every: int = 100, size: int = 192) -> VideoMemory:
    """Run a bundle over a video of ``count`` frames.

    Raises:
        BadInputError: less than 40 samples, which would tell nothing.
    """
    if count < 40 * every:
        raise BadInputError(f"{count} frames, one sample in {every}", expected="40 samples or more")
    samples: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder) / "clip.mp4"
        box = write_clip(clip, count, predictor.stage.marks, size)
        with VideoReader(clip) as reader, track("frames", count) as step:

            def look(done: int) -> None:
                step(done)
                if done % every == 0:
                    samples.append(resident_mb())

            summary = run_video(
                reader,
                predictor,
                out=Path(folder) / "out.mp4",
                json=str(Path(folder) / "out.jsonl"),
                boxes=[box],
                progress=look,
            )
    warm = samples[round(WARM_UP * len(samples)) :]
    half = len(warm) // 2
    slope = float(np.polyfit(np.arange(len(warm)) * every / 1000, warm, 1)[0])
    return VideoMemory(
        frames=summary.frames,
        with_faces=summary.with_faces,
        ids=summary.ids,
        fps=summary.frames / summary.seconds,
        every=every,
        rss_mb=tuple(round(value, 2) for value in samples),
        first_half_mb=max(warm[:half]),
        last_half_mb=max(warm[half:]),
        slope_mb=slope,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m pocketface.benchmarks.video_memory", description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--frames", type=int, default=10_000)
    parser.add_argument("--every", type=int, default=100, help="frames between two samples")
    parser.add_argument("--size", type=int, default=192, help="side of the frames, pixels")
    parser.add_argument("--variant")
    parser.add_argument("--json", default="-")
    parser.add_argument("--force", action="store_true")
    given = parser.parse_args(arguments)
    return ended(lambda: run(given))


def run(given: argparse.Namespace) -> None:
    """Measure, write."""
    predictor = load(given.bundle, variant=given.variant)
    result = measure(predictor, given.frames, every=given.every, size=given.size)
    report = {
        "bundle": predictor.manifest.name,
        "variant": predictor.id,
        "executor": predictor.executor,
        "machine": this_machine().to_dict(),
        "size": given.size,
        "result": result,
    }
    write_json(report, given.json, force=given.force)


if __name__ == "__main__":
    sys.exit(main())
