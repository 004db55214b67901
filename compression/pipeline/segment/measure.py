"""What is measured of mask networks, through the runtime that ships: on the test pictures, on stills that a camera
moves over. Each figure is a stage of the run's store, and is not measured again.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pocketface.benchmarks.data.label_files import labelled_hash
from pocketface.benchmarks.mask_accuracy import MaskAccuracy, evaluate_masks
from pocketface.benchmarks.mask_video import MOTION, ROWS, SHARE, MaskVideo, evaluate_mask_video
from pocketface.compression.pipeline.segment.context import SegmentContext
from pocketface.compression.training.faces import thin
from pocketface.converters.executors import executor_of
from pocketface.sdk.bundle import open_bundle
from pocketface.sdk.mask_predictor import MaskPredictor
from pocketface.sdk.progress import track

ACCURACY_VERSION = 1
VIDEO_VERSION = 1

VIDEO_PICTURES = 40
"""Test pictures that are made to move."""

SETTLE = 2
"""How often a still picture is shown before the mask of the frame before is taken for settled."""


def accuracy_of(
    context: SegmentContext, name: str, path: Path, ids: Sequence[str], keys: Sequence[str], *, settle: int = 0
) -> dict[str, MaskAccuracy]:
    """Variants of a bundle on the test pictures.

    Args:
        context: the run.
        name: of the stage.
        path: the bundle.
        ids: of its variants.
        keys: what the figures depend on.
        settle: see ``evaluate_masks``.
    """
    pictures = context.split.test

    def make(_folder: Path) -> dict[str, MaskAccuracy]:
        found = {}
        with (
            track(f"accuracy, {name}", len(ids), show=context.progress) as step,
            open_bundle(path) as bundle,
        ):
            for number, id in enumerate(ids, start=1):
                # A Mac's format runs in the reference executor elsewhere.
                executor = executor_of(bundle.manifest.variant(id)[1].format)
                predictor = MaskPredictor(bundle, variant=id, executor=executor)
                found[id] = evaluate_masks(predictor, pictures, settle=settle)
                step(number)
        return found

    inputs = {"files": sorted(keys), "ids": list(ids), "pictures": labelled_hash(pictures), "settle": settle}
    return context.store.figures(f"accuracy-{name}", ACCURACY_VERSION, inputs, make, dict[str, MaskAccuracy])


def video_of(context: SegmentContext, name: str, path: Path, id: str, keys: Sequence[str]) -> dict[str, MaskVideo]:
    """One variant on moving pictures: row of the protocol -> figures. Arguments as ``accuracy_of``."""
    pictures, seed = thin(context.split.test, VIDEO_PICTURES), context.recipe.seed

    def make(_folder: Path) -> dict[str, MaskVideo]:
        found = {}
        with open_bundle(path) as bundle:
            predictor = MaskPredictor(bundle, variant=id)
            for row, noise in ROWS.items():
                with track(f"video, {name}, {row}", len(pictures), show=context.progress) as step:
                    found[row] = evaluate_mask_video(predictor, pictures, noise=noise, seed=seed, progress=step)
        return found

    inputs = {
        "files": sorted(keys),
        "variant": id,
        "rows": ROWS,
        "motion": [MOTION, SHARE],
        "pictures": labelled_hash(pictures),
        "seed": seed,
    }
    return context.store.figures(f"video-{name}", VIDEO_VERSION, inputs, make, dict[str, MaskVideo])
