"""Eqs 6.1-6.4 against a brute-force search for the nearest pixel, and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from pocketface.compression.shape.distance_map import (
    DistanceSpec,
    cache_priors,
    clipped_distances,
    hair_of,
    hardtanh,
    pack,
    prior_target,
    signed_distance,
    unpack,
)
from pocketface.sdk.errors import BadInputError, ConfigError

masks = arrays(bool, array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=9))


def brute(mask: np.ndarray, d_max: float, e_max: float) -> tuple[np.ndarray, np.ndarray]:
    """Eqs 6.1 and 6.2 as they are printed, pixel by pixel."""
    to_hair, to_background = np.zeros(mask.shape), np.zeros(mask.shape)
    for p in np.ndindex(mask.shape):
        hair = [math.dist(p, q) for q in np.ndindex(mask.shape) if mask[q]]
        background = [math.dist(p, q) for q in np.ndindex(mask.shape) if not mask[q]]
        to_hair[p] = d_max - min([d_max, *hair])
        to_background[p] = e_max - min([e_max, *background])
    return to_hair, to_background


@settings(max_examples=60, deadline=None)
@given(masks, st.sampled_from([(25.0, 10.0), (5.0, 2.5), (3.0, 2.0)]))
def test_both_maps_are_those_of_a_brute_force_search(mask, reach):
    for got, want in zip(clipped_distances(mask, *reach), brute(mask, *reach), strict=True):
        np.testing.assert_allclose(got, want, atol=1e-12)


def test_a_brute_force_search_at_the_printed_reach():
    mask = np.zeros((16, 44), bool)
    mask[2:14, 3:17] = True
    mask[6, 8] = False  # a hole, and a single hair: erosion must neither fill nor drop them
    mask[8, 40] = True
    to_hair, to_background = brute(mask, 25, 10)
    np.testing.assert_allclose(signed_distance(mask, 25, 10), to_hair - to_background, atol=1e-12)
    target = prior_target(mask, side=256)
    np.testing.assert_array_equal(hair_of(target), mask)


def test_each_region_by_hand_along_a_row():
    # Hair from column 100 on.
    mask = np.tile(np.arange(256) >= 100, (2, 1))
    dt = signed_distance(mask, 25, 10)[0]
    assert dt[200] == 25  # deep inside: 25 - 0
    assert dt[0] == -10  # far outside: 0 - 10
    assert dt[100] == 25 - 9  # hair beside background
    assert dt[99] == 24 - 10  # background beside hair
    assert dt[109] == 25  # ten from the nearest background pixel: no longer eroded
    assert dt[108] == 24
    assert dt[75] == -10
    assert dt[76] == -9
    target = prior_target(mask)[0]
    assert (target[200], target[0]) == (1, -1)
    assert target[100] == pytest.approx((2 * 16 - 15) / 35)
    assert target[99] == pytest.approx((2 * 14 - 15) / 35)
    assert DistanceSpec().border_level == pytest.approx(3 / 7)
    assert (target[99] + target[100]) / 2 == pytest.approx(3 / 7)
    assert (np.diff(target) >= 0).all()


@pytest.mark.parametrize(("value", "want"), [(False, -1.0), (True, 1.0)])
def test_masks_without_hair_and_without_background_are_one_value(value, want):
    target = prior_target(np.full((7, 9), value))
    assert target.dtype == np.float32
    assert (target == want).all()


@settings(max_examples=60, deadline=None)
@given(masks)
def test_targets_stay_in_range_and_give_the_mask_back(mask):
    spec = DistanceSpec(d_max=5, e_max=2, side=8)
    target = prior_target(mask, spec, side=8)
    assert target.min() >= -1
    assert target.max() <= 1
    np.testing.assert_array_equal(hair_of(target, spec), mask)
    np.testing.assert_array_equal(hair_of(unpack(pack(target)), spec), mask)


def test_distances_scale_with_the_input():
    # A straight edge at 128 and at 256: the coarse map is the fine one between its two pixels.
    fine, coarse = (prior_target(np.tile(np.arange(side) >= side // 2, (2, 1)))[0] for side in (256, 128))
    assert DistanceSpec().reach(128) == (12.5, 5)
    assert np.abs(coarse - (fine[::2] + fine[1::2]) / 2).max() <= 1 / 35 + 1e-6
    same = prior_target(np.tile(np.arange(256) >= 128, (2, 1)), DistanceSpec(d_max=12.5, e_max=5, side=128))[0]
    np.testing.assert_allclose(same, fine)


def test_hardtanh_is_torchs():
    values = np.linspace(-3, 3, 41, dtype=np.float32)
    np.testing.assert_array_equal(hardtanh(values), torch.nn.Hardtanh()(torch.from_numpy(values)).numpy())


def test_a_cache_holds_one_byte_a_pixel_and_is_half_a_step_from_the_targets():
    given_masks = np.random.default_rng(0).random((3, 16, 16)) < 0.3
    told: list[int] = []
    cache = cache_priors(given_masks, progress=told.append)
    assert (len(cache), cache.packed.dtype, cache.packed.shape, told) == (3, np.uint8, (3, 16, 16), [1, 2, 3])
    for place, mask in enumerate(given_masks):
        assert np.abs(cache[place] - prior_target(mask)).max() <= 1 / 254 + 1e-6
    assert cache[np.array([2, 0])].shape == (2, 16, 16)
    np.testing.assert_allclose(unpack(pack([-1, 0, 1])), [-1, 0, 1], atol=1e-7)


def test_bad_masks_and_settings_are_refused():
    with pytest.raises(BadInputError, match="value 255, expected 0 and 1"):
        prior_target(np.array([[0, 255]], np.uint8))
    with pytest.raises(BadInputError, match=r"shape \(2, 2, 3\)"):
        prior_target(np.zeros((2, 2, 3)))
    with pytest.raises(BadInputError, match="mask 1: of shape"):
        cache_priors([np.zeros((2, 2)), np.zeros((3, 3))])
    with pytest.raises(BadInputError, match="mask 0: mask with the value 7"):
        cache_priors([np.full((2, 2), 7)])
    with pytest.raises(BadInputError, match="no masks"):
        cache_priors([])
    for bad in ({"e_max": 30.0}, {"e_max": 0.0}, {"d_max": math.inf}, {"side": 0}):
        with pytest.raises(ConfigError):
            DistanceSpec(**bad)
