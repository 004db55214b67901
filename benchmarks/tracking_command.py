"""``python -m pocketface.benchmarks.tracking_command BUNDLE``: the tracker's boxes and smoothing, on drawn faces or on
the validation faces of a data set."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec

from pocketface.benchmarks.data.face import Face
from pocketface.benchmarks.data.fingerprint import dataset_hash
from pocketface.benchmarks.data.motion import MotionSpec
from pocketface.benchmarks.data.registry import DATASETS
from pocketface.benchmarks.data.split import split_by_photo
from pocketface.benchmarks.data.synthetic import write_dataset
from pocketface.benchmarks.module_command import ended
from pocketface.benchmarks.tracking import (
    ALLOWED,
    BETAS,
    LOOKS,
    MARGINS,
    MIN_CUTOFFS,
    ROWS,
    SECOND_LOOKS,
    choose_boxes,
    choose_filter,
    sweep,
)
from pocketface.sdk.errors import BadInputError
from pocketface.sdk.manifest import Scheme
from pocketface.sdk.predictor import load
from pocketface.sdk.progress import track
from pocketface.sdk.terminal import write_json


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m pocketface.benchmarks.tracking_command", description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--data", type=Path, help="root of annotated faces; without it faces are drawn")
    parser.add_argument("--format", default="pts", choices=sorted(DATASETS))
    parser.add_argument("--folder", action="append", help="part of the data to take; may be given again")
    parser.add_argument("--val-share", type=float, default=0.1, help="of the photos, as in training")
    parser.add_argument("--faces", type=int, default=20, help="how many to film, evenly spread")
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--size", type=int, default=256, help="side of a frame, pixels")
    parser.add_argument("--variant")
    parser.add_argument("--json", default="-")
    parser.add_argument("--force", action="store_true")
    given = parser.parse_args(arguments)
    return ended(lambda: run(given))


def run(given: argparse.Namespace) -> None:
    """Measure, choose, write."""
    predictor = load(given.bundle, variant=given.variant)
    motion = MotionSpec(frames=given.frames, size=given.size)
    with tempfile.TemporaryDirectory() as folder:
        faces = _faces(given, predictor.stage.marks, Path(folder))
        with track("moving faces", len(faces)) as step:
            found = sweep(predictor, faces, motion=motion, progress=step)
        source = {
            "name": given.format if given.data else "drawn",
            "folders": given.folder or [],
            "split": "validation" if given.data else "",
            "sha256": dataset_hash(faces),
            "faces": len(faces),
        }
    boxes = choose_boxes(found)
    smoothing = choose_filter(found, boxes)
    report = {
        "bundle": predictor.manifest.name,
        "variant": predictor.id,
        "data": source,
        "motion": msgspec.to_builtins(motion),
        "rows": {name: msgspec.to_builtins(row) for name, row in ROWS.items()},
        "grid": {"margin": MARGINS, "second_look": SECOND_LOOKS, "min_cutoff": MIN_CUTOFFS, "beta": BETAS},
        "rule": "means over the rows: the margin and second look with the least NME without a filter, a lost frame "
        f"counted as 100 %, of those that look at most {LOOKS:g} times a frame; the filter with the least jitter, as a "
        f"share of that without, of those with at most {ALLOWED:g} x that NME",
        "chosen": {
            "margin": boxes[0],
            "second_look": boxes[1],
            "min_cutoff": None if smoothing is None else smoothing.min_cutoff,
            "beta": None if smoothing is None else smoothing.beta,
        },
        "figures": [msgspec.to_builtins(row) for row in found],
    }
    write_json(report, given.json, force=given.force)


def _faces(given: argparse.Namespace, scheme: Scheme, folder: Path) -> list[Face]:
    if given.faces < 1:
        raise BadInputError(f"--faces {given.faces}", expected="1 or more")
    if given.data is None:
        write_dataset(folder / "drawn", count=given.faces, size=192)
        return list(DATASETS["pts"](folder / "drawn", scheme=scheme))
    every = DATASETS[given.format](given.data, folders=given.folder or (), scheme=scheme)
    _, validation = split_by_photo(every, given.val_share)
    if not validation:
        raise BadInputError(f"no validation faces among {len(every)}", next="Give a larger --val-share")
    count = min(given.faces, len(validation))
    return [validation[number * len(validation) // count] for number in range(count)]


if __name__ == "__main__":
    sys.exit(main())
