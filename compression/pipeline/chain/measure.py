"""What is measured of whole chains, through the runtime that ships: every chain on the test faces, the parts of the
default chain under each degradation and on moving faces, and how long each stage takes.

The rows of the degraded tables are LE, R-LE, U-LE and R-U-LE: the same landmark weights with the stages before it left
out or in, each written as a small bundle of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from numpy.typing import NDArray

from pocketface.benchmarks.accuracy import evaluate
from pocketface.benchmarks.data.degrade import DEGRADATIONS
from pocketface.benchmarks.data.fingerprint import dataset_hash
from pocketface.benchmarks.data.motion import MotionSpec
from pocketface.benchmarks.latency import measure as measure_latency
from pocketface.benchmarks.machine import this_machine
from pocketface.benchmarks.metrics import Accuracy
from pocketface.benchmarks.robustness import (
    BOX_ERRORS,
    ROWS,
    box_error_spec,
    evaluate_box_error,
    evaluate_degraded,
)
from pocketface.benchmarks.video import ROWS as VIDEO_ROWS
from pocketface.benchmarks.video import VideoResult, evaluate_video
from pocketface.compression.pipeline.chain.files import Alone
from pocketface.compression.pipeline.context import ChainContext
from pocketface.compression.pipeline.drafts import bundle_of
from pocketface.compression.training.faces import thin
from pocketface.converters.candidate import StageFiles
from pocketface.converters.executors import executor_of
from pocketface.sdk.backends.registry import has_executor
from pocketface.sdk.bundle import open_bundle
from pocketface.sdk.manifest import FORMATS, ChainRun, Latency
from pocketface.sdk.predictor import Predictor
from pocketface.sdk.progress import say, track

ACCURACY_VERSION = 1
DEGRADED_VERSION = 1
VIDEO_VERSION = 1
BOX_VERSION = 1
LATENCY_VERSION = 1

VIDEO_FACES = 60
"""Test faces that are made to move: 90 frames of each."""

LETTERS = {"relocalize": "R", "uniformize": "U", "landmarks": "LE"}


class Measured(msgspec.Struct, frozen=True):
    """Of whole chains, on the test faces.

    Attributes:
        default: id of the default chain.
        accuracy: chain id -> on clean faces in ground-truth boxes.
        degraded: row (``LE`` .. ``R-U-LE``) -> degradation -> accuracy; of the default variants.
        video: row -> protocol's row -> result, of LE, R-LE and the whole chain.
        runs: as the manifest keeps them, with latency.
        box_error: row -> multiple of the paper's box error -> accuracy, of LE and R-LE.
        warning: why not to trust the latency; empty if nothing speaks against it.
    """

    default: str
    accuracy: dict[str, Accuracy]
    degraded: dict[str, dict[str, Accuracy]]
    video: dict[str, dict[str, VideoResult]]
    runs: tuple[ChainRun, ...]
    box_error: dict[str, dict[str, Accuracy]] = msgspec.field(default_factory=dict)
    warning: str = ""

    @property
    def nme(self) -> float:
        """Of the default chain on clean faces, percent."""
        return self.accuracy[self.default].nme

    @property
    def figures(self) -> dict[str, float]:
        """Of the default chain, as a manifest keeps them."""
        return _figures(self.accuracy[self.default])


def measure_chains(
    context: ChainContext,
    files: Sequence[StageFiles],
    cases: Sequence[Mapping[str, NDArray[Any]]],
    rivals: Mapping[str, Alone],
) -> Measured:
    """Everything; each figure is a stage of the run's store, and is not measured again.

    Args:
        context: the run.
        files: of the chain.
        cases: its golden cases.
        rivals: row -> landmark networks that stand alone against the chain under every degradation.
    """
    default = f"fp32.{next(iter(context.recipe.export.formats))}"
    draft = bundle_of(context, context.store.root / ".measured", files, cases, default)
    rows = part_rows([part.stage.name for part in files])
    keys = _keys(files)
    with open_bundle(draft) as bundle:
        ids = list(bundle.manifest.chains)
    accuracy = _accuracy(context, draft, ids, keys)
    parts = {}
    for name, names in rows.items():
        path = context.store.root / f".row-{name}"
        whole = len(names) == len(files)
        parts[name] = (
            draft if whole else bundle_of(context, path, _only(files, names), _steps(cases, files, names), default)
        )
    own = {name: _keys(_only(files, names)) for name, names in rows.items()}
    degraded = {name: _degraded(context, name, path, default, own[name]) for name, path in parts.items()}
    for name, rival in rivals.items():
        best = next(item.id for item in rival.files.candidates if item.exported.precision == "fp32")
        path = bundle_of(context, context.store.root / f".row-{name}", [rival.files], rival.cases, best)
        degraded[f"LE, {name}"] = _degraded(context, name, path, best, _keys([rival.files]))
    # What R is there for: boxes of detectors (growing error) and of trackers (the frame before).
    moved = [name for name in parts if name in ("LE", "R-LE")]
    boxes = {name: _box_error(context, name, parts[name], default, own[name]) for name in moved}
    followed = dict.fromkeys((*moved, next(reversed(rows))))
    video = {name: _video(context, name, parts[name], default, own[name]) for name in followed}
    latency, warning = _latency(context, draft, ids, keys)
    runs = tuple(ChainRun(id=id, metrics=_figures(accuracy[id]), latency=tuple(latency.get(id, ()))) for id in ids)
    return Measured(default, accuracy, degraded, video, runs, boxes, warning)


def part_rows(stages: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Row -> its stages: landmarks alone, each other stage before it, and all; names as in the paper."""
    before = [name for name in stages if name != "landmarks"]
    chosen = [(), *((name,) for name in before), *([tuple(before)] if len(before) > 1 else [])]
    return {"-".join(LETTERS[name] for name in (*some, "landmarks")): (*some, "landmarks") for some in chosen}


