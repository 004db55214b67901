import numpy as np
import pytest
from mask_factory import slow_mask
from numpy.typing import NDArray

from pocketface.sdk import masks
from pocketface.sdk.errors import BadInputError
from pocketface.sdk.geometry import Box, Crop
from pocketface.sdk.masks import labels_on_image, mask_in_window, mask_on_image, warped, window

CROPS = [
    Crop(9.3, 7.1, 13.7),
    Crop(9.5, 7.5, 4.0),
    Crop(2.0, 3.0, 17.0),  # beyond two edges
    Crop(10.0, 8.0, 60.0),  # all around the image
    Crop(9.3, 7.1, 13.7, 30.0),
    Crop(4.0, 5.0, 15.0, -101.0),
    Crop(9.3, 7.1, 13.7, 360.0),
]


def drawn(classes: int = 3, size: int = 6, seed: int = 0) -> NDArray[np.float32]:
    powers = np.random.default_rng(seed).exponential(1, (classes, size, size))
    return (powers / powers.sum(axis=0)).astype(np.float32)


@pytest.mark.parametrize("crop", CROPS, ids=str)
def test_a_mask_agrees_with_a_slow_loop(crop: Crop) -> None:
    values = drawn()
    found = mask_on_image(values, crop, (20, 16))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, slow_mask(values, crop, (20, 16)), atol=2e-6)


@pytest.mark.parametrize("crop", CROPS, ids=str)
@pytest.mark.parametrize("classes", [2, 3, 5])
def test_labels_are_the_largest_of_the_slow_loop(crop: Crop, classes: int) -> None:
    values = drawn(classes, seed=1)
    slow = slow_mask(values, crop, (20, 16))
    best = np.sort(slow, axis=0)
    clear = best[-1] - best[-2] > 1e-5  # rounding may decide the others
    labels = labels_on_image(values, crop, (20, 16))
    assert labels.dtype == np.uint8
    assert clear.mean() > 0.95
    assert np.array_equal(labels[clear], slow.argmax(axis=0)[clear])


def test_of_two_equal_classes_the_lower_one_wins() -> None:
    values = np.full((4, 5, 5), 0.25, np.float32)
    assert not labels_on_image(values, Crop(4.5, 4.5, 10), (10, 10)).any()
    values[0], values[2:] = 0.1, 0.4
    assert (labels_on_image(values, Crop(4.5, 4.5, 10), (10, 10)) == 2).all()


def test_blocks_of_any_size_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    for crop in CROPS:
        whole = mask_on_image(drawn(), crop, (20, 16)), labels_on_image(drawn(), crop, (20, 16))
        monkeypatch.setattr(masks, "BLOCK_VALUES", 70)
        assert np.array_equal(mask_on_image(drawn(), crop, (20, 16)), whole[0])
        assert np.array_equal(labels_on_image(drawn(), crop, (20, 16)), whole[1])
        monkeypatch.undo()


@pytest.mark.parametrize("size", [7, 12, 33])
def test_a_crop_of_a_pixel_a_cell_gives_the_grid_back_unchanged(size: int) -> None:
    values = drawn(3, size)
    found = mask_on_image(values, Crop.from_box(Box.of_image(size, size)), (size, size))
    assert np.array_equal(found, values)
    moved = mask_on_image(values, Crop.from_box(Box(4.5, 2.5, 4.5 + size, 2.5 + size)), (size + 9, size + 9))
    assert np.array_equal(moved[:, 3 : 3 + size, 5 : 5 + size], values)
    moved[:, 3 : 3 + size, 5 : 5 + size] = 0
    assert moved[0].sum() == (size + 9) ** 2 - size**2
    assert not moved[1:].any()


def test_an_edge_cell_reaches_to_the_crops_edge_and_no_further() -> None:
    values = np.array([[[1, 0], [1, 0]], [[0, 1], [0, 1]]], np.float32)
    soft = mask_on_image(values, Crop.from_box(Box(1.5, -0.5, 9.5, 7.5)), (12, 8))[1]
    # Two cells of four pixels: their centres at 3.5 and 7.5; a line between, level outside.
    assert soft[0].tolist() == [0, 0, 0, 0, 0.125, 0.375, 0.625, 0.875, 1, 1, 0, 0]


