"""A detector's bundle: MediaPipe's weights in our network, held against MediaPipe's own file, exported, judged on real
faces, packed.

wheel --load_blazeface--> network --parity with the original in LiteRT--> formats --gates: tensors, missed faces,
boxes--> bundle
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from pocketface.benchmarks.data.face import Face
from pocketface.benchmarks.data.fingerprint import data_source
from pocketface.benchmarks.data.registry import DATASETS
from pocketface.benchmarks.detection import DetectionResult, evaluate_detector
from pocketface.compression.detector_gates import Made, check_packed, judge, problem
from pocketface.compression.detector_measure import (
    file_detection,
    fit_face_box,
    original_error,
    torch_detector,
    whole_input,
)
from pocketface.compression.detector_recipe import DetectorRecipe, recipe_json
from pocketface.compression.models.blazeface import POINTS, BlazeFace
from pocketface.compression.models.blazeface_weights import Original, load_blazeface
from pocketface.compression.pipeline.contracts import stage_contract
from pocketface.compression.pipeline.provenance import git_commit, tool_versions
from pocketface.compression.training.faces import thin
from pocketface.compression.variants import make
from pocketface.converters import reference
from pocketface.converters.bundle import Candidate, pack, write_bundle
from pocketface.converters.examine import examine
from pocketface.converters.executors import executor_of
from pocketface.converters.golden_images import golden_images
from pocketface.converters.parity import References
from pocketface.sdk.detector_spec import DetectorSpec, FaceBox
from pocketface.sdk.errors import GateFailedError
from pocketface.sdk.files import write_atomic
from pocketface.sdk.geometry import Box
from pocketface.sdk.images import read_image
from pocketface.sdk.manifest import DataSource, Provenance, Stage, Tolerances
from pocketface.sdk.preprocess import reduced
from pocketface.sdk.schemes import load_scheme

RECORD, BUNDLE = "detector.json", "bundle"
SLOW_FACES = 100
"""Test faces that a reference executor is shown."""
GOLDEN_STEP = 16
"""Between the levels of a golden picture."""


class Variant(msgspec.Struct, frozen=True, kw_only=True):
    """One file that was made. ``detection``: on the test faces, None where nothing here runs it."""

    id: str
    bytes: int
    status: str
    reason: str
    shipped: bool
    max_tensor_error: float | None
    detection: dict[str, Any] | None


class DetectorRun(msgspec.Struct, frozen=True, kw_only=True):
    """What RUN/detector.json holds.

    Attributes:
        original_error: largest difference to MediaPipe's own file, over the largest value of a picture: of ``logits``,
            and of ``faces``, boxes and key points.
        fitted: the medians that ``face_box`` should hold, over the training faces; ``turned`` is the spread of their
            angles, in degrees.
    """

    recipe: str
    recipe_sha256: str
    source: str
    data: tuple[DataSource, ...]
    original_error: dict[str, float]
    fitted: dict[str, float]
    reference: dict[str, Any]
    variants: tuple[Variant, ...]
    git_commit: str


def build_detector(
    recipe: DetectorRecipe,
    original: Original,
    data: Path,
    out: Path,
    *,
    say: Callable[[str], None] = lambda text: None,
    force: bool = False,
) -> DetectorRun:
    """Make the bundle.

    Args:
        recipe: see `DetectorRecipe`.
        original: MediaPipe's file.
        data: root of the annotated faces.
        out: becomes ``OUT/bundle``, the same packed, and ``OUT/detector.json``.
        say: told before each step.
        force: replace what is there.

    Raises:
        GateFailedError: our network differs from the original, a variant that is to be shipped fails, or they are too
            large; the record is written all the same.
    """
    net = load_blazeface(original)
    stage = detector_stage(net, recipe)
    train, test = (_faces(recipe, data, folders) for folders in (recipe.data.train, recipe.data.test))
    say("MediaPipe's own file")
    shown = thin(train, recipe.calibration_faces)
    seen = np.concatenate([whole_input(read_image(face.image), stage) for face in shown])
    error = original_error(net, original, seen)
    golden = [(image, Box.of_image(*image.shape[1::-1])) for image in _golden(recipe, net.input_size)]
    cases = reference.golden_cases(reference.torch_run(net), golden, stage)
    pictures = reference.references(reference.torch_run(net), seen, stage=stage)
    say("where its boxes lie")
    fitted = fit_face_box(torch_detector(net, replace_box(stage, FaceBox())), train)
    truth, _ = evaluate_detector(torch_detector(net, stage), test)
    with tempfile.TemporaryDirectory(dir=_folder(out), prefix=".detector-") as scratch:
        made = _variants(recipe, net, stage, cases, pictures, seen, (test, truth), Path(scratch), say)
        record = DetectorRun(
            recipe=recipe.name,
            recipe_sha256=hashlib.sha256(recipe_json(recipe)).hexdigest(),
            source=original.source,
            data=(_source(recipe, train, recipe.data.train), _source(recipe, test, recipe.data.test)),
            original_error=error,
            fitted=fitted,
            reference=truth.to_dict(),
            variants=tuple(_row(id, item, recipe) for id, item in made.items()),
            git_commit=git_commit(),
        )
        write_atomic(out / RECORD, msgspec.json.format(msgspec.json.encode(record), indent=1), force=force)
        judge(recipe, made, error)
        write_bundle(
            out / BUNDLE,
            name=recipe.name,
            default=recipe.default,
            golden=cases,
            card=_card(recipe, record),
            provenance=Provenance(
                recipe=recipe.name,
                recipe_sha256=record.recipe_sha256,
                data=record.data,
                tools=tool_versions(),
                git_commit=record.git_commit,
            ),
            weights_licence=recipe.weights_licence,
            stage=stage,
            candidates=[_measured(made[id]) for id in recipe.ship],
            metrics=_figures(truth),
            force=force,
        )
    check_packed(recipe, pack(out / BUNDLE, packed_path(recipe, out), force=force))
    return record


def packed_path(recipe: DetectorRecipe, out: Path) -> Path:
    """Where the packed bundle goes."""
    return out / f"{recipe.name}.pface"


def detector_stage(net: BlazeFace, recipe: DetectorRecipe) -> Stage:
    """What the manifest says of the network."""
    settings = recipe.detector
    spec = DetectorSpec(
        points=POINTS,
        eyes=(POINTS.index("right_eye"), POINTS.index("left_eye")),  # the person's right is on the left as seen
        min_score=settings.min_score,
        max_overlap=settings.max_overlap,
        face_box=settings.face_box,
    )
    return msgspec.structs.replace(stage_contract("detector", net, load_scheme("ibug68")), detector=spec)


def replace_box(stage: Stage, box: FaceBox) -> Stage:
    """The stage with another way from the detector's box to the contract's."""
    if stage.detector is None:
        raise GateFailedError("the stage finds no faces", next="Take a detector's network")
    return msgspec.structs.replace(stage, detector=msgspec.structs.replace(stage.detector, face_box=box))


def _variants(
    recipe: DetectorRecipe,
    net: BlazeFace,
    stage: Stage,
    cases: Sequence[Any],
    pictures: References,
    seen: NDArray[np.float32],
    judged: tuple[Sequence[Face], DetectionResult],
    scratch: Path,
    say: Callable[[str], None],
) -> dict[str, Made]:
    found: dict[str, Made] = {}
    for format, kinds in recipe.formats.items():
        fp32 = None
        faces, truth = judged
        if format == "coreml":  # its reference is slow: a part of the faces is enough to see whether they are found
            faces = thin(faces, SLOW_FACES)
            truth, _ = evaluate_detector(torch_detector(net, stage), faces)
        for precision in kinds:
            id = f"{precision}.{format}"
            say(id)
            folder = scratch / format
            folder.mkdir(exist_ok=True)
            item = make(
                net,
                format,
                precision,
                folder,
                input_size=net.input_size,
                fp32=fp32,
                calibration=seen,
                options=recipe.quantize.get(f"{format}.{precision}"),
            )
            fp32 = item if precision == "fp32" else fp32
            bounds = Tolerances(max_tensor_error=recipe.gates.max_tensor_error[precision])
            golden = reference.golden_references(cases, stage)
            candidate = examine(item, golden=golden, faces=pictures, tolerances=bounds)
            detection = (
                file_detection(recipe, stage, cases, candidate, faces, scratch / "one") if _runs(candidate) else None
            )
            found[id] = Made(candidate, detection, problem(recipe, candidate, detection, truth))
    return found


def _runs(candidate: Candidate) -> bool:
    return candidate.status == "passed" and executor_of(candidate.exported.format) is not None


def _row(id: str, item: Made, recipe: DetectorRecipe) -> Variant:
    parity = item.candidate.parity
    return Variant(
        id=id,
        bytes=item.candidate.exported.total_bytes,
        status="failed" if item.problem else item.candidate.status,
        reason=item.problem,
        shipped=id in recipe.ship,
        max_tensor_error=None if parity is None or parity.broken else parity.main.max_error,
        detection=None if item.detection is None else item.detection.to_dict(),
    )


def _measured(item: Made) -> Candidate:
    return item.candidate if item.detection is None else replace(item.candidate, metrics=_figures(item.detection))


def _figures(found: DetectionResult) -> dict[str, float]:
    return {"missed": found.missed, "false_alarms": found.false_alarms, "box_error": found.box_error}


def _golden(recipe: DetectorRecipe, size: int) -> list[NDArray[np.uint8]]:
    """Drawn faces as large as the network's input and of few levels: others would be most of a small bundle."""
    found = []
    for image, _ in golden_images(recipe.golden_cases):
        levels = np.rint(reduced(image.astype(np.float32), size) / GOLDEN_STEP) * GOLDEN_STEP
        found.append(np.minimum(levels, 255).astype(np.uint8))
    return found


