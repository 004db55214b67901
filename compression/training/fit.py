"""One network, from its recipe to ``weights.safetensors`` and ``history.json``: checkpointed every epoch, resumable."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch

from pocketface.compression.losses.registry import build_loss
from pocketface.compression.models.checkpoint import channels_last, save_network
from pocketface.compression.models.heads import LandmarkNet
from pocketface.compression.models.registry import build_model
from pocketface.compression.recipe import NetworkSpec
from pocketface.compression.training.datamodule import FaceViews
from pocketface.compression.training.loop import WEIGHTS, forget_checkpoint, run_loop
from pocketface.compression.training.module import LandmarkTraining


def fit(
    spec: NetworkSpec,
    data: FaceViews,
    folder: Path,
    *,
    n_points: int,
    normaliser: tuple[int, int],
    seed: int,
    net: LandmarkNet | None = None,
    around: Callable[[LandmarkNet], AbstractContextManager[Any]] = nullcontext,
    progress: bool = True,
) -> LandmarkNet:
    """Train a network, going on from the last finished epoch if ``folder`` holds its checkpoint.

    Args:
        spec: model, loss, training.
        data: batches.
        folder: gets the weights, the history and, while training, the checkpoint.
        n_points, normaliser: of the landmark scheme.
        seed: of initial weights and everything drawn in training.
        net: goes on with this network instead of a new one.
        around: what the network is in while it trains, e.g. rounding as in 8 bits.
        progress: show a bar.

    Returns:
        The trained network (the averaged weights, where the recipe asks for them), in evaluation mode.

    Raises:
        EnvironmentProblemError: the disk is full or not writable.
    """
    torch.manual_seed(seed)
    if net is None:
        net = build_model(spec.model, n_points=n_points)
        net.set_mean_shape(data.validation.points.mean(0).cpu())
    net = channels_last(net).train()
    loss = build_loss(spec.loss)
    with around(net):
        module = LandmarkTraining(net, loss, spec.train, normaliser=normaliser, seed=seed)
        run_loop(module, data, folder, spec.train, progress=progress)
    save_network(net, folder / WEIGHTS, spec.model)
    forget_checkpoint(folder)
    return net.eval()
