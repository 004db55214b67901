from __future__ import annotations

import numpy as np
from scipy import stats

from pocketface.compression.augment.hashing import mix, permutation, uniform


def test_mix_is_splitmix64():
    # First outputs of the published generator for seed 1234567 (state advances by the golden gamma before each output).
    gamma = np.uint64(0x9E3779B97F4A7C15)
    with np.errstate(over="ignore"):
        states = np.uint64(1234567) + gamma * np.arange(1, 4, dtype=np.uint64)
        got = mix(states).tolist()
    assert got == [6457827717110365317, 3203168211198807973, 9817491932198370423]


def test_numbers_depend_on_seed_item_and_view_but_not_on_the_batch():
    whole = uniform(3, np.arange(10), np.full(10, 5), 8)
    assert np.array_equal(uniform(3, [7], [5], 8)[0], whole[7])
    assert np.array_equal(uniform(3, [7, 2], [5, 5], 8)[1], whole[2])
    for other in (uniform(4, [7], [5], 8), uniform(3, [8], [5], 8), uniform(3, [7], [6], 8)):
        assert not np.any(other[0] == whole[7])


def test_numbers_are_uniform_and_uncorrelated():
    sample = uniform(0, np.repeat(np.arange(200), 50), np.tile(np.arange(50), 200), 4)
    assert sample.min() >= 0
    assert sample.max() < 1
    for slot in range(4):
        assert stats.kstest(sample[:, slot], "uniform").pvalue > 1e-3
    correlation = np.corrcoef(np.concatenate([sample, np.roll(sample, 1, axis=0)], axis=1).T)
    assert np.abs(correlation - np.eye(8)).max() < 0.05


def test_permutation_is_one_and_changes_with_the_epoch():
    orders = [permutation(0, epoch, 100) for epoch in range(3)]
    for order in orders:
        assert sorted(order.tolist()) == list(range(100))
    assert not np.array_equal(orders[0], orders[1])
    assert np.array_equal(orders[2], permutation(0, 2, 100))
