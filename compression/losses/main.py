"""Main loss of the KD paper: L1 for small errors, L2 for large ones (section 3.4)."""

from __future__ import annotations

import torch
from torch import Tensor

from pocketface.compression.losses.inputs import require_same_shape

BORDER = 0.5
OFFSET = 0.25
"""C of eq. 13: with it both pieces and both slopes (1 = 2 * 0.5) agree at the border."""


def main_loss(pred: Tensor, truth: Tensor) -> Tensor:
    """Main loss, per coordinate (Pourramezan Fard & Mahoor 2021, eqs 12-13).

    delta for delta = |truth - pred| up to 0.5 (half the crop), delta^2 + 0.25 above: as sensitive to small errors as L1
    and to large ones as L2. Continuous, with a continuous slope, at 0.5. Eq. 13 prints the means inside the cases; the
    case is chosen per coordinate here, and the mean is left to the caller.

    Args:
        pred, truth: (batch, n, 2), normalised to [-0.5, 0.5].

    Returns:
        (batch, n, 2), 0 or more; reduce it yourself.

    Raises:
        BadInputError: if the shapes differ.
    """
    require_same_shape(pred, truth=truth)
    delta = (truth - pred).abs()
    return torch.where(delta <= BORDER, delta, delta.square() + OFFSET)
