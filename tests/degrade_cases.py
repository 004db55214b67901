"""Pictures, boxes and shorthands that the tests of degradations share."""

from __future__ import annotations

import numpy as np

from pocketface.benchmarks.data.degrade import DegradeSpec, degrade
from pocketface.benchmarks.data.synthetic import render_face
from pocketface.sdk.geometry import Box

BOX = Box(10.0, 20.0, 50.0, 60.0)
NEUTRAL = {"blur": 0, "downsample": 1, "hue": 0, "saturation": 1, "brightness": 0, "contrast": 1, "noise": 0}


def noise_image(height=37, width=53, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


def drawn_face(seed=3, size=96):
    return render_face(seed, size=size).image


def fixed(**amounts):
    return DegradeSpec(**{name: (amount, amount) for name, amount in amounts.items()})


def apply(image, *, name="a", seed=0, box=BOX, iod=20.0, **amounts):
    return degrade(image, box, fixed(**amounts), iod=iod, name=name, seed=seed)


def rounded(values):
    return np.rint(np.clip(values, 0, 255)).astype(np.uint8)


def assert_rounds(got, want):
    """Whole numbers that are the nearest to the exact ones, but for float32's error where that is halfway between."""
    assert got.dtype == np.uint8
    assert np.abs(got - np.clip(want, 0, 255)).max() <= 0.5 + 1e-3
