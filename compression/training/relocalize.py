"""Stage R in training (Dapogny et al., RULe, FG 2023, section III-A): boxes moved off the face, and back.

face's box --spec.degrade: scale, translation--> where the crop is cut --light, resolution, noise--> crop
crop --network--> correction --L1 (eq. 2)-- the exact inverse of the move (eq. 1)
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from pocketface.benchmarks.data.degrade import degradation
from pocketface.compression.augment.crop import resample_batch
from pocketface.compression.augment.degrade import CropDegrader
from pocketface.compression.augment.hashing import uniform
from pocketface.compression.cache import FaceCache
from pocketface.compression.chain_recipe import RelocalizeSpec
from pocketface.compression.models.checkpoint import channels_last, save_network
from pocketface.compression.models.registry import build_network
from pocketface.compression.models.relocalizer import IDENTITY
from pocketface.compression.recipe import TrainSpec
from pocketface.compression.training.datamodule import epoch_views, index_loader
from pocketface.compression.training.loop import WEIGHTS, SeededTraining, forget_checkpoint, run_loop
from pocketface.compression.training.tensors import network_input
from pocketface.sdk.errors import ConfigError


def correction(centres: Tensor, sides: Tensor, true_centres: Tensor, true_sides: Tensor) -> Tensor:
    """What takes boxes to the true ones (eq. 1): dx, dy in sides of the box, and the factors on its sides.

    Args:
        centres, true_centres: (B, 2) pixels.
        sides, true_sides: (B,) pixels.

    Returns:
        (B, 4): dx, dy, sw, sh; sw and sh are equal, all our boxes being squares.
    """
    factor = (true_sides / sides)[:, None]
    return torch.cat([(true_centres - centres) / sides[:, None], factor, factor], 1)


def relocalization_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """Mean absolute difference of corrections (eq. 2), over the batch and the four values: (B, 4) x 2 -> scalar."""
    return (predicted - target).abs().mean()


def corner_error(predicted: Tensor, target: Tensor) -> Tensor:
    """Mean distance of the corrected box's four corners from the true box's, percent of the true side.

    Args:
        predicted, target: (B, 4) corrections of the same boxes.

    Returns:
        (B,).
    """
    signs = predicted.new_tensor([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]])
    corners = [box[:, None, :2] + signs * box[:, None, 2:] for box in (predicted, target)]
    return 100 * (corners[0] - corners[1]).norm(dim=-1).mean(1) / target[:, 2]


class MovedFaces:
    """Draws degraded crops that are off the face, and what would bring them back.

    Args:
        cache: the faces.
        spec: degradations and the share of mirrored crops.
        normaliser: the two landmarks whose distance is the inter-ocular one.
        size: side of the crops, pixels.
        seed: of every draw.
    """

    def __init__(
        self, cache: FaceCache, spec: RelocalizeSpec, *, normaliser: tuple[int, int], size: int, seed: int
    ) -> None:
        self.cache, self.spec, self.normaliser, self.size, self.seed = cache, spec, normaliser, size, seed
        self.degrader = CropDegrader(degradation(spec.degrade), seed=seed)

    def draw(self, index: NDArray[np.int64], views: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Views of faces, each a function of (seed, image, view).

        Args:
            index: (B,) which face of the cache.
            views: (B,) which view of it.

        Returns:
            pixels (B, 3, S, S) float32 in [0, 255], correction (B, 4).
        """
        device = self.cache.images.device
        rows = torch.as_tensor(index, device=device)
        amounts = self.degrader.amounts(index, views, device)
        true_centres, true_sides = self.cache.boxes[rows, :2], self.cache.boxes[rows, 2]
        a, b = self.normaliser
        iod = (self.cache.points[rows, a] - self.cache.points[rows, b]).norm(dim=-1)
        centres, sides = self.degrader.boxes(true_centres, true_sides, iod, amounts)
        pixels = resample_batch(self.cache, rows, centres, sides, torch.zeros_like(sides), self.size)
        pixels = self.degrader.image(pixels, sides, amounts)
        target = correction(centres, sides, true_centres, true_sides)
        mirrored = torch.from_numpy(uniform(self.seed, index, views, 1)[:, 0] < self.spec.flip).to(device)
        pixels = torch.where(mirrored[:, None, None, None], pixels.flip(3), pixels)
        return pixels, torch.where(mirrored[:, None], target * target.new_tensor([-1.0, 1.0, 1.0, 1.0]), target)


