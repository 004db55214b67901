"""Scene cuts: what changes and by how much."""

from __future__ import annotations

import numpy as np

from pocketface.benchmarks.data.synthetic import render_background, render_sequence
from pocketface.sdk.video.scene import Scene, thumbnail
from pocketface.sdk.video.settings import TrackerSettings


def test_the_grid_holds_mean_grey_levels_whatever_the_size():
    for height, width in ((64, 64), (480, 640), (7, 5), (1, 1)):
        np.testing.assert_allclose(thumbnail(np.full((height, width, 3), 90, np.uint8)), 90)
    halves = np.zeros((200, 300, 3), np.uint8)
    halves[:, 150:] = 240
    np.testing.assert_allclose(thumbnail(halves), np.repeat([[0] * 8 + [240] * 8], 16, axis=0))


def test_of_64_pixels_every_one_counts():
    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    slow = [[picture[4 * i : 4 * i + 4, 4 * j : 4 * j + 4].astype(float).mean() for j in range(16)] for i in range(16)]
    np.testing.assert_allclose(thumbnail(picture), slow, rtol=1e-5)


def test_a_moving_face_is_no_cut_and_another_scene_is():
    scene = Scene()
    moving = [scene.change(face.image) for face in render_sequence(3, 12, size=96)]
    assert moving[0] == 0
    assert max(moving) < TrackerSettings().cut
    dark, light = np.full((96, 96, 3), 20, np.uint8), np.full((96, 96, 3), 220, np.uint8)
    scene.change(dark)
    assert scene.change(light) == np.float32(200 / 255)
    scene.reset()
    assert scene.change(dark) == 0
    assert 0 < scene.change(render_background(1, size=96)) <= 1
