"""How alike two pictures are: PSNR and SSIM. Numpy only.

Both take arrays of pictures, (..., H, W, C), so that a batch is one call; values are in [0, 1] unless ``peak`` says
otherwise. The third figure that stands beside them, a distance of features like LPIPS, needs a network and so torch: it
is ``feature_distance`` in compression/losses/perceptual.py.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pocketface.sdk.errors import BadInputError

WINDOW, SIGMA = 11, 1.5
"""Side and standard deviation of SSIM's Gaussian window (Wang et al. 2004, section III-B)."""
K1, K2 = 0.01, 0.03
"""Of the constants that keep SSIM's divisions stable (same place)."""


def psnr(made: ArrayLike, clean: ArrayLike, *, peak: float = 1.0) -> NDArray[np.float64]:
    """Peak signal-to-noise ratio, 10 log10(peak^2 / mean squared error), in dB.

    Args:
        made, clean: (..., H, W, C), the same shape.
        peak: the largest value a pixel can have.

    Returns:
        (...,): one for each picture; infinite where the two are equal.

    Raises:
        BadInputError: shapes differ, or there is nothing to compare.
    """
    a, b = _pair(made, clean, smallest=1)
    error = np.square(a - b).mean(axis=(-3, -2, -1))
    with np.errstate(divide="ignore"):
        value: NDArray[np.float64] = 10 * np.log10(peak * peak / error)
    return value


def ssim(made: ArrayLike, clean: ArrayLike, *, peak: float = 1.0) -> NDArray[np.float64]:
    """Structural similarity (Wang, Bovik, Sheikh & Simoncelli 2004, eq 13): an 11 x 11 Gaussian window of standard
    deviation 1.5, each channel on its own.

    Only windows that lie wholly inside the picture count, as in the authors' code; variances are those of the window's
    weights, without a correction for the sample's size.

    Args:
        made, clean: (..., H, W, C), the same shape, at least 11 x 11.
        peak: the largest value a pixel can have (L in the paper).

    Returns:
        (...,): the mean over windows and channels, at most 1, which equal pictures have.

    Raises:
        BadInputError: shapes differ, or a picture is smaller than the window.
    """
    a, b = _pair(made, clean, smallest=WINDOW)
    c1, c2 = (K1 * peak) ** 2, (K2 * peak) ** 2
    mean_a, mean_b = _window(a), _window(b)
    variance_a = _window(a * a) - mean_a * mean_a
    variance_b = _window(b * b) - mean_b * mean_b
    covariance = _window(a * b) - mean_a * mean_b
    luminance = (2 * mean_a * mean_b + c1) / (mean_a * mean_a + mean_b * mean_b + c1)
    structure = (2 * covariance + c2) / (variance_a + variance_b + c2)
    value: NDArray[np.float64] = (luminance * structure).mean(axis=(-3, -2, -1))
    return value


def _pair(made: ArrayLike, clean: ArrayLike, *, smallest: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    a, b = np.asarray(made, np.float64), np.asarray(clean, np.float64)
    if a.shape != b.shape or a.ndim < 3 or min(a.shape[-3:-1], default=0) < smallest or not a.shape[-1]:
        raise BadInputError(
            f"pictures of shapes {a.shape} and {b.shape}",
            expected=f"twice (..., height, width, channels) of the same shape, {smallest} x {smallest} pixels or more",
        )
    return a, b


def _window(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Gaussian-weighted means over windows, rows and then columns: (..., H, W, C) -> (..., H - 10, W - 10, C)."""
    places = np.arange(WINDOW) - WINDOW // 2
    weights = np.exp(-0.5 * np.square(places / SIGMA))
    weights /= weights.sum()
    for axis in (-3, -2):
        count = values.shape[axis] - WINDOW + 1
        values = sum(
            (weight * np.take(values, np.arange(k, k + count), axis=axis) for k, weight in enumerate(weights)),
            start=np.zeros(()),
        )
    return values
