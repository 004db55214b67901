"""What torch fp32 gives: the outputs that every variant is compared with, and the golden cases."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pocketface.benchmarks.data.face import Face
from pocketface.converters.parity import Array, Pixels, References, Run
from pocketface.sdk.errors import BadInputError
from pocketface.sdk.geometry import Box, Crop
from pocketface.sdk.images import read_image
from pocketface.sdk.manifest import Preprocess, Stage
from pocketface.sdk.postprocess import decode, in_contract_shape, normalised_points
from pocketface.sdk.preprocess import network_input

if TYPE_CHECKING:
    from torch import nn

OUTPUTS = ("points", "score")
"""Of our own networks."""


def torch_run(net: nn.Module) -> Run:
    """A network as a function of numpy arrays, at batch 1, in float32 on the CPU; a copy of it, in evaluation mode.

    Returns:
        (1, 3, S, S), float32 or uint8 as the network takes it, -> ``points`` (1, n, 2) and ``score`` (1,).
    """
    import torch

    own = copy.deepcopy(net).to("cpu", torch.float32).eval()

    def run(tensor: Array | Pixels) -> Mapping[str, Array]:
        with torch.no_grad():
            points, score = own(torch.tensor(tensor))
        return {"points": points.numpy(), "score": score.numpy()}

    return run


def references(run: Run, inputs: Array | Pixels, truth: Array | None = None) -> References:
    """Run the reference on every input, one at a time, as a phone does.

    Args:
        run: see ``torch_run``; it may give no score.
        inputs: (N, 3, S, S) float32, or uint8 pixels for a network that takes them; N at least 1.
        truth: (N, n, 2) annotated landmarks in normalised crop coordinates.
    """
    if len(inputs) < 1:
        raise BadInputError("no inputs to compare on", expected="at least one face")
    outputs = [run(inputs[index : index + 1].copy()) for index in range(len(inputs))]
    rows = [{name: np.asarray(value, np.float32) for name, value in output.items()} for output in outputs]
    inputs = inputs if inputs.dtype == np.uint8 else np.asarray(inputs, np.float32)
    return References(inputs, *_joined(rows), truth)


def annotated_references(run: Run, faces: Sequence[Face], stage: Stage) -> References:
    """Annotated faces, each in its ground-truth box, as the reference sees them.

    Args:
        run: what ``comparable`` makes of the reference's outputs.
        faces: at least one.
        stage: its preprocessing and scheme.

    Raises:
        BadInputError: a face has another number of landmarks than the scheme, or its image cannot be read.
    """
    inputs: list[NDArray[Any]] = []
    truth = []
    for face in faces:
        if face.points.shape != (stage.scheme.points, 2):
            raise BadInputError(
                f"{face.name} has {len(face.points)} landmarks", expected=f"{stage.scheme.points} ({stage.scheme.name})"
            )
        crop = Crop.from_box(face.box, stage.preprocess.box_scale)
        inputs.append(preprocess(read_image(face.image), crop, stage.preprocess))
        truth.append(crop.to_normalised(face.points))
    return references(run, np.concatenate(inputs), np.stack(truth))


def golden_case(run: Run, image: NDArray[np.uint8], box: Box, stage: Stage) -> dict[str, NDArray[Any]]:
    """A golden case: an image and a box with every step's tensors, as the reference gives them.

    Args:
        run: (1, 3, S, S) -> the stage's raw outputs; see ``torch_run``.
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
        **({} if decoded.score is None else {"step0.decoded.score": np.float32(decoded.score)}),  # type: ignore[dict-item]
    }


def golden_references(cases: list[dict[str, NDArray[Any]]], stage: Stage | None = None) -> References:
    """Golden cases as references, for ``compare``.

    Args:
        cases: see ``golden_case``.
        stage: theirs; without it, outputs are ``points``, normalised, and ``score``.
    """
    if not cases:
        raise BadInputError("no golden cases", expected="at least one")
    inputs = np.concatenate([case["step0.input.image"] for case in cases])
    if stage is None:
        return References(inputs, *(np.concatenate([case[f"step0.output.{n}"] for case in cases]) for n in OUTPUTS))
    rows = [
        comparable({spec.name: case[f"step0.output.{spec.name}"] for spec in stage.outputs}, stage) for case in cases
    ]
    return References(inputs, *_joined(rows))


def comparable(outputs: Mapping[str, Array], stage: Stage) -> dict[str, Array]:
    """A stage's raw outputs as ``compare`` takes them: ``points`` (1, n, 2) normalised, and ``score`` (1,), a logit, if
    the stage has one.
    """
    shaped = in_contract_shape(outputs, stage)
    found: dict[str, Array] = {}
    for spec in stage.outputs:
        value = shaped[spec.name]
        if spec.decode == "face_logit":
            found["score"] = value
        else:
            found["points"] = normalised_points(value, spec, stage.preprocess.size)
    return found


def _joined(rows: list[dict[str, Array]]) -> tuple[Array, Array | None]:
    """Points and score of several faces, from ``comparable``."""
    points = np.concatenate([row["points"] for row in rows])
    return points, np.concatenate([row["score"] for row in rows]) if "score" in rows[0] else None


def preprocess(image: NDArray[np.uint8], crop: Crop, settings: Preprocess) -> Array | Pixels:
    """(H, W, 3) uint8 RGB and a crop -> (1, 3, S, S), as the runtime does it."""
    return network_input(image, crop, settings)
