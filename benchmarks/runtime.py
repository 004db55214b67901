"""Everything on the runtime's page: ``python -m pocketface.benchmarks.runtime BUNDLE --data 300w --out runs/runtime``.

Then ``pocketface results runs/runtime --page docs/results/runtime.md``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from pocketface.benchmarks.checkout import git_commit
from pocketface.benchmarks.data.registry import DATASETS
from pocketface.benchmarks.module_command import ended
from pocketface.benchmarks.papers.common import RESULTS
from pocketface.benchmarks.papers.runtime import PARTS, collect
from pocketface.sdk.face_detector import load_detector
from pocketface.sdk.files import refuse_existing, write_atomic
from pocketface.sdk.predictor import load
from pocketface.sdk.progress import track


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m pocketface.benchmarks.runtime", description=__doc__)
    parser.add_argument("bundle", help="folder, .pface file or name, of landmarks")
    parser.add_argument("--data", type=Path, required=True, help="root of annotated faces, one a picture")
    parser.add_argument("--format", default="300w", choices=sorted(DATASETS))
    parser.add_argument("--folder", action="append", help="part of the data to take; may be given again")
    parser.add_argument("--out", type=Path, required=True, help="folder for results.json")
    for name in PARTS:
        parser.add_argument(
            f"--{name.replace('_', '-')}", type=Path, help=f"figures of {name}, as its command stored them"
        )
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--frames", type=int, default=10_000)
    parser.add_argument("--force", action="store_true", help="replace a file that exists")
    given = parser.parse_args(arguments)
    return ended(lambda: run(given))


def run(given: argparse.Namespace) -> None:
    """Measure, collect, write."""
    target = given.out / RESULTS
    refuse_existing(target, given.force)
    predictor, detector = load(given.bundle, detector=None), load_detector()
    reader, folders = DATASETS[given.format], tuple(given.folder or ())
    faces = reader(given.data, folders=folders, scheme=predictor.stage.marks)
    with track("faces", len(faces)) as step:
        found = collect(
            given.bundle,
            predictor,
            detector,
            faces,
            data=given.format,
            split=" ".join(folders),
            licence=reader.licence,
            parts={name: getattr(given, name) for name in PARTS if getattr(given, name) is not None},
            commit=git_commit(),
            rounds=given.rounds,
            frames=given.frames,
            progress=lambda done, _: step(done),
        )
    given.out.mkdir(parents=True, exist_ok=True)
    write_atomic(target, msgspec.json.format(msgspec.json.encode(found), indent=1), force=True)
    print(f"wrote {target}")


if __name__ == "__main__":
    sys.exit(main())