def _keys(files: Sequence[StageFiles]) -> list[str]:
    """What a figure of these stages depends on."""
    return sorted({item.exported.path.parent.name for part in files for item in part.candidates})


def _only(files: Sequence[StageFiles], names: Sequence[str]) -> list[StageFiles]:
    return [part for part in files if part.stage.name in names]


def _steps(
    cases: Sequence[Mapping[str, NDArray[Any]]], files: Sequence[StageFiles], names: Sequence[str]
) -> list[dict[str, NDArray[Any]]]:
    """Golden cases of a part of the chain: the steps that are left, renumbered. They are kept, not compared."""
    found: list[dict[str, NDArray[Any]]] = []
    for case in cases:
        left = {name: value for name, value in case.items() if not name.startswith("step")}
        for new, name in enumerate(names):
            old = [part.stage.name for part in files].index(name)
            left |= {
                f"step{new}{key.removeprefix(f'step{old}')}": value
                for key, value in case.items()
                if key.startswith(f"step{old}.")
            }
        found.append(left)
    return found


def _accuracy(context: ChainContext, path: Path, ids: list[str], keys: list[str]) -> dict[str, Accuracy]:
    """Every chain on the clean test faces."""
    faces = context.split.test

    def make(_folder: Path) -> dict[str, Accuracy]:
        found = {}
        with track("accuracy of chains", len(ids), show=context.progress) as step, open_bundle(path) as bundle:
            for number, id in enumerate(ids, start=1):
                # A Mac's format runs in the reference executor elsewhere.
                predictor = Predictor(bundle, variant=id, threads=1, executor=_executors())
                found[id] = evaluate(predictor, faces).accuracy
                step(number)
        return found

    inputs = {"files": keys, "ids": ids, "faces": dataset_hash(faces)}
    return context.store.figures("test-chains", ACCURACY_VERSION, inputs, make, dict[str, Accuracy])