class MovedViews(pl.LightningDataModule):
    """Training and validation batches: index batches, drawn on the training device, like ``FaceViews``.

    Args:
        faces: draws the training views.
        validation: pixels and corrections, drawn once.
        spec: batch size, pool of views.
    """

    def __init__(self, faces: MovedFaces, validation: tuple[Tensor, Tensor], spec: TrainSpec) -> None:
        super().__init__()
        self.faces, self.validation, self.spec = faces, validation, spec

    def train_dataloader(self) -> DataLoader[Any]:
        return index_loader(len(self.faces.cache), self.spec.batch_size, self.faces.seed)

    def val_dataloader(self) -> DataLoader[Any]:
        return DataLoader(TensorDataset(*self.validation), batch_size=64)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        if self.trainer is None or not self.trainer.training:
            return batch
        index, epoch = batch[0].cpu().numpy(), self.trainer.current_epoch
        return self.faces.draw(index, epoch_views(index, epoch, self.spec.views))


class RelocalizerTraining(SeededTraining):
    """The relocalizer in training.

    Logs ``train_loss``, and on the validation faces ``val_box`` (eq. 2), ``val_corner`` (see ``corner_error``) and
    ``val_corner_before``, the same without the network.

    Args:
        net: what is trained.
        plan: optimiser and schedule.
        seed: of whatever torch draws in training.
    """

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        pixels, target = batch
        loss = relocalization_loss(self.net(network_input(self.net, pixels))[0].float(), target)
        self.log("train_loss", loss, on_epoch=True, on_step=False, batch_size=len(target))
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], _: int) -> None:
        pixels, target = batch
        predicted = self.net(network_input(self.net, pixels))[0].float()
        before = predicted.new_tensor(IDENTITY).expand_as(target)
        figures = {
            "val_box": relocalization_loss(predicted, target),
            "val_corner": corner_error(predicted, target).mean(),
            "val_corner_before": corner_error(before, target).mean(),
        }
        self.log_dict(figures, batch_size=len(target), prog_bar=True, sync_dist=True)


def fit_relocalizer(
    spec: RelocalizeSpec,
    train: FaceCache,
    validation: FaceCache,
    folder: Path,
    *,
    flip: tuple[int, ...],
    normaliser: tuple[int, int],
    seed: int,
    progress: bool = True,
) -> nn.Module:
    """Train stage R, going on from the last finished epoch if ``folder`` holds its checkpoint.

    Args:
        spec: network, training, degradations.
        train, validation: faces.
        folder: gets the weights, the history and, while training, the checkpoint.
        flip: not needed, a mirrored box is a box; here since every stage's trainer is called alike.
        normaliser: of the landmark scheme: translation is in units of these two landmarks' distance.
        seed: of initial weights and everything drawn in training.

    Returns:
        The trained network (the averaged weights, where the recipe asks for them), in evaluation mode.

    Raises:
        ConfigError: the network is of another task, or the degradations move no box: there is nothing to learn.
        EnvironmentProblemError: the disk is full or not writable.
    """
    moves = degradation(spec.degrade)
    if moves.scale is None and moves.translation is None:
        raise ConfigError(
            f"relocalize.degrade: {spec.degrade!r} moves no box",
            expected="degradations with scale or translation",
            choices=["box", "all", "all-and-ours"],
        )
    torch.manual_seed(seed)
    net = build_network(spec.model)
    if (task := getattr(net, "task", None)) != "relocalize":
        raise ConfigError(f"relocalize.model: {spec.model.name!r} is for {task}", choices=["relocalizer"])
    net = channels_last(net)
    size = spec.model.input_size
    faces = MovedFaces(train, spec, normaliser=normaliser, size=size, seed=seed)
    # Other draws than the training's, the same for every epoch and every network of this size.
    fixed = MovedFaces(validation, spec, normaliser=normaliser, size=size, seed=seed + 1)
    parts = [
        fixed.draw(part, np.zeros_like(part)) for part in np.array_split(np.arange(len(validation)), 8) if len(part)
    ]
    drawn = torch.cat([pixels for pixels, _ in parts]), torch.cat([target for _, target in parts])
    module = RelocalizerTraining(net, spec.train, seed=seed)
    run_loop(module, MovedViews(faces, drawn, spec.train), folder, spec.train, progress=progress)
    save_network(net, folder / WEIGHTS, spec.model)
    forget_checkpoint(folder)
    return net.eval()
