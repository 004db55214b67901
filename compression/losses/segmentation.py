"""Losses of label maps: cross-entropy (thesis sections 6.4.3 and 7.5), L1 of the shape prior (6.3.1), Dice (ours).

Every one is a scalar: the mean over the pixels of the batch whose label is not 255. A batch of which every pixel is
ignored costs 0, with a gradient of 0, where torch's own mean would be NaN.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from pocketface.sdk.classes.registry import IGNORED as IGNORE
from pocketface.sdk.errors import BadInputError, ConfigError
from pocketface.sdk.manifest import Part


class SegmentationLossSpec(Part, frozen=True, kw_only=True):
    """What a segmentation network is trained with; the defaults are the thesis'.

    Attributes:
        cross_entropy: weight of the softmax cross-entropy, 0 or more.
        prior: weight of the L1 of the shape prior, for networks that have one, 0 or more.
        dice: weight of the soft Dice loss, 0 or more; the thesis has none.
        class_weights: one for each class, above 0; empty for the thesis' equal weights.

    Raises:
        ConfigError: a weight out of range.
    """

    cross_entropy: float = 1.0
    prior: float = 1.0
    dice: float = 0.0
    class_weights: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        for key in ("cross_entropy", "prior", "dice"):
            value = getattr(self, key)
            if not (math.isfinite(value) and value >= 0):
                raise ConfigError(f"{key}: {value}", expected="0 or more")
        for value in self.class_weights:
            if not (math.isfinite(value) and value > 0):
                raise ConfigError(f"class_weights: {value}", expected="above 0 for each class")


@dataclass
class Parts:
    """A loss and what it is made of.

    Attributes:
        terms: name -> scalar before its weight; only the terms with a weight.
        weights: name -> weight.
    """

    terms: dict[str, Tensor]
    weights: dict[str, float]

    @property
    def total(self) -> Tensor:
        """The weighted sum, a scalar.

        Raises:
            ConfigError: there is no term.
        """
        if not self.terms:
            raise ConfigError("a loss without terms", expected="a weight above 0")
        return torch.stack([self.weights[name] * term for name, term in self.terms.items()]).sum()

    def numbers(self) -> dict[str, float]:
        """The terms as plain numbers, for a log."""
        return {name: float(term.detach()) for name, term in self.terms.items()}


def cross_entropy(logits: Tensor, labels: Tensor, *, class_weights: Tensor | None = None) -> Tensor:
    """Softmax cross-entropy: sum_p w(y_p) (-log softmax(logits_p)[y_p]) / sum_p w(y_p) over the pixels p not ignored.

    Args:
        logits: (B, C, M, M).
        labels: (B, M, M) integers, 0 to C - 1, or 255 to ignore.
        class_weights: (C,), above 0; None for 1.

    Raises:
        BadInputError: sizes that differ, labels that are no integers, or not one weight for each class. Class values
            outside the map are torch's to refuse: looking for them here would wait for the device in every step.
    """
    target = _labels(logits, labels)
    if class_weights is not None and class_weights.shape != (logits.shape[1],):
        raise BadInputError(
            f"class weights of shape {tuple(class_weights.shape)}",
            expected=f"one for each of {logits.shape[1]} classes",
        )
    each = F.cross_entropy(logits, target, weight=class_weights, ignore_index=IGNORE, reduction="sum")
    kept = target != IGNORE
    if class_weights is None:
        size = kept.sum().to(logits.dtype)
    else:
        size = (class_weights[torch.where(kept, target, 0)] * kept).sum()
    return each / torch.where(size > 0, size, 1)


def prior_l1(prior: Tensor, target: Tensor) -> Tensor:
    """L1 of the shape prior (thesis section 6.3.1), mean over batch and pixels.

    Args:
        prior: (B, 1, M, M), after HardTanh (eq 6.4).
        target: (B, 1, M, M) or (B, M, M), eq 6.3 normalised to [-1, 1].

    Raises:
        BadInputError: sizes that differ.
    """
    wanted = target[:, None] if target.ndim == 3 else target
    if prior.shape != wanted.shape or prior.ndim != 4 or prior.shape[1] != 1:
        raise BadInputError(
            f"prior of shape {tuple(prior.shape)} against a target of shape {tuple(target.shape)}",
            expected="(B, 1, M, M) against (B, 1, M, M) or (B, M, M)",
        )
    return F.l1_loss(prior, wanted)


def soft_dice(logits: Tensor, labels: Tensor, *, smooth: float = 1.0) -> Tensor:
    """1 - the mean over classes of (2 sum_p q y + smooth) / (sum_p q + sum_p y + smooth), q = softmax(logits).

    Ours, not the thesis': each class counts the same however few pixels it has, which suits eyes and lips. The sums are
    over all pixels of the batch that are not ignored (Milletari et al. 2016 with the plain, not the squared sums
    below), and the mean over the classes that the batch's labels hold: a class that is nowhere would only be told to
    stay away, which the others' sums do already.

    Args:
        logits: (B, C, M, M).
        labels: (B, M, M) integers, 255 is ignored.
        smooth: pixels, above 0.

    Returns:
        A scalar in [0, 1].

    Raises:
        BadInputError: as ``cross_entropy``.
    """
    target = _labels(logits, labels)
    kept = (target != IGNORE)[:, None]
    truth = F.one_hot(torch.where(target != IGNORE, target, 0), logits.shape[1]).movedim(-1, 1) * kept
    likely = logits.softmax(dim=1) * kept
    true, said = truth.sum(dim=(0, 2, 3)), likely.sum(dim=(0, 2, 3))
    each = 1 - (2 * (likely * truth).sum(dim=(0, 2, 3)) + smooth) / (said + true + smooth)
    held = (true > 0).to(each.dtype)
    return (each * held).sum() / held.sum().clamp(min=1)


def segmentation_loss(
    spec: SegmentationLossSpec,
    logits: Tensor,
    labels: Tensor,
    *,
    prior: Tensor | None = None,
    prior_target: Tensor | None = None,
) -> Parts:
    """All terms that a network is trained with against the truth: ``cross_entropy``, ``dice``, ``prior``.

    Args:
        spec: weights.
        logits: (B, C, M, M).
        labels: (B, M, M), 255 is ignored.
        prior, prior_target: as ``prior_l1``; both None for a network without a prior, whose weight then does not count.

    Raises:
        BadInputError: as the single losses, or a prior without a target or the other way round.
    """
    if (prior is None) != (prior_target is None):
        raise BadInputError("a shape prior without its target, or a target without a prior", expected="both or neither")
    terms: dict[str, Tensor] = {}
    if spec.cross_entropy:
        weights = logits.new_tensor(spec.class_weights) if spec.class_weights else None
        terms["cross_entropy"] = cross_entropy(logits, labels, class_weights=weights)
    if spec.dice:
        terms["dice"] = soft_dice(logits, labels)
    if spec.prior and prior is not None and prior_target is not None:
        terms["prior"] = prior_l1(prior, prior_target)
    return Parts(terms, {name: getattr(spec, name) for name in terms})


def _labels(logits: Tensor, labels: Tensor) -> Tensor:
    if logits.ndim != 4 or labels.shape != (logits.shape[0], *logits.shape[2:]):
        raise BadInputError(
            f"logits of shape {tuple(logits.shape)} against labels of shape {tuple(labels.shape)}",
            expected="(B, C, M, M) against (B, M, M)",
        )
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise BadInputError(f"labels of {labels.dtype}", expected="integers")
    return labels.long()
