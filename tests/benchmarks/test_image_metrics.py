"""PSNR by hand, SSIM against a slow loop and against scikit-image."""

from __future__ import annotations

import numpy as np
import pytest

from pocketface.benchmarks.image_metrics import psnr, ssim
from pocketface.sdk.errors import BadInputError


@pytest.fixture
def pair() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    clean = np.kron(rng.random((4, 5, 3)), np.ones((4, 4, 1)))  # 16 x 20, flat patches with edges
    return np.clip(clean + rng.normal(0, 0.1, clean.shape), 0, 1), clean


def test_psnr_by_hand():
    clean = np.full((2, 2, 3), 0.5)
    assert psnr(clean + 0.1, clean) == pytest.approx(20.0)  # mean squared error 0.01
    assert psnr(255 * (clean + 0.1), 255 * clean, peak=255) == pytest.approx(20.0)
    assert psnr(clean, clean) == np.inf


def test_ssim_matches_a_slow_loop(pair):
    a, b = pair
    gauss = np.array([[np.exp(-(x * x + y * y) / (2 * 1.5**2)) for x in range(-5, 6)] for y in range(-5, 6)])
    gauss /= gauss.sum()
    values = []
    for y in range(16 - 10):
        for x in range(20 - 10):
            for c in range(3):
                p, q = a[y : y + 11, x : x + 11, c], b[y : y + 11, x : x + 11, c]
                mp, mq = (gauss * p).sum(), (gauss * q).sum()
                vp, vq = (gauss * (p - mp) ** 2).sum(), (gauss * (q - mq) ** 2).sum()
                cov = (gauss * (p - mp) * (q - mq)).sum()
                above = (2 * mp * mq + 0.01**2) * (2 * cov + 0.03**2)
                values.append(above / ((mp**2 + mq**2 + 0.01**2) * (vp + vq + 0.03**2)))
    assert ssim(a, b) == pytest.approx(np.mean(values), abs=1e-12)


def test_ssim_agrees_with_scikit_image(pair):
    metrics = pytest.importorskip("skimage.metrics")
    a, b = pair
    theirs = metrics.structural_similarity(
        255 * a, 255 * b, channel_axis=2, data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )  # it crops the border by the same 5 pixels before the mean
    assert ssim(255 * a, 255 * b, peak=255) == pytest.approx(theirs, abs=1e-9)


def test_equal_pictures_have_1_and_worse_ones_less(pair):
    noisy, clean = pair
    assert ssim(clean, clean) == pytest.approx(1.0)
    assert ssim(1 - clean, clean) < ssim(noisy, clean) < 1


def test_a_batch_gives_one_figure_for_each_picture(pair):
    a, b = pair
    made, clean = np.stack([a, b, a]).reshape(3, 1, 16, 20, 3), np.stack([b, b, b]).reshape(3, 1, 16, 20, 3)
    assert psnr(made, clean).shape == ssim(made, clean).shape == (3, 1)
    assert ssim(made, clean)[0, 0] == ssim(a, b)
    assert psnr(made, clean)[2, 0] == psnr(a, b)


@pytest.mark.parametrize("metric", [psnr, ssim])
@pytest.mark.parametrize("shape", [(16, 20), (16, 20, 1), (2, 16, 20, 3)])
def test_pictures_of_other_shapes_are_refused(metric, shape, pair):
    with pytest.raises(BadInputError, match="same shape"):
        metric(np.zeros(shape), pair[1])


def test_a_picture_smaller_than_the_window_is_refused():
    with pytest.raises(BadInputError, match="11 x 11"):
        ssim(np.zeros((10, 20, 3)), np.zeros((10, 20, 3)))
