"""The training step: landmark loss (with the teachers' help where the loss needs it) plus the face score's
cross-entropy."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from pocketface.compression.losses.registry import Loss
from pocketface.compression.models.heads import LandmarkNet
from pocketface.compression.recipe import TrainSpec
from pocketface.compression.training.datamodule import Batch
from pocketface.compression.training.loop import SeededTraining
from pocketface.compression.training.tensors import network_input


class LandmarkTraining(SeededTraining):
    """One landmark network in training.

    Args:
        net: what is trained.
        loss: landmark loss.
        spec: optimiser, schedule, score weight.
        normaliser: the two landmarks whose distance normalises the validation error.
        seed: of whatever a network draws while training (stochastic depth, dropout).
    """

    net: LandmarkNet

    def __init__(
        self, net: LandmarkNet, loss: Loss, spec: TrainSpec, *, normaliser: tuple[int, int], seed: int
    ) -> None:
        super().__init__(net, spec, seed=seed)
        self.loss, self.normaliser = loss, normaliser

    def training_step(self, batch: Batch, _: int) -> Tensor:
        found = self.losses(batch)
        self.log_dict(found, on_epoch=True, on_step=False, batch_size=len(batch.points))
        return found["train_loss"]

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """``train_loss``, which is what is minimised, and its parts: scalars."""
        faces = len(batch.points)
        maps = self.net.features(network_input(self.net, batch.pixels))
        points, score = self.net.read(maps, detach_score=self.plan.score_detached)
        landmark = self.loss(
            points[:faces].float(), batch.points, batch.teachers.get("tough"), batch.teachers.get("tolerant")
        ).mean()
        truth = torch.zeros_like(score)
        truth[:faces] = 1
        face = binary_cross_entropy_with_logits(score, truth)
        total = landmark + self.plan.score_weight * face
        return {"train_loss": total, "landmark_loss": landmark, "score_loss": face}

    def validation_step(self, batch: tuple[Tensor, Tensor], _: int) -> None:
        pixels, truth = batch
        points = self.net(network_input(self.net, pixels))[0].float()
        a, b = self.normaliser
        error = (points - truth).norm(dim=-1).mean(-1) / (truth[:, a] - truth[:, b]).norm(dim=-1)
        self.log("val_nme", 100 * error.mean(), batch_size=len(truth), prog_bar=True, sync_dist=True)
