"""Adversarial losses of the uniformization stage, in logits (Dapogny et al., RULe, FG 2023, eqs 3, 4 and 7).

With D = sigmoid(z): -log D = softplus(-z) and -log(1 - D) = softplus(z), which neither overflow nor lose their gradient
where D rounds to 0 or 1.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import softplus


def discriminator_loss(real: Tensor, generated: Tensor) -> Tensor:
    """Eq 3: -log D(I*) - log[1 - D(f(I~))], the mean over the pictures.

    Args:
        real, generated: (B,) logits of the clean crops and of what the generator made; the latter from pictures that
            are detached from the generator.

    Returns:
        A number, 0 or more; 2 log 2 where D knows nothing.
    """
    return softplus(-real).mean() + softplus(generated).mean()


def generator_loss(generated: Tensor) -> Tensor:
    """Eq 4: -log D(f(I~)), the mean over the pictures: (B,) logits -> a number, 0 or more."""
    return softplus(-generated).mean()


def uniformization_loss(
    generator: Tensor | float,
    discriminator: Tensor | float,
    perceptual: Tensor | float,
    identity: Tensor | float,
    *,
    adversarial_weight: float = 1.0,
    perceptual_weight: float = 1.0,
    identity_weight: float = 1.0,
) -> Tensor | float:
    """Eq 7: L_Gen + L_Disc + lambda_per L_per + lambda_id L_id.

    The sum is one for the reader: L_Disc is minimised over the discriminator's weights alone and everything else over
    the generator's, in turn, so training hands in 0 for whichever part does not belong to the weights at hand.
    ``adversarial_weight`` (printed: 1) multiplies L_Gen only: L_Disc has weights of its own to move.
    """
    return adversarial_weight * generator + discriminator + perceptual_weight * perceptual + identity_weight * identity
