"""Degraded crops against the reference that degrades whole images (benchmarks/data/degrade.py)."""

from __future__ import annotations

import colorsys
import functools
import io

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from pocketface.benchmarks.data.degrade import (
    DEGRADATIONS,
    DegradeSpec,
    degrade_box,
    degrade_image,
    draw,
    inter_ocular,
)
from pocketface.benchmarks.data.synthetic import render_face
from pocketface.compression.augment.degrade import CropDegrader, saturate, turn_hue
from pocketface.compression.augment.jpeg import tables
from pocketface.sdk.geometry import Box, Crop
from pocketface.sdk.preprocess import resample

SIZE, CENTRE = 64, (150.3, 149.1)
EVERYTHING = DEGRADATIONS["all-and-ours"]


@functools.cache
def picture(kind: str) -> NDArray[np.uint8]:
    if kind == "drawn":
        return render_face(3, 300).image
    y, x = np.mgrid[:300, :300]
    waves = [np.sin(x / 25 + 1) * np.cos(y / 30), np.cos(x / 40 + y / 35), np.sin(y / 22)]
    return (np.stack(waves, 2) * 100 + 127).astype(np.uint8)


def cut(image: NDArray[np.uint8], side: float, centre: tuple[float, float] = CENTRE) -> NDArray[np.float32]:
    return resample(image, Crop(*centre, side), SIZE).transpose(2, 0, 1)


