"""Degradations: what the paper prints, draws, order, boxes, bad input. Each by itself: test_degrade_pixels."""

from __future__ import annotations

import hashlib
import math

import msgspec
import numpy as np
import pytest
from degrade_cases import BOX, NEUTRAL, apply, drawn_face, noise_image
from PIL import Image

from pocketface.benchmarks.data.degrade import (
    BOUNDS,
    DEGRADATIONS,
    SINGLE,
    DegradeSpec,
    degradation,
    degrade,
    degrade_box,
    draw,
    inter_ocular,
)
from pocketface.benchmarks.data.degrade_sheet import HEADER, degradation_sheet, main
from pocketface.benchmarks.data.synthetic import render_face
from pocketface.sdk.errors import BadInputError, ConfigError, UnknownNameError
from pocketface.sdk.geometry import Box

# What the paper says


def test_the_paper_s_numbers():
    everything = DEGRADATIONS["all"]
    assert everything.downsample == (1, 8)  # "up to a factor 8"
    assert everything.scale == (2 / 3, 4 / 3)  # "Sc in [2/3; 4/3]"
    assert everything.translation == (-0.4, 0.4)  # "tr in [-0.4; 0.4] x iod"
    assert DEGRADATIONS["downsample-x8"].downsample == (8, 8)
    named = {"downsample", "hue", "saturation", "brightness", "contrast", "noise", "scale", "translation"}
    assert set(everything.to_dict()) == named
    assert set(DEGRADATIONS["all-and-ours"].to_dict()) == named | {"blur", "jpeg"} == set(SINGLE)
    assert DEGRADATIONS["none"].to_dict() == {}


@pytest.mark.parametrize("name", SINGLE)
def test_a_single_degradation_is_itself_alone_with_the_range_it_has_among_all(name):
    assert DEGRADATIONS[name].to_dict() == {name: DEGRADATIONS["all-and-ours"].to_dict()[name]}


def test_no_degradation_of_that_name():
    with pytest.raises(UnknownNameError, match="did you mean 'saturation'"):
        degradation("saturatoin")


# Draws


