"""Views of labelled pictures against the runtime's resampling, scipy, slow loops and hand-computed geometry."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates

from pocketface.compression.augment.hashing import uniform
from pocketface.compression.augment.label_spec import HAIR, PARSING, LabelAugment, PreviousAugment
from pocketface.compression.augment.labels import (
    LabelViewRenderer,
    Rectangles,
    lighting_shift,
    plain_label_views,
    sample_labels,
    sample_pixels,
)
from pocketface.compression.augment.previous import previous_mask
from pocketface.compression.cache import FaceCache
from pocketface.compression.label_cache import LabelCache
from pocketface.sdk.classes import load_classes
from pocketface.sdk.errors import ConfigError
from pocketface.sdk.geometry import Box, Crop
from pocketface.sdk.preprocess import resample

FACE, HAIR_CLASSES = load_classes("face11"), load_classes("hair2")
STILL = LabelAugment(**{name: 0.0 for name in LabelAugment.__struct_fields__ if name != "margin"})
SIZES = [(60, 41), (33, 64), (64, 64)]


def made(pictures: list[np.ndarray], labels: list[np.ndarray], side: int = 64) -> LabelCache:
    images = torch.zeros((len(pictures), 3, side, side), dtype=torch.uint8)
    values = torch.zeros((len(pictures), side, side), dtype=torch.uint8)
    for row, (picture, label) in enumerate(zip(pictures, labels, strict=True)):
        height, width = label.shape
        images[row, :, :height, :width] = torch.from_numpy(picture.astype(np.uint8)).permute(2, 0, 1)
        values[row, :height, :width] = torch.from_numpy(label.astype(np.uint8))
    sizes = torch.tensor([label.shape[::-1] for label in labels])
    boxes = torch.cat([(sizes - 1) / 2, sizes.float()], 1)
    squares = torch.cat([boxes[:, :2], boxes[:, 2:].amax(1, keepdim=True)], 1)
    names = [str(row) for row in range(len(pictures))]
    return LabelCache(FaceCache(names, images, torch.zeros((len(names), 0, 2)), squares), values, sizes, boxes)


@pytest.fixture(scope="module")
def cache() -> LabelCache:
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (height, width, 3)) for width, height in SIZES]
    return made(pictures, [rng.integers(0, 11, (height, width)) for width, height in SIZES])


def cut(cache: LabelCache, row: int) -> np.ndarray:
    width, height = cache.sizes[row].tolist()
    return np.ascontiguousarray(cache.pictures.images[row, :, :height, :width].permute(1, 2, 0).numpy())


def squares(angle: float, scale: float) -> Rectangles:
    centres = torch.tensor([[25.3, 22.1], [16.0, 40.5], [50.0, 10.0]])
    return Rectangles(centres, torch.full((3, 2), 40.0 * scale), torch.full((3,), angle))


@pytest.mark.parametrize(
    ("angle", "scale"), [(0.0, 1.0), (17.0, 0.7), (-45.0, 1.9), (90.0, 2.5), (180.0, 1.3), (33, 6)]
)
@pytest.mark.parametrize("size", [16, 40, 64])
def test_square_views_are_the_runtimes(cache: LabelCache, angle, scale, size):
    where = squares(angle, scale)
    got = sample_pixels(cache, torch.arange(3), where, size)
    for row in range(3):
        crop = Crop(*where.centres[row].double().tolist(), float(where.sides[row, 0]), angle)
        want = resample(cut(cache, row), crop, size)
        assert np.abs(got[row].permute(1, 2, 0).numpy() - want).max() <= 1.0


def test_rectangles_are_what_scipy_interpolates(cache: LabelCache):
    size, angle = 24, 25.0
    where = Rectangles(torch.tensor([[20.0, 15.0]]), torch.tensor([[30.0, 21.0]]), torch.tensor([angle]))
    got = sample_pixels(cache, torch.tensor([0]), where, size)[0].numpy()
    u = (np.arange(size) + 0.5) / size - 0.5
    cos, sin = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
    x = 20 + 30 * u[None, :] * cos - 21 * u[:, None] * sin
    y = 15 + 30 * u[None, :] * sin + 21 * u[:, None] * cos
    for channel in range(3):
        plane = cut(cache, 0)[..., channel].astype(float)
        assert np.abs(got[channel] - map_coordinates(plane, [y, x], order=1, mode="grid-constant")).max() < 0.01


@pytest.mark.parametrize("angle", [0.0, 31.0])
def test_a_label_is_that_of_the_pixel_under_the_cells_centre(cache: LabelCache, angle):
    where = Rectangles(torch.tensor([[30.2, 20.1]]), torch.tensor([[70.0, 50.0]]), torch.tensor([angle]))
    got = sample_labels(cache, torch.tensor([0]), where, 13, outside=255)[0].numpy()
    cos, sin = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
    for i in range(13):
        for j in range(13):
            across, down = 70 * ((j + 0.5) / 13 - 0.5), 50 * ((i + 0.5) / 13 - 0.5)
            x, y = round(30.2 + across * cos - down * sin), round(20.1 + across * sin + down * cos)
            inside = 0 <= x < 60 and 0 <= y < 41
            assert got[i, j] == (int(cache.labels[0, y, x]) if inside else 255)
    assert (got == 255).any()


def test_labels_lie_where_their_pixels_lie(cache: LabelCache):
    """A picture whose colour is its label: wherever the view is all one colour, the label must be that colour's."""
    rng = np.random.default_rng(2)
    coarse = rng.integers(0, 11, (6, 6)).repeat(10, 0).repeat(10, 1)
    told = made([np.stack([coarse * 20] * 3, -1)], [coarse])
    spec = msgspec.structs.replace(HAIR, brightness=0.0, contrast=0.0, saturation=0.0, lighting=0.0, rotation=30.0)
    plain = msgspec.structs.replace(FACE, flip=())
    index, views = np.zeros(40, np.int64), np.arange(40)
    drawn = LabelViewRenderer(told, spec, seed=3, classes=plain).views(index, views, 96, 96)
    flat = (drawn.pixels[:, 0] - (drawn.pixels[:, 0] / 20).round() * 20).abs() < 1e-3
    agree = (drawn.pixels[:, 0] / 20).round().long() == drawn.labels
    assert flat.float().mean() > 0.5
    assert agree[flat].float().mean() > 0.995  # a mix of two colours may happen to be a third


