"""How good the pictures of stage U are: PSNR, SSIM and a distance of features beside the NME, on degraded test faces in
their true boxes; and some of these pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from pocketface.benchmarks.data.degrade import DEGRADATIONS
from pocketface.benchmarks.data.fingerprint import dataset_hash
from pocketface.benchmarks.image_metrics import psnr, ssim
from pocketface.benchmarks.papers.rule import PictureAccuracy
from pocketface.benchmarks.reports.sheet import contact_sheet
from pocketface.compression.chain_recipe import UniformizeSpec
from pocketface.compression.pipeline.chain.inputs import Fed, fed
from pocketface.compression.pipeline.chain.train import TrainedStage
from pocketface.compression.pipeline.context import ChainContext
from pocketface.sdk.progress import say

RESTORED_VERSION = 1

PRESETS = ("downsample-x8", "light", "all")
"""What the inputs suffer; of ``all``, what happens to the picture: boxes are the true ones here."""

FEATURES = "efficientnet_lite0"
"""ImageNet's: the distance of pictures in its eyes."""

SHOWN = 6
"""Faces whose pictures are kept."""

Pictures = NDArray[np.float32]
"""(N, S, S, 3) in [0, 1]."""


class Restored(msgspec.Struct, frozen=True):
    """What generators make of degraded faces.

    Attributes:
        accuracy: ``"input"`` or a network's name -> degradation -> how alike the pictures and the clean crops are.
        sheet: a PNG: one row a face, under everything at once; columns ``input``, each network, ``clean``.
    """

    accuracy: dict[str, dict[str, PictureAccuracy]]
    sheet: bytes


def restored_stage(context: ChainContext, networks: Mapping[str, TrainedStage]) -> Restored | None:
    """Measure every generator of a run on the test faces; None if it has none."""
    generators = {name: (item, item.spec) for name, item in networks.items() if isinstance(item.spec, UniformizeSpec)}
    if not generators:
        return None
    faces, seed = context.split.test, context.recipe.seed

    def make(_folder: Path) -> Restored:
        accuracy: dict[str, dict[str, PictureAccuracy]] = {"input": {}, **{name: {} for name in generators}}
        some = np.linspace(0, len(faces) - 1, min(SHOWN, len(faces))).round().astype(int)
        for preset in PRESETS:  # the last one's pictures are kept
            columns: dict[str, Pictures] = {}
            for name, (trained, spec) in generators.items():
                say(f"{name}: pictures under {preset}", show=context.progress)
                net: Any = trained.load()
                suffers = msgspec.structs.replace(spec, degrade=preset)
                shown = fed(faces, suffers, net, normaliser=context.split.scheme.normaliser, seed=seed)
                seen, made, clean = _pictures(shown, net)
                compare = _comparison(spec.model.input_size)
                accuracy["input"].setdefault(preset, compare(seen, clean))
                accuracy[name][preset] = compare(made, clean)
                columns.setdefault("input", seen[some])
                columns[name] = made[some]
            columns["clean"] = clean[some]
        return Restored(accuracy, contact_sheet(columns))

    inputs = {
        "networks": {name: trained.done.key for name, (trained, _) in generators.items()},
        "presets": {name: DEGRADATIONS[name].to_dict() for name in PRESETS},
        "faces": dataset_hash(faces),
        "seed": seed,
    }
    return context.store.figures("restored", RESTORED_VERSION, inputs, make, Restored)


def _pictures(shown: Fed, net: Any) -> tuple[Pictures, Pictures, Pictures]:
    """What a generator saw, what it made of it, and what it should have made."""
    import torch

    mean, std = (np.asarray(values).reshape(1, 3, 1, 1) for values in (net.mean, net.std))
    with torch.inference_mode():
        made = torch.cat([net(part)[0] for part in torch.from_numpy(shown.inputs).split(64)]).numpy()
    seen = (shown.inputs * std + mean) / 255
    seen, made, clean = (
        values.transpose(0, 2, 3, 1).clip(0, 1).astype(np.float32) for values in (seen, made, shown.truth)
    )
    return seen, made, clean


def _comparison(size: int) -> Callable[[Pictures, Pictures], PictureAccuracy]:
    """(pictures, clean ones) -> `PictureAccuracy`; one feature network for all, whatever each was trained with."""
    import torch

    from pocketface.compression.losses.perceptual import feature_distance
    from pocketface.compression.models.features import build_features

    features = build_features(FEATURES, input_size=size)

    def distance(made: Pictures, clean: Pictures) -> float:
        with torch.inference_mode():
            parts = [
                feature_distance(*(features(torch.from_numpy(x.transpose(0, 3, 1, 2)).contiguous()) for x in pair))
                for pair in zip(_batches(made), _batches(clean), strict=True)
            ]
        return float(torch.cat(parts).mean())

    def compare(made: Pictures, clean: Pictures) -> PictureAccuracy:
        # A picture that came through untouched has an infinite ratio, which would be the mean's.
        ratio = psnr(made, clean).clip(max=100)
        return PictureAccuracy(
            psnr=float(ratio.mean()), ssim=float(ssim(made, clean).mean()), distance=distance(made, clean)
        )

    return compare


def _batches(pictures: Pictures) -> Sequence[Pictures]:
    return np.array_split(pictures, -(-len(pictures) // 64))
