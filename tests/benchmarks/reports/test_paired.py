"""Paired differences against scipy's."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from pocketface.benchmarks.reports.paired import T95, paired, t95
from pocketface.sdk.errors import BadInputError


@pytest.mark.parametrize("count", [*range(2, 13), 40, 210])
def test_the_interval_is_scipys(count: int):
    rng = np.random.default_rng(count)
    one, other = rng.normal(5, 1, count), rng.normal(4, 1, count)
    found = paired(one.tolist(), other.tolist())
    low, high = stats.ttest_rel(one, other).confidence_interval(0.95)
    assert found.mean == pytest.approx((one - other).mean())
    assert (found.mean - found.reach, found.mean + found.reach) == pytest.approx((low, high), abs=1e-3)
    assert found.sure == (stats.ttest_rel(one, other).pvalue < 0.05)
    assert found.above == int((one > other).sum())


def test_the_table_is_students():
    np.testing.assert_allclose(T95, stats.t.ppf(0.975, np.arange(1, 10)), atol=6e-4)


def test_beyond_the_table_t_is_scipys_too():
    freedom = np.array([10, 11, 12, 15, 20, 50, 209, 1000, 100_000])
    np.testing.assert_allclose([t95(int(count)) for count in freedom], stats.t.ppf(0.975, freedom), atol=2e-4)


def test_equal_figures_are_no_difference():
    found = paired([4.0] * 30, [4.0] * 30)
    assert (found.mean, found.reach, found.sure) == (0, 0, False)


def test_one_seed_says_nothing():
    assert not paired([5.0], [1.0]).sure


@pytest.mark.parametrize(
    ("one", "other"), [([], []), ([1.0], [1.0, 2.0]), ([float("nan")], [1.0]), ([1.0] * 11, [0.0] * 12)]
)
def test_what_cannot_be_compared_is_refused(one: list[float], other: list[float]):
    with pytest.raises(BadInputError):
        paired(one, other)
