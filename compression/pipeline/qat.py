"""student -> trained a little longer by the same teachers, rounding as its 8-bit files will. One stage: ``qat``."""

from __future__ import annotations

from pathlib import Path

import msgspec

from pocketface.compression.pipeline.context import Context
from pocketface.compression.pipeline.train import Trained, learn, lesson
from pocketface.compression.quantize.qat import QatConfig, QatReport, rounded, simulated
from pocketface.compression.recipe import QatSpec
from pocketface.converters.options import configured
from pocketface.sdk.progress import say

QAT_VERSION = 2
QAT = "qat"


def qat_stage(context: Context, student: Trained, spec: QatSpec) -> Trained:
    """Train a student for 8 bits.

    Args:
        context: the run.
        student: it stays as it is.
        spec: what rounds, and how long it is trained.

    Returns:
        The student, called ``qat``; its recipe is the student's with another training. Its history tells the
        validation error with rounding.
    """
    config = qat_config(spec)
    tuned = msgspec.structs.replace(student.spec, train=spec.train)
    taught = lesson(context, tuned)

    def build(folder: Path) -> None:
        net = student.load(context.split.scheme.points)
        say("quantization-aware training", show=context.progress)
        learn(context, tuned, taught, folder, net=net, around=lambda net: simulated(net, config))

    inputs = {**taught.inputs, "student": student.done.key, "qat": config}
    return Trained(QAT, tuned, context.store.stage(QAT, QAT_VERSION, inputs, build))


def qat_config(spec: QatSpec) -> QatConfig:
    """A recipe's settings.

    Raises:
        ConfigError: an unknown key (the nearest valid one is named), a wrong type or a value out of range.
    """
    return configured(QatConfig, spec.options, QAT)


def qat_report(context: Context, trained: Trained, spec: QatSpec) -> QatReport:
    """What rounded."""
    net = trained.load(context.split.scheme.points)
    return rounded(net.features, net.input_size, qat_config(spec))[1]
