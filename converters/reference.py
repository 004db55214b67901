"""What torch fp32 gives: the outputs that every variant is compared with, and the golden cases."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pocketface.converters.parity import Array, References, Run
from pocketface.sdk.errors import BadInputError
from pocketface.sdk.geometry import Box, Crop
from pocketface.sdk.manifest import Preprocess, Stage
from pocketface.sdk.postprocess import decode
from pocketface.sdk.preprocess import normalise, resample

if TYPE_CHECKING:
    from torch import nn


def torch_run(net: nn.Module) -> Run:
    """A network as a function of numpy arrays, at batch 1, in float32 on the CPU; a copy of it, in evaluation mode.

    Returns:
        (1, 3, S, S) float32 -> ``points`` (1, n, 2) and ``score`` (1,).
    """
    import torch

    own = copy.deepcopy(net).to("cpu", torch.float32).eval()

    def run(tensor: Array) -> Mapping[str, Array]:
        with torch.no_grad():
            points, score = own(torch.tensor(tensor))
        return {"points": points.numpy(), "score": score.numpy()}

    return run


def references(run: Run, inputs: Array, truth: Array | None = None) -> References:
    """Run the reference on every input, one at a time, as a phone does.

    Args:
        run: see ``torch_run``.
        inputs: (N, 3, S, S) float32, N at least 1.
        truth: (N, n, 2) annotated landmarks in normalised crop coordinates.
    """
    if len(inputs) < 1:
        raise BadInputError("no inputs to compare on", expected="at least one face")
    outputs = [run(np.ascontiguousarray(inputs[index : index + 1])) for index in range(len(inputs))]
    points = np.concatenate([np.asarray(output["points"], np.float32) for output in outputs])
    score = np.concatenate([np.asarray(output["score"], np.float32) for output in outputs])
    return References(np.asarray(inputs, np.float32), points, score, truth)


def golden_case(run: Run, image: NDArray[np.uint8], box: Box, stage: Stage) -> dict[str, NDArray[Any]]:
    """A golden case: an image and a box with every step's tensors, as torch fp32 gives them.

    Args:
        run: see ``torch_run``.
        image: (H, W, 3) uint8 RGB; synthetic or public domain, never from a data set.
        box: of the face, in pixels.
        stage: its preprocessing, outputs and decoding; its variants do not matter.

    Returns:
        The arrays of ``golden/NNN.npz``.
    """
    crop = Crop.from_box(box, stage.preprocess.box_scale)
    tensor = preprocess(image, crop, stage.preprocess)
    raw = {name: np.asarray(value, np.float32) for name, value in run(tensor).items()}
    decoded = decode(raw, stage, crop)
    return {
        "image": image,
        "box": np.array(box, np.float64),
        f"step0.input.{stage.inputs[0].name}": tensor,
        **{f"step0.output.{spec.name}": raw[spec.name] for spec in stage.outputs},
        "step0.decoded.points": np.asarray(decoded.points, np.float32),
        "step0.decoded.score": np.float32(decoded.score),  # type: ignore[dict-item]
    }


def golden_references(cases: list[dict[str, NDArray[Any]]]) -> References:
    """Golden cases as references, for ``compare``."""
    if not cases:
        raise BadInputError("no golden cases", expected="at least one")
    return References(
        *(
            np.concatenate([case[f"step0.{name}"] for case in cases])
            for name in ("input.image", "output.points", "output.score")
        )
    )


def preprocess(image: NDArray[np.uint8], crop: Crop, settings: Preprocess) -> Array:
    """(H, W, 3) uint8 RGB and a crop -> (1, 3, S, S) float32, as the runtime does it."""
    pixels = resample(image, crop, settings.size)
    if settings.channels == "BGR":
        pixels = pixels[:, :, ::-1]
    return normalise(pixels, settings.mean, settings.std)
