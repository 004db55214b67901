"""A trained network of masks -> its files, each compared with torch behind the softmax."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pocketface.benchmarks.data.labelled import Labelled, labelled_box
from pocketface.compression.models.flops import count_parameters, flops
from pocketface.compression.models.segment_blocks import SegmentNet
from pocketface.compression.pipeline.export import Formats, export_stages
from pocketface.compression.pipeline.measure import tolerances
from pocketface.compression.pipeline.segment.context import SegmentContext
from pocketface.compression.pipeline.segment.train import TrainedMasks
from pocketface.compression.pipeline.subject import Subject
from pocketface.compression.quantize.base import Calibration
from pocketface.compression.quantize.inputs import with_others
from pocketface.compression.training.faces import thin
from pocketface.converters.candidate import StageFiles
from pocketface.converters.examine import examine
from pocketface.converters.golden_images import golden_frames
from pocketface.converters.mask_reference import labelled_references
from pocketface.converters.parity import Array, Pixels, Run
from pocketface.converters.reference import comparable, golden_cases, golden_references, torch_run
from pocketface.sdk.geometry import GROUND_TRUTH_SCALE, Crop
from pocketface.sdk.manifest import ClassSet, OutputSpec, Preprocess, Stage, TensorSpec, Tolerances
from pocketface.sdk.mask_contract import IMAGE, LOGITS, PREVIOUS, previous_state
from pocketface.sdk.postprocess import class_probabilities
from pocketface.sdk.preprocess import network_input
from pocketface.sdk.progress import say

Cases = list[dict[str, NDArray[Any]]]

STAGE = "mask"


@dataclass(frozen=True)
class MaskFiles:
    """A network with files and golden cases of its own."""

    files: StageFiles
    cases: Cases


def contract(net: SegmentNet, classes: ClassSet, *, box_scale: float = 1.0) -> Stage:
    """The stage of the manifest, before it has variants.

    Args:
        net: the network.
        classes: of its masks.
        box_scale: side of the crop over that of the box that the runtime is given.
    """
    shape = (1, net.n_classes, net.output_size, net.output_size)
    image = TensorSpec(name=IMAGE, shape=(1, 3, net.input_size, net.input_size))
    return Stage(
        name=STAGE,
        task="segmentation",
        preprocess=Preprocess(size=net.input_size, mean=net.mean, std=net.std, box_scale=box_scale),
        inputs=(image, TensorSpec(name=PREVIOUS, shape=shape)) if net.previous else (image,),
        outputs=(OutputSpec(name=LOGITS, shape=shape, decode="class_logits"),),
        states=(previous_state(shape),) if net.previous else (),
        classes=classes,
        parameters=count_parameters(net),
        flops=flops(net),
        variants=(),
    )


def box_scale(context: SegmentContext, trained: TrainedMasks) -> float:
    """Of a network's crop: what training saw, undone by what ground-truth boxes add to the face."""
    seen = trained.spec.augment.plain_scale
    return seen / GROUND_TRUTH_SCALE if context.recipe.data.frame == "face" else seen


def mask_files(
    context: SegmentContext, trained: TrainedMasks, formats: Formats | None = None, *, bounds: Tolerances | None = None
) -> MaskFiles:
    """Every variant of a network, exported, quantized and compared with torch.

    Args:
        context: the run.
        trained: the network.
        formats: format -> precisions, instead of the recipe's.
        bounds: of every variant, instead of the recipe's gates.
    """
    recipe, split, net = context.recipe, context.split, trained.load()
    stage = contract(net, split.classes, box_scale=box_scale(context, trained))
    run = torch_run(net)
    frames = golden_frames(recipe.export.golden_faces, whole=recipe.data.frame == "image")
    cases = golden_cases(run, frames, stage)
    golden = golden_references(cases, stage)
    shown = thin(split.validation, recipe.export.parity_faces)
    faces = labelled_references(_in_units(run, stage), shown, stage)

    def calibration() -> Calibration:
        return calibration_inputs(run, stage, thin(split.train, recipe.export.calibration_faces))

    name = trained.done.name
    found = []
    for item in export_stages(context, Subject(name, trained.done.key, trained.load, calibration), formats):
        say(f"parity {name}: {item.format} {item.precision}", show=context.progress)
        own = bounds or tolerances(recipe.gates, item.precision)
        found.append(examine(item, golden=golden, faces=faces, tolerances=own))
    return MaskFiles(StageFiles(stage, found), cases)


def calibration_inputs(run: Run, stage: Stage, pictures: Sequence[Labelled]) -> Calibration:
    """What static quantization looks at: pictures in their boxes; where the network is shown the mask of the frame
    before, half of them with none, as at the beginning, half with what it made of the same picture.

    Args:
        run: the network in torch.
        stage: its contract.
        pictures: labelled; their labels only say where the face is.
    """
    images: list[NDArray[Any]] = []
    for picture in pictures:
        image, labels = picture.read()
        crop = Crop.from_box(labelled_box(labels, stage.class_set, picture.name), stage.preprocess.box_scale)
        images.append(network_input(image, crop, stage.preprocess))
    if not stage.states:
        return np.concatenate(images)
    (state,) = stage.states
    nothing = np.full(state.shape, state.initial, np.float32)
    before = [
        class_probabilities(run(image, {state.input: nothing})[state.output]) if number % 2 else nothing
        for number, image in enumerate(images)
    ]
    return with_others(np.concatenate(images), {state.input: np.concatenate(before)})


def _in_units(run: Run, stage: Stage) -> Run:
    def compared(tensor: Array | Pixels, others: Mapping[str, Array] | None = None) -> Mapping[str, Array]:
        return comparable(run(tensor, others), stage)

    return compared
