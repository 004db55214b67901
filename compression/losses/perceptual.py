"""Perceptual and identity-preserving losses (Dapogny et al., RULe, FG 2023, eqs 5 and 6), and the distance of pictures
in a network's eyes that stands beside PSNR and SSIM (benchmarks/image_metrics.py).

All of them compare what a frozen network of ``FEATURES`` (models/features.py) makes of two pictures.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pocketface.compression.models.features import Features
from pocketface.sdk.errors import BadInputError

EPS = 1e-12
"""Added below the roots: their slope is infinite at 0."""


def perceptual_loss(made: Features, clean: Features, weights: Sequence[float] = ()) -> Tensor:
    """Eq 5: sum over the layers of lambda_l ||psi_l(f(I~)) - psi_l(I*)||.

    The norm is Euclidean over the root of the number of values (a root mean square): at any input size, and for layers
    of any size, a lambda means the same. The paper prints neither the norm nor the lambdas.

    Args:
        made, clean: of the generated and the clean pictures; the latter without a gradient.
        weights: lambda_l, one for each layer; empty for 1 each.

    Returns:
        A number: the mean over the pictures.

    Raises:
        BadInputError: not one weight for each layer.
    """
    lambdas = tuple(weights) or (1.0,) * len(clean.maps)
    if not len(lambdas) == len(clean.maps) == len(made.maps):
        raise BadInputError(
            f"{len(lambdas)} perceptual weights for {len(clean.maps)} layers", expected="one for each layer"
        )
    total = torch.zeros((), device=made.embedding.device)
    for weight, a, b in zip(lambdas, made.maps, clean.maps, strict=True):
        total = total + weight * _norm(a - b)
    return total


def identity_loss(made: Features, clean: Features) -> Tensor:
    """Eq 6: ||psi_L(f(I~)) - psi_L(I*)|| of the last layer's embedding, with eq 5's norm; a number."""
    return _norm(made.embedding - clean.embedding)


def feature_distance(made: Features, clean: Features) -> Tensor:
    """An LPIPS-like distance (Zhang et al. 2018, eq 1, with all channel weights 1): (B,), 0 for equal pictures.

    Every place's channels are scaled to length 1, so that layers are alike and what counts is which features are there,
    not how strong; squared distances, averaged over the places and summed over the layers. **Not LPIPS itself**: that
    has another network and weights learnt from people's judgements, so its figures are not to be compared with these.
    """
    total = torch.zeros(len(made.embedding), device=made.embedding.device)
    for a, b in zip(made.maps, clean.maps, strict=True):
        total = total + (_unit(a.float()) - _unit(b.float())).square().sum(1).mean((1, 2))
    return total


def _norm(difference: Tensor) -> Tensor:
    """Root mean square of each picture's values, then the mean over the pictures."""
    return (difference.float().flatten(1).square().mean(1) + EPS).sqrt().mean()


def _unit(maps: Tensor) -> Tensor:
    return maps / (maps.square().sum(1, keepdim=True) + EPS).sqrt()
