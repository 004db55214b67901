"""Batches for the landmark stage: views of faces, the annotations that their set shows, and the teacher's hints.

face numbers --(order, sets take turns)--> batch --after transfer: move boxes, render, degrade, ask--> AlignBatch
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from pocketface.benchmarks.data.degrade import DEGRADATIONS
from pocketface.compression.augment.degrade import CropDegrader
from pocketface.compression.augment.views import ViewRenderer, Views, plain_views
from pocketface.compression.cache import FaceCache
from pocketface.compression.chain_recipe import AlignSpec
from pocketface.compression.distill.hint import Truth
from pocketface.compression.models.gtn import StageOutput
from pocketface.compression.shape.pose import HeadPose
from pocketface.compression.training.datamodule import EpochOrder, epoch_views
from pocketface.compression.training.hints import Hints
from pocketface.compression.training.markups import POSE, MarkedSet, Turns, deal, one_set
from pocketface.sdk.errors import AnnotationError, ConfigError

FULL_TURN = 90.0
"""Degrees of head pose that a network's 1 stands for."""


@dataclass
class AlignBatch:
    """What a training step sees.

    Attributes:
        pixels: (B, 3, S, S) float32 in [0, 255].
        truth: what the faces' set is annotated with.
        hints: the teacher's stages, or None.
    """

    pixels: Tensor
    truth: Truth
    hints: list[StageOutput] | None


class FaceDrawer:
    """Draws views of faces as an `AlignSpec` wants them; every draw is a function of (seed, face, view).

    Args:
        cache: the faces.
        spec: augmentation and degradations.
        seed: of both.
        flip: the scheme's flip permutation.
        normaliser: the outer eye corners, whose distance boxes are moved by.
    """

    def __init__(
        self, cache: FaceCache, spec: AlignSpec, *, seed: int, flip: tuple[int, ...], normaliser: tuple[int, int]
    ) -> None:
        self.cache, self.normaliser = cache, normaliser
        self.renderer = ViewRenderer(cache, spec.augment, seed=seed, flip=flip)
        degradations = DEGRADATIONS[spec.degrade]
        self.degrader = CropDegrader(degradations, seed=seed) if spec.degrade != "none" else None

    def clean(self, index: NDArray[np.int64], views: NDArray[np.int64], size: int) -> Views:
        """Views at the places where `draw` cuts them, before anything was degraded: what a teacher looks at."""
        self._place(index, views)
        return self.renderer.faces(index, views, size)

    def draw(self, index: NDArray[np.int64], views: NDArray[np.int64], size: int) -> Views:
        """Views as the network in training sees them.

        Args:
            index: (B,) which faces, each once.
            views: (B,) which view of each.
            size: side of the crop.
        """
        found = self.clean(index, views, size)
        if self.degrader is None:
            return found
        amounts = self.degrader.amounts(index, views, found.pixels.device)
        sides = self.renderer.cache.boxes[torch.as_tensor(index, device=found.pixels.device), 2]
        return Views(self.degrader.image(found.pixels, sides, amounts), found.points)

    def _place(self, index: NDArray[np.int64], views: NDArray[np.int64]) -> None:
        """Give the renderer the faces' boxes as the degradations move them."""
        if self.degrader is None:
            return
        cache = self.cache
        rows = torch.as_tensor(index, device=cache.boxes.device)
        a, b = self.normaliser
        iod = (cache.points[rows, a] - cache.points[rows, b]).norm(dim=-1)
        amounts = self.degrader.amounts(index, views, cache.boxes.device)
        centres, sides = self.degrader.boxes(cache.boxes[rows, :2], cache.boxes[rows, 2], iod, amounts)
        boxes = cache.boxes.clone()
        boxes[rows] = torch.cat([centres, sides[:, None]], 1)
        self.renderer.cache = replace(cache, boxes=boxes)  # shares the images and their halvings


