"""Training of the uniformization stage (RULe, section III-B): clean crops, degraded on the fly, and back.

face numbers --draw--> (degraded, clean) crops --generator--> pictures --eqs 3-7--> generator and discriminator, in turn

Manual optimisation: each step updates the discriminator (eq 3) and then the generator (eq 4 and the rest of eq 7).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import l1_loss
from torch.utils.data import DataLoader, TensorDataset

from pocketface.benchmarks.data.degrade import degradation
from pocketface.benchmarks.image_metrics import psnr, ssim
from pocketface.compression.augment.crop import resample_batch
from pocketface.compression.augment.degrade import CropDegrader
from pocketface.compression.augment.hashing import uniform
from pocketface.compression.cache import FaceCache
from pocketface.compression.chain_recipe import LANDMARK_TEACHER, UniformizeSpec
from pocketface.compression.losses.adversarial import discriminator_loss, generator_loss, uniformization_loss
from pocketface.compression.losses.perceptual import identity_loss, perceptual_loss
from pocketface.compression.models.checkpoint import channels_last, save_network
from pocketface.compression.models.discriminator import Discriminator
from pocketface.compression.models.features import build_features
from pocketface.compression.models.features_landmarks import LandmarkFeatures
from pocketface.compression.models.registry import build_network
from pocketface.compression.training.datamodule import epoch_views, index_loader
from pocketface.compression.training.loop import (
    WEIGHTS,
    SeededTraining,
    forget_checkpoint,
    lr_factor,
    optimiser,
    run_loop,
)
from pocketface.compression.training.tensors import Frozen, network_input
from pocketface.sdk.errors import ConfigError

_CROP = 0x0C209
"""Sets the crop's draws apart from the degrader's, which has the same seed."""


class DegradedPairs(pl.LightningDataModule):
    """Pairs (degraded, clean) of crops, (B, 3, S, S) float32 in [0, 255] each.

    Training pairs are drawn by (seed, epoch, face): the crop is jittered, turned and mirrored, then degraded.
    Validation pairs are drawn once, crops as stage R should leave them (jittered), neither turned nor mirrored.

    Args:
        spec: crops, degradations, batch size.
        train, validation: faces.
        seed: of everything drawn.
    """

    def __init__(self, spec: UniformizeSpec, train: FaceCache, validation: FaceCache, *, seed: int) -> None:
        super().__init__()
        self.spec, self.cache, self.validation, self.seed = spec, train, validation, seed
        self.size = spec.model.input_size
        self._degrader = CropDegrader(degradation(spec.degrade), seed=seed)
        fixed = CropDegrader(degradation(spec.degrade), seed=seed + 1)
        parts = [
            self._pairs(validation, index, np.zeros_like(index), fixed, turned=False)
            for index in np.array_split(np.arange(len(validation)), -(-len(validation) // 64))
        ]
        self._fixed = TensorDataset(*(torch.cat(side) for side in zip(*parts, strict=True)))

    def train_dataloader(self) -> DataLoader[Any]:
        return index_loader(len(self.cache), self.spec.train.batch_size, self.seed)

    def val_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self._fixed, batch_size=64)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        if self.trainer is None or not self.trainer.training:
            return batch
        return self.draw(batch[0].cpu().numpy(), self.trainer.current_epoch)

    def draw(self, index: NDArray[np.int64], epoch: int) -> tuple[Tensor, Tensor]:
        """The pairs of these faces in this epoch."""
        views = epoch_views(index, epoch, self.spec.train.views)
        return self._pairs(self.cache, index, views, self._degrader, turned=True)

    def _pairs(
        self,
        cache: FaceCache,
        index: NDArray[np.int64],
        views: NDArray[np.int64],
        degrader: CropDegrader,
        *,
        turned: bool,
    ) -> tuple[Tensor, Tensor]:
        device = cache.images.device
        share = torch.from_numpy(uniform(degrader.seed ^ _CROP, index, views, 5)).float().to(device)
        signed = 2 * share - 1
        rows = torch.as_tensor(index, device=device)
        box = cache.boxes[rows]
        sides = box[:, 2] * (1 + self.spec.jitter * signed[:, 0])
        centres = box[:, :2] + box[:, 2:] * self.spec.jitter * signed[:, 1:3]
        angles = self.spec.rotation * signed[:, 3] if turned else torch.zeros_like(sides)
        clean = resample_batch(cache, rows, centres, sides, angles, self.size)
        if turned:
            mirrored = share[:, 4] < self.spec.flip
            clean = torch.where(mirrored[:, None, None, None], clean.flip(3), clean)
        return degrader.image(clean, sides, degrader.amounts(index, views, device)), clean


class UniformizeTraining(SeededTraining):
    """A generator and, unless ``spec.adversarial`` is 0, its discriminator.

    Logged in training: ``train_loss`` (the generator's), ``pixel_loss`` (L1, counted or not), and where they count
    ``adversarial_loss`` (eq 4), ``discriminator_loss`` (eq 3), ``perceptual_loss`` (eq 5), ``identity_loss`` (eq 6) and
    ``teacher_loss``. In validation: ``val_psnr`` (dB), ``val_ssim``, ``val_l1`` (share of full scale), and what the
    degraded crop itself has: ``val_psnr_before``, ``val_ssim_before``.

    Args:
        net: the generator.
        spec: weights, optimiser, schedule.
        seed: restarts torch's generator every epoch.
        teacher: a generator of the same input size, for ``spec.teacher_weight``.
        landmarks: a landmark teacher of the same input size, where ``spec.features`` asks for it.
    """

    def __init__(
        self,
        net: nn.Module,
        spec: UniformizeSpec,
        *,
        seed: int,
        teacher: nn.Module | None = None,
        landmarks: nn.Module | None = None,
    ) -> None:
        super().__init__(net, spec.train, seed=seed)
        self.automatic_optimization = False
        self.spec = spec
        size = spec.model.input_size
        self.discriminator = (
            channels_last(Discriminator(width=spec.discriminator_width, input_size=size)) if spec.adversarial else None
        )
        compares = spec.perceptual or spec.identity
        self._features = Frozen(channels_last(_features(spec, landmarks))) if compares else None
        self._teacher = Frozen(teacher) if teacher is not None and spec.teacher_weight else None

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> None:
        degraded, clean = batch[0], (batch[1] / 255).contiguous(memory_format=torch.channels_last)
        optimizers: Any = self.optimizers()
        both = optimizers if isinstance(optimizers, list) else [optimizers]
        fed = network_input(self.net, degraded)
        made = self.net(fed)[0]
        figures: dict[str, Tensor] = {}
        adversarial: Tensor | float = 0.0
        if self.discriminator is not None:
            figures["discriminator_loss"] = discriminator_loss(
                self.discriminator(clean), self.discriminator(made.detach())
            )
            self._update(both[1], figures["discriminator_loss"])
            # Eq 4 moves the generator alone; the discriminator's own gradients would be thrown away.
            self.discriminator.requires_grad_(False)
            adversarial = figures["adversarial_loss"] = generator_loss(self.discriminator(made))
            self.discriminator.requires_grad_(True)
        perceptual: Tensor | float = 0.0
        identity: Tensor | float = 0.0
        if self._features is not None:
            features = self._features.on(self.device)
            with torch.no_grad():
                wanted = features(clean)
            seen = features(made)
            perceptual = figures["perceptual_loss"] = perceptual_loss(seen, wanted, self.spec.layer_weights)
            identity = figures["identity_loss"] = identity_loss(seen, wanted)
        pixel = figures["pixel_loss"] = l1_loss(made, clean)
        total = self.spec.pixel * pixel + uniformization_loss(
            adversarial,
            0.0,
            perceptual,
            identity,
            adversarial_weight=self.spec.adversarial,
            perceptual_weight=self.spec.perceptual,
            identity_weight=self.spec.identity,
        )
        if self._teacher is not None:
            with torch.no_grad():
                shown = self._teacher.on(self.device)(fed)[0]
            figures["teacher_loss"] = l1_loss(made, shown)
            total = total + self.spec.teacher_weight * figures["teacher_loss"]
        self._update(both[0], total)
        schedulers: Any = self.lr_schedulers()
        for scheduler in schedulers if isinstance(schedulers, list) else [schedulers]:
            scheduler.step()
        figures["train_loss"] = total
        self.log_dict(
            {name: value.detach() for name, value in figures.items()},
            on_epoch=True,
            on_step=False,
            batch_size=len(clean),
        )

    def _update(self, optimizer: Any, loss: Tensor) -> None:
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()

    def validation_step(self, batch: tuple[Tensor, Tensor], _: int) -> None:
        degraded, clean = batch
        made = self.net(network_input(self.net, degraded))[0].float()
        before, after, truth = (
            picture.permute(0, 2, 3, 1).double().cpu().numpy() for picture in (degraded / 255, made, clean / 255)
        )
        figures = {"val_l1": (made - clean / 255).abs().mean()}
        # A crop that came through untouched has an infinite ratio, which would be the mean's.
        figures["val_psnr"], figures["val_psnr_before"] = (
            torch.tensor(psnr(picture, truth).clip(max=100).mean()) for picture in (after, before)
        )
        figures["val_ssim"], figures["val_ssim_before"] = (
            torch.tensor(ssim(picture, truth).mean()) for picture in (after, before)
        )
        self.log_dict({name: value.float() for name, value in figures.items()}, batch_size=len(clean), sync_dist=True)

    def configure_optimizers(self) -> Any:
        # loop.optimiser's AdamW has the betas 0.9 and 0.999: the paper's beta_1 (IV-B), for both networks.
        nets = [self.net, self.discriminator] if self.discriminator is not None else [self.net]
        optimizers = [optimiser(net, self.plan) for net in nets]
        factor = lr_factor(self.plan, int(self.trainer.estimated_stepping_batches))
        return optimizers, [torch.optim.lr_scheduler.LambdaLR(each, factor) for each in optimizers]


def fit_uniformizer(
    spec: UniformizeSpec,
    train: FaceCache,
    validation: FaceCache,
    folder: Path,
    *,
    flip: tuple[int, ...] = (),
    normaliser: tuple[int, int] | None = None,
    seed: int,
    progress: bool = True,
    teacher: nn.Module | None = None,
    landmarks: nn.Module | None = None,
) -> nn.Module:
    """Train a generator, going on from the last finished epoch if ``folder`` holds its checkpoint.

    Args:
        spec: networks, degradations, weights of the losses.
        train, validation: faces.
        folder: gets the weights (the generator's alone), the history and, while training, the checkpoint, which holds
            the discriminator too.
        flip, normaliser: of the landmark scheme; pictures need neither.
        seed: of initial weights and everything drawn.
        progress: show a bar.
        teacher: a generator of the same input size, needed where ``spec.teacher_weight`` is above 0.
        landmarks: a landmark teacher of the same input size, needed where ``spec.features`` is its name.

    Returns:
        The generator (the averaged weights, where the recipe asks for them), in evaluation mode.

    Raises:
        ConfigError: the model is no generator, nothing would train it, or the teacher is missing or of another size.
        UnknownNameError: no such network.
        EnvironmentProblemError: the disk is full or not writable.
    """
    torch.manual_seed(seed)
    net = channels_last(build_network(spec.model))
    _check(spec, net, teacher)
    module = UniformizeTraining(net, spec, seed=seed, teacher=teacher, landmarks=landmarks)
    run_loop(module, DegradedPairs(spec, train, validation, seed=seed), folder, spec.train, progress=progress)
    save_network(net, folder / WEIGHTS, spec.model)
    forget_checkpoint(folder)
    return net.eval()


def _features(spec: UniformizeSpec, landmarks: nn.Module | None) -> nn.Module:
    """The frozen network that the recipe names."""
    size = spec.model.input_size
    if spec.features != LANDMARK_TEACHER:
        return build_features(spec.features, input_size=size)
    if landmarks is None or getattr(landmarks, "input_size", None) != size:
        got = "none is there" if landmarks is None else f"it takes {getattr(landmarks, 'input_size', '?')} pixels"
        raise ConfigError(
            f"uniformize.features: {LANDMARK_TEACHER}, and {got}",
            expected=f"a landmark cascade at {size} pixels",
            next="Give teachers.landmarks at this size, or name another feature network",
        )
    return LandmarkFeatures(landmarks)


def _check(spec: UniformizeSpec, net: nn.Module, teacher: nn.Module | None) -> None:
    if getattr(net, "task", None) != "uniformize":
        raise ConfigError(
            f"uniformize.model: {spec.model.name}",
            expected="a generator",
            choices=["uniformizer", "uniformizer_mobile"],
        )
    if not (spec.adversarial or spec.perceptual or spec.identity or spec.pixel or spec.teacher_weight):
        raise ConfigError("uniformize: every weight is 0", next="Set pixel, perceptual or another above 0")
    if spec.teacher_weight and teacher is None:
        raise ConfigError(
            f"uniformize.teacher_weight: {spec.teacher_weight:g} without a teacher",
            next="Give teachers.uniformize, or set the weight to 0",
        )
    if spec.teacher_weight and getattr(teacher, "input_size", None) != spec.model.input_size:
        raise ConfigError(
            f"the teacher of uniformize takes {getattr(teacher, 'input_size', '?')} pixels",
            expected=f"{spec.model.input_size}, as its student",
        )
