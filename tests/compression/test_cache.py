from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pocketface.benchmarks.data.face import Face
from pocketface.compression.cache import FaceCache, build_cache
from pocketface.sdk.errors import ImageError
from pocketface.sdk.images import read_image
from pocketface.sdk.preprocess import halve


def test_regions_hold_the_photo_and_the_landmarks_move_along(textured_faces: list[Face], textured_cache: FaceCache):
    for row, face in enumerate(textured_faces):
        photo = read_image(face.image)
        for k in range(0, 68, 17):
            x, y = np.rint(face.points[k]).astype(int)
            moved = np.rint(textured_cache.points[row, k].numpy()).astype(int)
            if 0 <= x < photo.shape[1] and 0 <= y < photo.shape[0]:
                assert textured_cache.images[row, :, moved[1], moved[0]].tolist() == photo[y, x].tolist()


def test_large_photos_are_halved_and_the_landmarks_with_them(tmp_path: Path):
    photo = np.zeros((800, 900, 3), np.uint8)
    photo[300:340, 400:440] = 200
    Image.fromarray(photo).save(tmp_path / "big.png")
    square = np.array([[400, 300], [439, 300], [400, 339], [439, 339]], np.float32) - 0.5
    points = np.concatenate([square, [[100.0, 50.0], [700.0, 700.0]]]).astype(np.float32)
    cache = build_cache([Face(name="big", image=tmp_path / "big.png", points=points)], max_side=250)
    assert max(cache.images.shape[2:]) <= 256
    centre = cache.points[0, :4].mean(0)
    bright = (cache.images[0, 0] > 100).nonzero().float().flip(1).mean(0)
    assert torch.allclose(centre, bright, atol=0.75)


def test_levels_are_the_references_halvings(textured_cache: FaceCache):
    canvas = textured_cache.images[2].permute(1, 2, 0).numpy().astype(np.float32)
    for count in range(1, 6):
        canvas = halve(canvas)
        level = textured_cache.level(count)[2].permute(1, 2, 0).float().numpy()
        assert level.shape == canvas.shape
        assert np.abs(level - canvas).max() <= (0 if count == 1 else 0.25)


def test_a_broken_image_is_named(tmp_path: Path):
    (tmp_path / "broken.jpg").write_bytes(b"not a picture")
    face = Face(name="broken", image=tmp_path / "broken.jpg", points=np.zeros((68, 2), np.float32))
    with pytest.raises(ImageError, match=r"broken\.jpg"):
        build_cache([face])
