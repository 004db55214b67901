"""A few faces that stand for many: drawn evenly over how they differ (pose, light), not over how often they occur."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import zip_longest

import numpy as np
from numpy.typing import NDArray

from pocketface.compression.training.faces import hash_share
from pocketface.sdk.errors import BadInputError

TAIL = 2.0
"""Percent of the faces at each end of a trait that set no bounds: a single odd one must not stretch the grid."""


def stratified(
    names: Sequence[str], traits: Mapping[str, NDArray[np.floating]], count: int, *, bins: int = 4
) -> list[int]:
    """Choose faces: a grid is laid over their traits, and its cells are drawn from in turn until there are enough.

    Args:
        names: of the faces; a hash of them decides who is drawn first in a cell, so that adding faces moves few.
        traits: name -> (N,) values, e.g. ``"pose"`` -> degrees of yaw. Each is cut into equal spans.
        count: faces wanted; all there are, if there are fewer.
        bins: spans of each trait.

    Returns:
        Indices, ascending.

    Raises:
        BadInputError: a trait has another number of values than there are names, or one that is not finite.
    """
    cells = np.zeros((len(names), len(traits)), int)
    for column, (trait, values) in enumerate(traits.items()):
        if np.shape(values) != (len(names),) or not np.isfinite(values).all():
            raise BadInputError(f"{trait} of shape {np.shape(values)}", expected=f"({len(names)},), all finite")
        low, high = np.percentile(values, [TAIL, 100 - TAIL])
        spans = (values - low) / max(high - low, np.finfo(np.float64).tiny) * bins
        cells[:, column] = np.clip(np.floor(spans), 0, bins - 1)
    strata: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for index in sorted(range(len(names)), key=lambda index: (hash_share(names[index]), names[index])):
        strata[tuple(cells[index])].append(index)
    turns = zip_longest(*(strata[cell] for cell in sorted(strata)))
    drawn = [index for turn in turns for index in turn if index is not None]
    return sorted(drawn[:count])
