"""The batched torch twin against the numpy reference, over rotations, borders, scales and halvings."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pocketface.benchmarks.data.face import Face
from pocketface.compression.augment.crop import halving_counts, resample_batch, to_normalised
from pocketface.compression.cache import FaceCache
from pocketface.sdk.geometry import Crop
from pocketface.sdk.images import read_image
from pocketface.sdk.preprocess import halvings, resample

GEOMETRY = [(0.0, 1.0), (17.0, 1.0), (-45.0, 0.6), (90.0, 2.5), (180.0, 1.3), (33.0, 6.0)]


@pytest.mark.parametrize(("angle", "scale"), GEOMETRY)
@pytest.mark.parametrize("size", [8, 24, 64])
def test_twin_agrees_with_the_reference(textured_faces: list[Face], textured_cache: FaceCache, angle, scale, size):
    index = torch.arange(len(textured_faces))
    # Off-centre, so that every image has a border in its crop.
    centres = textured_cache.boxes[:, :2] + 0.2 * textured_cache.boxes[:, 2:]
    sides = textured_cache.boxes[:, 2] * scale
    got = resample_batch(textured_cache, index, centres, sides, torch.full((len(index),), angle), size)
    for row in range(len(index)):
        canvas = textured_cache.images[row].permute(1, 2, 0).numpy()
        crop = Crop(float(centres[row, 0]), float(centres[row, 1]), float(sides[row]), angle)
        expected = resample(canvas, crop, size)
        assert np.abs(got[row].permute(1, 2, 0).numpy() - expected).max() <= 1.0, row


def test_cache_keeps_the_photo_pixel_for_pixel(textured_faces: list[Face], textured_cache: FaceCache):
    """A crop from the cache equals the crop from the photo: the region is only cut, not resampled, as long as it is
    small."""
    face, size = textured_faces[1], 40
    photo, box = read_image(face.image), face.box
    expected = resample(photo, Crop.from_box(box, angle=20.0), size)
    centre, side = textured_cache.boxes[1:2, :2], textured_cache.boxes[1:2, 2]
    got = resample_batch(textured_cache, torch.tensor([1]), centre, side, torch.tensor([20.0]), size)[0]
    assert np.abs(got.permute(1, 2, 0).numpy() - expected).max() <= 1.0


def test_halving_counts_are_the_references():
    sides = torch.tensor([10.0, 63.9, 64.0, 127.9, 128.0, 300.0, 512.0])
    assert halving_counts(sides, 32).tolist() == [halvings(float(side), 32) for side in sides]


def test_landmarks_go_where_the_crop_goes():
    rng = np.random.default_rng(1)
    points = rng.uniform(0, 100, (3, 5, 2)).astype(np.float32)
    centres, sides, angles = rng.uniform(30, 70, (3, 2)), rng.uniform(20, 90, 3), rng.uniform(-60, 60, 3)
    got = to_normalised(*(torch.tensor(a, dtype=torch.float32) for a in (points, centres, sides, angles)))
    for row in range(3):
        crop = Crop(*centres[row], sides[row], angles[row])
        assert np.allclose(got[row].numpy(), crop.to_normalised(points[row]), atol=1e-5)
