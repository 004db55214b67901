"""Differences between two rows that were trained with the same seeds: same initial weights, same order, same views."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from pocketface.sdk.errors import BadInputError

T95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
"""Student's t, two-sided 95 %, for 1 to 9 degrees of freedom."""


@dataclass(frozen=True)
class Paired:
    """Differences, seed by seed.

    Attributes:
        mean: of the differences.
        reach: half of their 95 % confidence interval (Student's t); infinite for a single seed.
        above: how many are above 0.
        count: how many there are.
    """

    mean: float
    reach: float
    above: int
    count: int

    @property
    def sure(self) -> bool:
        """Whether 0 lies outside the interval."""
        return abs(self.mean) > self.reach


def paired(one: Sequence[float], other: Sequence[float]) -> Paired:
    """``one`` minus ``other``, each with a figure for the same seeds in the same order.

    Raises:
        BadInputError: no figures, more than 10, not as many of both, or one that is not finite.
    """
    if len(one) != len(other) or not 1 <= len(one) <= len(T95) + 1:
        raise BadInputError(f"{len(one)} and {len(other)} figures", expected=f"1 to {len(T95) + 1}, as many of both")
    gaps = [a - b for a, b in zip(one, other, strict=True)]
    if not all(math.isfinite(gap) for gap in gaps):
        raise BadInputError(f"differences {gaps}", expected="finite ones")
    count = len(gaps)
    reach = math.inf if count == 1 else T95[count - 2] * stdev(gaps) / math.sqrt(count)
    return Paired(fmean(gaps), reach, sum(gap > 0 for gap in gaps), count)