def test_a_whole_photo_is_covered_from_edge_to_edge() -> None:
    """Letterboxed to a square, as for hair: every pixel of the photo, none of the bars."""
    values = np.zeros((2, 8, 8), np.float32)
    values[1] = 1
    for width, height in ((31, 17), (16, 40), (5, 5)):
        crop = Crop.from_box(Box.of_image(width, height))
        assert (mask_on_image(values, crop, (width, height))[1] == 1).all()
        assert window(crop, (width, height)) == (0, 0, width, height)


@pytest.mark.parametrize("crop", CROPS, ids=str)
def test_the_window_holds_all_that_is_not_background_and_little_more(crop: Crop) -> None:
    inside = slow_mask(np.stack([np.zeros((4, 4)), np.ones((4, 4))]), crop, (20, 16))[1] > 0
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    view = window(crop, (20, 16))
    assert view == (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1) or crop.angle % 90
    assert view.x0 <= columns[0]
    assert view.y1 >= rows[-1] + 1
    view, some = mask_in_window(drawn(), crop, (20, 16), [1, 2])
    whole = np.zeros((16, 20), np.float32)
    whole[view.slices] = some
    np.testing.assert_allclose(whole, slow_mask(drawn(), crop, (20, 16))[1:].sum(axis=0), atol=2e-6)


def test_a_crop_beside_the_image_is_all_background() -> None:
    for crop in (Crop(-50, 5, 10), Crop(5, 90, 10, 20), Crop(25.2, 8, 10)):
        assert (mask_on_image(drawn(), crop, (20, 16))[0] == 1).all()
        assert not labels_on_image(drawn(), crop, (20, 16)).any()
        view, some = mask_in_window(drawn(), crop, (20, 16), [1])
        assert some.size == view.area == 0


def test_only_some_classes_can_be_asked_for() -> None:
    whole = mask_on_image(drawn(), CROPS[0], (20, 16))
    assert np.array_equal(mask_on_image(drawn(), CROPS[0], (20, 16), [2, 0]), whole[[2, 0]])
    with pytest.raises(BadInputError, match=r"class 3, expected 0 to 2"):
        mask_on_image(drawn(), CROPS[0], (20, 16), [3])
    with pytest.raises(BadInputError, match=r"shape \(3, 4, 5\), expected \(classes, M, M\)"):
        mask_on_image(np.zeros((3, 4, 5), np.float32), CROPS[0], (20, 16))
    with pytest.raises(BadInputError, match="background"):
        mask_in_window(drawn(), CROPS[0], (20, 16), [0])


def test_warping_to_the_same_crop_changes_nothing() -> None:
    values = drawn()
    assert np.array_equal(warped(values, CROPS[0], CROPS[0]), values)
    again = warped(values, CROPS[4], Crop(9.3, 7.1, 13.7, 390.0))
    np.testing.assert_allclose(again, values, atol=1e-6)


def test_a_crop_that_moves_by_whole_cells_moves_the_mask_and_leaves_nothing_known_behind() -> None:
    values = drawn(3, 6)
    moved = warped(values, Crop(10, 10, 12), Crop(14, 8, 12))  # two cells right, one up
    np.testing.assert_allclose(moved[:, 1:, :4], values[:, :-1, 2:], atol=1e-6)
    assert not moved[:, 0].any()
    assert not moved[:, :, 4:].any()


@pytest.mark.parametrize("new", [Crop(10.4, 6.2, 9.0), Crop(9, 8, 15, 20.0), Crop(14.0, 3.0, 13.7)], ids=str)
def test_warping_is_sampling_the_old_mask_where_the_new_cells_lie(new: Crop) -> None:
    """Against the slow loop on an image whose pixels are the new crop's cells."""
    old, size = CROPS[4], 6
    turn, step = np.deg2rad(old.angle - new.angle), new.side / size
    dx, dy = np.array([old.cx - new.cx, old.cy - new.cy]) / step
    back = np.deg2rad(new.angle)
    x, y = dx * np.cos(back) + dy * np.sin(back), dy * np.cos(back) - dx * np.sin(back)
    seen = Crop(x + size / 2 - 0.5, y + size / 2 - 0.5, old.side / step, float(np.rad2deg(turn)))
    wanted = slow_mask(drawn(), seen, (size, size))
    wanted[:, wanted[1:].sum(axis=0) == 0] = 0  # unknown, not background
    np.testing.assert_allclose(warped(drawn(), old, new), wanted, atol=2e-6)
