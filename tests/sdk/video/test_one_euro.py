"""The One-Euro filter against the paper's algorithm written out for one number, and the properties it is used for."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pocketface.sdk.errors import BadInputError
from pocketface.sdk.video.one_euro import OneEuro, OneEuroSettings, smoothing_factor


class Slow:
    """Algorithm 1 of the paper (Casiez and others 2012) for one number, with low-pass filters as it has them."""

    def __init__(self, min_cutoff: float, beta: float, speed_cutoff: float):
        self.min_cutoff, self.beta, self.speed_cutoff = min_cutoff, beta, speed_cutoff
        self.first, self.x, self.dx, self.time = True, 0.0, 0.0, 0.0

    def alpha(self, rate: float, cutoff: float) -> float:
        tau, te = 1.0 / (2 * math.pi * cutoff), 1.0 / rate
        return 1.0 / (1.0 + tau / te)

    def __call__(self, x: float, time: float, size: float) -> float:
        if self.first:
            self.first, self.x, self.dx, self.time = False, x, 0.0, time
            return x
        rate = 1.0 / (time - self.time)
        dx = (x - self.x) * rate
        a = self.alpha(rate, self.speed_cutoff)
        self.dx = a * dx + (1 - a) * self.dx
        a = self.alpha(rate, self.min_cutoff + self.beta * abs(self.dx) / size)
        self.x, self.time = a * x + (1 - a) * self.x, time
        return self.x


def walk(count: int = 40, n: int = 5, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    points = 200 + np.cumsum(random.normal(0, 3, (count, n, 2)), axis=0)
    times = np.cumsum(random.uniform(0.01, 0.1, count))
    return points, times, random.uniform(60, 140, count)


@pytest.mark.parametrize(("min_cutoff", "beta", "speed_cutoff"), [(1, 0, 1), (0.5, 3, 1), (4, 30, 2.5)])
def test_it_is_the_papers_algorithm_for_every_coordinate(min_cutoff, beta, speed_cutoff):
    points, times, sizes = walk()
    filter = OneEuro(OneEuroSettings(min_cutoff, beta, speed_cutoff))
    slow = [[Slow(min_cutoff, beta, speed_cutoff) for _ in range(2)] for _ in range(5)]
    for sample, time, size in zip(points, times, sizes, strict=True):
        expected = [[slow[i][k](sample[i, k], time, size) for k in range(2)] for i in range(5)]
        np.testing.assert_allclose(filter(sample, time, size), expected, rtol=1e-6)


def test_what_rests_stays_exactly_where_it_is():
    filter, points = OneEuro(OneEuroSettings(1, 5)), np.array([[10.25, 20.5], [-3.0, 7.0]])
    for step in range(20):
        np.testing.assert_array_equal(filter(points, 0.04 * step, 50), points)


def test_a_step_is_approached_from_one_side_and_reached():
    filter = OneEuro(OneEuroSettings(2, 0))
    filter([[0.0, 0.0]], 0, 100)
    values = [float(filter([[1.0, 1.0]], 0.05 * step, 100)[0, 0]) for step in range(1, 80)]
    alpha = 1 / (1 + 1 / (2 * math.pi * 2 * 0.05))
    np.testing.assert_allclose(values, [1 - (1 - alpha) ** step for step in range(1, 80)], rtol=1e-5)
    assert values == sorted(values)
    assert values[-1] == pytest.approx(1, abs=1e-4)


def test_a_higher_beta_lags_less_and_a_lower_cutoff_trembles_less():
    times = np.arange(60) / 30
    line = np.stack([100 + 80 * times, np.zeros(60)], axis=1)[:, None]
    late = []
    for beta in (0.0, 3.0, 30.0):
        filter = OneEuro(OneEuroSettings(1, beta))
        late.append(line[-1, 0, 0] - [filter(p, t, 100) for p, t in zip(line, times, strict=True)][-1][0, 0])
    assert late[0] > late[1] > late[2] > 0
    noise, left = np.random.default_rng(1).normal(0, 1, (200, 8, 2)), []
    for cutoff in (0.5, 2.0, 8.0):
        filter = OneEuro(OneEuroSettings(cutoff, 0))
        left.append(np.std([filter(p, k / 30, 100) for k, p in enumerate(noise)]))
    assert left[0] < left[1] < left[2] < 1


def test_it_does_not_depend_on_the_resolution():
    points, times, sizes = walk(seed=3)
    one, other = (OneEuro(OneEuroSettings(0.7, 8)) for _ in range(2))
    for sample, time, size in zip(points, times, sizes, strict=True):
        np.testing.assert_allclose(4 * one(sample, time, size), other(4 * sample, time, 4 * size), rtol=1e-6)


def test_after_a_reset_the_next_sample_comes_out_as_it_is_at_any_time():
    filter = OneEuro(OneEuroSettings(1, 1))
    filter([[1.0, 2.0]], 5.0, 10)
    filter.reset()
    np.testing.assert_array_equal(filter([[7.0, 9.0], [1.0, 1.0]], 1.0, 10), [[7, 9], [1, 1]])


def test_the_samples_it_was_given_stay_as_they_were():
    filter, sample = OneEuro(OneEuroSettings(1, 1)), np.array([[1.0, 2.0]])
    filter(sample, 0, 10)[0, 0] = 99
    filter(sample + 5, 1, 10)
    np.testing.assert_array_equal(sample, [[1, 2]])


def test_the_smoothing_factor_lies_between_0_and_1_and_grows_with_cutoff_and_step():
    assert smoothing_factor(1.0, 1 / (2 * math.pi)) == pytest.approx(0.5)
    values = smoothing_factor(np.geomspace(1e-3, 1e3, 50), 0.03)
    assert (np.diff(values) > 0).all()
    assert 0 < values[0] < values[-1] < 1


@pytest.mark.parametrize(
    ("points", "time", "size", "text"),
    [
        ([[1, 1]], 1.0, 10, "later time"),
        ([[1, 1]], 0.5, 10, "later time"),
        ([[1, 1]], math.nan, 10, "later time"),
        ([[1, 1]], 2.0, 0, "size 0"),
        ([[math.nan, 1]], 2.0, 10, "not finite"),
        ([[1, 1], [2, 2]], 2.0, 10, r"\(1, 2\), as before"),
    ],
)
def test_what_cannot_be_filtered_is_refused(points, time, size, text):
    filter = OneEuro(OneEuroSettings(1, 1))
    filter([[0, 0]], 1.0, 10)
    with pytest.raises(BadInputError, match=text):
        filter(points, time, size)


@pytest.mark.parametrize("values", [(0, 1, 1), (1, -1, 1), (1, 1, 0), (math.inf, 1, 1), (1, math.nan, 1)])
def test_settings_that_make_no_filter_are_refused(values):
    with pytest.raises(BadInputError, match="expected a number"):
        OneEuroSettings(*values)
