"""Differences between two rows, pair by pair: of networks that were trained with the same seeds (same initial weights,
same order, same views), or of one network each on the same pictures.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from pocketface.sdk.errors import BadInputError

T95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
"""Student's t, two-sided 95 %, for 1 to 9 degrees of freedom."""

Z95 = 1.959964
"""The same of the normal distribution."""


@dataclass(frozen=True)
class Paired:
    """Differences, pair by pair.

    Attributes:
        mean: of the differences.
        reach: half of their 95 % confidence interval (Student's t); infinite for a single pair.
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
    """``one`` minus ``other``, each with a figure for the same seeds, or pictures, in the same order.

    Raises:
        BadInputError: no figures, not as many of both, or one that is not finite.
    """
    if len(one) != len(other) or not one:
        raise BadInputError(f"{len(one)} and {len(other)} figures", expected="at least 1, as many of both")
    gaps = [a - b for a, b in zip(one, other, strict=True)]
    if not all(math.isfinite(gap) for gap in gaps):
        raise BadInputError(f"differences {gaps}", expected="finite ones")
    count = len(gaps)
    reach = math.inf if count == 1 else t95(count - 1) * stdev(gaps) / math.sqrt(count)
    return Paired(fmean(gaps), reach, sum(gap > 0 for gap in gaps), count)


def t95(freedom: int) -> float:
    """Student's t, two-sided 95 %, for 1 or more degrees of freedom.

    Beyond the table it is expanded around the normal quantile (Abramowitz and Stegun 1964, 26.7.5), right to 2e-4.
    """
    if freedom <= len(T95):
        return T95[freedom - 1]
    z = Z95
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    return float(z + sum(term / freedom ** (power + 1) for power, term in enumerate(terms)))