def both(
    image: NDArray[np.uint8], side: float, amounts: dict[str, float], centre: tuple[float, float] = CENTRE
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The crop of the degraded image, and the degraded crop with its blocks where the image's are."""
    given = {name: torch.tensor([value], dtype=torch.float32) for name, value in amounts.items()}
    for kind, block in (("downsample", amounts.get("downsample", 1)), ("jpeg", 16)):
        for axis, middle in zip("xy", centre, strict=True):
            beyond = (middle - side / 2 + 0.5) % block / block
            given[f"{kind}_{axis}"] = torch.tensor([beyond], dtype=torch.float32)
    crop = torch.from_numpy(cut(image, side, centre).copy())[None]
    got = CropDegrader(EVERYTHING, seed=0).image(crop, torch.tensor([side]), given)
    return cut(degrade_image(image, amounts, name="a"), side, centre), got[0].numpy()


def many(spec: DegradeSpec, count: int = 4000, seed: int = 0) -> dict[str, Tensor]:
    return CropDegrader(spec, seed=seed).amounts(np.arange(count), np.arange(count) % 7)


def test_amounts_are_uniform_in_their_ranges():
    amounts = many(EVERYTHING)
    for name in ("blur", "hue", "saturation", "brightness", "contrast", "noise", "scale"):
        low, high = getattr(EVERYTHING, name)
        values = amounts[name].double()
        assert values.min() >= np.float32(low)
        assert values.max() <= np.float32(high)
        # Kolmogorov's statistic: 1.95 / sqrt(n) is passed by chance once in a thousand times.
        share = ((values - low) / (high - low)).sort().values
        assert (share - torch.arange(len(share)) / len(share)).abs().max() < 1.95 / len(share) ** 0.5, name
    for name in ("translation_x", "translation_y"):
        assert amounts[name].abs().max() <= np.float32(0.4)
        assert abs(amounts[name].mean()) < 0.01
    assert abs(np.corrcoef(amounts["translation_x"], amounts["translation_y"])[0, 1]) < 0.05


def test_factors_are_whole_and_each_is_as_likely():
    values, counts = many(EVERYTHING)["downsample"].unique(return_counts=True)
    assert values.tolist() == [1, 2, 3, 4, 5, 6, 7, 8]
    assert counts.min() > 420  # 500 +- 21 is one standard deviation
    assert counts.max() < 580
    assert many(EVERYTHING)["jpeg"].unique().tolist() == list(range(10, 51))


def test_amounts_do_not_depend_on_the_batch_or_on_what_else_is_on():
    degrader = CropDegrader(EVERYTHING, seed=5)
    index, views = np.array([3, 9, 4, 3]), np.array([1, 0, 2, 2])
    together = degrader.amounts(index, views)
    for row in range(4):
        alone = degrader.amounts(index[row : row + 1], views[row : row + 1])
        assert all(torch.equal(alone[name][0], together[name][row]) for name in together)
    single = CropDegrader(DEGRADATIONS["noise"], seed=5).amounts(index, views)
    assert all(torch.equal(single[name], together[name]) for name in single)
    assert not torch.equal(together["hue"][0], together["hue"][3])  # another view
    assert not torch.equal(CropDegrader(EVERYTHING, seed=6).amounts(index, views)["hue"], together["hue"])


@pytest.mark.parametrize("name", DEGRADATIONS)
def test_amounts_are_called_as_the_reference_calls_them(name: str):
    ours = set(many(DEGRADATIONS[name], 2))
    placing = {"downsample_x", "downsample_y", "noise_plane", "noise_x", "noise_y", "jpeg_x", "jpeg_y"}
    assert ours - placing == set(draw(DEGRADATIONS[name], name="a"))


def test_boxes_move_as_the_reference_moves_them():
    face = render_face(1, 200)
    box, iod = Box.around(face.points), inter_ocular(face.points)
    degrader = CropDegrader(DEGRADATIONS["box"], seed=0)
    amounts = degrader.amounts(np.arange(6), np.zeros(6, np.int64))
    centre = torch.tensor([(box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2]).expand(6, 2)
    centres, sides = degrader.boxes(centre, torch.full((6,), box.width), torch.full((6,), iod), amounts)
    for row in range(6):
        expected = degrade_box(box, {name: float(values[row]) for name, values in amounts.items()}, iod=iod)
        x, y, half = float(centres[row, 0]), float(centres[row, 1]), float(sides[row]) / 2
        np.testing.assert_allclose((x - half, y - half, x + half, y + half), expected, atol=1e-3)


# The mean error away from the crop's edge, grey levels of 255. It is not 0 since the reference rounds (0.25 on average
# where that is all) and since the crop was sampled before it was filtered: most where a block is about a crop pixel.
BOUNDS: list[tuple[dict[str, float], float]] = [
    ({"blur": 1.5}, 0.9), ({"blur": 3.0}, 0.5),
    ({"downsample": 2}, 1.0), ({"downsample": 4}, 1.0), ({"downsample": 8}, 0.8),
    ({"hue": 0.1}, 0.3), ({"hue": -0.1}, 0.3), ({"saturation": 1.7}, 0.4), ({"saturation": 0.3}, 0.4),
    ({"brightness": 0.3}, 0.5), ({"brightness": -0.3}, 0.5),
]  # fmt: skip


@pytest.mark.parametrize("side", [40.0, 64.0, 90.0, 200.0])
@pytest.mark.parametrize("kind", ["smooth", "drawn"])
def test_each_degradation_is_close_to_the_reference(kind: str, side: float):
    edge = SIZE // 4  # near it, blur and blocks of the reference see what the crop does not hold
    for amounts, bound in BOUNDS:
        expected, got = both(picture(kind), side, amounts)
        error = np.abs(got - expected)
        assert error[:, edge:-edge, edge:-edge].mean() < bound, amounts
        assert error.mean() < 2.2, amounts


@pytest.mark.parametrize("amounts", [{"blur": 3.0}, {"downsample": 4}, {"downsample": 8}])
def test_filters_do_far_more_than_they_differ(amounts: dict[str, float]):
    for side in (90.0, 200.0):
        expected, got = both(picture("drawn"), side, amounts)
        done = np.abs(expected - cut(picture("drawn"), side)).mean()
        assert np.abs(got - expected).mean() < 0.35 * done


@pytest.mark.parametrize("quality", [1, 10, 30, 49, 50, 95])
def test_jpeg_tables_are_those_that_pillow_writes(quality: int):
    file = io.BytesIO()
    Image.fromarray(picture("drawn")).save(file, "JPEG", quality=quality)
    written: dict[int, list[int]] = Image.open(file).quantization  # type: ignore[attr-defined]
    for number, table in enumerate(tables(torch.tensor([float(quality)]))):
        assert table.flatten().tolist() == list(written[number])


@pytest.mark.parametrize("quality", [10, 30, 50])
def test_jpeg_of_whole_blocks_is_pillows(quality: int):
    """Where the crop is the image, all that differs is libjpeg's integer arithmetic."""
    image = np.ascontiguousarray(picture("drawn")[80:144, 90:154])
    expected, got = both(image, 64.0, {"jpeg": quality}, centre=(31.5, 31.5))
    done = np.abs(expected - image.transpose(2, 0, 1)).mean()
    assert np.abs(got - expected).mean() < 0.3 * done


@pytest.mark.parametrize("side", [40.0, 90.0, 190.0])
def test_jpeg_does_as_much_as_the_reference_and_much_the_same(side: float):
    clean = cut(picture("drawn"), side)
    for quality in (10, 30, 50):
        expected, got = (pixels - clean for pixels in both(picture("drawn"), side, {"jpeg": quality}))
        assert 0.75 < np.abs(got).mean() / np.abs(expected).mean() < 1.2
        assert np.corrcoef(got.ravel(), expected.ravel())[0, 1] > 0.5


@pytest.mark.parametrize("factor", [0.5, 1.5])
def test_contrast_is_about_the_crops_own_mean(factor: float):
    """The reference's is about the image's: where the crop is the image, the two are the same."""
    image = picture("drawn")[80:144, 90:154]
    expected, got = both(image, 64.0, {"contrast": factor}, centre=(31.5, 31.5))
    np.testing.assert_allclose(got, expected, atol=0.51)  # it rounds
    crop = torch.from_numpy(cut(picture("drawn"), 90.0).copy())[None]
    given = CropDegrader(EVERYTHING, seed=0).image(crop, torch.tensor([90.0]), {"contrast": torch.tensor([0.5])})
    torch.testing.assert_close(given.mean((2, 3)), crop.mean((2, 3)))


def test_light_and_colour_are_the_references_on_the_images_own_pixels():
    image = np.ascontiguousarray(picture("drawn")[80:144, 90:154])
    for amounts in (
        {"hue": 0.07, "saturation": 1.4, "brightness": 0.2, "contrast": 1.3},
        {"hue": -0.1, "saturation": 0.3, "brightness": -0.25, "contrast": 0.6},
    ):
        expected, got = both(image, 64.0, amounts, centre=(31.5, 31.5))
        np.testing.assert_allclose(got, expected, atol=0.51)


def test_whole_blocks_are_the_references_on_the_images_own_pixels():
    image = np.ascontiguousarray(picture("drawn")[80:144, 90:154])
    for factor in (2, 4, 8):
        expected, got = both(image, 64.0, {"downsample": factor}, centre=(31.5, 31.5))
        assert np.abs(got - expected).mean() < 0.5, factor


def test_hue_and_saturation_are_those_of_colorsys():
    colours = torch.rand(1, 3, 5, 7, generator=torch.Generator().manual_seed(0)) * 255
    turned, paler = turn_hue(colours, torch.tensor([0.3])), saturate(colours, torch.tensor([1.5]))
    for y in range(5):
        for x in range(7):
            hue, saturation, value = colorsys.rgb_to_hsv(*(colours[0, :, y, x] / 255).tolist())
            expected = 255 * torch.tensor(colorsys.hsv_to_rgb((hue + 0.3) % 1, saturation, value))
            torch.testing.assert_close(turned[0, :, y, x], expected, atol=1e-2, rtol=0)
            expected = 255 * torch.tensor(colorsys.hsv_to_rgb(hue, min(1.0, 1.5 * saturation), value))
            torch.testing.assert_close(paler[0, :, y, x], expected, atol=1e-2, rtol=0)


@pytest.mark.parametrize("side", [40.0, 64.0, 90.0, 200.0])
def test_noise_is_as_strong_and_as_coarse_as_in_the_reference(side: float):
    """On a large face the crop's sampling smooths it away, on a small one its grains are larger than a pixel."""
    grey, degrader, found = np.full((300, 300, 3), 128, np.uint8), CropDegrader(DEGRADATIONS["noise"], seed=0), []
    # Where a crop pixel lies between image pixels decides how much is smoothed: all places, on both sides.
    count, rng = 12, np.random.default_rng(0)
    centres = [tuple(rng.uniform(140, 160, 2)) for _ in range(count)]
    images = [degrade_image(grey, {"noise": 0.1}, name=str(number)) for number in range(3)]
    expected = np.stack([cut(images[k % 3], side, centre) for k, centre in enumerate(centres)]) - 128
    amounts = degrader.amounts(np.arange(count), np.zeros(count, np.int64)) | {"noise": torch.full((count,), 0.1)}
    given = degrader.image(torch.full((count, 3, SIZE, SIZE), 128.0), torch.full((count,), side), amounts).numpy() - 128
    for noise in (expected, given):
        near = [np.corrcoef(noise[..., k:].ravel(), noise[..., :-k].ravel())[0, 1] for k in (1, 2)]
        found.append((noise.std(), *near))
        assert abs(noise.mean()) < 0.5
    assert found[1][0] == pytest.approx(found[0][0], rel=0.08)
    np.testing.assert_allclose(found[1][1:], found[0][1:], atol=0.08)


def test_noise_is_a_function_of_the_draw():
    degrader = CropDegrader(DEGRADATIONS["noise"], seed=0)
    grey, sides = torch.full((4, 3, SIZE, SIZE), 128.0), torch.tensor([90.0, 90.0, 200.0, 50.0])
    amounts = degrader.amounts(np.array([0, 0, 1, 2]), np.array([0, 1, 0, 0]))
    together = degrader.image(grey, sides, amounts)
    for row in range(4):
        alone = degrader.image(
            grey[:1], sides[row : row + 1], {name: values[row : row + 1] for name, values in amounts.items()}
        )
        torch.testing.assert_close(alone[0], together[row], atol=1e-2, rtol=0)
    first, second = (together[row] - 128 for row in (0, 1))
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.05


def test_a_crop_is_degraded_alike_in_any_batch():
    degrader = CropDegrader(EVERYTHING, seed=0)
    sides = torch.tensor([50.0, 90.0, 210.0])
    crops = torch.stack([torch.from_numpy(cut(picture("drawn"), float(side)).copy()) for side in sides])
    amounts = degrader.amounts(np.arange(3), np.arange(3))
    together = degrader.image(crops, sides, amounts)
    for row in range(3):
        one = slice(row, row + 1)
        alone = degrader.image(crops[one], sides[one], {name: values[one] for name, values in amounts.items()})
        torch.testing.assert_close(alone[0], together[row], atol=1e-2, rtol=0)


def test_outside_the_photo_stays_black_and_does_not_bleed_into_it():
    """A third of this crop lies left of and above the photo."""
    image, amounts = picture("drawn"), {"downsample": 4, "brightness": 0.3}
    expected, got = both(image, 90.0, amounts, centre=(20.0, 25.0))
    outside = (cut(image, 90.0, (20.0, 25.0)) == 0).all(0)
    assert outside.mean() > 0.3
    assert (got[:, outside] == 0).all()
    assert (expected[:, outside] == 0).all()
    assert np.abs(got - expected).mean() < 2.0
    # The column next to the border: some 60 grey levels off if black came in.
    column = int(np.flatnonzero(~outside.all(0))[0]) + 1
    rows = slice(int(np.flatnonzero(~outside.all(1))[0]) + 4, SIZE - 4)
    assert np.abs(got - expected)[:, rows, column].mean() < 15.0


def test_black_inside_the_face_is_not_taken_for_outside():
    crop = torch.full((1, 3, SIZE, SIZE), 100.0)
    crop[:, :, 20:30, 20:30] = 0
    brighter = CropDegrader(EVERYTHING, seed=0).image(crop, torch.tensor([64.0]), {"brightness": torch.tensor([0.2])})
    torch.testing.assert_close(brighter, crop + 51)


def test_amounts_of_nothing_change_nothing():
    crop = torch.from_numpy(cut(picture("drawn"), 90.0).copy())[None]
    degrader, sides = CropDegrader(DEGRADATIONS["none"], seed=0), torch.tensor([90.0])
    assert degrader.amounts(np.arange(1), np.arange(1)) == {}
    assert degrader.image(crop, sides, {}) is crop
    nothing = {"blur": 0.0, "downsample": 1.0, "hue": 0.0, "saturation": 1.0, "brightness": 0.0, "contrast": 1.0}
    given = {name: torch.tensor([value]) for name, value in (nothing | {"noise": 0.0}).items()}
    torch.testing.assert_close(degrader.image(crop, sides, given), crop, atol=1e-3, rtol=0)
