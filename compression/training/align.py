"""Trains the landmark stage: the cascade (no hints) and its students (RULe paper, III-C and IV-B)."""

from __future__ import annotations

from pathlib import Path

import msgspec
import torch
from torch import Tensor, nn

from pocketface.compression.augment.crop import to_normalised
from pocketface.compression.cache import FaceCache
from pocketface.compression.chain_recipe import AlignSpec
from pocketface.compression.distill.hint import hint_loss
from pocketface.compression.models.checkpoint import channels_last, save_network
from pocketface.compression.models.gtn import StagedNet
from pocketface.compression.models.registry import build_network
from pocketface.compression.shape.pose import HeadPose
from pocketface.compression.training.align_views import FULL_TURN, AlignBatch, AlignViews, FaceDrawer
from pocketface.compression.training.hints import HINTS, Hints, LiveHints, pooled_hints
from pocketface.compression.training.loop import WEIGHTS, SeededTraining, forget_checkpoint, run_loop
from pocketface.compression.training.tensors import network_input
from pocketface.sdk.errors import ConfigError


class AlignTraining(SeededTraining):
    """One landmark stage in training.

    Logs ``train_loss``, ``points_loss`` (eq. 8), ``pose_loss`` (eq. 9), ``val_nme`` in percent of the inter-ocular
    distance and ``val_pose``, the mean absolute error over the three angles, degrees.

    Args:
        net: what is trained.
        spec: weights of the loss, optimiser, schedule.
        normaliser: the two landmarks whose distance normalises the validation error.
        seed: of whatever a network draws while training.
    """

    net: StagedNet

    def __init__(self, net: StagedNet, spec: AlignSpec, *, normaliser: tuple[int, int], seed: int) -> None:
        super().__init__(net, spec.train, seed=seed)
        self.spec, self.normaliser = spec, normaliser

    def training_step(self, batch: AlignBatch, _: int) -> Tensor:
        spec = self.spec
        stages = self.net.stages(network_input(self.net, batch.pixels))
        found = hint_loss(stages, batch.truth, batch.hints, stage_weights=spec.stage_weights, lambda_kd=spec.lambda_kd)
        total = found.total(spec.pose_weight)
        figures = {"train_loss": total}
        # A set without one of the two would drag its mean towards 0.
        if batch.truth.points:
            figures["points_loss"] = found.points
        if batch.truth.pose is not None:
            figures["pose_loss"] = found.pose
        self.log_dict(figures, on_epoch=True, on_step=False, batch_size=len(batch.pixels))
        return total

    def validation_step(self, batch: tuple[Tensor, ...], _: int) -> None:
        pixels, truth, *pose = batch
        points, angles = (output.float() for output in self.net(network_input(self.net, pixels)))
        a, b = self.normaliser
        error = (points - truth).norm(dim=-1).mean(-1) / (truth[:, a] - truth[:, b]).norm(dim=-1)
        self.log("val_nme", 100 * error.mean(), batch_size=len(truth), prog_bar=True, sync_dist=True)
        if pose:
            off = FULL_TURN * (angles - pose[0]).abs().mean()
            self.log("val_pose", off, batch_size=len(truth), prog_bar=True, sync_dist=True)


def fit_aligner(
    spec: AlignSpec,
    train: FaceCache,
    validation: FaceCache,
    folder: Path,
    *,
    flip: tuple[int, ...],
    normaliser: tuple[int, int],
    seed: int,
    progress: bool = True,
    pose: HeadPose | None = None,
    teacher: nn.Module | None = None,
) -> StagedNet:
    """Train a landmark stage, going on from the last finished epoch if ``folder`` holds its checkpoint.

    Where ``spec.heterogeneous``, the training faces are dealt into one set for each mark-up, and sets take turns; else
    every face shows every mark-up. With a teacher, ``spec.train.views`` above 0 lets it look at a pool of views once,
    kept in ``folder`` while training; 0 asks it in the loop. It sees the views before they are degraded.

    Args:
        spec: network, training, loss.
        train, validation: faces of 68 points.
        folder: gets the weights, the history and, while training, the checkpoint and the hints.
        flip, normaliser: of the landmark scheme.
        seed: of initial weights, order and views.
        progress: show bars.
        pose: ground truth of head pose, needed where ``spec.markups`` has ``"pose"``.
        teacher: a trained cascade, whose hints count ``spec.lambda_kd``; None trains on annotations alone.

    Returns:
        The trained network (the averaged weights, where the recipe asks for them), in evaluation mode.

    Raises:
        ConfigError: the network or the teacher has no geometry transfer networks.
        AnnotationError: the faces have not what the mark-ups need.
        BadInputError: a set is smaller than a batch.
        EnvironmentProblemError: the disk is full or not writable.
    """
    torch.manual_seed(seed)
    net = channels_last(build_network(spec.model, n_points=train.points.shape[1]))
    if not isinstance(net, StagedNet):
        raise ConfigError(
            f"model {spec.model.name!r} has no stages with geometry transfer networks",
            choices=["acdc", "acdc_s", "acdc_s_sep"],
            next="Name one of these",
        )
    net.set_mean_shape(_mean_shape(train))
    drawer = FaceDrawer(train, spec, seed=seed, flip=flip, normaliser=normaliser)
    size = spec.model.input_size
    data = AlignViews(drawer, validation, spec, size=size, seed=seed, pose=pose)
    if teacher is not None and spec.lambda_kd > 0:
        data.hints = _hints(teacher, drawer, spec, folder, seed=seed, progress=progress)
    module = AlignTraining(net, spec, normaliser=normaliser, seed=seed)
    run_loop(module, data, folder, spec.train, progress=progress)
    save_network(net, folder / WEIGHTS, spec.model)
    forget_checkpoint(folder)
    (folder / HINTS).unlink(missing_ok=True)
    return net.eval()


def _hints(
    teacher: nn.Module, drawer: FaceDrawer, spec: AlignSpec, folder: Path, *, seed: int, progress: bool
) -> Hints:
    live = LiveHints(teacher, drawer.clean)
    if not spec.train.views:
        return live
    recipe = f"{seed} {spec.degrade} {msgspec.json.encode(spec.augment).decode()} {' '.join(drawer.cache.names)}"
    return pooled_hints(
        live, folder / HINTS, faces=len(drawer.cache), views=spec.train.views, recipe=recipe, progress=progress
    )


def _mean_shape(cache: FaceCache) -> Tensor:
    """(n, 2) normalised, of faces in their own boxes."""
    boxes = cache.boxes
    own = to_normalised(cache.points, boxes[:, :2], boxes[:, 2], torch.zeros_like(boxes[:, 2]))
    return own.mean(0).cpu()
