"""Milliseconds: every network against a MobileNetV2 at 224 pixels that everyone knows, interleaved in one run; and the
steps of one frame of a 720p video (Table 7.2).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pocketface.benchmarks.data.label_files import labelled_hash
from pocketface.benchmarks.data.labelled import labelled_box
from pocketface.benchmarks.machine import this_machine
from pocketface.benchmarks.papers.masks import MaskSpeed, Steps
from pocketface.benchmarks.peak_rss import peak_rss_mb
from pocketface.benchmarks.side_by_side import measure_together
from pocketface.compression.models.registry import ModelSpec
from pocketface.compression.pipeline.drafts import KNOWN, known_bundle, untrained_bundle
from pocketface.compression.pipeline.segment.context import SegmentContext
from pocketface.compression.pipeline.segment.files import contract
from pocketface.compression.training.faces import thin
from pocketface.compression.trial import random_network
from pocketface.converters.golden_images import golden_frames
from pocketface.converters.reference import golden_cases, torch_run
from pocketface.sdk.bundle import open_bundle
from pocketface.sdk.geometry import Box
from pocketface.sdk.manifest import ClassSet
from pocketface.sdk.mask_predictor import MaskPredictor
from pocketface.sdk.progress import say
from pocketface.sdk.recolour import HairDye, Lipstick
from pocketface.sdk.results import Timings

TABLE_VERSION = 1
STEPS_VERSION = 1

PHOTO = (1280, 720)
"""Width and height of what the steps are measured on."""

EFFECTS: dict[str, HairDye | Lipstick] = {"hair dye": HairDye((140, 40, 60)), "lipstick": Lipstick((170, 20, 50))}


@dataclass(frozen=True)
class OnDisk:
    """A network's bundle, the variant that stands for it, and what its figures depend on."""

    path: Path
    id: str
    key: str


def speed_of(context: SegmentContext, networks: Mapping[str, OnDisk]) -> MaskSpeed:
    """Networks against each other.

    Args:
        context: the run.
        networks: by name; the first one's format is also that of the network that all are held against.
    """
    spec = context.recipe.bench
    format = next(iter(networks.values())).id.rpartition(".")[2]

    def make(folder: Path) -> MaskSpeed:
        reference = f"{KNOWN.name} {KNOWN.input_size}"
        with ExitStack() as stack:
            known = known_bundle(context, folder / "known", format)
            entries = {reference: (stack.enter_context(open_bundle(known)), f"fp32.{format}")}
            entries |= {name: (stack.enter_context(open_bundle(one.path)), one.id) for name, one in networks.items()}
            for number, (name, model) in enumerate(context.recipe.timed.items()):
                path = _untrained(context, model, folder / f"timed-{number}", format)
                entries[f"{name} (untrained)"] = (stack.enter_context(open_bundle(path)), f"fp32.{format}")
            say(f"latency of {len(entries)} networks, {spec.runs} runs each", show=context.progress)
            found = measure_together(entries, threads=spec.threads, runs=spec.runs, warmup=spec.warmup)
            peaks = {name: peak_rss_mb(bundle.root, id) for name, (bundle, id) in entries.items()}
        latency = {name: found.of(name) for name in entries}
        return MaskSpeed(latency=latency, reference=reference, peak_mb=peaks, warning=found.warning)

    inputs = {
        "networks": {name: [one.key, one.id] for name, one in networks.items()},
        "known": KNOWN,
        **({"timed": context.recipe.timed} if context.recipe.timed else {}),
        "bench": spec,
        "cpu": this_machine().cpu,
    }
    return context.store.figures("speed", TABLE_VERSION, inputs, make, MaskSpeed)


