from __future__ import annotations

import msgspec
import numpy as np
import pytest
import torch

from pocketface.compression.augment import photometric
from pocketface.compression.augment.crop import resample_batch
from pocketface.compression.augment.spec import AugmentSpec
from pocketface.compression.augment.views import ViewRenderer, plain_views
from pocketface.compression.cache import FaceCache
from pocketface.sdk.schemes.registry import load_scheme

FLIP = load_scheme("ibug68").flip
STILL = AugmentSpec(
    **dict.fromkeys(AugmentSpec.__struct_fields__, 0.0)  # nothing varies
)


def draw(cache: FaceCache, spec: AugmentSpec, view: int = 0, size: int = 32, index=None):
    index = np.arange(len(cache)) if index is None else np.asarray(index)
    return ViewRenderer(cache, spec, seed=0, flip=FLIP).faces(index, np.full(len(index), view), size)


def similar(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Whether b is a turned, scaled, shifted (not mirrored) copy of a: complex numbers make that one factor."""
    x, y = (torch.view_as_complex((p - p.mean(0)).double().contiguous()) for p in (a, b))
    factor = (x.conj() * y).sum() / (x.conj() * x).sum()
    return bool((y - factor * x).abs().max() < 1e-4)


def test_without_augmentation_a_view_is_the_evaluated_crop(textured_cache: FaceCache):
    view, plain = draw(textured_cache, STILL), plain_views(textured_cache, 32)
    assert torch.allclose(view.pixels, plain.pixels, atol=1e-3)
    assert torch.allclose(view.points, plain.points, atol=1e-6)


def test_the_ground_truth_box_holds_the_landmarks_with_its_margin(textured_cache: FaceCache):
    points = plain_views(textured_cache, 32).points
    span = points.amax(1) - points.amin(1)
    assert torch.allclose(span.amax(1), torch.full((len(points),), 1 / 1.25), atol=1e-5)


def test_a_view_is_a_function_of_seed_image_and_view(textured_cache: FaceCache):
    spec = AugmentSpec()
    whole = draw(textured_cache, spec, view=3)
    alone = draw(textured_cache, spec, view=3, index=[4])
    assert torch.equal(whole.points[4], alone.points[0])
    # Four sampling orders of one picture may differ in the last bit.
    assert torch.allclose(whole.pixels[4], alone.pixels[0], atol=1e-3)
    assert not torch.allclose(whole.points, draw(textured_cache, spec, view=4).points, atol=1e-3)


def test_pixels_and_landmarks_move_together(textured_cache: FaceCache):
    """The colour under a landmark stays what it was in the image, whatever the view's geometry, mirrored or not."""
    spec = msgspec.structs.replace(STILL, rotation=45.0, flip=0.5, scale=0.1, shift=0.05)
    size, mirrored = 96, 0
    for view in range(4):
        got = draw(textured_cache, spec, view=view, size=size)
        for row in range(len(textured_cache)):
            truth = textured_cache.points[row]
            order = torch.arange(68)
            if not similar(truth, got.points[row]):
                assert similar(truth[list(FLIP)] * torch.tensor([-1.0, 1.0]), got.points[row])
                order, mirrored = torch.tensor(FLIP), mirrored + 1
            for k in range(0, 68, 11):
                x, y = ((got.points[row, k] + 0.5) * size - 0.5).tolist()
                if not (1 <= x < size - 2 and 1 <= y < size - 2):
                    continue
                under = got.pixels[row, :, round(y), round(x)]
                cx, cy = truth[order[k]].round().long().tolist()
                original = textured_cache.images[row, :, cy, cx].float()
                assert (under - original).abs().max() < 40, (view, row, k)
    assert 0 < mirrored < 4 * len(textured_cache)


def test_negatives_leave_most_of_the_face_out(textured_cache: FaceCache):
    renderer = ViewRenderer(textured_cache, AugmentSpec(), seed=0, flip=FLIP)
    crops = renderer.negatives(np.arange(6), np.zeros(6, np.int64), 32)
    assert crops.shape == (6, 3, 32, 32)
    assert crops.min() >= 0
    assert crops.max() <= 255
    assert not torch.allclose(crops, renderer.negatives(np.arange(6), np.ones(6, np.int64), 32))


def test_light_and_colour_against_a_slow_loop():
    generator = torch.Generator().manual_seed(0)
    pixels = torch.rand((2, 3, 4, 4), generator=generator) * 255
    brightness, contrast = torch.tensor([10.0, -5.0]), torch.tensor([1.2, 0.8])
    saturation, gains = torch.tensor([0.5, 1.5]), torch.tensor([[1.1, 1.0, 0.9], [0.95, 1.05, 1.0]])
    got = photometric.light_and_colour(pixels, brightness, contrast, saturation, gains)
    for b in range(2):
        grey = sum(w * pixels[b, c] for c, w in enumerate(photometric.GREY))
        mean = grey.mean()
        for c in range(3):
            value = grey + saturation[b] * (pixels[b, c] - grey)
            value = mean + contrast[b] * (value - mean) + brightness[b]
            assert torch.allclose(got[b, c], value * gains[b, c], atol=1e-3)


def test_neutral_settings_change_nothing():
    pixels = torch.rand(2, 3, 5, 5) * 255
    one, zero = torch.ones(2), torch.zeros(2)
    assert torch.allclose(photometric.light_and_colour(pixels, zero, one, one, torch.ones(2, 3)), pixels, atol=1e-3)
    assert torch.equal(photometric.blur(pixels, zero), pixels)
    assert torch.equal(photometric.occlude(pixels, torch.zeros(2, 4), torch.zeros(2, 3)), pixels)
    noise = photometric.add_noise(pixels, zero, photometric.noise_bank(5), torch.rand(2, 3))
    assert torch.equal(noise, pixels)


def test_blur_keeps_flat_areas_and_the_mean_of_a_dot():
    dot = torch.zeros(1, 3, 9, 9)
    dot[..., 4, 4] = 81.0
    blurred = photometric.blur(dot, torch.ones(1))
    assert blurred.sum() == pytest.approx(3 * 81, rel=1e-5)
    assert blurred[0, 0, 4, 4] == pytest.approx(9.0, rel=1e-5)  # 81 * (3 / 9)^2
    assert torch.allclose(photometric.blur(torch.full((1, 3, 6, 6), 7.0), torch.ones(1)), torch.tensor(7.0))


def test_occlusion_paints_the_rectangle_and_nothing_else():
    painted = photometric.occlude(
        torch.zeros(1, 3, 10, 10), torch.tensor([[-0.5, 0.0, 0.0, 0.5]]), torch.tensor([[1.0, 2.0, 3.0]])
    )
    assert torch.equal(painted[0, :, 9, 0], torch.tensor([1.0, 2.0, 3.0]))
    assert int((painted[0, 0] != 0).sum()) == 25


def test_noise_has_the_asked_standard_deviation():
    pixels = torch.zeros(4, 3, 64, 64)
    sigma = torch.tensor([0.0, 2.0, 5.0, 10.0])
    noisy = photometric.add_noise(pixels, sigma, photometric.noise_bank(64), torch.rand(4, 3))
    assert torch.allclose(noisy.std((1, 2, 3)), sigma, rtol=0.05, atol=1e-6)


def test_batched_rows_do_not_depend_on_each_other(textured_cache: FaceCache):
    index = torch.tensor([2, 2])
    centres, sides = textured_cache.boxes[index, :2], textured_cache.boxes[index, 2] * torch.tensor([1.0, 5.0])
    both = resample_batch(textured_cache, index, centres, sides, torch.zeros(2), 16)
    alone = resample_batch(textured_cache, index[1:], centres[1:], sides[1:], torch.zeros(1), 16)
    assert torch.allclose(both[1], alone[0], atol=1e-4)
