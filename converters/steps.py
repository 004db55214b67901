"""A chain followed step by step: what each stage is fed, gives and decodes to. A single network is one step; of a
network with a state a step follows that of the frame before.

The reference's outputs make golden cases of it; recorded outputs show whether this runtime still makes the same of
them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pocketface.converters.kinds import Array
from pocketface.converters.states import Before, handed_on
from pocketface.sdk.chain import View, onward
from pocketface.sdk.decode_faces import decode_faces
from pocketface.sdk.geometry import Box, Crop
from pocketface.sdk.manifest import Stage
from pocketface.sdk.postprocess import corrected_crop, decode, decode_mask, labels_on_image
from pocketface.sdk.preprocess import stage_input

Outputs = Callable[[int, Stage, NDArray[Any], Mapping[str, Array]], Mapping[str, Array]]
"""Step number, stage, input tensor, further inputs by name (none, or a mask's state) -> the stage's raw outputs."""


@dataclass(frozen=True, eq=False)
class Step:
    """One stage at work.

    Attributes:
        number: from 0.
        stage: which.
        tensor: (1, 3, S, S), what it is fed.
        outputs: name -> raw output, in the contract's shape.
        decoded: ``box`` (4,) float64, image pixels, of a relocalize stage; ``image`` (S, S, 3) float32 in [0, 255] of a
            uniformize stage; ``points`` (n, 2) float32, image pixels, and, where there are any, ``score`` () and
            ``pose`` (3,), degrees, of a landmarks stage; ``probabilities`` (C, M, M) float32, on the network's grid,
            and ``labels`` (H, W) uint8, on the image, of a segmentation; ``faces`` (n, 6) float64, see
            ``decode_faces``, of a detection.
        others: what it is fed besides, by name: a previous mask.
    """

    number: int
    stage: Stage
    tensor: NDArray[Any]
    outputs: dict[str, Array]
    decoded: dict[str, NDArray[Any]]
    others: dict[str, Array] = field(default_factory=dict)


def follow(
    image: NDArray[np.uint8], box: Box, stages: Sequence[Stage], outputs_of: Outputs, before: Before | None = None
) -> Iterator[Step]:
    """Run a chain as the runtime does.

    Args:
        image: (H, W, 3) uint8 RGB.
        box: of the face, in pixels.
        stages: in the order in which they run.
        outputs_of: what each gives.
        before: of a stage with a state, the frame before; None at the beginning.

    Raises:
        BundleError: an output that is missing, of another shape or not finite.
    """
    view = View(image, Crop.from_box(box, stages[0].preprocess.box_scale))
    for number, stage in enumerate(stages):
        tensor = stage_input(view.source, view.crop, stage.preprocess)
        others = handed_on(stage, before, view.crop, (image.shape[1], image.shape[0]))
        given = outputs_of(number, stage, tensor, others)
        outputs = {name: np.asarray(value, np.float32) for name, value in given.items()}
        if stage.task == "segmentation":
            yield Step(number, stage, tensor, outputs, _mask(outputs, stage, view.crop, image), others)
            return
        if stage.task == "detection":
            yield Step(number, stage, tensor, outputs, {"faces": decode_faces(outputs, stage, view.crop)})
            return
        if stage.task == "landmarks":
            yield Step(number, stage, tensor, outputs, _landmarks(outputs, stage, view))
            continue
        after = onward(outputs, stage, view)
        decoded: NDArray[Any] = np.asarray(after.source)
        if stage.task == "relocalize":
            decoded = np.array(corrected_crop(outputs[stage.outputs[0].name], view.crop)[0], np.float64)
        yield Step(number, stage, tensor, outputs, {"box" if stage.task == "relocalize" else "image": decoded})
        view = after


def _landmarks(outputs: Mapping[str, Array], stage: Stage, view: View) -> dict[str, NDArray[Any]]:
    found = decode(outputs, stage, view.crop)
    decoded: dict[str, NDArray[Any]] = {"points": np.asarray(found.points, np.float32)}
    if found.score is not None:
        decoded["score"] = np.float32(found.score)  # type: ignore[assignment]
    if found.pose is not None:
        decoded["pose"] = np.asarray(found.pose, np.float32)
    return decoded


def _mask(outputs: Mapping[str, Array], stage: Stage, crop: Crop, image: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
    probabilities = decode_mask(outputs, stage)
    size = (image.shape[1], image.shape[0])
    return {"probabilities": probabilities, "labels": labels_on_image(probabilities, crop, size)}
