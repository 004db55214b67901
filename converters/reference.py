"""What torch fp32 gives: the outputs that every variant is compared with, and the golden cases.

Of a network with a state the golden cases are frames of a sequence: each is fed what the one before hands on.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pocketface.benchmarks.data.face import Face
from pocketface.converters.kinds import LANDMARKS, kind_of, kinds_of
from pocketface.converters.parity import Array, Pixels, References, Run
from pocketface.converters.states import Before
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
        batch 1; by default ``points`` (1, n, 2) and ``score`` (1,). Further inputs are given by name, see ``Run``, and
        handed to ``forward`` in the order in which they are given.
    """
    import torch

    from pocketface.converters.formats.interface import output_names

    own = copy.deepcopy(net).to("cpu", torch.float32).eval()
    names = output_names(own)

    def run(tensor: Array | Pixels, others: Mapping[str, Array] | None = None) -> Mapping[str, Array]:
        with torch.no_grad():
            given = own(*(torch.tensor(value) for value in (tensor, *(others or {}).values())))
        values = given if isinstance(given, tuple) else (given,)
        return {name: value.numpy() for name, value in zip(names, values, strict=True)}

    return run


def references(
    run: Run,
    inputs: Array | Pixels,
    truth: Array | Pixels | None = None,
    *,
    stage: Stage | None = None,
    others: Mapping[str, Array] | None = None,
) -> References:
    """Run the reference on every input, one at a time, as a phone does.

    Args:
        run: see ``torch_run``; ``comparable`` where the stage has its own units.
        inputs: (N, 3, S, S) float32, or uint8 pixels for a network that takes them; N at least 1.
        truth: what the main output should be: (N, n, 2) annotated landmarks in normalised crop coordinates, (N, 4)
            corrections to the true boxes, (N, 3, S, S) clean pictures in [0, 1], (N, M, M) true labels.
        stage: of the network; default: a landmark network's, with ``points`` and perhaps ``score``.
        others: further inputs by name, (N, ...); default: the initial state, of a stage that has one.
    """
    if len(inputs) < 1:
        raise BadInputError("no inputs to compare on", expected="at least one face")
    states = () if stage is None or others is not None else stage.states
    beside = {name: np.asarray(value, np.float32) for name, value in (others or {}).items()}
    beside |= {state.input: np.full((len(inputs), *state.shape[1:]), state.initial, np.float32) for state in states}
    for name, value in beside.items():
        if len(value) != len(inputs):
            raise BadInputError(f"{len(value)} inputs {name!r} beside {len(inputs)}", expected="one for each")
    outputs = []
    for index in range(len(inputs)):
        one = slice(index, index + 1)
        more = [{name: value[one].copy() for name, value in beside.items()}] if beside else []
        outputs.append(run(inputs[one].copy(), *more))
    inputs = inputs if inputs.dtype == np.uint8 else np.asarray(inputs, np.float32)
    return _joined(inputs, outputs, stage, truth, beside)


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


def golden_cases(
    runs: Run | Mapping[str, Run], frames: Sequence[tuple[NDArray[np.uint8], Box]], stages: Stage | Sequence[Stage]
) -> list[dict[str, NDArray[Any]]]:
    """Golden cases of several images; of a stage with a state, of the frames of one video in order.

    Args:
        runs, stages: see ``golden_case``.
        frames: images and boxes, see ``golden_images``; at least two where there is a state.

    Raises:
        BadInputError: a state that no case would hand on: fewer than two frames.
    """
    chain = [stages] if isinstance(stages, Stage) else list(stages)
    if any(stage.states for stage in chain) and len(frames) < 2:
        raise BadInputError(f"{len(frames)} frame for a network with a state", expected="two or more, of one video")
    cases: list[dict[str, NDArray[Any]]] = []
    for image, box in frames:
        before = cases[-1] if cases and chain[-1].states else None
        cases.append(golden_case(runs, image, box, chain, before=before))
    return cases


def golden_case(
    runs: Run | Mapping[str, Run],
    image: NDArray[np.uint8],
    box: Box,
    stages: Stage | Sequence[Stage],
    *,
    before: Mapping[str, NDArray[Any]] | None = None,
) -> dict[str, NDArray[Any]]:
    """A golden case: an image and a box with every step's tensors, as the reference gives them.

    Args:
        runs: (1, 3, S, S) -> the stage's raw outputs; see ``torch_run``. Of a chain: stage name -> that.
        image: (H, W, 3) uint8 RGB; synthetic or public domain, never from a data set.
        box: of the face, in pixels.
        stages: their preprocessing, outputs and decoding, in the order in which they run; variants do not matter.
        before: of a stage with a state, the golden case of the frame before; None at the beginning.

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

    def run(_: int, stage: Stage, tensor: NDArray[Any], others: Mapping[str, Array]) -> Mapping[str, Array]:
        return given[stage.name](tensor, others) if others else given[stage.name](tensor)

    frame = None if before is None else Before.of_case(before, chain[0])
    for step in follow(image, box, chain, run, frame):
        prefix = f"step{step.number}"
        case[f"{prefix}.input.{step.stage.inputs[0].name}"] = step.tensor
        case |= {f"{prefix}.input.{name}": value for name, value in step.others.items()}
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
    others = {
        spec.name: np.concatenate([case[f"step{step}.input.{spec.name}"] for case in cases])
        for spec in (() if stage is None else stage.inputs[1:])
    }
    prefix = f"step{step}.output."
    rows = [{name.removeprefix(prefix): case[name] for name in case if name.startswith(prefix)} for case in cases]
    return _joined(inputs, rows if stage is None else [comparable(row, stage) for row in rows], stage, None, others)


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
    inputs: Array | Pixels,
    rows: Sequence[Mapping[str, Array]],
    stage: Stage | None,
    truth: Array | Pixels | None,
    others: Mapping[str, Array],
) -> References:
    """Outputs of several faces in one."""
    known = LANDMARKS if stage is None else kinds_of(stage.outputs)
    kinds = {name: decode for name, decode in known.items() if stage is not None or name in rows[0]}
    outputs = {name: np.concatenate([np.asarray(row[name], np.float32) for row in rows]) for name in kinds}
    return References(inputs, outputs, truth, kinds, others)
