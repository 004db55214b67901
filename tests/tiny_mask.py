"""Tiny segmentation networks, what they are converted to, and bundles of them; see tiny_export.py and tiny_chain.py.

``hourglass`` parses faces, with the mask of the frame before (``hourglass_previous``) or without; ``mobile_segment``
finds hair. Their weights are random, with batch-norm statistics of their own.
"""

from __future__ import annotations

import atexit
import functools
import hashlib
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pocketface.benchmarks.data.synthetic import render_face
from pocketface.compression.models.blocks import MID_GREY
from pocketface.compression.models.mobilenetv2 import InvertedResidual
from pocketface.compression.models.registry import ModelSpec, build_network
from pocketface.compression.models.segment_blocks import (
    PreviousInput,
    SegmentNet,
    bilinear,
    conv_bn,
    lateral,
    separable,
)
from pocketface.compression.quantize.inputs import with_others
from pocketface.compression.quantize.registry import QUANTIZERS
from pocketface.compression.variants import make, quantized_precisions
from pocketface.converters.bundle import Candidate, write_bundle
from pocketface.converters.examine import examine
from pocketface.converters.formats.base import Exported
from pocketface.converters.golden_images import golden_frames
from pocketface.converters.parity import References
from pocketface.converters.reference import golden_cases, golden_references, references, torch_run
from pocketface.sdk.classes import load_classes
from pocketface.sdk.geometry import Box, Crop
from pocketface.sdk.manifest import OutputSpec, Preprocess, Provenance, Stage, TensorSpec, Tolerances
from pocketface.sdk.mask_contract import previous_state
from pocketface.sdk.preprocess import network_input

SPECS = {
    "hourglass": ModelSpec(name="hourglass", input_size=32, options={"features": 8, "expansion": 2, "stem": 2}),
    "hourglass_previous": ModelSpec(
        name="hourglass",
        input_size=32,
        options={"features": 8, "expansion": 2, "stem": 2, "previous": True},
    ),
    "mobile_segment": ModelSpec(
        name="mobile_segment",
        width=0.25,
        input_size=32,
        options={"trunk": "mobilenetv2", "levels": 4, "output_size": 48},
    ),
    "mobile_segment_previous": ModelSpec(
        name="mobile_segment",
        width=0.25,
        input_size=32,
        options={"trunk": "mobilenetv2", "levels": 4, "output_size": 48, "previous": True},
    ),
    # Only its sizes: see `TinySegment`.
    "tiny_previous": ModelSpec(name="mobile_segment", input_size=32, options={"output_size": 48, "previous": True}),
}
CLASSES = {"hourglass": "face11", "mobile_segment": "hair2", "tiny": "face11"}
BOUNDS = {
    "fp32": Tolerances(max_tensor_error=1e-4, max_relative_error=1e-4),
    "fp16": Tolerances(max_tensor_error=0.02),
}
"""Random networks magnify rounding more than trained ones."""
QUANTIZED = Tolerances(max_nme_increase=20.0)
SETTINGS = {"min_elements": 64, "min_elements_8": 64, "depthwise": True}
"""Of the quantizers that have such options: these networks have no large weights."""


