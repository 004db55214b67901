"""Assistive loss: one teacher as a positive or a negative assistant (KD paper, section 3.3).

With e = |prediction - truth| and d = |teacher - truth|, both per coordinate:

    region                 where               weight (eq. 6)    loss (eq. 10)
    R_L  low influence     0 <= e < sigma d    0 to -0.5         -0.5 e / (sigma d) * (d - e)
    R_N  negative          sigma d <= e < d    -0.5              -0.5 (d - e)
    R_P  positive          d <= e              1                 e - d

Mirroring the teacher to the student's side of the truth (eq. 4) makes |teacher - prediction| equal to |d - e|, and beta
(eq. 5) lie sigma d from the truth, so no sign is ever needed.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pocketface.compression.losses.inputs import require_same_shape
from pocketface.sdk.errors import ConfigError

DEFAULT_SIGMA = 0.4


def check_sigma(sigma: float) -> None:
    """Refuse a sigma for which the loss has not its minimum at beta.

    Raises:
        ConfigError: if sigma is not in (0, 0.5].
    """
    if not 0.0 < sigma <= 0.5:
        raise ConfigError(f"sigma is {sigma}", expected="a share in (0, 0.5]", next="use the paper's 0.4")


def assistive_loss(pred: Tensor, truth: Tensor, teacher: Tensor, *, sigma: float = DEFAULT_SIGMA) -> Tensor:
    """Assistive loss of one teacher, per coordinate (Pourramezan Fard & Mahoor 2021, eqs 4-10).

    Pulls the student towards the teacher while it is worse than the teacher, pushes it past the teacher once it is
    better, and fades out near the truth. Negative values are intended. Continuous everywhere: both borders of a region
    are approached from either side with the same value (-0.5 (1 - sigma) d at beta, 0 at the teacher, where the weight
    alone jumps from -0.5 to 1).

    Eq. 6 prints the weight of R_L as the constant -0.5 / (beta - truth), which is not what the text asks of it ("a
    linear function ... its minimum value, -0.5, is at beta and its maximum value, 0, is at P_Gt"): it is multiplied
    here by |prediction - truth|. A teacher exactly on the truth has no R_N and no R_L: the loss is then the plain
    absolute error.

    Args:
        pred, truth, teacher: (batch, n, 2), normalised to [-0.5, 0.5]. The teacher is detached.
        sigma: share of the teacher's distance below which a prediction counts as accurate enough, in (0, 0.5]. Above
            0.5 the minimum would leave beta for the middle between truth and teacher.

    Returns:
        (batch, n, 2), in [-0.5 * (1 - sigma), 1]; reduce it yourself (eq. 11 is the mean).

    Raises:
        BadInputError: if the shapes differ.
        ConfigError: if sigma is out of range.
    """
    check_sigma(sigma)
    require_same_shape(pred, truth=truth, teacher=teacher)
    error = (pred - truth).abs()
    gap = (truth - teacher).detach().abs()
    reach = sigma * gap
    low = error < reach
    # Outside R_L the divisor is 1: torch.where hands the branch it drops a zero gradient, and 0 * inf would be NaN.
    influence = torch.where(low, error / torch.where(low, reach, 1.0), 1.0)
    return torch.where(error >= gap, error - gap, -0.5 * influence * (gap - error))