class AlignViews(pl.LightningDataModule):
    """Training and validation batches of one landmark stage.

    Args:
        drawer: draws the training views.
        validation: faces, evaluated as they are.
        spec: mark-ups, batch size, pool of views.
        size: side of the network's input.
        seed: of the order.
        pose: ground truth of head pose; needed for the mark-up ``"pose"``.
        hints: whom to ask about each view.

    Raises:
        AnnotationError: the faces' points are not 68, or head pose is wanted and there is none.
        BadInputError: a set has fewer faces than a batch.
    """

    def __init__(
        self,
        drawer: FaceDrawer,
        validation: FaceCache,
        spec: AlignSpec,
        *,
        size: int,
        seed: int,
        pose: HeadPose | None = None,
        hints: Hints | None = None,
    ) -> None:
        super().__init__()
        self.drawer, self.spec, self.size, self.seed, self.pose, self.hints = drawer, spec, size, seed, pose, hints
        names = drawer.cache.names
        for what, cache in (("training", drawer.cache), ("validation", validation)):
            if cache.points.shape[1] != 68:
                raise AnnotationError(
                    f"the {what} faces have {cache.points.shape[1]} points",
                    expected="mark-up 68, of which all others are made",
                    next="Give faces of scheme ibug68",
                )
        if POSE in spec.markups and pose is None:
            raise AnnotationError(
                "mark-up pose is wanted and the training set has no head pose",
                expected="a HeadPose fitted to its landmarks",
                next="Fit one, or leave pose out of the recipe's markups",
            )
        if len(set(spec.markups)) != len(spec.markups):
            raise ConfigError(f"markups: {', '.join(spec.markups)}", expected="each once")
        self.sets = deal(names, spec.markups) if spec.heterogeneous else one_set(len(names), spec.markups)
        self.batch_size = spec.train.batch_size if spec.heterogeneous else min(spec.train.batch_size, len(names))
        self.order: Turns | EpochOrder
        if spec.heterogeneous:
            self.order = Turns(self.sets, self.batch_size, seed)
        else:
            self.order = EpochOrder(len(names), seed)
        self._set_of = np.zeros(len(names), np.int64)
        for place, item in enumerate(self.sets):
            self._set_of[item.rows] = place
        views = plain_views(validation, size)
        self.validation = (views.pixels, views.points, self._pose(views.points))

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(
            TensorDataset(torch.arange(len(self.drawer.cache))),
            batch_size=self.batch_size,
            sampler=self.order,
            drop_last=True,  # a last batch of a few faces would give batch norm poor statistics
        )

    def val_dataloader(self) -> DataLoader[Any]:
        pixels, points, pose = self.validation
        return DataLoader(TensorDataset(pixels, points, *([] if pose is None else [pose])), batch_size=64)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        if self.trainer is None or not self.trainer.training:
            return batch
        return self.draw(batch[0].cpu().numpy(), self.trainer.current_epoch)

    def set_of(self, index: NDArray[np.int64]) -> MarkedSet:
        """The set that a batch comes from."""
        return self.sets[int(self._set_of[index[0]])]

    def draw(self, index: NDArray[np.int64], epoch: int) -> AlignBatch:
        """The batch that holds these faces, all of one set, in this epoch."""
        views = epoch_views(index, epoch, self.spec.train.views)
        faces, shown = self.drawer.draw(index, views, self.size), self.set_of(index)
        pose = self._pose(faces.points) if POSE in shown.markups else None
        hints = self.hints.stages(index, views) if self.hints else None
        if hints is not None:
            device = faces.pixels.device
            hints = [
                StageOutput({name: points.to(device) for name, points in hint.points.items()}, hint.pose.to(device))
                for hint in hints
            ]
        return AlignBatch(faces.pixels, Truth(shown.visible(faces.points), pose), hints)

    def _pose(self, points: Tensor) -> Tensor | None:
        """(B, 68, 2) -> (B, 3) in degrees / 90, as the view shows the head: turned and mirrored with it."""
        if self.pose is None:
            return None
        return torch.from_numpy(self.pose.angles(points.cpu().numpy()) / FULL_TURN).to(points)
