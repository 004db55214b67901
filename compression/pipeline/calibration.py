"""Which training faces static quantization looks at: a stage of its own, named, hashed, the same for every format."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from pocketface.benchmarks.data.face import Face
from pocketface.benchmarks.data.fingerprint import dataset_hash
from pocketface.compression.pipeline.context import Context
from pocketface.compression.pipeline.inputs import reference_pixels
from pocketface.compression.recipe import ExportSpec
from pocketface.compression.shape.pose import POINTS, HeadPose
from pocketface.compression.training.faces import thin
from pocketface.compression.training.strata import stratified
from pocketface.sdk.errors import ConfigError
from pocketface.sdk.manifest import Scheme

CALIBRATION_VERSION = 1

_FILE = "calibration.json"
_LOOK = 16  # side of the crops whose brightness is measured, pixels


class CalibrationSet(msgspec.Struct, frozen=True, kw_only=True):
    """The faces that were chosen.

    Attributes:
        name: what they are, in words.
        sha256: over their names, images and landmarks (benchmarks/data/fingerprint.py).
        faces: their names.
    """

    name: str
    sha256: str
    faces: tuple[str, ...]


def _yaw(faces: list[Face]) -> NDArray[np.floating]:
    """Degrees to the image's right, of a 3D face learnt from these very landmarks."""
    points = np.stack([face.points for face in faces])
    return HeadPose.fit(points).angles(points)[:, 0]


def _light(faces: list[Face]) -> NDArray[np.floating]:
    """Mean of the pixels in the face's box, 0 to 255."""
    return np.array([reference_pixels([face], _LOOK).mean() for face in faces])


TRAITS: Mapping[str, Callable[[list[Face]], NDArray[np.floating]]] = {"pose": _yaw, "light": _light}
"""What calibration faces can be spread over; to add one, add its line."""


def check_calibration(spec: ExportSpec, scheme: Scheme) -> None:
    """Refuse traits that do not exist or cannot be told from these landmarks, before anything is trained.

    Raises:
        ConfigError: naming it.
    """
    for trait in spec.calibration_by:
        if trait not in TRAITS:
            raise ConfigError(f"export.calibration_by: {trait!r}", choices=list(TRAITS), next="Name some of these")
    if "pose" in spec.calibration_by and scheme.points != POINTS:
        raise ConfigError(f"export.calibration_by: pose of {scheme.name}", expected=f"{POINTS} landmarks")


def calibration_set(context: Context) -> CalibrationSet:
    """Choose the faces that the recipe asks for; `calibration_faces` gives them."""
    spec = context.recipe.export

    def build(folder: Path) -> None:
        faces = context.split.train
        if spec.calibration_by:
            traits = {trait: TRAITS[trait](faces) for trait in spec.calibration_by}
            chosen = [faces[i] for i in stratified([face.name for face in faces], traits, spec.calibration_faces)]
        else:
            chosen = thin(faces, spec.calibration_faces)
        how = f"evenly by {' and '.join(spec.calibration_by)}" if spec.calibration_by else "evenly over the list"
        found = CalibrationSet(
            name=f"{len(chosen)} of {len(faces)} training faces of {context.recipe.data.name}, {how}",
            sha256=dataset_hash(chosen),
            faces=tuple(face.name for face in chosen),
        )
        (folder / _FILE).write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=1))

    inputs = {"faces": context.training_hash, "count": spec.calibration_faces, "by": spec.calibration_by}
    done = context.store.stage("calibration", CALIBRATION_VERSION, inputs, build)
    return msgspec.json.decode((done.path / _FILE).read_bytes(), type=CalibrationSet)


def calibration_faces(context: Context) -> list[Face]:
    """The faces of the set, in its order."""
    known = {face.name: face for face in context.split.train}
    return [known[name] for name in calibration_set(context).faces]
