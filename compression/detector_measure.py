"""What is measured of a detector: against MediaPipe's own file, and on annotated faces, as a network in torch and as a
file in a bundle.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pocketface.benchmarks.data.face import Face
from pocketface.benchmarks.detection import DetectionResult, evaluate_detector
from pocketface.compression.detector_recipe import DetectorRecipe
from pocketface.compression.models.blazeface import BlazeFace
from pocketface.compression.models.blazeface_weights import Original, interpreter
from pocketface.converters import reference
from pocketface.converters.bundle import Candidate, write_bundle
from pocketface.converters.executors import executor_of
from pocketface.sdk.bundle import open_bundle
from pocketface.sdk.decode_faces import decode_faces
from pocketface.sdk.detection import Detection, Detector
from pocketface.sdk.errors import GateFailedError
from pocketface.sdk.face_detector import FaceDetector, squares
from pocketface.sdk.geometry import Box
from pocketface.sdk.manifest import Provenance, Stage
from pocketface.sdk.preprocess import network_input


def original_error(net: BlazeFace, original: Original, inputs: NDArray[np.float32]) -> dict[str, float]:
    """max|a - b| / max|a| against MediaPipe's file: of the logits, and of boxes and key points; the worst picture.

    Args:
        inputs: (N, 3, 128, 128) float32, normalised.
    """
    opened, run = interpreter(original), reference.torch_run(net)
    names = {item["name"]: item["index"] for item in opened.get_output_details()}
    places, worst = net.anchors.places[0].numpy(), {"logits": 0.0, "faces": 0.0}
    for one in inputs:
        opened.set_tensor(opened.get_input_details()[0]["index"], np.ascontiguousarray(one.transpose(1, 2, 0)[None]))
        opened.invoke()
        ours = run(one[None].copy())["faces"][0]
        points = net.input_size * (ours[:, 1:].reshape(len(ours), -1, 2) - places)
        centre, side = (points[:, 0] + points[:, 1]) / 2, points[:, 1] - points[:, 0]
        faces = np.concatenate((centre, side, points[:, 2:].reshape(len(ours), -1)), axis=1)
        for name, found, tensor in (("logits", ours[:, :1], "classificators"), ("faces", faces, "regressors")):
            wanted = opened.get_tensor(names[tensor])[0]
            worst[name] = max(worst[name], float(np.abs(found - wanted).max() / np.abs(wanted).max()))
    return worst


def fit_face_box(detector: Detector, faces: Sequence[Face]) -> dict[str, float]:
    """Medians, over annotated faces, of what ``face_box`` should hold.

    Args:
        detector: gives its own boxes: the ``face_box`` of its stage changes nothing.
        faces: one a picture; at least one has to be found.

    Returns:
        ``dx``, ``dy``, ``scale`` as in `FaceBox`; ``turned``: the median of the angles without their signs, degrees.

    Raises:
        GateFailedError: not a single face was found.
    """
    _, matched = evaluate_detector(detector, faces)
    rows = []
    for face, one in zip(faces, matched, strict=True):
        if one is None:
            continue
        side, turn = one.box.width, math.radians(one.angle)
        dx = (face.box.x0 + face.box.x1 - one.box.x0 - one.box.x1) / 2 / side
        dy = (face.box.y0 + face.box.y1 - one.box.y0 - one.box.y1) / 2 / side
        along = (math.cos(turn) * dx + math.sin(turn) * dy, math.cos(turn) * dy - math.sin(turn) * dx)
        rows.append((*along, max(face.box.width, face.box.height) / side, abs(one.angle)))
    if not rows:
        raise GateFailedError(
            f"none of {len(faces)} faces was found", next="Compare the network with the original file"
        )
    medians = np.median(np.array(rows), axis=0)
    return dict(zip(("dx", "dy", "scale", "turned"), (round(float(value), 4) for value in medians), strict=True))


def torch_detector(net: BlazeFace, stage: Stage) -> Detector:
    """The network before it was converted, as a detector."""
    run = reference.torch_run(net)

    def detect(image: NDArray[np.uint8]) -> list[Detection]:
        (crop,) = squares(image.shape[1], image.shape[0], 1)
        rows = decode_faces(run(whole_input(image, stage)), stage, crop)
        return [Detection(Box(*row[:4]), float(row[4]), float(row[5])) for row in rows.tolist()]

    return detect


def whole_input(image: NDArray[np.uint8], stage: Stage) -> NDArray[np.float32]:
    """The whole picture, a square around its middle, as the network takes it: (1, 3, S, S) float32."""
    (crop,) = squares(image.shape[1], image.shape[0], 1)
    return np.asarray(network_input(image, crop, stage.preprocess), np.float32)


def file_detection(
    recipe: DetectorRecipe, stage: Stage, cases: Sequence[Any], candidate: Candidate, test: Sequence[Face], folder: Path
) -> DetectionResult:
    """A file's figures on the test faces, run as a bundle of its own."""
    write_bundle(
        folder,
        name=recipe.name,
        default=candidate.id,
        golden=cases,
        card="",
        provenance=Provenance(recipe="", recipe_sha256="", data=(), tools={}),
        weights_licence=recipe.weights_licence,
        stage=stage,
        candidates=[candidate],
        force=True,
    )
    with open_bundle(folder) as bundle:
        detector = FaceDetector(bundle, executor=executor_of(candidate.exported.format))
        return evaluate_detector(detector, test)[0]
