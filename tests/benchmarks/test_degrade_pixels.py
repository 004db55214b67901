"""Each degradation of pixels against scikit-image, SciPy, Pillow, the standard library, or block means in a loop."""

from __future__ import annotations

import colorsys
import hashlib
import math

import numpy as np
import pytest
from degrade_cases import apply, assert_rounds, drawn_face, noise_image, rounded
from PIL import Image, features


@pytest.mark.parametrize("factor", [2, 3, 8])
def test_downsampling_is_block_means_and_pillow_s_enlarging(factor):
    small = noise_image(5, 7)
    image = np.random.default_rng(1).integers(0, 256, (5 * factor, 7 * factor, 3)).astype(np.uint8)
    means = np.zeros(small.shape)
    for i in range(5):
        for j in range(7):
            block = image[i * factor : (i + 1) * factor, j * factor : (j + 1) * factor]
            means[i, j] = block.reshape(-1, 3).astype(float).mean(axis=0)
    planes = [Image.fromarray(means[:, :, c].astype(np.float32)) for c in range(3)]
    size = (7 * factor, 5 * factor)
    want = np.stack([np.asarray(plane.resize(size, Image.Resampling.BILINEAR)) for plane in planes], axis=2)
    assert_rounds(apply(image, downsample=factor).image, want)


def test_downsampling_of_a_side_that_is_no_multiple_of_the_factor():
    """A ramp along x: blocks of 4, 4 and 2 pixels, by hand."""
    row = np.array([0, 10, 20, 30, 40, 50, 60, 70, 80, 90], np.uint8)
    image = np.repeat(np.repeat(row[None, :, None], 3, axis=0), 3, axis=2)
    blocks = [15, 55, 85]
    want = np.interp((np.arange(10) + 0.5) / 4 - 0.5, [0, 1, 2], blocks)
    np.testing.assert_array_equal(apply(image, downsample=4).image, np.broadcast_to(rounded(want)[:, None], (3, 10, 3)))


def test_an_image_smaller_than_the_factor_becomes_its_mean():
    image = noise_image(3, 5)
    want = rounded(image.reshape(-1, 3).astype(float).mean(axis=0))
    np.testing.assert_array_equal(apply(image, downsample=8).image, np.broadcast_to(want, image.shape))


@pytest.mark.parametrize(("x", "y"), [(60.0, 47.0), (61.3, 52.6), (66.49, 41.9)])
def test_downsampling_moves_no_landmark(x, y):
    """The centre of mass of a blob wherever it lies on the grid of blocks."""
    grid_x, grid_y = np.meshgrid(np.arange(129), np.arange(101))
    blob = 250 * np.exp(-((grid_x - x) ** 2 + (grid_y - y) ** 2) / (2 * 7.0**2))
    image = np.repeat(rounded(blob)[:, :, None], 3, axis=2)

    def centre(picture):
        mass = picture[:, :, 0].astype(float)
        return (mass * grid_x).sum() / mass.sum(), (mass * grid_y).sum() / mass.sum()

    for factor in (2, 3, 8):
        np.testing.assert_allclose(centre(apply(image, downsample=factor).image), centre(image), atol=0.05)
    np.testing.assert_allclose(centre(image), (x, y), atol=0.05)


@pytest.mark.parametrize("turns", [0.1, -0.1, 0.37, -0.5])
def test_hue_is_scikit_image_s_hsv(turns):
    color = pytest.importorskip("skimage.color")
    for image in (noise_image(), drawn_face()):
        hsv = color.rgb2hsv(image / 255.0)
        hsv[:, :, 0] = (hsv[:, :, 0] + turns) % 1
        assert_rounds(apply(image, hue=turns).image, color.hsv2rgb(hsv) * 255)


@pytest.mark.parametrize("factor", [0.0, 0.3, 1.7, 30.0])
def test_saturation_is_scikit_image_s_hsv(factor):
    color = pytest.importorskip("skimage.color")
    for image in (noise_image(), drawn_face()):
        hsv = color.rgb2hsv(image / 255.0)
        hsv[:, :, 1] = np.minimum(hsv[:, :, 1] * factor, 1)
        assert_rounds(apply(image, saturation=factor).image, color.hsv2rgb(hsv) * 255)


def test_hue_and_saturation_together_are_the_standard_library_s():
    image = noise_image(4, 5)
    want = np.zeros(image.shape)
    for i, j in np.ndindex(4, 5):
        h, s, v = colorsys.rgb_to_hsv(*(image[i, j] / 255.0))
        want[i, j] = 255 * np.array(colorsys.hsv_to_rgb((h + 0.2) % 1, min(1, s * 1.4), v))
    assert_rounds(apply(image, hue=0.2, saturation=1.4).image, want)


