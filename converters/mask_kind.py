"""How masks are compared: errors of class probabilities, and mIoU where the true labels are known.

Outputs are logits (C, M, M). They are compared behind the softmax: a logit of 20 that comes out as 21 changes nothing.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pocketface.benchmarks.segmentation import IGNORE, check_labels, class_figures

_Errors = NDArray[np.float64]


def mask_probability_error(found: _Errors, wanted: _Errors) -> _Errors:
    """Logits (C, M, M) twice -> (C, M, M), absolute differences of the class probabilities."""
    return np.abs(softmax(found) - softmax(wanted))


def softmax(logits: _Errors) -> _Errors:
    """Over the classes of (C, M, M), in float64."""
    powers = np.exp(logits - logits.max(axis=0))
    return np.asarray(powers / powers.sum(axis=0))


def miou_error(found: _Errors, truth: NDArray[Any], normaliser: tuple[int, int] = (0, 0)) -> float:
    """100 - mIoU of one picture, in percent: mean over the classes that occur in its truth or in what was found.

    Args:
        found: (C, M, M) logits; of equal ones the lower class, as the runtime takes it.
        truth: (M, M) class values; 255 is ignored.
        normaliser: not used.

    Raises:
        BadInputError: a true value that is no class.
    """
    classes = len(found)
    said, true = check_labels(found.argmax(axis=0), truth.astype(np.int64), classes)
    kept = true != IGNORE
    pairs = true[kept].astype(np.int64) * classes + said[kept]
    counts = np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)
    return 100 * (1 - float(np.nanmean(class_figures(counts)["iou"])))


def is_mask(shape: tuple[int, ...]) -> bool:
    """Whether it is (C, M, M), C at least 2."""
    return len(shape) == 3 and shape[0] >= 2 and shape[1] == shape[2] >= 1


def are_labels(truth: NDArray[Any], shape: tuple[int, ...]) -> bool:
    """Whether an array is the true labels of outputs of shape (N, C, M, M): (N, M, M), each value a class or 255, and
    in each picture one that is not 255.
    """
    if truth.shape != (shape[0], *shape[2:]):
        return False
    counted = truth != IGNORE
    classes = (truth >= 0) & (truth < shape[1]) & (truth == np.floor(truth))
    return bool((classes | ~counted).all() and counted.any(axis=(1, 2)).all())
