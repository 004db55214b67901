"""The one training of masks: a two-stage teacher, a parsing teacher, and the students of either.

eqs 6.1-6.4 (prior) + softmax cross-entropy (6.4.3, 7.5) + hints of a teacher (distill/segment.py)
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pocketface.benchmarks.segmentation import Confusion, figures
from pocketface.compression.distill.segment import FeatureHint, segment_hints
from pocketface.compression.label_cache import LabelCache
from pocketface.compression.losses.segmentation import segmentation_loss
from pocketface.compression.models.checkpoint import channels_last, save_network
from pocketface.compression.models.registry import build_network
from pocketface.compression.models.segment_blocks import SegmentNet
from pocketface.compression.segment_recipe import SegmentSpec
from pocketface.compression.training.loop import WEIGHTS, SeededTraining, forget_checkpoint, run_loop
from pocketface.compression.training.segment_views import SegmentBatch, SegmentViews
from pocketface.compression.training.tensors import Frozen, network_input
from pocketface.sdk.errors import ConfigError
from pocketface.sdk.manifest import ClassSet


class SegmentTraining(SeededTraining):
    """One mask network in training.

    Logs ``train_loss`` and each of its terms; on the validation pictures, at the grid's own size and without a previous
    mask, ``val_miou`` and ``val_accuracy`` in percent, pooled.

    Args:
        net: what is trained.
        spec: losses, hints, optimiser, schedule.
        classes: of the labels.
        seed: of whatever torch draws while training.
        teacher: gives the hints.
    """

    net: SegmentNet

    def __init__(
        self, net: SegmentNet, spec: SegmentSpec, *, classes: ClassSet, seed: int, teacher: SegmentNet | None = None
    ) -> None:
        super().__init__(net, spec.train, seed=seed)
        self.spec, self.classes = spec, classes
        self._teacher = None if teacher is None or spec.hints is None else Frozen(teacher)
        self.regressor = None
        if self._teacher is not None and spec.hints is not None and spec.hints.feature:
            widths = [_feature_channels(each) for each in (net, self._teacher.net)]
            self.regressor = FeatureHint(*widths)
        self._seen = Confusion(classes.names)

    @property
    def learner(self) -> nn.Module:
        return self.net if self.regressor is None else nn.ModuleList([self.net, self.regressor])

    def training_step(self, batch: SegmentBatch, _: int) -> Tensor:
        maps = self.net.maps(network_input(self.net, batch.pixels), batch.previous)
        prior = maps.get("prior") if batch.prior is not None else None
        parts = segmentation_loss(self.spec.loss, maps["logits"], batch.labels, prior=prior, prior_target=batch.prior)
        total, terms = parts.total, dict(parts.terms)
        if self._teacher is not None and self.spec.hints is not None and batch.shown is not None:
            told = self._told(batch.shown, maps["logits"].shape[-1])
            hints = segment_hints(self.spec.hints, maps, told, batch.labels, feature=self.regressor)
            total = total + hints.total
            terms |= {f"{name}_hint": term for name, term in hints.terms.items()}
        logged = {"train_loss": total.detach(), **{f"{name}_loss": term.detach() for name, term in terms.items()}}
        self.log_dict(logged, on_epoch=True, on_step=False, batch_size=len(batch.labels))
        return total

    def _told(self, pixels: Tensor, grid: int) -> dict[str, Tensor]:
        """The teacher's maps, its logits on the student's grid."""
        teacher = self._teacher
        if teacher is None:
            raise ConfigError("hints without a teacher", next="Give the recipe a teacher")
        with torch.no_grad():
            net = teacher.on(self.device)
            told: dict[str, Tensor] = net.maps(network_input(net, pixels))
        if told["logits"].shape[-1] != grid:
            told["logits"] = F.interpolate(told["logits"], (grid, grid), mode="bilinear", align_corners=False)
        return told

    def on_validation_epoch_start(self) -> None:
        self._seen = Confusion(self.classes.names)

    def validation_step(self, batch: SegmentBatch, _: int) -> None:
        found = self.net(network_input(self.net, batch.pixels))[0].argmax(1)
        for prediction, truth in zip(found.cpu().numpy(), batch.labels.cpu().numpy(), strict=True):
            self._seen.add(prediction.astype("uint8"), truth.astype("uint8"))

    def on_validation_epoch_end(self) -> None:
        found = figures(self._seen, overall=())
        self.log_dict({"val_miou": found.miou, "val_accuracy": found.accuracy}, prog_bar=True)


def fit_segmenter(
    spec: SegmentSpec,
    train: LabelCache,
    validation: LabelCache,
    folder: Path,
    *,
    classes: ClassSet,
    seed: int,
    teacher: SegmentNet | None = None,
    progress: bool = True,
) -> SegmentNet:
    """Train a mask network, going on from the last finished epoch if ``folder`` holds its checkpoint.

    Args:
        spec: network, losses, views, optimiser.
        train, validation: pictures.
        folder: gets the weights, the history and, while training, the checkpoint.
        classes: of the labels.
        seed: of initial weights and everything drawn.
        teacher: needed where ``spec.hints`` is set.
        progress: show a bar.

    Returns:
        The network (the averaged weights, where the recipe asks for them), in evaluation mode.

    Raises:
        ConfigError: the model makes no masks, or the teacher is missing.
        UnknownNameError: no such network.
        EnvironmentProblemError: the disk is full or not writable.
    """
    if spec.hints is not None and teacher is None:
        raise ConfigError("hints without a teacher", expected="the teacher of the recipe")
    torch.manual_seed(seed)
    net = channels_last(build_segmenter(spec, classes))
    module = SegmentTraining(net, spec, classes=classes, seed=seed, teacher=teacher)
    views = SegmentViews(
        spec,
        net,
        train,
        validation,
        classes=classes,
        seed=seed,
        prior=bool(spec.loss.prior) and has_prior(net),
        teacher_size=teacher.input_size if teacher is not None and spec.hints is not None else 0,
    )
    run_loop(module, views, folder, spec.train, progress=progress)
    save_network(net, folder / WEIGHTS, spec.model)
    forget_checkpoint(folder)
    return net.eval()


def build_segmenter(spec: SegmentSpec, classes: ClassSet) -> SegmentNet:
    """The network of a spec, in training mode.

    Raises:
        ConfigError: the model makes no masks.
        UnknownNameError: no such network.
    """
    net = build_network(spec.model, n_classes=len(classes.names))
    if not isinstance(net, SegmentNet):
        raise ConfigError(f"model {spec.model.name!r}", expected="a network of masks", next="See SEGMENT_MODELS")
    return net


def has_prior(net: SegmentNet) -> bool:
    """Whether a network gives a shape prior besides its logits."""
    return "prior" in _maps(net)


def _feature_channels(net: SegmentNet) -> int:
    return int(_maps(net)["features"].shape[1])


def _maps(net: SegmentNet) -> dict[str, Tensor]:
    """What a network gives for a black picture, by name; its statistics stay."""
    training = net.training
    with torch.no_grad():
        found = net.eval().maps(torch.zeros(1, 3, net.input_size, net.input_size))
    net.train(training)
    return found