class TinySegment(SegmentNet):
    """One of each kind of layer that these networks have: converted in a tenth of the time that theirs take."""

    def __init__(self, *, n_classes: int, input_size: int, output_size: int) -> None:
        super().__init__(
            n_classes=n_classes,
            input_size=input_size,
            output_size=output_size,
            mean=MID_GREY,
            std=MID_GREY,
            previous=True,
        )
        half = input_size // 2
        self.stem = conv_bn(3, 16, stride=2)
        self.remember = PreviousInput(n_classes, 16, output_size=output_size, size=half)
        self.block = InvertedResidual(16, 16, 1, 4)
        self.down = nn.Sequential(nn.MaxPool2d(2), separable(16, 32))
        self.rise = nn.Sequential(lateral(32, 16), bilinear(half // 2, half))
        self.logits = nn.Conv2d(16, n_classes, 1)
        self.enlarge = bilinear(half, output_size)

    def maps(self, image: Tensor, previous: Tensor | None = None) -> dict[str, Tensor]:
        """See `SegmentNet`."""
        x = self.stem(image)
        previous = self.checked_previous(image, previous)
        if previous is not None:
            x = x + self.remember(previous)
        x = self.block(x)
        return {"logits": self.enlarge(self.logits(x + self.rise(self.down(x))))}


def classes_of(name: str) -> str:
    return CLASSES[name.removesuffix("_previous")]


@functools.cache
def net(name: str) -> SegmentNet:
    """A network, in evaluation mode."""
    with torch.random.fork_rng():
        torch.manual_seed(5)
        spec, count = SPECS[name], len(load_classes(classes_of(name)).names)
        made: Any = (
            TinySegment(n_classes=count, input_size=spec.input_size, output_size=spec.options["output_size"])
            if name == "tiny_previous"
            else build_network(spec, n_classes=count)
        )
        for module in made.modules():
            if isinstance(module, PreviousInput):
                nn.init.normal_(module.conv.weight, std=0.1)  # it starts at zero, and nothing would be compared
        nn.init.normal_(made.logits.weight, std=0.2)
        for block in made.modules():
            if getattr(block, "shortcut", False):
                # As in trained networks a block adds little to its shortcut; else rounding grows from block to block.
                *_, last = (module for module in block.modules() if isinstance(module, nn.BatchNorm2d))
                nn.init.constant_(last.weight, 0.1)
        made.train()
        for module in made.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = None
        with torch.no_grad():
            for seed in range(4):
                made(*(torch.from_numpy(value) for value in inputs(name, 8, seed=100 + seed).values()))
    net_: SegmentNet = made.eval()
    return net_


def inputs(name: str, count: int, *, seed: int = 0) -> dict[str, NDArray[np.float32]]:
    """Smooth random pictures and, where the network takes them, masks of a frame before: input name -> (count, ...)."""
    spec, rng = SPECS[name], np.random.default_rng(seed)
    coarse = rng.normal(size=(count, 3, 4, 4)).astype(np.float32)
    size = spec.input_size
    fine = np.repeat(np.repeat(coarse, size // 4, axis=2), size // 4, axis=3)
    found = {"image": (fine + rng.normal(0, 0.2, fine.shape)).astype(np.float32)}
    if spec.options.get("previous"):
        classes, side = len(load_classes(classes_of(name)).names), int(spec.options.get("output_size", size))
        cells = np.repeat(np.repeat(rng.integers(0, classes, (count, 4, 4)), side // 4, 1), side // 4, 2)
        found["previous"] = np.eye(classes, dtype=np.float32)[cells].transpose(0, 3, 1, 2).copy()
    return found


@functools.cache
def stage(name: str) -> Stage:
    """Without variants."""
    own = net(name)
    shape = (1, own.n_classes, own.output_size, own.output_size)
    image = TensorSpec(name="image", shape=(1, 3, own.input_size, own.input_size))
    previous = TensorSpec(name="previous", shape=shape)
    return Stage(
        name="mask",
        task="segmentation",
        preprocess=Preprocess(size=own.input_size, mean=own.mean, std=own.std),
        inputs=(image, previous) if own.previous else (image,),
        outputs=(OutputSpec(name="logits", shape=shape, decode="class_logits"),),
        states=(previous_state(shape),) if own.previous else (),
        classes=load_classes(classes_of(name)),
        parameters=sum(parameter.numel() for parameter in own.parameters()),
        flops=0,
        variants=(),
    )


@functools.cache
def exported(name: str, format: str = "onnx", precision: str = "fp32") -> Exported:
    """A network in one format and precision."""
    given = inputs(name, 8, seed=7)
    images, others = given.pop("image"), given
    return make(
        net(name),
        format,
        precision,
        _folder() / name / format,
        input_size=SPECS[name].input_size,
        fp32=None if precision == "fp32" else exported(name, format),
        calibration=with_others(images, others) if others else images,
        options=_settings(format, precision),
    )


def _settings(format: str, precision: str) -> dict[str, Any] | None:
    if precision not in quantized_precisions(format):
        return None
    fields = QUANTIZERS[f"{format}.{precision}"].config_type.__struct_fields__
    return {name: value for name, value in SETTINGS.items() if name in fields}


@functools.cache
def golden(name: str, count: int = 3) -> list[dict[str, NDArray[Any]]]:
    """Frames of one drawn video."""
    return golden_cases(torch_run(net(name)), golden_frames(count), stage(name))


@functools.cache
def judged(name: str, count: int = 3) -> References:
    """Drawn faces whose truth is what the network says, but for a tenth of the cells; a border of 255."""
    own, rng = stage(name), np.random.default_rng(3)
    faces = [render_face(seed, 96) for seed in range(40, 40 + count)]
    tensors = [network_input(face.image, Crop.from_box(Box.around(face.points)), own.preprocess) for face in faces]
    images, run = np.concatenate(tensors), torch_run(net(name))
    others = {key: value for key, value in inputs(name, count, seed=9).items() if key != "image"}
    found = references(run, images, stage=own, others=others)
    truth = found.main.argmax(axis=1).astype(np.uint8)
    wrong = rng.random(truth.shape) < 0.1
    truth[wrong] = rng.integers(0, found.main.shape[1], int(wrong.sum()))
    truth[:, :2] = 255
    return references(run, images, truth, stage=own, others=others)


@functools.cache
def candidate(name: str, format: str = "onnx", precision: str = "fp32") -> Candidate:
    """A file with its comparison."""
    return examine(
        exported(name, format, precision),
        golden=golden_references(golden(name), stage(name)),
        faces=judged(name),
        tolerances=BOUNDS.get(precision, QUANTIZED),
    )


def write(out: Path, name: str, candidates: list[Candidate], **changes: Any) -> Path:
    """``write_bundle`` of one network."""
    recipe = "name: mask\n"
    settings: Mapping[str, Any] = {
        "name": "mask",
        "default": "fp32.onnx",
        "golden": golden(name),
        "card": "# mask\n",
        "provenance": Provenance(
            recipe=recipe, recipe_sha256=hashlib.sha256(recipe.encode()).hexdigest(), data=(), tools={}
        ),
        "weights_licence": "CC0-1.0",
        **changes,
    }
    return write_bundle(out, stage=stage(name), candidates=candidates, **settings)


@functools.cache
def _folder() -> Path:
    folder = tempfile.mkdtemp(prefix="pocketface-tests-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)