def test_nothing_augmented_is_the_letterboxed_picture(cache: LabelCache):
    plain = plain_label_views(cache, np.arange(3), 32, 16)
    drawn = LabelViewRenderer(cache, STILL, seed=0, classes=FACE).views(np.arange(3), np.zeros(3, np.int64), 32, 16)
    assert (drawn.labels == plain.labels).all()
    assert (plain.labels.dtype, plain.labels.shape) == (torch.int64, (3, 16, 16))
    for row in range(3):
        image = cut(cache, row)
        crop = Crop.from_box(Box.of_image(image.shape[1], image.shape[0]))
        want = resample(image, crop, 32)
        assert np.abs(plain.pixels[row].permute(1, 2, 0).numpy() - want).max() <= 1.0
    # The first is 60 x 41: the bars above and below are background and black.
    assert not plain.labels[0, :2].any()
    assert not drawn.pixels[0, :, :4].any()
    assert LabelViewRenderer(cache, STILL, seed=0, classes=FACE, outside=255).views(
        np.zeros(1, np.int64), np.zeros(1, np.int64), 8, 16
    ).labels[0, 0].tolist() == [255] * 16  # fmt: skip


def test_a_mirrored_view_swaps_left_and_right(cache: LabelCache):
    # Sizes at which no cell's centre lies on a border between pixels, where rounding would decide.
    index, size = np.array([0, 2]), 64
    spec = msgspec.structs.replace(STILL, flip=1.0)
    drawn = LabelViewRenderer(cache, spec, seed=0, classes=FACE).views(index, np.zeros(2, np.int64), size, size)
    plain = plain_label_views(cache, index, size, size)
    swap = dict(zip((4, 5, 6, 7), (5, 4, 7, 6), strict=True))
    want = np.vectorize(lambda value: swap.get(value, value))(plain.labels.numpy()[:, :, ::-1])
    assert (drawn.labels.numpy() == want).all()
    inside = drawn.pixels.sum(1, keepdim=True) > 0
    assert inside.float().mean() > 0.8
    assert ((drawn.pixels - plain.pixels.flip(3)).abs() * inside).max() < 0.05


def test_a_view_is_the_same_in_any_batch(cache: LabelCache):
    renderer = LabelViewRenderer(cache, HAIR, seed=7, classes=FACE)
    index, views = np.array([0, 1, 2, 1]), np.array([5, 0, 3, 2])
    together = renderer.views(index, views, 24, 24)
    for row in range(4):
        alone = renderer.views(index[row : row + 1], views[row : row + 1], 24, 24)
        assert (alone.labels[0] == together.labels[row]).all()
        assert torch.allclose(alone.pixels[0], together.pixels[row], atol=1e-3)
    other = LabelViewRenderer(cache, HAIR, seed=8, classes=FACE).views(index, views, 24, 24)
    assert not torch.equal(other.pixels, together.pixels)


