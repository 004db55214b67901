"""What torch fp32 gives: the outputs that every variant is compared with, and the golden cases."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pocketface.benchmarks.data.face import Face
from pocketface.converters.kinds import LANDMARKS, kind_of, kinds_of
from pocketface.converters.parity import Array, Pixels, References, Run
from pocketface.converters.steps import follow
from pocketface.sdk.errors import BadInputError
from pocketface.sdk.geometry import Box, Crop
from pocketface.sdk.images import read_image
from pocketface.sdk.manifest import Scheme, Stage
from pocketface.sdk.postprocess import in_contract_shape
from pocketface.sdk.preprocess import network_input

if TYPE_CHECKING:
    from torch import nn


def torch_run(net: nn.Module) -> Run:
    """A network as a function of numpy arrays, at batch 1, in float32 on the CPU; a copy of it, in evaluation mode.

    Returns:
        (1, 3, S, S), float32 or uint8 as the network takes it, -> the outputs it names (``output_names``), each of
        batch 1; by default ``points`` (1, n, 2) and ``score`` (1,).
    """
    import torch

    from pocketface.converters.formats.interface import output_names

    own = copy.deepcopy(net).to("cpu", torch.float32).eval()
    names = output_names(own)

    def run(tensor: Array | Pixels) -> Mapping[str, Array]:
        with torch.no_grad():
            given = own(torch.tensor(tensor))
        values = given if isinstance(given, tuple) else (given,)
        return {name: value.numpy() for name, value in zip(names, values, strict=True)}

    return run


def references(
    run: Run, inputs: Array | Pixels, truth: Array | None = None, *, stage: Stage | None = None
) -> References:
    """Run the reference on every input, one at a time, as a phone does.

    Args:
        run: see ``torch_run``; ``comparable`` where the stage has its own units.
        inputs: (N, 3, S, S) float32, or uint8 pixels for a network that takes them; N at least 1.
        truth: what the main output should be, of its shape: (N, n, 2) annotated landmarks in normalised crop
            coordinates, (N, 4) corrections to the true boxes, (N, 3, S, S) clean pictures in [0, 1].
        stage: of the network; default: a landmark network's, with ``points`` and perhaps ``score``.
    """
    if len(inputs) < 1:
        raise BadInputError("no inputs to compare on", expected="at least one face")
    outputs = [run(inputs[index : index + 1].copy()) for index in range(len(inputs))]
    inputs = inputs if inputs.dtype == np.uint8 else np.asarray(inputs, np.float32)
    return _joined(inputs, outputs, stage, truth)


def annotated_references(run: Run, faces: Sequence[Face], stage: Stage) -> References:
    """Annotated faces, each in its ground-truth box, as the reference sees them.

    Args:
        run: what ``comparable`` makes of the reference's outputs.
        faces: at least one.
        stage: a landmark stage: its preprocessing and scheme.

    Raises:
        BadInputError: a face has another number of landmarks than the scheme, or its image cannot be read.
    """
    check_marks(faces, stage.marks)
    inputs: list[NDArray[Any]] = []
    truth = []
    for face in faces:
        crop = Crop.from_box(face.box, stage.preprocess.box_scale)
        inputs.append(network_input(read_image(face.image), crop, stage.preprocess))
        truth.append(crop.to_normalised(face.points))
    return references(run, np.concatenate(inputs), np.stack(truth), stage=stage)


def check_marks(faces: Sequence[Face], scheme: Scheme) -> None:
    """Refuse faces of another mark-up.

    Raises:
        BadInputError: naming the first that has another number of landmarks.
    """
    for face in faces:
        if face.points.shape != (scheme.points, 2):
            raise BadInputError(
                f"{face.name} has {len(face.points)} landmarks", expected=f"{scheme.points} ({scheme.name})"
            )


def golden_case(
    runs: Run | Mapping[str, Run], image: NDArray[np.uint8], box: Box, stages: Stage | Sequence[Stage]
) -> dict[str, NDArray[Any]]:
    """A golden case: an image and a box with every step's tensors, as the reference gives them.

    Args:
        runs: (1, 3, S, S) -> the stage's raw outputs; see ``torch_run``. Of a chain: stage name -> that.
        image: (H, W, 3) uint8 RGB; synthetic or public domain, never from a data set.
        box: of the face, in pixels.
        stages: their preprocessing, outputs and decoding, in the order in which they run; variants do not matter.

    Returns:
        The arrays of ``golden/NNN.npz``: ``image``, ``box``, ``stepN.input.NAME``, ``stepN.output.NAME`` and
        ``stepN.decoded.NAME``, see ``steps.Step``.

    Raises:
        BadInputError: a stage of the chain without its network, or a box without area or outside the image.
        BundleError: outputs that are not what the stage's contract says.
    """
    chain = [stages] if isinstance(stages, Stage) else list(stages)
    given = {chain[0].name: runs} if callable(runs) else dict(runs)
    for stage in chain:
        if stage.name not in given:
            raise BadInputError(f"stage {stage.name!r} has no network to run", choices=given)
    height, width = image.shape[:2]
    box.checked((width, height))
    case: dict[str, NDArray[Any]] = {"image": image, "box": np.array(box, np.float64)}
    for step in follow(image, box, chain, lambda _, stage, tensor: given[stage.name](tensor)):
        prefix = f"step{step.number}"
        case[f"{prefix}.input.{step.stage.inputs[0].name}"] = step.tensor
        case |= {f"{prefix}.output.{spec.name}": step.outputs[spec.name] for spec in step.stage.outputs}
        case |= {f"{prefix}.decoded.{name}": value for name, value in step.decoded.items()}
    return case


def golden_references(
    cases: Sequence[Mapping[str, NDArray[Any]]], stage: Stage | None = None, step: int = 0
) -> References:
    """Golden cases as references, for ``compare``.

    Args:
        cases: see ``golden_case``.
        stage: theirs; default: a landmark network's, with ``points``, normalised, and perhaps ``score``.
        step: the stage's place in the chain.
    """
    if not cases:
        raise BadInputError("no golden cases", expected="at least one")
    image = "image" if stage is None else stage.inputs[0].name
    inputs = np.concatenate([case[f"step{step}.input.{image}"] for case in cases])
    prefix = f"step{step}.output."
    rows = [{name.removeprefix(prefix): case[name] for name in case if name.startswith(prefix)} for case in cases]
    return _joined(inputs, rows if stage is None else [comparable(row, stage) for row in rows], stage)


def comparable(outputs: Mapping[str, Array], stage: Stage) -> dict[str, Array]:
    """A stage's raw outputs as ``compare`` takes them: in the contract's shape, and in the units of `kinds`, e.g.
    landmarks (1, n, 2) in normalised crop coordinates.
    """
    shaped = in_contract_shape(outputs, stage)
    return {
        spec.name: kind_of(spec.decode).in_units(shaped[spec.name], spec, stage.preprocess.size)
        for spec in stage.outputs
    }


def _joined(
    inputs: Array | Pixels, rows: Sequence[Mapping[str, Array]], stage: Stage | None, truth: Array | None = None
) -> References:
    """Outputs of several faces in one."""
    known = LANDMARKS if stage is None else kinds_of(stage.outputs)
    kinds = {name: decode for name, decode in known.items() if stage is not None or name in rows[0]}
    outputs = {name: np.concatenate([np.asarray(row[name], np.float32) for row in rows]) for name in kinds}
    return References(inputs, outputs, truth, kinds)
