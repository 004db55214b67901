"""Labelled pictures as batches: the loader yields picture numbers, and the views are drawn on the training device.

picture numbers --(order = f(seed, epoch))--> batch --after transfer: render--> SegmentBatch
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from pocketface.compression.augment.labels import LabelViewRenderer, plain_label_views
from pocketface.compression.augment.previous import previous_mask
from pocketface.compression.label_cache import LabelCache
from pocketface.compression.models.segment_blocks import SegmentNet
from pocketface.compression.segment_recipe import SegmentSpec
from pocketface.compression.shape.distance_map import prior_target
from pocketface.compression.training.datamodule import epoch_views, index_loader
from pocketface.sdk.manifest import ClassSet

VALIDATION_BATCH = 16


@dataclass
class SegmentBatch:
    """What a training step sees.

    Attributes:
        pixels: (B, 3, S, S) float32 in [0, 255].
        labels: (B, M, M) int64, 255 to be ignored.
        previous: (B, C, M, M), the fake mask of the frame before; None for a network without this input.
        prior: (B, 1, M, M) in [-1, 1], the distance map of class 1; None where no prior is trained.
        shown: (B, 3, T, T), the same view in the teacher's size; None without a teacher.
    """

    pixels: Tensor
    labels: Tensor
    previous: Tensor | None = None
    prior: Tensor | None = None
    shown: Tensor | None = None


class SegmentViews(pl.LightningDataModule):
    """Training batches as random views, validation batches as the runtime sees the pictures.

    Args:
        spec: views, batch size, prior.
        net: for its sizes, and whether it takes a previous mask.
        train, validation: pictures.
        classes: of their labels.
        seed: of everything drawn.
        prior: whether distance maps are wanted.
        teacher_size: side of the teacher's input, 0 without a teacher.
    """

    def __init__(
        self,
        spec: SegmentSpec,
        net: SegmentNet,
        train: LabelCache,
        validation: LabelCache,
        *,
        classes: ClassSet,
        seed: int,
        prior: bool = False,
        teacher_size: int = 0,
    ) -> None:
        super().__init__()
        self.spec, self.train_cache, self.seed, self.prior, self.teacher_size = spec, train, seed, prior, teacher_size
        self.size, self.grid, self.previous = net.input_size, net.output_size, net.previous
        self.classes = len(classes.names)
        self.renderer = LabelViewRenderer(train, spec.augment, seed=seed, classes=classes)
        scale = spec.augment.plain_scale
        parts = [
            plain_label_views(validation, index, self.size, self.grid, scale=scale)
            for index in np.array_split(np.arange(len(validation)), -(-len(validation) // 64))
        ]
        self.held = TensorDataset(
            torch.cat([part.pixels.round().to(torch.uint8) for part in parts]),
            torch.cat([part.labels.to(torch.uint8) for part in parts]),
        )

    def train_dataloader(self) -> DataLoader[Any]:
        return index_loader(len(self.train_cache), self.spec.train.batch_size, self.seed)

    def val_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.held, batch_size=VALIDATION_BATCH)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        if self.trainer is None or not self.trainer.training:
            return SegmentBatch(batch[0].float(), batch[1].long())
        index = batch[0].cpu().numpy()
        return self.draw(index, epoch_views(index, self.trainer.current_epoch, self.spec.train.views))

    def draw(self, index: NDArray[np.int64], views: NDArray[np.int64]) -> SegmentBatch:
        """Views of pictures, each a function of (seed, picture, view)."""
        made = self.renderer.views(index, views, self.size, self.grid)
        batch = SegmentBatch(made.pixels, made.labels)
        if self.previous:
            batch.previous = previous_mask(
                made.labels, self.classes, self.spec.previous, seed=self.seed, index=index, views=views
            )
        if self.prior:
            batch.prior = _priors(made.labels, self.spec)
        if self.teacher_size:
            same = self.teacher_size == self.size
            batch.shown = made.pixels if same else self.renderer.views(index, views, self.teacher_size, 1).pixels
        return batch


def _priors(labels: Tensor, spec: SegmentSpec) -> Tensor:
    """Eqs 6.1-6.3 of each view, after its warp: distances are those of the picture that the network sees."""
    masks = (labels == 1).cpu().numpy()
    maps = np.stack([prior_target(mask, spec.prior) for mask in masks])[:, None]
    return torch.from_numpy(maps).to(labels.device)