def ramp(count: int, spec: LabelAugment) -> tuple[np.ndarray, np.ndarray]:
    """Where the left, right, upper and lower edges of many views lie, read off a picture whose red is x and green y."""
    y, x = np.mgrid[0:200, 0:200]
    told = made([np.stack([x, y, np.full_like(x, 200)], -1)], [np.zeros((200, 200))], side=200)
    told.boxes = torch.tensor([[99.5, 99.5, 40.0, 20.0]])  # small, so that no view leaves the picture
    drawn = LabelViewRenderer(told, spec, seed=1, classes=HAIR_CLASSES).views(
        np.zeros(count, np.int64), np.arange(count), 32, 8
    )
    red, green = drawn.pixels[:, 0].numpy(), drawn.pixels[:, 1].numpy()
    step_x, step_y = (red[:, 16, 24] - red[:, 16, 8]) / 16, (green[:, 24, 16] - green[:, 8, 16]) / 16
    centre = np.stack([red[:, 16, 16] - step_x / 2, green[:, 16, 16] - step_y / 2], 1)
    return centre, np.stack([step_x, step_y], 1) * 32


def test_width_and_height_are_resized_independently_by_what_is_given():
    centre, sides = ramp(400, msgspec.structs.replace(STILL, resize=0.2))
    assert np.abs(centre - 99.5).max() < 0.01
    # What is shown 1.2 times as wide takes 40 / 1.2 of the picture. 400 draws come close to both ends.
    for side in sides.T:
        assert 40 / 1.2 - 0.01 < side.min() < 40 / 1.19
        assert 40 / 0.81 < side.max() < 40 / 0.8 + 0.01
    assert abs(np.corrcoef(sides.T)[0, 1]) < 0.15


def test_shifts_are_shares_of_the_boxs_width_and_height():
    centre, sides = ramp(400, msgspec.structs.replace(STILL, shift_x=0.6, shift_y=0.3))
    assert np.abs(sides - 40).max() < 0.01
    reach = np.abs(centre - 99.5).max(0)
    assert 23.5 < reach[0] < 24.01  # 0.6 x 40
    assert 5.9 < reach[1] < 6.01  # 0.3 x 20


def test_each_edge_is_cut_or_padded_on_its_own():
    centre, sides = ramp(800, msgspec.structs.replace(STILL, crop_pad=0.2))
    edges = np.concatenate([centre - sides / 2, centre + sides / 2], 1)  # left, upper, right, lower
    still = np.array([79.5, 79.5, 119.5, 119.5])
    moved = edges - still
    assert (np.abs(moved).max(0) < 8.02).all()
    assert (np.abs(moved).max(0) > 7.9).all()
    assert np.abs(np.corrcoef(moved.T) - np.eye(4)).max() < 0.15


def test_the_margin_lies_on_each_side_of_the_longer_side():
    spec = msgspec.structs.replace(STILL, margin=(0.3, 0.7))
    _, sides = ramp(400, spec)
    assert np.allclose(sides[:, 0], sides[:, 1], atol=0.01)
    assert 40 * 1.6 - 0.01 < sides.min() < 40 * 1.61
    assert 40 * 2.39 < sides.max() < 40 * 2.4 + 0.01
    assert (spec.plain_scale, PARSING.plain_scale, HAIR.plain_scale) == (2.0, 2.0, 1.0)


def test_colours_change_as_pillow_changes_them(cache: LabelCache):
    """One draw, all three by hand: contrast around the grey mean, then saturation around grey, then brightness."""
    spec = msgspec.structs.replace(STILL, brightness=0.3, contrast=0.3, saturation=0.3)
    one = np.array([2])
    drawn = LabelViewRenderer(cache, spec, seed=4, classes=FACE).views(one, np.array([9]), 64, 8).pixels[0].numpy()
    contrast, saturation, brightness = 1 + 0.3 * (2 * uniform(4, one, [9], 32)[0, 11:14] - 1)
    pixels = cut(cache, 2).transpose(2, 0, 1).astype(float)
    grey = np.tensordot([0.299, 0.587, 0.114], pixels, 1)
    pixels = grey.mean() + contrast * (grey + saturation * (pixels - grey) - grey.mean())
    assert np.abs(drawn - (pixels * brightness).clip(0, 255)).max() < 0.02


