"""What each stage of a chain is fed when it is calibrated, compared and judged: real faces as the runtime would see
them, degraded by the protocol's own code where the stage is there for that.

relocalize: the degraded image in the moved box. uniformize: the degraded image in the true box. landmarks: the image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pocketface.benchmarks.data.degrade import degradation, degrade, inter_ocular
from pocketface.benchmarks.data.face import Face
from pocketface.compression.chain_recipe import AlignSpec, StageSpec
from pocketface.sdk.geometry import Box, Crop
from pocketface.sdk.images import read_image
from pocketface.sdk.preprocess import normalise, resample


class StageNetwork(Protocol):
    """What every network of a chain says of itself."""

    task: str
    input_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


@dataclass(frozen=True, eq=False)
class Fed:
    """What a stage sees of some faces, and what it should say.

    Attributes:
        inputs: (N, 3, S, S) float32, normalised.
        truth: relocalize: (N, 4), the correction that gives the true box; uniformize: (N, 3, S, S) in [0, 1], the clean
            crop; landmarks: (N, n, 2) in normalised crop coordinates.
    """

    inputs: NDArray[np.float32]
    truth: NDArray[np.float32]


def fed(
    faces: Sequence[Face], spec: StageSpec, net: StageNetwork, *, normaliser: tuple[int, int], seed: int = 0
) -> Fed:
    """Faces as a stage's network is fed them in the chain.

    Args:
        faces: annotated.
        spec: of the stage; its ``degrade`` says what happens to the images, except that landmarks come clean here: what
            a chain makes of degraded ones is measured on the whole chain.
        net: the stage's network.
        normaliser: the two landmarks whose distance is the inter-ocular distance.
        seed: of the degradations.
    """
    rows = [_one(face, spec, net, normaliser, seed) for face in faces]
    return Fed(np.concatenate([row[0] for row in rows]), np.stack([row[1] for row in rows]))


def _one(
    face: Face, spec: StageSpec, net: StageNetwork, normaliser: tuple[int, int], seed: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    image, size = read_image(face.image), net.input_size
    if isinstance(spec, AlignSpec):
        crop = Crop.from_box(face.box)
        return _tensor(image, crop, net), crop.to_normalised(face.points)
    iod = inter_ocular(face.points, normaliser)
    done = degrade(image, face.box, degradation(spec.degrade), iod=iod, name=face.name, seed=seed)
    if net.task == "relocalize":
        crop = Crop.from_box(done.box)
        return _tensor(done.image, crop, net), correction(crop, face.box)
    crop = Crop.from_box(face.box)
    clean = resample(image, crop, size).transpose(2, 0, 1) / np.float32(255)
    return _tensor(done.image, crop, net), np.ascontiguousarray(clean)


def correction(crop: Crop, box: Box) -> NDArray[np.float32]:
    """(4,): what turns an upright crop into a box: dx, dy and the sides' factors, in sides of the crop (eq 1)."""
    centre = ((box.x0 + box.x1) / 2 - crop.cx, (box.y0 + box.y1) / 2 - crop.cy)
    return np.array([*centre, box.width, box.height], np.float32) / np.float32(crop.side)


def _tensor(image: NDArray[np.uint8], crop: Crop, net: Any) -> NDArray[np.float32]:
    return normalise(resample(image, crop, net.input_size), net.mean, net.std)