def steps_of(context: SegmentContext, networks: Mapping[str, OnDisk]) -> tuple[Steps, ...]:
    """The steps of a frame, for each network and each effect that its classes allow, taking turns."""
    spec, (picture,) = context.recipe.bench, thin(context.split.test, 1)
    effects = {
        name: effect for name, effect in EFFECTS.items() if set(effect.classes) <= set(context.split.classes.names)
    }

    def make(_folder: Path) -> tuple[Steps, ...]:
        image, labels = picture.read()
        frame, box = on_screen(image, labels, context.split.classes)
        say(f"steps of a frame, {len(networks)} networks", show=context.progress)
        rows = []
        for threads in spec.threads:
            finders = {name: _opened(one, threads) for name, one in networks.items()}
            times = {(name, effect): np.zeros((spec.runs, 4)) for name in finders for effect in effects}
            for number in range(-spec.warmup, spec.runs):
                for (name, effect), spent in times.items():
                    part = _frame(finders[name], frame, box, effects[effect])
                    if number >= 0:
                        spent[number] = part
            for (name, effect), spent in times.items():
                transform, inference, decode, colour = np.median(spent, axis=0).tolist()
                rows.append(
                    Steps(
                        name=name,
                        width=PHOTO[0],
                        height=PHOTO[1],
                        threads=threads,
                        transform=transform,
                        inference=inference,
                        decode=decode,
                        colour=colour,
                        effect=effect,
                    )
                )
        return tuple(rows)

    inputs = {
        "networks": {name: [one.key, one.id] for name, one in networks.items()},
        "picture": labelled_hash([picture]),
        "photo": PHOTO,
        "effects": {name: repr(effect) for name, effect in effects.items()},
        "bench": spec,
        "cpu": this_machine().cpu,
    }
    return context.store.figures("steps", STEPS_VERSION, inputs, make, tuple[Steps, ...])


def _untrained(context: SegmentContext, model: ModelSpec, folder: Path, format: str) -> Path:
    """A bundle of a network of the recipe's ``timed``."""
    classes = context.split.classes
    net: Any = random_network(model, n_classes=len(classes.names))
    stage = contract(net, classes)
    frames = golden_frames(2, whole=context.recipe.data.frame == "image")
    return untrained_bundle(context, folder, format, net, stage, golden_cases(torch_run(net), frames, stage))


def on_screen(image: NDArray[np.uint8], labels: NDArray[np.uint8], classes: ClassSet) -> tuple[NDArray[np.uint8], Box]:
    """A picture enlarged to fill the height of a frame, black beside it, and where the network looks in that.

    Args:
        image: (H, W, 3) uint8.
        labels: (H, W), for the box.
        classes: of the labels.
    """
    width, height = PHOTO
    scale = min(width / image.shape[1], height / image.shape[0])
    shown = (round(image.shape[1] * scale), round(image.shape[0] * scale))
    x, y = (width - shown[0]) // 2, (height - shown[1]) // 2
    frame = np.zeros((height, width, 3), np.uint8)
    frame[y : y + shown[1], x : x + shown[0]] = np.asarray(
        Image.fromarray(image).resize(shown, Image.Resampling.BICUBIC)
    )
    box = labelled_box(labels, classes)
    moved = [(value + 0.5) * scale - 0.5 + shift for value, shift in zip(box, (x, y, x, y), strict=True)]
    return frame, Box(*moved)


def _opened(one: OnDisk, threads: int) -> MaskPredictor:
    with open_bundle(one.path) as bundle:
        return MaskPredictor(bundle, variant=one.id, threads=threads)


def _frame(
    finder: MaskPredictor, frame: NDArray[np.uint8], box: Box, effect: HairDye | Lipstick
) -> tuple[float, float, float, float]:
    """Milliseconds of transform, inference, decoding and colouring."""
    masks = finder(frame, [box])
    start = time.perf_counter()
    effect(frame, masks)
    colour = 1000 * (time.perf_counter() - start)
    spent = finder.timings or Timings(0, 0, 0)
    return spent.pre_ms, spent.inference_ms, spent.post_ms, colour