def test_lighting_noise_has_imagenets_covariance():
    draw = torch.from_numpy(np.random.default_rng(0).random((200_000, 6))).float()
    shift = lighting_shift(draw).numpy() / 255
    vectors = np.array([[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]])
    assert np.allclose(vectors.T @ vectors, np.eye(3), atol=1e-3)  # columns are the components
    want = vectors @ np.diag(np.square([0.2175, 0.0188, 0.0045])) @ vectors.T
    assert np.abs(np.cov(shift.T) - want).max() < 0.02 * want.max()
    assert np.abs(shift.mean(0)).max() < 0.002
    assert torch.isfinite(lighting_shift(torch.tensor([[0.0, 1 - 2**-24, 1.0, 0, 0, 0]]))).all()


@pytest.mark.parametrize(
    "wrong", [{"crop_pad": 0.5}, {"resize": 1.0}, {"flip": 1.1}, {"margin": (0.7, 0.3)}, {"shift_x": -0.1}, {"sift": 1}]
)
def test_what_makes_no_view_is_refused(wrong):
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(wrong, LabelAugment)


def test_a_class_set_that_is_no_mirror_is_refused(cache: LabelCache):
    with pytest.raises(ConfigError, match="flip"):
        LabelViewRenderer(cache, HAIR, seed=0, classes=msgspec.structs.replace(HAIR_CLASSES, flip=(1, 0)))


QUIET = PreviousAugment(empty=0, major=0, shift=0, scale=0, rotation=0)


def masks(labels: torch.Tensor, spec: PreviousAugment, count: int = 11, seed: int = 0) -> torch.Tensor:
    index, views = np.arange(len(labels)), np.full(len(labels), 4)
    return previous_mask(labels, count, spec, seed=seed, index=index, views=views)


def test_a_previous_mask_that_did_not_move_is_one_hot():
    labels = torch.from_numpy(np.random.default_rng(0).integers(0, 11, (3, 8, 8)))
    labels[0, 2, 3] = 255
    got = masks(labels, QUIET)
    assert (got.shape, got.dtype) == ((3, 11, 8, 8), torch.float32)
    want = np.zeros((3, 11, 8, 8))
    for b, i, j in np.ndindex(3, 8, 8):
        if labels[b, i, j] < 11:
            want[b, labels[b, i, j], i, j] = 1
    assert np.abs(got.numpy() - want).max() < 1e-5
    assert not got[0, :, 2, 3].any()


def test_previous_masks_are_empty_far_and_near_as_often_as_asked():
    labels = torch.zeros((600, 24, 24), dtype=torch.int64)
    labels[:, 8:16, 8:16] = 1
    got = masks(labels, PreviousAugment(empty=0.3, major=0.2), count=2)
    assert got.min() >= 0
    assert got.max() <= 1 + 1e-6
    assert got.sum(1).max() <= 1 + 1e-5
    empty = ~got.flatten(1).any(1)
    assert abs(empty.float().mean() - 0.3) < 0.06
    truth = labels.float()
    overlap = (torch.minimum(got[:, 1], truth).flatten(1).sum(1) / torch.maximum(got[:, 1], truth).flatten(1).sum(1))[
        ~empty
    ]
    # Near: up to 3 % shift and scale, 3 degrees. Far: most lie well beside.
    assert abs((overlap > 0.6).float().mean() - 0.5 / 0.7) < 0.12
    alone = previous_mask(
        labels[7:8], 2, PreviousAugment(empty=0.3, major=0.2), seed=0, index=np.array([7]), views=np.array([4])
    )
    assert torch.allclose(alone[0], got[7])


def test_a_previous_mask_moves_by_at_most_what_is_given():
    labels = torch.zeros((300, 40, 40), dtype=torch.int64)
    labels[:, 18:22, 18:22] = 1
    got = masks(labels, msgspec.structs.replace(QUIET, shift=0.1), count=2)[:, 1]
    ticks = torch.arange(40.0)
    x, y = ((got.sum(axis) * ticks).sum(1) / got.sum((1, 2)) for axis in (1, 2))
    for centre in (x, y):
        moved = (centre - 19.5).abs()
        assert moved.max() <= 4.01
        assert moved.max() > 3.9
    assert torch.allclose(got.sum((1, 2)), torch.full((300,), 16.0), atol=1e-3)


def test_a_previous_mask_with_probabilities_above_one_is_refused():
    with pytest.raises(msgspec.ValidationError, match="at most 1 together"):
        msgspec.convert({"empty": 0.6, "major": 0.6}, PreviousAugment)
