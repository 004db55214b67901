"""A fake mask of the frame before, made of the labels of the frame itself (thesis 7.4.2).

labels --one-hot, moved a little | far | not there--> (B, C, M, M) float32

Three cases (Bazarevsky & Tkachenka 2018, "Mobile real-time video segmentation"): nothing, for the first frame and after
a cut; a small affine change, for usual movement, from which the network learns to carry the mask on; a large one, from
which it learns to leave a mask that does not fit. Theirs of a transformed image is not here.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import grid_sample, one_hot

from pocketface.compression.augment.hashing import uniform
from pocketface.compression.augment.label_spec import PreviousAugment
from pocketface.compression.augment.labels import SLOTS, Rectangles

_SLOTS = 8  # after those of the view, so that one seed serves both


def previous_mask(
    labels: Tensor,
    classes: int,
    spec: PreviousAugment,
    *,
    seed: int,
    index: NDArray[np.int64],
    views: NDArray[np.int64],
) -> Tensor:
    """What the frame before might have handed on.

    Args:
        labels: (B, M, M) int64 of the views; 255 is of no class.
        classes: C.
        spec: how far it may be off.
        seed, index, views: as the views were drawn with.

    Returns:
        (B, C, M, M) float32 in [0, 1]: class probabilities, sharp but for the four taps; 0 in all classes where
        nothing is known (beyond the crop, ignored pixels, an empty mask), as the runtime warps its state.
    """
    numbers = uniform(seed, index, views, SLOTS + _SLOTS)[:, SLOTS:]
    draw = torch.from_numpy(numbers).float().to(labels.device)
    known = (labels < classes)[..., None]
    mask = (one_hot(labels.clamp(max=classes - 1), classes) * known).permute(0, 3, 1, 2).float()
    size, signed = labels.shape[-1], 2 * draw - 1
    # The kinds share one number: [0, empty) nothing, [empty, empty + major) far, the rest near.
    major = draw[:, 0] < spec.empty + spec.major
    shift, scale, rotation = (
        torch.where(major, large, small)
        for small, large in (
            (spec.shift, spec.major_shift),
            (spec.scale, spec.major_scale),
            (spec.rotation, spec.major_rotation),
        )
    )
    aspect = scale * signed[:, 4] / 5
    sides = size * torch.stack([1 + scale * signed[:, 3] + aspect, 1 + scale * signed[:, 3] - aspect], 1)
    centres = (size - 1) / 2 + size * shift[:, None] * signed[:, 1:3]
    positions = Rectangles(centres, sides, rotation * signed[:, 5]).positions(size).reshape(-1, size, size, 2)
    warped = grid_sample(
        mask, (positions + 0.5) * (2.0 / size) - 1, mode="bilinear", padding_mode="zeros", align_corners=False
    )
    return torch.where((draw[:, 0] < spec.empty)[:, None, None, None], 0.0, warped)
