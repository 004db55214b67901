"""One network, from its recipe to ``weights.safetensors`` and ``history.json``: checkpointed every epoch, resumable."""

from __future__ import annotations

import json
import logging
import signal
from pathlib import Path

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback, EMAWeightAveraging, ModelCheckpoint, RichProgressBar

from pocketface.compression.losses.registry import build_loss
from pocketface.compression.models.checkpoint import channels_last, save_network
from pocketface.compression.models.heads import LandmarkNet
from pocketface.compression.models.registry import build_model
from pocketface.compression.recipe import NetworkSpec
from pocketface.compression.training.datamodule import FaceViews
from pocketface.compression.training.module import LandmarkTraining
from pocketface.sdk.errors import EnvironmentProblemError
from pocketface.sdk.files import write_atomic

WEIGHTS, HISTORY, CHECKPOINT = "weights.safetensors", "history.json", "last.ckpt"


class History(Callback):
    """Loss and validation error of every epoch, in a small file that the report reads."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # Kept in a file, not in the checkpoint: rows of epochs that a killed run repeats are replaced.
        rows = json.loads(self.path.read_text()) if self.path.exists() else []
        epoch = trainer.current_epoch
        figures = {name: float(value) for name, value in trainer.callback_metrics.items()}
        rows = [row for row in rows if row["epoch"] < epoch] + [{"epoch": epoch, **figures}]
        write_atomic(self.path, json.dumps(rows, indent=1).encode(), force=True)
        logging.getLogger("pocketface").info("%s epoch %d %s", self.path.parent.name, epoch, figures)


def fit(
    spec: NetworkSpec,
    data: FaceViews,
    folder: Path,
    *,
    n_points: int,
    normaliser: tuple[int, int],
    seed: int,
    progress: bool = True,
) -> LandmarkNet:
    """Train a network, going on from the last finished epoch if ``folder`` holds its checkpoint.

    Args:
        spec: model, loss, training.
        data: batches.
        folder: gets the weights, the history and, while training, the checkpoint.
        n_points, normaliser: of the landmark scheme.
        seed: of initial weights and everything drawn in training.

    Returns:
        The trained network (the averaged weights, where the recipe asks for them), in evaluation mode.

    Raises:
        EnvironmentProblemError: the disk is full or not writable.
    """
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    net = channels_last(build_model(spec.model, n_points=n_points))
    net.set_mean_shape(data.validation.points.mean(0).cpu())
    loss = build_loss(spec.loss)
    module = LandmarkTraining(net, loss, spec.train, normaliser=normaliser, seed=seed)
    checkpoint = ModelCheckpoint(
        folder, filename="last", save_top_k=1, enable_version_counter=False, save_on_train_epoch_end=True
    )
    callbacks: list[Callback] = [checkpoint, History(folder / HISTORY)]
    if spec.train.ema:
        callbacks.append(EMAWeightAveraging(decay=spec.train.ema))
    if progress:
        callbacks.append(RichProgressBar(leave=False))
    trainer = pl.Trainer(
        max_epochs=spec.train.epochs,
        precision=spec.train.precision,  # type: ignore[arg-type]
        devices=spec.train.devices,
        accelerator="auto",
        callbacks=callbacks,
        logger=False,
        enable_progress_bar=progress,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        default_root_dir=folder,
    )
    previous = folder / CHECKPOINT
    try:
        trainer.fit(module, data, ckpt_path=previous if previous.exists() else None, weights_only=False)
    except OSError as error:
        raise EnvironmentProblemError(
            f"{folder}: {error.strerror or error}",
            next="Free some space and run the same command again; it goes on from here",
        ) from error
    except SystemExit as error:
        # Lightning answers Ctrl-C with exit(1) and ignores further ones; the caller should see what it was.
        if not trainer.interrupted:
            raise
        signal.signal(signal.SIGINT, signal.default_int_handler)
        raise KeyboardInterrupt from error
    save_network(net, folder / WEIGHTS, spec.model)
    previous.unlink(missing_ok=True)
    return net.eval()
