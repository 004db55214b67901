"""KD-Loss: the main loss and two assistants, the Tough and the Tolerant teacher (KD paper, eq. 14).

Why phi is 2.5 here and not the paper's 2. Near the truth the main loss is e (the student's error) and each assistive
loss is -(0.5 / sigma) e (1 - e / d), d being the teacher's error. With sigma = 0.4, phi = 2 and both teachers at d
the sum is -0.5 e + 2.5 e^2 / d: negative below e = 0.2 d, smallest (-0.025 d) at e = 0.1 d, and falling at e = 0, so
that its gradient drives the student off the truth. The paper says KD-Loss "will never be negative": that holds from
phi = 1 / sigma = 2.5 on, twice the slope 0.5 / sigma of one assistive loss. Both values are in the ablation.
"""

from __future__ import annotations

import math

from torch import Tensor

from pocketface.compression.losses.assistive import DEFAULT_SIGMA, assistive_loss
from pocketface.compression.losses.main import main_loss
from pocketface.compression.losses.registry import Loss, LossSpec
from pocketface.sdk.errors import ConfigError

DEFAULT_PHI = 2.5
PAPER_PHI = 2.0


def check_phi(phi: float) -> None:
    """Refuse a weight of the main loss that is not a positive number.

    Raises:
        ConfigError: if phi is not positive and finite.
    """
    if not (math.isfinite(phi) and phi > 0):
        raise ConfigError(
            f"phi is {phi}", expected="a positive number", next=f"use {DEFAULT_PHI}, or the paper's {PAPER_PHI}"
        )


def smallest_phi(sigma: float = DEFAULT_SIGMA) -> float:
    """The smallest phi that keeps KD-Loss from being negative: 2 (0.5 / sigma), both assistive slopes at the truth."""
    return 1.0 / sigma


def kd_loss(
    pred: Tensor,
    truth: Tensor,
    tough: Tensor,
    tolerant: Tensor,
    *,
    phi: float = DEFAULT_PHI,
    sigma: float = DEFAULT_SIGMA,
) -> Tensor:
    """KD-Loss, phi * main + the two assistive losses, per coordinate (Pourramezan Fard & Mahoor 2021, eq. 14).

    Args:
        pred, truth: (batch, n, 2), normalised to [-0.5, 0.5]; truth are the hard landmarks.
        tough, tolerant: (batch, n, 2), the points of the teachers trained on hard and on soft landmarks. Detached.
        phi: weight of the main loss. From 1 / sigma (2.5) on the loss is never negative; the paper prints 2.
        sigma: of both assistive losses, in (0, 0.5].

    Returns:
        (batch, n, 2); 0 at the truth, 0 or more everywhere when phi >= 1 / sigma. Reduce it yourself.

    Raises:
        BadInputError: if the shapes differ.
        ConfigError: if phi or sigma is out of range.
    """
    check_phi(phi)
    return (
        phi * main_loss(pred, truth)
        + assistive_loss(pred, truth, tough, sigma=sigma)
        + assistive_loss(pred, truth, tolerant, sigma=sigma)
    )


def single_teacher_loss(
    pred: Tensor, truth: Tensor, teacher: Tensor, *, phi: float = DEFAULT_PHI, sigma: float = DEFAULT_SIGMA
) -> Tensor:
    """KD-Loss with one teacher, phi / 2 * main + assistive, per coordinate: rows Tou and Tol of the KD paper's Table 7.

    The paper does not print this form. It chooses phi "to equalize the effect" of the main loss with the sum of *two*
    assistive losses, so with one of them phi is halved; and as one assistive loss has half the slope of two at the
    truth, the very same phi (1 / sigma, so phi / 2 >= 1.25) keeps it from becoming negative. A recipe thus compares
    Tou, Tol and KD at one phi.

    Args:
        pred, truth, teacher: (batch, n, 2), normalised to [-0.5, 0.5]. The teacher is detached.
        phi: weight of the main loss as in ``kd_loss``; half of it is used.
        sigma: of the assistive loss, in (0, 0.5].

    Returns:
        (batch, n, 2); reduce it yourself.

    Raises:
        BadInputError: if the shapes differ.
        ConfigError: if phi or sigma is out of range.
    """
    check_phi(phi)
    return 0.5 * phi * main_loss(pred, truth) + assistive_loss(pred, truth, teacher, sigma=sigma)


def build_kd(spec: LossSpec) -> Loss:
    """Registry entry ``kd``."""

    def function(pred: Tensor, truth: Tensor, tough: Tensor, tolerant: Tensor) -> Tensor:
        return kd_loss(pred, truth, tough, tolerant, phi=spec.phi, sigma=spec.sigma)

    return Loss(spec, function, needs=("tough", "tolerant"))


def build_tough(spec: LossSpec) -> Loss:
    """Registry entry ``assist_tough``."""

    def function(pred: Tensor, truth: Tensor, tough: Tensor) -> Tensor:
        return single_teacher_loss(pred, truth, tough, phi=spec.phi, sigma=spec.sigma)

    return Loss(spec, function, needs=("tough",))


def build_tolerant(spec: LossSpec) -> Loss:
    """Registry entry ``assist_tolerant``."""

    def function(pred: Tensor, truth: Tensor, tolerant: Tensor) -> Tensor:
        return single_teacher_loss(pred, truth, tolerant, phi=spec.phi, sigma=spec.sigma)

    return Loss(spec, function, needs=("tolerant",))
