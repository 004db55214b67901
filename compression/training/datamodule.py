"""Views as batches: the loader yields face numbers, and the views are drawn on the training device.

face numbers --(order = f(seed, epoch))--> batch --after transfer: render, ask the teachers--> Batch
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Sampler, TensorDataset

from pocketface.compression.augment.hashing import permutation
from pocketface.compression.augment.views import ViewRenderer, Views
from pocketface.compression.recipe import TrainSpec
from pocketface.compression.training.teachers import Teachers


@dataclass
class Batch:
    """What a training step sees.

    Attributes:
        pixels: (B + K, 3, S, S) float32 in [0, 255]: B faces, then K crops without a face.
        points: (B, n, 2) normalised.
        teachers: name -> (B, n, 2) normalised.
    """

    pixels: Tensor
    points: Tensor
    teachers: dict[str, Tensor]


class EpochOrder(Sampler[int]):
    """All items in an order that depends on the seed and the epoch alone, so that a resumed run goes on as it would
    have."""

    def __init__(self, count: int, seed: int) -> None:
        self.count, self.seed, self.epoch = count, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before every epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[int]:
        return iter(permutation(self.seed, self.epoch, self.count).tolist())


def index_loader(count: int, batch_size: int, seed: int) -> DataLoader[Any]:
    """Batches of item numbers, in an order of (seed, epoch); what they stand for is drawn on the training device."""
    return DataLoader(
        TensorDataset(torch.arange(count)),
        batch_size=min(batch_size, count),
        sampler=EpochOrder(count, seed),
        drop_last=True,  # a last batch of a few items would give batch norm poor statistics
    )


def epoch_views(index: NDArray[np.int64], epoch: int, pool: int) -> NDArray[np.int64]:
    """Which view of each item an epoch shows: a new one every time, or one of a pool (0: no pool)."""
    return np.full_like(index, epoch % pool if pool else epoch)


class FaceViews(pl.LightningDataModule):
    """Training and validation batches of one network.

    Args:
        renderer: draws the training views.
        validation: the validation faces as they are evaluated, drawn once.
        spec: batch size, pool of views, share of negatives.
        size: side of the network's input.
        seed: of the order.
        targets: (N, n, 2) canvas pixels instead of the cache's landmarks.
        teachers: whom to ask about each view.
        backgrounds: draws crops of pictures without faces; they take a quarter of the negatives.
    """

    def __init__(
        self,
        renderer: ViewRenderer,
        validation: Views,
        spec: TrainSpec,
        *,
        size: int,
        seed: int,
        targets: Tensor | None = None,
        teachers: Teachers | None = None,
        backgrounds: ViewRenderer | None = None,
    ) -> None:
        super().__init__()
        self.renderer, self.validation, self.spec, self.size, self.seed = renderer, validation, spec, size, seed
        self.targets, self.teachers, self.backgrounds = targets, teachers, backgrounds

    def train_dataloader(self) -> DataLoader[Any]:
        return index_loader(len(self.renderer.cache), self.spec.batch_size, self.seed)

    def val_dataloader(self) -> DataLoader[Any]:
        return DataLoader(TensorDataset(self.validation.pixels, self.validation.points), batch_size=64)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        if self.trainer is None or not self.trainer.training:
            return batch
        return self.draw(batch[0].cpu().numpy(), self.trainer.current_epoch)

    def draw(self, index: np.ndarray, epoch: int) -> Batch:
        """The batch that holds these faces in this epoch."""
        views = epoch_views(index, epoch, self.spec.views)
        faces = self.renderer.faces(index, views, self.size, targets=self.targets)
        teachers = self.teachers.points(index, views) if self.teachers else {}
        teachers = {name: points.to(faces.points.device) for name, points in teachers.items()}
        return Batch(torch.cat([faces.pixels, *self._negatives(index, epoch)]), faces.points, teachers)

    def _negatives(self, index: np.ndarray, epoch: int) -> list[Tensor]:
        count = round(len(index) * self.spec.negatives)
        parts, from_backgrounds = [], count // 4 if self.backgrounds else 0
        if self.backgrounds and from_backgrounds:
            chosen = index[:from_backgrounds] % len(self.backgrounds.cache)
            # The face's own number goes into the view, so that one background gives many different crops.
            views = epoch * len(self.renderer.cache) + index[:from_backgrounds]
            parts.append(self.backgrounds.faces(chosen, views, self.size).pixels)
        if count > from_backgrounds:
            chosen = index[from_backgrounds:count]
            parts.append(self.renderer.negatives(chosen, np.full_like(chosen, epoch), self.size))
        return parts
