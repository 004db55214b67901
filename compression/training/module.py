"""The training step: landmark loss (with the teachers' help where the loss needs it) plus the face score's
cross-entropy."""

from __future__ import annotations

import lightning.pytorch as pl
import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from pocketface.compression.augment.hashing import mix
from pocketface.compression.losses.registry import Loss
from pocketface.compression.models.heads import LandmarkNet
from pocketface.compression.recipe import TrainSpec
from pocketface.compression.training.datamodule import Batch
from pocketface.compression.training.loop import lr_factor, optimiser
from pocketface.compression.training.tensors import network_input


class LandmarkTraining(pl.LightningModule):
    """One landmark network in training.

    Args:
        net: what is trained.
        loss: landmark loss.
        spec: optimiser, schedule, score weight.
        normaliser: the two landmarks whose distance normalises the validation error.
        seed: of whatever a network draws while training (stochastic depth, dropout).
    """

    def __init__(
        self, net: LandmarkNet, loss: Loss, spec: TrainSpec, *, normaliser: tuple[int, int], seed: int
    ) -> None:
        super().__init__()
        self.net, self.loss, self.spec, self.normaliser, self.seed = net, loss, spec, normaliser, seed

    def on_train_epoch_start(self) -> None:
        # Restarting the generator every epoch makes a resumed run identical to an uninterrupted one.
        import numpy as np

        torch.manual_seed(int(mix(np.array([self.seed * 100_003 + self.current_epoch], np.uint64))[0]))

    def training_step(self, batch: Batch, _: int) -> Tensor:
        faces = len(batch.points)
        maps = self.net.features(network_input(self.net, batch.pixels))
        points, score = self.net.read(maps, detach_score=self.spec.score_detached)
        landmark = self.loss(
            points[:faces].float(), batch.points, batch.teachers.get("tough"), batch.teachers.get("tolerant")
        ).mean()
        truth = torch.zeros_like(score)
        truth[:faces] = 1
        face = binary_cross_entropy_with_logits(score, truth)
        total = landmark + self.spec.score_weight * face
        self.log_dict(
            {"train_loss": total, "landmark_loss": landmark, "score_loss": face},
            on_epoch=True,
            on_step=False,
            batch_size=faces,
        )
        return total

    def validation_step(self, batch: tuple[Tensor, Tensor], _: int) -> None:
        pixels, truth = batch
        points = self.net(network_input(self.net, pixels))[0].float()
        a, b = self.normaliser
        error = (points - truth).norm(dim=-1).mean(-1) / (truth[:, a] - truth[:, b]).norm(dim=-1)
        self.log("val_nme", 100 * error.mean(), batch_size=len(truth), prog_bar=True, sync_dist=True)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        optimizer = optimiser(self.net, self.spec)
        factor = lr_factor(self.spec, int(self.trainer.estimated_stepping_batches))
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
