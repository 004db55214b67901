"""The losses that need no teacher: absolute, squared, smooth L1 (KD paper, Table 8)."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from pocketface.compression.losses.inputs import require_same_shape
from pocketface.compression.losses.registry import Loss, LossSpec


def l1_loss(pred: Tensor, truth: Tensor) -> Tensor:
    """Absolute error, per coordinate: (batch, n, 2), normalised units."""
    require_same_shape(pred, truth=truth)
    return (pred - truth).abs()


def l2_loss(pred: Tensor, truth: Tensor) -> Tensor:
    """Squared error, per coordinate: (batch, n, 2), normalised units squared."""
    require_same_shape(pred, truth=truth)
    return (pred - truth).square()


def smooth_l1_loss(pred: Tensor, truth: Tensor, *, beta: float = 0.01) -> Tensor:
    """Smooth L1, per coordinate: 0.5 delta^2 / beta for delta = |pred - truth| below beta, delta - 0.5 beta above.

    Args:
        pred, truth: (batch, n, 2), normalised to [-0.5, 0.5].
        beta: where the parabola ends, in normalised units, > 0. The usual 1.0 would be pure L2 here, where no error
            exceeds 1; 0.01 is one hundredth of the crop, about one pixel at 96 to 128 px.

    Returns:
        (batch, n, 2); reduce it yourself.
    """
    require_same_shape(pred, truth=truth)
    return F.smooth_l1_loss(pred, truth, reduction="none", beta=beta)


def build_l1(spec: LossSpec) -> Loss:
    """Registry entry ``l1``."""
    return Loss(spec, l1_loss)


def build_l2(spec: LossSpec) -> Loss:
    """Registry entry ``l2``."""
    return Loss(spec, l2_loss)


def build_smooth_l1(spec: LossSpec) -> Loss:
    """Registry entry ``smooth_l1``."""

    def function(pred: Tensor, truth: Tensor) -> Tensor:
        return smooth_l1_loss(pred, truth, beta=spec.beta)

    return Loss(spec, function)