def test_draws_fill_their_ranges_and_never_leave_them():
    found = [draw(DEGRADATIONS["all-and-ours"], name=f"face {k % 70}", seed=k // 70) for k in range(1400)]
    limits = {**DEGRADATIONS["all-and-ours"].to_dict(), "translation_x": (-0.4, 0.4), "translation_y": (-0.4, 0.4)}
    del limits["translation"]
    assert set(found[0]) == set(limits)
    for name, (low, high) in limits.items():
        values = np.array([amounts[name] for amounts in found], float)
        assert values.min() >= low
        assert values.max() <= high
        spread = high - low
        assert values.min() < low + 0.02 * spread
        assert values.max() > high - 0.02 * spread
        # Uniform: mean and variance of 1400 draws, within five standard errors.
        count = spread + 1 if name in ("downsample", "jpeg") else math.inf
        variance = (count**2 - 1) / 12 if name in ("downsample", "jpeg") else spread**2 / 12
        assert abs(values.mean() - (low + high) / 2) < 5 * math.sqrt(variance / len(values))
        assert values.var() == pytest.approx(variance, rel=0.12)
    assert {amounts["downsample"] for amounts in found} == set(range(1, 9))


def test_draws_of_different_things_do_not_follow_each_other():
    found = [draw(DEGRADATIONS["all-and-ours"], name=f"face {k}", seed=0) for k in range(1000)]
    table = np.corrcoef(np.array([list(amounts.values()) for amounts in found], float).T)
    assert np.abs(table - np.eye(len(table))).max() < 0.15


def test_a_draw_depends_on_seed_and_name_only():
    everything = draw(DEGRADATIONS["all-and-ours"], name="helen/1", seed=5)
    for name in SINGLE:  # the same amount alone as among all
        assert draw(DEGRADATIONS[name], name="helen/1", seed=5).items() <= everything.items()
    assert draw(DEGRADATIONS["hue"], name="helen/1", seed=6)["hue"] != everything["hue"]
    assert draw(DEGRADATIONS["hue"], name="helen/2", seed=5)["hue"] != everything["hue"]
    assert draw(DEGRADATIONS["hue"], name="helen/1", seed=np.int64(5))["hue"] == everything["hue"]


def test_draws_are_what_they_have_always_been():
    """Degraded sets of different versions must agree. By hand: the first 8 bytes of SHA-256, as a share of 2^64."""
    digest = hashlib.sha256(b"pocketface degrade 1\n7\n7\nhelen/1\nhue").digest()
    share = int.from_bytes(digest[:8], "little") / 2**64
    spec = DegradeSpec(hue=(0.0, 0.5))
    assert draw(spec, name="helen/1", seed=7)["hue"] == pytest.approx(share / 2, rel=1e-12)


def test_the_same_every_time_and_in_every_order():
    images = {f"face {k}": noise_image(20 + k, 31, seed=k) for k in range(4)}

    def run(names):
        spec = DEGRADATIONS["all-and-ours"]
        return {name: degrade(images[name], BOX, spec, iod=20.0, name=name, seed=2) for name in names}

    np.random.seed(1)
    first = run(images)
    np.random.seed(2)
    second = run([*reversed(images)])
    alone = run(["face 2"])
    for name, done in first.items():
        np.testing.assert_array_equal(done.image, second[name].image)
        assert done.box == second[name].box
    np.testing.assert_array_equal(first["face 2"].image, alone["face 2"].image)


def test_the_input_is_left_alone():
    image = noise_image()
    before = image.copy()
    image.flags.writeable = False
    done = degrade(image, BOX, DEGRADATIONS["all-and-ours"], iod=20.0, name="a")
    np.testing.assert_array_equal(image, before)
    assert done.image.shape == image.shape
    assert done.image.dtype == np.uint8


# Identity


def test_nothing_on_changes_nothing():
    image = noise_image()
    done = degrade(image, BOX, DegradeSpec(), iod=20.0, name="a", seed=9)
    np.testing.assert_array_equal(done.image, image)
    assert done.box == BOX
    assert done.amounts == {}


@pytest.mark.parametrize("name", [*NEUTRAL, "scale", "translation"])
def test_the_neutral_amount_of_each_changes_nothing(name):
    image = noise_image()
    done = apply(image, **{name: {**NEUTRAL, "scale": 1, "translation": 0}[name]})
    np.testing.assert_array_equal(done.image, image)
    assert done.box == BOX


@pytest.mark.parametrize("name", [name for name in SINGLE if name not in ("scale", "translation")])
def test_light_and_resolution_leave_the_box(name):
    image = drawn_face()
    done = apply(image, **{name: DEGRADATIONS[name].to_dict()[name][1]})  # the range's upper end
    assert done.box == BOX
    assert (done.image != image).any()


def test_the_box_s_degradations_leave_the_pixels():
    image = noise_image()
    done = degrade(image, BOX, DEGRADATIONS["box"], iod=20.0, name="a")
    np.testing.assert_array_equal(done.image, image)
    assert done.box != BOX


# Order


def test_operations_come_in_the_order_that_the_page_gives():
    """Each step as its own call, with whole numbers in between only where the real thing has them: within rounding."""
    image = drawn_face(size=64)
    steps = {"blur": 1.2, "downsample": 4, "hue": 0.1, "saturation": 1.3, "brightness": 0.1, "contrast": 1.2}
    together = apply(image, **steps).image.astype(float)
    stepwise = image
    for name, amount in steps.items():
        stepwise = apply(stepwise, **{name: amount}).image
    assert np.abs(together - stepwise).mean() < 1.5
    backwards = image
    for name, amount in reversed(steps.items()):
        backwards = apply(backwards, **{name: amount}).image
    assert np.abs(together - backwards).mean() > 2 * np.abs(together - stepwise).mean()


def test_noise_is_not_blurred_and_jpeg_comes_last():
    flat = np.full((64, 64, 3), 128, np.uint8)
    plain = apply(flat, noise=0.05).image
    np.testing.assert_array_equal(apply(flat, noise=0.05, blur=3.0, downsample=8).image, plain)
    encoded = apply(plain, jpeg=20).image
    np.testing.assert_array_equal(apply(flat, noise=0.05, jpeg=20).image, encoded)


def test_only_the_end_is_clipped():
    """Bright beyond the end, then back by half: nothing was lost on the way."""
    image = np.array([[[200, 200, 200], [240, 240, 240]]], np.uint8)  # + 51: 251, 291; mean 271
    np.testing.assert_array_equal(apply(image, brightness=0.2, contrast=0.0).image, np.full((1, 2, 3), 255))
    np.testing.assert_array_equal(
        apply(image, brightness=0.2, contrast=3.0).image, [[[211] * 3, [255] * 3]]
    )  # 271 - 3 x 20


# Boxes


def test_the_box_is_scaled_about_its_centre_then_moved():
    # Centre (30, 40), side 40 -> 30 at 0.75; moved by 0.4 x 20 pixels in x, -0.1 x 20 in y.
    amounts = {"scale": 0.75, "translation_x": 0.4, "translation_y": -0.1}
    np.testing.assert_allclose(degrade_box(BOX, amounts, iod=20.0), (23, 23, 53, 53), rtol=0, atol=1e-12)
    np.testing.assert_allclose(degrade_box(BOX, {"scale": 4 / 3}, iod=20.0), (10 / 3, 40 / 3, 170 / 3, 200 / 3))
    np.testing.assert_allclose(degrade_box(BOX, {"translation_y": 0.4}, iod=50.0), (10, 40, 50, 80))


def test_boxes_stay_within_the_paper_s_reach():
    image, iod = noise_image(4, 4), 17.0
    moved = [degrade(image, BOX, DEGRADATIONS["box"], iod=iod, name=f"{k}").box for k in range(400)]
    sides = np.array([(box.width, box.height) for box in moved]) / 40
    np.testing.assert_allclose(sides[:, 0], sides[:, 1])
    assert 2 / 3 - 1e-9 <= sides.min() < 0.68
    assert 1.32 < sides.max() <= 4 / 3 + 1e-9
    centres = np.array([((box.x0 + box.x1) / 2 - 30, (box.y0 + box.y1) / 2 - 40) for box in moved]) / iod
    assert (np.abs(centres) <= 0.4 + 1e-9).all()
    assert (np.abs(centres).max(axis=0) > 0.39).all()
    assert abs(np.corrcoef(centres.T)[0, 1]) < 0.2


def test_inter_ocular_is_the_distance_of_the_outer_corners():
    points = np.zeros((68, 2), np.float32)
    points[36], points[45] = (10, 20), (40, 60)
    assert inter_ocular(points) == 50
    assert inter_ocular(points[[36, 45]], (0, 1)) == 50


# Bad input


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("hue", (0.1, -0.1)),
        ("hue", (0.0, 0.6)),
        ("noise", (-0.1, 0.1)),
        ("noise", (math.nan, 0.1)),
        ("blur", (0.0, math.inf)),
        ("downsample", (0, 8)),
        ("downsample", (1.5, 8)),
        ("jpeg", (10, 96)),
        ("scale", (0.0, 1.0)),
        ("contrast", 3),
        ("contrast", (1.0,)),
        ("contrast", ("a", "b")),
    ],
)
def test_a_range_that_means_nothing_is_refused(name, given):
    with pytest.raises(ConfigError, match=name) as error:
        DegradeSpec(**{name: given})
    assert f"{BOUNDS[name][1]:g}" in str(error.value)


