"""Lightning's loop as every training here uses it: a checkpoint every epoch, resumable, the history in a small file."""

from __future__ import annotations

import json
import logging
import math
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback, EMAWeightAveraging, ModelCheckpoint, RichProgressBar
from torch import nn

from pocketface.compression.augment.hashing import mix
from pocketface.compression.recipe import TrainSpec
from pocketface.sdk.errors import EnvironmentProblemError
from pocketface.sdk.files import write_atomic

WEIGHTS, HISTORY, CHECKPOINT = "weights.safetensors", "history.json", "last.ckpt"


class SeededTraining(pl.LightningModule):
    """What every training of one network shares: its optimiser, and chance that starts anew with every epoch.

    Args:
        net: what is trained.
        plan: optimiser and schedule.
        seed: of whatever torch draws while training (stochastic depth, dropout).
    """

    def __init__(self, net: nn.Module, plan: TrainSpec, *, seed: int) -> None:
        super().__init__()
        self.net, self.plan, self.seed = net, plan, seed

    @property
    def learner(self) -> nn.Module:
        """What the optimiser moves."""
        return self.net

    def on_train_epoch_start(self) -> None:
        # Restarting the generator every epoch makes a resumed run identical to an uninterrupted one.
        torch.manual_seed(int(mix(np.array([self.seed * 100_003 + self.current_epoch], np.uint64))[0]))

    def configure_optimizers(self) -> Any:
        """AdamW with the plan's schedule, step by step."""
        optimizer = optimiser(self.learner, self.plan)
        factor = lr_factor(self.plan, int(self.trainer.estimated_stepping_batches))
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


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


def run_loop(
    module: pl.LightningModule, data: pl.LightningDataModule, folder: Path, spec: TrainSpec, *, progress: bool = True
) -> None:
    """Train a module to its end, going on from the last finished epoch if ``folder`` holds its checkpoint.

    The caller writes the weights and then calls `forget_checkpoint`.

    Args:
        module, data: what is trained, on what.
        folder: gets the history and, while training, the checkpoint.
        spec: epochs, averaging, precision, devices.

    Raises:
        EnvironmentProblemError: the disk is full or not writable.
    """
    folder.mkdir(parents=True, exist_ok=True)
    previous = folder / CHECKPOINT
    if previous.exists():
        state = torch.load(previous, map_location="cpu", weights_only=False)
        if state["epoch"] + 1 >= spec.epochs:
            # Stopped between its last epoch and its weights. Lightning would skip the loop, and with it the step that
            # puts the averaged weights in place; the checkpoint holds them.
            module.load_state_dict(state["state_dict"])
            return
    checkpoint = ModelCheckpoint(
        folder, filename="last", save_top_k=1, enable_version_counter=False, save_on_train_epoch_end=True
    )
    callbacks: list[Callback] = [checkpoint, History(folder / HISTORY)]
    if spec.ema:
        callbacks.append(EMAWeightAveraging(decay=spec.ema))
    if progress:
        callbacks.append(RichProgressBar(leave=False))
    trainer = pl.Trainer(
        max_epochs=spec.epochs,
        precision=spec.precision,  # type: ignore[arg-type]
        devices=spec.devices,
        accelerator="auto",
        callbacks=callbacks,
        logger=False,
        enable_progress_bar=progress,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        default_root_dir=folder,
    )
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


def forget_checkpoint(folder: Path) -> None:
    """Remove what only an unfinished training needs."""
    (folder / CHECKPOINT).unlink(missing_ok=True)


def optimiser(net: nn.Module, spec: TrainSpec) -> torch.optim.AdamW:
    """AdamW, without weight decay on biases and batch norm."""
    decayed = [p for p in net.parameters() if p.ndim > 1]
    others = [p for p in net.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": spec.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=spec.lr)


def lr_factor(spec: TrainSpec, total_steps: int) -> Callable[[int], float]:
    """Step -> share of the peak learning rate: a linear warm-up, then the recipe's schedule."""
    total = max(1, total_steps)
    warm = spec.warmup * total / max(1, spec.epochs)

    def factor(step: int) -> float:
        if step < warm:
            return (step + 1) / (warm + 1)
        done = (step - warm) / max(1.0, total - warm)
        if spec.schedule == "constant":
            return 1.0
        if spec.schedule == "poly":
            return max(0.0, 1 - done) ** 0.9
        return 0.5 * (1 + math.cos(math.pi * done))

    return factor
