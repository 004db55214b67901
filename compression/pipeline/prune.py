"""student -> its channels that matter least are taken -> fine-tuned by the same teachers. One stage: ``pruned``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from torch import Tensor, nn

from pocketface.compression.augment.hashing import permutation
from pocketface.compression.losses.registry import build_loss
from pocketface.compression.models.checkpoint import load_network, save_network
from pocketface.compression.models.heads import LandmarkNet
from pocketface.compression.pipeline.context import Context
from pocketface.compression.pipeline.train import Lesson, Trained, learn, lesson
from pocketface.compression.prune.base import PruneConfig, Pruner, PruneReport
from pocketface.compression.prune.registry import PRUNERS
from pocketface.compression.recipe import NetworkSpec, PruneSpec
from pocketface.compression.training.module import LandmarkTraining
from pocketface.sdk.files import write_atomic
from pocketface.sdk.progress import say

PRUNE_VERSION = 1
PRUNED = "pruned"

_CUT, _REPORT = "cut.safetensors", "prune.json"


def prune_stage(context: Context, student: Trained, spec: PruneSpec) -> Trained:
    """Prune a trained student and fine-tune what is left.

    Args:
        context: the run.
        student: it stays as it is.
        spec: how much goes, and how long the rest is trained.

    Returns:
        The pruned student, called ``pruned``; its recipe is the student's with another training.
    """
    pruner: Pruner = PRUNERS[spec.method]
    config = pruner.configure(spec.options)
    tuned = msgspec.structs.replace(student.spec, train=spec.train)
    taught = lesson(context, tuned)

    def build(folder: Path) -> None:
        cut = folder / _CUT  # a training that goes on must go on with the same network
        if not cut.exists():
            say(f"pruning to {config.keep_flops:.0%} of the FLOPs", show=context.progress)
            _cut(context, student, tuned, taught, pruner, config, cut)
        net = load_network(tuned.model, cut, n_points=context.split.scheme.points)
        learn(context, tuned, taught, folder, net=net)

    inputs = {**taught.inputs, "student": student.done.key, "prune": [pruner.name, pruner.version, config]}
    return Trained(PRUNED, tuned, context.store.stage(PRUNED, PRUNE_VERSION, inputs, build))


def prune_report(pruned: Trained) -> PruneReport:
    """What was taken, before the fine-tuning."""
    return msgspec.json.decode((pruned.done.path / _REPORT).read_bytes(), type=PruneReport)


def _cut(
    context: Context,
    student: Trained,
    tuned: NetworkSpec,
    taught: Lesson,
    pruner: Pruner,
    config: PruneConfig,
    path: Path,
) -> None:
    scheme, views = context.split.scheme, taught.views()
    loss = build_loss(tuned.loss)
    order = permutation(taught.seed, 0, len(context.train_cache))  # readers give one folder after the other

    def losses(net: nn.Module, number: int) -> Tensor:
        known: Any = net
        module = LandmarkTraining(known, loss, tuned.train, normaliser=scheme.normaliser, seed=taught.seed)
        first = number * tuned.train.batch_size
        batch = views.draw(order[np.arange(first, first + tuned.train.batch_size) % len(order)], 0)
        return module.losses(batch)["train_loss"]

    net: LandmarkNet = student.load(scheme.points)
    pruned, report = pruner(net, losses, config)
    write_atomic(path.with_name(_REPORT), msgspec.json.format(msgspec.json.encode(report), indent=1), force=True)
    save_network(pruned, path, tuned.model)