def test_a_spec_is_read_from_plain_data_and_unknown_names_are_refused():
    assert msgspec.convert({"hue": [-0.1, 0.1]}, DegradeSpec) == DegradeSpec(hue=(-0.1, 0.1))
    with pytest.raises(msgspec.ValidationError, match="hues"):
        msgspec.convert({"hues": [-0.1, 0.1]}, DegradeSpec)
    for spec in DEGRADATIONS.values():
        assert msgspec.convert(spec.to_dict(), DegradeSpec, strict=False) == spec


@pytest.mark.parametrize("image", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)])
def test_what_is_no_picture_is_refused(image):
    with pytest.raises(BadInputError, match="uint8 RGB"):
        degrade(image, BOX, DegradeSpec(), iod=20.0, name="a")


def test_a_box_or_distance_that_means_nothing_is_refused():
    with pytest.raises(BadInputError, match="no area"):
        degrade_box(Box(5, 5, 5, 9), {"scale": 1.1}, iod=20.0)
    for iod in (0.0, math.nan, -3.0):
        with pytest.raises(BadInputError, match="inter-ocular"):
            degrade_box(BOX, {"translation_x": 0.1}, iod=iod)
    assert degrade_box(BOX, {"scale": 1.0}, iod=0.0) == BOX  # nothing is measured in it


# The contact sheet


def test_the_sheet_has_a_row_a_face_and_a_column_a_degradation():
    sheet = degradation_sheet([4, 5], names=("none", "downsample-x8"), size=64)
    assert sheet.shape == (HEADER + 128, 128, 3)
    face = render_face(5, 64)
    blurred = degrade(face.image, BOX, DEGRADATIONS["downsample-x8"], iod=20.0, name="5").image
    for column, image in enumerate((face.image, blurred)):
        tile = sheet[HEADER + 64 :, column * 64 : column * 64 + 64]
        outside = (tile != (0, 255, 140)).any(axis=2)  # all but the box's outline
        assert 0.9 < outside.mean() < 1
        np.testing.assert_array_equal(tile[outside], image[outside])
    with pytest.raises(BadInputError, match="1 or more"):
        degradation_sheet([])


def test_the_command_writes_the_sheet_or_says_why_not(tmp_path, capsys):
    out = tmp_path / "sheet.png"
    assert main([str(out), "--count", "1", "--size", "32"]) == 0
    assert Image.open(out).size == (12 * 32, HEADER + 32)
    assert [path.name for path in tmp_path.iterdir()] == ["sheet.png"]
    assert main([str(out), "--count", "0"]) == 2
    assert "1 or more" in capsys.readouterr().err