def _faces(recipe: DetectorRecipe, data: Path, folders: tuple[str, ...]) -> list[Face]:
    found: list[Face] = DATASETS[recipe.data.format](data, folders=folders, scheme=load_scheme("ibug68"))
    return found


def _source(recipe: DetectorRecipe, faces: list[Face], folders: tuple[str, ...]) -> DataSource:
    licence = DATASETS[recipe.data.format].licence
    return data_source(faces, name=recipe.data.name, split=" ".join(folders), licence=licence)


def _folder(out: Path) -> Path:
    out.mkdir(parents=True, exist_ok=True)
    return out


def _card(recipe: DetectorRecipe, record: DetectorRun) -> str:
    """The card that goes into the bundle, as Markdown."""
    figures, error = record.reference, record.original_error
    return f"""# {recipe.name}

Faces in a picture: a box, a score and how far each is turned, from the whole picture at 128 x 128 pixels.

| | |
|---|---|
| network | BlazeFace, short range (Bazarevsky et al. 2019), written anew |
| weights | {record.source}, trained by Google |
| licence of the weights | {recipe.weights_licence} |
| against the original file | max abs(a - b) / max abs(a): logits {error["logits"]:.1e}, boxes {error["faces"]:.1e} |
| {figures["faces"]} test faces of {recipe.data.name} | {figures["missed"]:.2f} % missed, boxes off by \
{figures["box_error"]:.1f} % of a side |
| false alarms | {figures["false_alarms"]:.3f} a picture once its face is painted over |

## Limits
- A face has to fill about an eighth of the picture's longer side; smaller ones need more levels, see `FaceDetector`.
- Made for faces within two metres of a phone's camera. Faces that are turned by more than about 45 degrees, or seen
from behind the ear, are often missed.
- Errors were not measured per group of people.
- It finds faces. It does not recognise people, and must not be used to infer who they are.
"""
