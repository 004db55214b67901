"""What was measured of the runtime, from which its page (runtime_page.py) is made: faces found, boxes, tracking, speed,
memory, broken bundles. Each part is what one command stored; `collect` puts them together.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from pocketface.benchmarks.data.face import Face
from pocketface.benchmarks.data.fingerprint import data_source
from pocketface.benchmarks.detection import evaluate_detector, nme_by_boxes
from pocketface.benchmarks.machine import this_machine
from pocketface.benchmarks.papers import common
from pocketface.benchmarks.papers.common import RunFigures
from pocketface.benchmarks.runtime_speed import measure
from pocketface.sdk.detection import Detector
from pocketface.sdk.errors import BadInputError
from pocketface.sdk.predictor import Predictor

KIND = "runtime"
MADE_BY = "python -m pocketface.benchmarks.runtime"

PARTS = ("detector", "tracking", "video_memory", "fuzz")
"""Parts that other commands store: RUN/detector.json of ``pocketface detector``, and what
``python -m pocketface.benchmarks.{tracking_command,video_memory,fuzz}`` write."""


class RuntimeResults(RunFigures, frozen=True, kw_only=True, tag=KIND):
    """Everything that the page shows.

    Attributes:
        bundle, variant: the landmark network of all figures.
        found: of the shipped detector on the test faces, see `DetectionResult`.
        nme: where boxes come from -> accuracy of the landmarks, of the faces that were found.
        speed: see ``runtime_speed.measure``.
        detector, tracking, video_memory, fuzz: as stored; empty where there is none.
    """

    bundle: str
    variant: str
    found: dict[str, Any]
    nme: dict[str, dict[str, Any]]
    speed: dict[str, Any]
    detector: dict[str, Any] = msgspec.field(default_factory=dict)
    tracking: dict[str, Any] = msgspec.field(default_factory=dict)
    video_memory: dict[str, Any] = msgspec.field(default_factory=dict)
    fuzz: dict[str, Any] = msgspec.field(default_factory=dict)


def read(path: Path) -> RuntimeResults:
    """Read RUN/results.json, or a page's figures.

    Raises:
        BadInputError: the file is missing, or of another kind.
    """
    return common.read(path, RuntimeResults, what="the runtime", made_by=MADE_BY)


def collect(
    bundle: str | os.PathLike[str],
    predictor: Predictor,
    detector: Detector,
    faces: Sequence[Face],
    *,
    data: str,
    split: str,
    licence: str,
    parts: dict[str, Path],
    commit: str,
    rounds: int,
    frames: int,
    progress: Callable[[int, int], None] | None = None,
) -> RuntimeResults:
    """Measure what is measured here, and take the rest from where it was stored.

    Args:
        bundle: of ``predictor``, for the figures of speed: a path, or the name of one that comes with the package.
        predictor, detector: what finds landmarks and faces.
        faces: annotated, one a picture.
        data, split, licence: what they are called.
        parts: name of ``PARTS`` -> its file.
        commit: of the code.
        rounds, frames: see ``runtime_speed.measure``.
        progress: told after each face.

    Raises:
        BadInputError: a part that is missing or no JSON, or is none of ``PARTS``.
    """
    stored = {name: _stored(name, path) for name, path in parts.items()}
    found, matched = evaluate_detector(detector, faces, progress=progress)
    text = "".join(f"{name}: {path.name}\n" for name, path in parts.items())
    text = f"bundle: {predictor.manifest.name}\nvariant: {predictor.id}\nrounds: {rounds}\nframes: {frames}\n{text}"
    return RuntimeResults(
        name="runtime",
        seed=0,
        recipe=text,
        recipe_sha256=hashlib.sha256(text.encode()).hexdigest(),
        commit=commit,
        data=(data_source(list(faces), name=data, split=split, licence=licence),),
        machine=f"{this_machine()}",
        bundle=predictor.manifest.name,
        variant=predictor.id,
        found=found.to_dict(),
        nme=nme_by_boxes(predictor, faces, matched),
        speed=msgspec.to_builtins(measure(bundle, rounds=rounds, frames=frames, imports=10)),
        **stored,
    )


def _stored(name: str, path: Path) -> dict[str, Any]:
    if name not in PARTS:
        raise BadInputError(f"part {name!r}", choices=PARTS)
    try:
        found: dict[str, Any] = msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
    except (OSError, msgspec.DecodeError, msgspec.ValidationError) as error:
        raise BadInputError(
            f"{path}: no figures of {name} ({error})", next="Run the command that stores them"
        ) from error
    return found
