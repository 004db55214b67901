"""Border figures against scipy's distances, slow loops and by hand."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt

from pocketface.benchmarks.mask_borders import BandSpec, Borders, band, bf_score, contour, near
from pocketface.sdk.errors import ConfigError


@pytest.mark.parametrize("radius", [1.0, 1.5, 2.0, 3.7, 9.0])
def test_near_agrees_with_scipys_euclidean_distance(radius):
    mask = np.random.default_rng(2).random((21, 30)) < 0.03
    np.testing.assert_array_equal(near(mask, radius), distance_transform_edt(~mask) <= radius)
    assert not near(np.zeros((4, 5), bool), radius).any()


def test_a_band_is_found_by_a_slow_loop():
    rng = np.random.default_rng(4)
    mask, valid = rng.random((9, 10)) < 0.5, rng.random((9, 10)) < 0.9
    mask[:, :5] = True
    want = np.zeros_like(mask)
    for a in np.ndindex(mask.shape):
        for b in np.ndindex(mask.shape):
            want[a] |= valid[a] and valid[b] and mask[a] != mask[b] and math.dist(a, b) <= 2
    np.testing.assert_array_equal(band(mask, valid, 2), want)


def test_trimap_f1_of_a_shifted_edge_by_hand():
    # Hair is columns 10 to 19 of 20, predicted from 12 on: in the band of 3 px (columns 7 to 12) 1 of 3 is found.
    true, said = (np.tile((np.arange(20) >= start).astype(np.uint8), (6, 1)) for start in (10, 12))
    borders = Borders(("background", "hair"), BandSpec(pixels=3))
    borders.add(said, true)
    got = borders.figures()
    hair = got.classes[1]
    assert hair.trimap_f1 == pytest.approx(100 * 2 * 1 / (3 + 1))
    assert got.classes[0].trimap_f1 == pytest.approx(100 * 2 * 3 / (3 + 5))
    assert hair.bf == pytest.approx(100)  # the contours are two columns apart
    far = Borders(("background", "hair"), BandSpec(pixels=1))
    far.add(said, true)
    assert far.figures().classes[1].bf == 0
    assert got.trimap_f1 == hair.trimap_f1
    assert "hair" in "".join(got.table().columns[0].cells)
    json.dumps(got.to_dict(), allow_nan=False)


def test_bf_by_hand_where_half_of_the_contour_matches():
    true, said, valid = np.zeros((12, 12), bool), np.zeros((12, 12), bool), np.ones((12, 12), bool)
    true[2, 2] = said[2, 2] = said[9, 9] = True
    assert bf_score(said, true, valid, 1) == pytest.approx(2 * 0.5 * 1 / 1.5)
    assert bf_score(true, true, valid, 1) == 1
    assert bf_score(np.zeros_like(true), true, valid, 1) == 0
    assert math.isnan(bf_score(np.zeros_like(true), np.zeros_like(true), valid, 1))


def test_neither_the_pictures_edge_nor_ignored_pixels_are_a_border():
    full, valid = np.ones((5, 5), bool), np.ones((5, 5), bool)
    assert not contour(full, valid).any()
    mask = np.zeros((5, 5), bool)
    mask[:, :2] = True
    valid[:, 2] = False
    assert not contour(mask, valid).any()
    assert not band(mask, valid, 1).any()
    assert band(mask, valid, 2).any()  # across the ignored column


def test_radii_follow_the_diagonal_and_never_fall_below_a_pixel():
    assert BandSpec().radius((300, 400)) == pytest.approx(3.75)
    assert BandSpec().radius((30, 40)) == 1
    assert BandSpec(pixels=5).radius((300, 400)) == 5
    with pytest.raises(ConfigError):
        BandSpec(pixels=0.5)
    with pytest.raises(ConfigError):
        BandSpec(diagonal=0)