def _degraded(context: ChainContext, row: str, path: Path, default: str, keys: list[str]) -> dict[str, Accuracy]:
    """One row under every degradation of the protocol."""
    faces, seed = context.split.test, context.recipe.seed

    def make(_folder: Path) -> dict[str, Accuracy]:
        with (
            track(f"{row}, degraded", len(ROWS) * len(faces), show=context.progress) as step,
            open_bundle(path) as bundle,
        ):
            predictor = Predictor(bundle, variant=default, threads=1)
            order = list(ROWS)
            found = evaluate_degraded(
                predictor,
                faces,
                seed=seed,
                progress=lambda name, done, total: step(order.index(name) * total + done),
                on_skip=lambda error: None,
            )
        return {name: result.accuracy for name, result in found.results.items()}

    inputs = {
        "files": keys,
        "row": row,
        "variant": default,
        "rows": _presets(),
        "faces": dataset_hash(faces),
        "seed": seed,
    }
    return context.store.figures(f"degraded-{row.lower()}", DEGRADED_VERSION, inputs, make, dict[str, Accuracy])


def _box_error(context: ChainContext, row: str, path: Path, default: str, keys: list[str]) -> dict[str, Accuracy]:
    """One row against growing box error."""
    faces, seed = context.split.test, context.recipe.seed

    def make(_folder: Path) -> dict[str, Accuracy]:
        say(f"{row}, growing box error", show=context.progress)
        with open_bundle(path) as bundle:
            predictor = Predictor(bundle, variant=default, threads=1)
            found = evaluate_box_error(predictor, faces, seed=seed, on_skip=lambda error: None)
        return {f"{share:g}": accuracy for share, accuracy in found.items()}

    what = {"rows": {f"{share:g}": box_error_spec(share).to_dict() for share in BOX_ERRORS}, "seed": seed}
    inputs = {"files": keys, "row": row, "variant": default, "faces": dataset_hash(faces), **what}
    return context.store.figures(f"box-{row.lower()}", BOX_VERSION, inputs, make, dict[str, Accuracy])


def _video(context: ChainContext, row: str, path: Path, default: str, keys: list[str]) -> dict[str, VideoResult]:
    """One row on moving faces."""
    faces, seed = thin(context.split.test, VIDEO_FACES), context.recipe.seed

    def make(_folder: Path) -> dict[str, VideoResult]:
        found = {}
        with open_bundle(path) as bundle:
            predictor = Predictor(bundle, variant=default, threads=1)
            for name, (spatial, temporal) in VIDEO_ROWS.items():
                with track(f"{row}, video, {name}", len(faces), show=context.progress) as step:
                    found[name] = evaluate_video(
                        predictor, faces, spatial=spatial, temporal=temporal, seed=seed, progress=step
                    )
        return found

    inputs = {
        "files": keys,
        "row": row,
        "variant": default,
        "rows": VIDEO_ROWS,
        "motion": MotionSpec(),
        "faces": dataset_hash(faces),
        "seed": seed,
    }
    return context.store.figures(f"video-{row.lower()}", VIDEO_VERSION, inputs, make, dict[str, VideoResult])


class _Times(msgspec.Struct, frozen=True):
    rows: dict[str, tuple[Latency, ...]]
    warning: str


def _latency(
    context: ChainContext, path: Path, ids: list[str], keys: list[str]
) -> tuple[dict[str, tuple[Latency, ...]], str]:
    """The chains that run here, interleaved in one process."""
    spec = context.recipe.bench
    timed = [id for id in ids if has_executor(id.rpartition(".")[2])]

    def make(_folder: Path) -> _Times:
        say(f"latency of {len(timed)} chains, {spec.runs} runs each", show=context.progress)
        with open_bundle(path) as bundle:
            result = measure_latency(bundle, timed, threads=spec.threads, runs=spec.runs, warmup=spec.warmup)
        return _Times({id: result.of(id) for id in timed}, result.warning)

    inputs = {"files": keys, "ids": timed, "bench": spec, "cpu": this_machine().cpu}
    found = context.store.figures("bench-chains", LATENCY_VERSION, inputs, make, _Times)
    return found.rows, found.warning


def _presets() -> dict[str, dict[str, list[float]]]:
    """What the protocol's rows mean: a changed range is another measurement."""
    return {name: DEGRADATIONS[name].to_dict() for name in ROWS}


def _executors() -> dict[str, Any]:
    return {name: executor for name in FORMATS if (executor := executor_of(name)) is not None}


def _figures(accuracy: Accuracy) -> dict[str, float]:
    return {name: float(getattr(accuracy, name)) for name in ("nme", "median", "fr", "landmark_fr", "auc")}