def test_grey_has_no_hue_and_no_saturation():
    image = np.repeat(np.arange(256, dtype=np.uint8).reshape(16, 16, 1), 3, axis=2)
    np.testing.assert_array_equal(apply(image, hue=0.3).image, image)
    np.testing.assert_array_equal(apply(image, saturation=1.7).image, image)


def test_brightness_by_hand_rounds_half_to_even_and_stops_at_the_ends():
    image = np.array([[[0, 1, 2], [100, 254, 255]]], np.uint8)
    # 0.5 / 255 of full scale adds a half: 0.5, 1.5, 2.5, 100.5, 254.5, 255.5.
    np.testing.assert_array_equal(apply(image, brightness=0.5 / 255).image, [[[0, 2, 2], [100, 254, 255]]])
    np.testing.assert_array_equal(apply(image, brightness=0.2).image, [[[51, 52, 53], [151, 255, 255]]])
    np.testing.assert_array_equal(apply(image, brightness=-0.2).image, [[[0, 0, 0], [49, 203, 204]]])


def test_contrast_by_hand():
    image = np.array([[[10, 0, 100], [30, 200, 100]]], np.uint8)  # means 20, 100, 100
    np.testing.assert_array_equal(apply(image, contrast=1.5).image, [[[5, 0, 100], [35, 250, 100]]])
    np.testing.assert_array_equal(apply(image, contrast=0.5).image, [[[15, 50, 100], [25, 150, 100]]])
    np.testing.assert_array_equal(apply(image, contrast=0.0).image, [[[20, 100, 100], [20, 100, 100]]])


def test_noise_is_normal_of_the_width_asked_for():
    stats = pytest.importorskip("scipy.stats")
    image = np.full((120, 110, 3), 128, np.uint8)
    done = apply(image, noise=0.05).image.astype(float) - 128
    assert abs(done.mean()) < 5 * 12.75 / math.sqrt(done.size)
    assert done.std() == pytest.approx(math.hypot(0.05 * 255, math.sqrt(1 / 12)), rel=0.02)  # rounding adds 1/12
    # Half a unit of jitter undoes the rounding.
    jitter = np.random.default_rng(0).uniform(-0.5, 0.5, done.shape)
    assert stats.kstest((done + jitter).ravel() / done.std(), "norm").pvalue > 1e-3
    flat = done.reshape(-1, 3)
    assert np.abs(np.corrcoef(flat.T) - np.eye(3)).max() < 0.04  # channels of their own
    assert abs(np.corrcoef(done[:-1].ravel(), done[1:].ravel())[0, 1]) < 0.03  # rows too


def test_noise_is_what_it_has_always_been():
    """By hand: NumPy's frozen generator, seeded with the words of a SHA-256."""
    words = np.frombuffer(hashlib.sha256(b"pocketface degrade 1\n7\n7\nhelen/1\nnoise values").digest(), "<u4")
    want = 128 + 0.1 * 255 * np.random.RandomState(words).standard_normal((5, 4, 3))
    done = apply(np.full((5, 4, 3), 128, np.uint8), noise=0.1, name="helen/1", seed=7)
    assert_rounds(done.image, want)


def test_noise_differs_by_face_and_seed():
    image = np.full((8, 8, 3), 128, np.uint8)
    first = apply(image, noise=0.1).image
    assert (apply(image, noise=0.1, name="b").image != first).mean() > 0.5
    assert (apply(image, noise=0.1, seed=1).image != first).mean() > 0.5


@pytest.mark.parametrize("sigma", [0.4, 1.0, 3.0])
def test_blur_is_scipy_s_gaussian(sigma):
    ndimage = pytest.importorskip("scipy.ndimage")
    image = noise_image(19, 33)
    want = ndimage.gaussian_filter(image.astype(float), (sigma, sigma, 0), mode="nearest", truncate=4.0)
    assert_rounds(apply(image, blur=sigma).image, want)


@pytest.mark.skipif(not features.check("jpg"), reason="Pillow without JPEG")
def test_jpeg_loses_more_at_lower_quality_and_keeps_the_picture_in_place():
    image = drawn_face()
    errors = []
    for quality in (95, 50, 10):
        done = apply(image, jpeg=quality).image
        assert done.shape == image.shape
        errors.append(np.abs(done.astype(float) - image).mean())
    assert 0 < errors[0] < errors[1] < errors[2] < 20
