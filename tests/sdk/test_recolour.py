from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from skimage import color
from skimage.color.colorconv import xyz_from_rgb

from pocketface.sdk.classes import load_classes
from pocketface.sdk.errors import BadInputError, UnknownNameError
from pocketface.sdk.geometry import Box, Crop
from pocketface.sdk.overlay import MaskOverlay
from pocketface.sdk.recolour import HairDye, Lipstick, from_lab, luminance_level, to_lab
from pocketface.sdk.results import Mask

WIDTH, HEIGHT = 60, 48
AREA = Box(9.5, 5.5, 41.5, 37.5)  # a pixel a cell
RED, BLUE, BLOND, COPPER = (170, 20, 40), (30, 50, 200), (222, 188, 120), (150, 70, 30)


def photo(low: int, high: int, tint: tuple[float, float, float] = (1.0, 0.85, 0.7), seed: int = 0) -> NDArray[np.uint8]:
    """Noise of brown strands: each pixel a grey level between the two, times the tint."""
    grey = np.random.default_rng(seed).integers(low, high, (HEIGHT, WIDTH, 1))
    return np.clip(grey * np.array(tint), 0, 255).astype(np.uint8)


def mask_of(name: str, soft: Any, classes: str = "face11") -> Mask:
    """A mask of one class with this (32, 32) probability, in `AREA`."""
    kinds = load_classes(classes)
    values = np.zeros((len(kinds.names), 32, 32), np.float32)
    values[kinds.names.index(name)] = soft
    values[0] = 1 - values[kinds.names.index(name)]
    return Mask.of(values, Crop.from_box(AREA), (WIDTH, HEIGHT), AREA, kinds)


def disc() -> NDArray[np.float32]:
    """1 in the middle, falling to 0 over three cells."""
    y, x = np.mgrid[:32, :32] - 15.5
    return np.clip((11 - np.hypot(x, y)) / 3, 0, 1).astype(np.float32)


ALL = [
    (HairDye(RED), HairDye(RED, strength=0.0), "hair"),
    (Lipstick(RED, gloss=0.5), Lipstick(RED, strength=0.0, gloss=1.0), "lower lip"),
    (MaskOverlay(), MaskOverlay(strength=0.0), "hair"),
]


def test_lab_is_skimages_both_ways() -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (500, 3), np.uint8)
    lab = color.rgb2lab(pixels[None] / 255)[0]
    np.testing.assert_allclose(to_lab(pixels), lab, atol=0.02)
    luminance = color.rgb2xyz(pixels[None] / 255)[0][:, 1]
    np.testing.assert_allclose(luminance_level(pixels) / 16383, luminance, atol=5e-5)
    np.testing.assert_allclose(from_lab(lab.astype(np.float32)), pixels, atol=0.05)
    np.testing.assert_allclose(from_lab(to_lab(pixels)), pixels, atol=0.05)
    assert from_lab(np.array([[50, 120, -120]], np.float32)).min() >= 0


@pytest.mark.parametrize(("effect", "none", "name"), ALL, ids=["dye", "lipstick", "overlay"])
def test_strength_0_or_no_mask_changes_nothing_and_the_given_image_stays(effect: Any, none: Any, name: str) -> None:
    image = photo(20, 230)
    before = image.copy()
    mask = mask_of(name, disc())
    assert not np.array_equal(effect(image, [mask]), image)
    assert np.array_equal(none(image, [mask]), image)
    assert np.array_equal(effect(image, []), image)
    assert np.array_equal(effect(image, [mask_of("skin" if name == "hair" else "hair", 0.0)]), image)
    assert np.array_equal(image, before)
    assert effect(image, []) is not image


@pytest.mark.parametrize("effect", [HairDye(BLUE, 1.0), MaskOverlay(("hair",), 1.0)])
def test_where_the_mask_is_0_no_value_changes(effect: Any) -> None:
    image, mask = photo(0, 256), mask_of("hair", disc())
    outside = mask.soft["hair"] == 0
    found = effect(image, [mask])
    assert outside.mean() > 0.6
    assert np.array_equal(found[outside], image[outside])
    assert (found[mask.soft["hair"] == 1] != image[mask.soft["hair"] == 1]).any(axis=1).mean() > 0.95


def test_the_edge_is_as_soft_as_the_mask() -> None:
    """On an even picture the change is the mask's value, times the strength."""
    image, mask = np.full((HEIGHT, WIDTH, 3), 120, np.uint8), mask_of("hair", disc())
    soft = mask.soft["hair"]
    for strength in (0.4, 1.0):
        change = HairDye(RED, strength)(image, [mask]).astype(float) - image
        full = change[soft == 1][0] / strength
        assert np.abs(full).max() > 40
        np.testing.assert_allclose(change, strength * soft[:, :, None] * full, atol=1.3)  # two roundings


def hue(pixels: NDArray[Any]) -> NDArray[np.float64]:
    """CIELAB hue angles in degrees, by skimage."""
    lab = color.rgb2lab(pixels[None] / 255)[0]
    return np.rad2deg(np.arctan2(lab[:, 2], lab[:, 1]))


@pytest.mark.parametrize("colour", [RED, BLUE, BLOND, COPPER, (255, 0, 0), (0, 0, 255)], ids=str)
@pytest.mark.parametrize("levels", [(5, 45), (60, 160), (150, 250)], ids=["black", "brown", "fair"])
def test_at_full_strength_the_hue_is_the_dyes(colour: tuple[int, int, int], levels: tuple[int, int]) -> None:
    image, mask = photo(*levels), mask_of("hair", disc())
    found = HairDye(colour, 1.0)(image, [mask])[mask.soft["hair"] == 1]
    lab = color.rgb2lab(found[None] / 255)[0]
    coloured = np.hypot(lab[:, 1], lab[:, 2]) > 8  # of greys the hue is rounding
    assert coloured.mean() > 0.9
    off = (hue(found[coloured]) - hue(np.array([colour]))[0] + 180) % 360 - 180
    assert np.abs(np.median(off)) < 2
    assert np.percentile(np.abs(off), 95) < 8


@pytest.mark.parametrize("effect", [HairDye(BLOND, 1.0), HairDye((10, 10, 10), 1.0), HairDye(RED, 0.5)], ids=str)
@pytest.mark.parametrize("levels", [(5, 45), (60, 160), (150, 250)], ids=["black", "brown", "fair"])
def test_a_brighter_strand_stays_the_brighter_one(effect: HairDye, levels: tuple[int, int]) -> None:
    image, mask = photo(*levels), mask_of("hair", disc())
    inside = mask.soft["hair"] == 1
    before = color.rgb2lab(image / 255)[inside][:, 0]
    after = color.rgb2lab(effect(image, [mask]) / 255)[inside][:, 0]
    order = np.argsort(before)
    assert np.diff(after[order]).min() > -0.8  # a level of 255 by rounding
    assert np.corrcoef(before, after)[0, 1] > 0.95
    assert after.std() > 0.25 * before.std()  # the strands can still be seen


def test_black_hair_brightens_towards_a_fair_dye_and_no_further_than_asked() -> None:
    image, mask = photo(5, 45), mask_of("hair", disc())
    inside = mask.soft["hair"] == 1

    def mean(picture: NDArray[np.uint8]) -> float:
        return float(color.rgb2lab(picture / 255)[inside][:, 0].mean())

    dye = float(color.rgb2lab(np.array([[BLOND]]) / 255)[0, 0, 0])
    start = mean(image)
    for lift in (0.0, 0.5, 1.0):
        found = mean(HairDye(BLOND, 1.0, lift)(image, [mask]))
        assert found == pytest.approx(start + lift * (dye - start), abs=6)
    # Dark dye on fair hair goes the other way.
    assert mean(HairDye((20, 15, 15), 1.0)(photo(150, 250), [mask])) < mean(photo(150, 250)) - 20


def polar(pixels: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """(..., 3) sRGB -> CIELAB lightness, hue in degrees and chroma, each (...), by skimage."""
    light, a, b = np.moveaxis(color.rgb2lab(pixels / 255), -1, 0)
    return light, np.rad2deg(np.arctan2(b, a)), np.hypot(a, b)


def srgb_limit(light: NDArray[Any], degrees: float) -> NDArray[np.float64]:
    """(n,) lightness -> the largest CIELAB chroma of this hue that sRGB can show, by a walk outwards from grey: CIELAB
    inverted as CIE 15 prints it, skimage's matrix and white.
    """
    chroma, turn = np.arange(0, 150, 0.2), np.deg2rad(degrees)
    y = np.broadcast_to((light[:, None] + 16) / 116, (len(light), len(chroma)))
    f = np.stack([y + chroma * np.cos(turn) / 500, y, y - chroma * np.sin(turn) / 200], axis=-1)
    white = color.xyz_tristimulus_values(illuminant="D65", observer="2")
    linear = np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29)) * white @ np.linalg.inv(xyz_from_rgb).T
    shown = ((linear > -1e-4) & (linear < 1 + 1e-4)).all(axis=-1)
    return np.asarray(chroma[np.cumprod(shown, axis=1).sum(axis=1) - 1])


BLACK, FAIR = (0, 60), (150, 256)
BEYOND = [
    ((0, 0, 255), BLACK),
    ((255, 255, 0), BLACK),
    ((255, 0, 0), BLACK),
    ((255, 0, 0), FAIR),
    ((255, 220, 0), FAIR),
    ((0, 0, 255), FAIR),
]


@pytest.mark.parametrize(("colour", "levels"), BEYOND, ids=str)
def test_a_dye_that_srgb_cannot_show_so_dark_or_light_loses_chroma_and_keeps_its_hue(
    colour: tuple[int, int, int], levels: tuple[int, int]
) -> None:
    image, mask = np.zeros((HEIGHT, WIDTH, 3), np.uint8), mask_of("hair", 1.0)
    inside = mask.soft["hair"] == 1
    greys = np.resize(np.arange(*levels), inside.sum())
    image[inside] = greys[:, None]
    _, first = np.unique(greys, return_index=True)  # every level once, the darkest first
    found = HairDye(colour, 1.0, lift=0.0)(image, [mask])[inside][first]
    light, degrees, chroma = polar(found)
    target, wanted, full = (float(value) for value in polar(np.array(colour)))

    # A channel is off by half a level from rounding, and by a third of one from the 1e-4 of linear light that the limit
    # lets pass (1e-4 x 12.92 x 255): the hue may be as far off as one level in each channel turns it, and no further.
    corners = np.stack(np.meshgrid(*[[-1, 1]] * 3), axis=-1).reshape(8, 1, 3)
    around = polar((found + corners).clip(0, 255))
    bound = np.abs((around[1] - degrees + 180) % 360 - 180).max(axis=0)
    off = np.abs((degrees - wanted + 180) % 360 - 180)
    coloured = chroma > 8  # of greys the hue is rounding
    assert coloured.mean() > 0.5
    assert (off[coloured] <= bound[coloured]).all()

    # As much chroma as the formula asks for and sRGB can show, each at the lightness found, as exactly as one level.
    lights = np.concatenate([light[None], around[0]])
    asked = full * np.minimum(1, np.minimum((lights + 16) / (target + 16), (100 - lights) / (100 - target)))
    limit = srgb_limit(lights.ravel(), wanted).reshape(lights.shape)
    assert (asked - limit)[0].max() > 1.5, "the limit is reached"
    due = np.minimum(asked, limit)
    slack = np.abs(around[2] - chroma).max(axis=0) + np.abs(due - due[0]).max(axis=0) + 0.2
    assert (np.abs(chroma - due[0]) <= slack).all()

    # Lightness rises. Rounding takes less than 0.6; a value that wrapped around would take many times as much.
    assert np.diff(light).min() > -0.6
    assert light[-1] > light[0] + 15


def test_white_highlights_stay_white_and_black_gets_no_neon() -> None:
    image, mask = photo(60, 140), mask_of("hair", 1.0)
    image[20, 20], image[22, 22] = 255, 0
    found = HairDye(RED, 1.0)(image, [mask])
    assert found[20, 20].min() >= 250
    spread = found[22, 22].astype(int)
    assert spread.max() < 120


def test_gloss_brightens_the_highlights_of_the_lips_alone() -> None:
    image, mask = photo(90, 200, (1.0, 0.6, 0.6)), mask_of("upper lip", 1.0)
    matt, glossy = (Lipstick(RED, 1.0, gloss)(image, [mask]).astype(int) for gloss in (0.0, 1.0))
    inside = mask.soft["upper lip"] == 1
    light = color.rgb2lab(image / 255)[:, :, 0]
    below = inside & (light < light[inside].mean() - 1)
    above = inside & (light > light[inside].mean() + 8)
    assert np.array_equal(matt[below], glossy[below])
    assert (glossy[above] >= matt[above] - 1).all()
    assert (glossy[above].mean() - matt[above].mean()) > 8


def test_a_lipstick_takes_both_lips_and_nothing_else() -> None:
    image = photo(90, 200, (1.0, 0.6, 0.6))
    kinds = load_classes("face11")
    values = np.zeros((11, 32, 32), np.float32)
    for row, name in enumerate(("upper lip", "lower lip", "inner mouth", "skin")):
        values[kinds.names.index(name), 8 * row : 8 * row + 8] = 1
    mask = Mask.of(values, Crop.from_box(AREA), (WIDTH, HEIGHT), AREA, kinds)
    changed = (Lipstick(BLUE, 1.0)(image, [mask]) != image).any(axis=2)
    assert changed[6:22, 10:42].mean() > 0.95
    changed[6:22] = False
    assert not changed.any()


def test_an_overlay_tints_each_class_in_its_colour() -> None:
    image, kinds = np.full((HEIGHT, WIDTH, 3), 100, np.uint8), load_classes("face11")
    found = MaskOverlay(strength=0.25)(image, [mask_of("left eye", 1.0)])
    tint = np.array(kinds.colours[kinds.names.index("left eye")])
    assert np.array_equal(found[20, 20], np.rint(75 + 0.25 * tint))
    half = MaskOverlay(strength=1.0)(image, [mask_of("left eye", 0.5)])
    np.testing.assert_allclose(half[20, 20], 50 + 0.5 * tint, atol=0.51)
    assert np.array_equal(MaskOverlay(("skin",))(image, [mask_of("left eye", 1.0)]), image)


BAD: list[tuple[Callable[[], Any], str]] = [
    (lambda: HairDye(RED, 1.5), "strength 1.5, expected 0 to 1"),
    (lambda: HairDye(RED, float("nan")), "strength nan"),
    (lambda: HairDye(RED, lift=-0.1), "lift -0.1"),
    (lambda: Lipstick(RED, gloss=2), "gloss 2"),
    (lambda: HairDye((300, 0, 0)), r"colour \(300, 0, 0\), expected red, green and blue"),
    (lambda: HairDye((0, 0)), r"colour \(0, 0\)"),  # type: ignore[arg-type]
    (lambda: MaskOverlay(strength=-1), "strength -1"),
    (lambda: MaskOverlay(("background",)), "the background in a window"),
]


@pytest.mark.parametrize(("make", "message"), BAD, ids=[message for _, message in BAD])
def test_values_out_of_range_are_refused(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        make()(photo(0, 255), [mask_of("hair", 1.0)])


@pytest.mark.parametrize("effect", [HairDye(RED, classes=("lips",)), MaskOverlay(("lips",))])
def test_a_class_that_the_mask_has_not_and_another_image_are_refused(effect: Any) -> None:
    with pytest.raises(UnknownNameError, match="unknown class of hair2 'lips'"):
        effect(photo(0, 255), [mask_of("hair", 1.0, "hair2")])
    good = HairDye(RED) if isinstance(effect, HairDye) else MaskOverlay()
    with pytest.raises(BadInputError, match=r"mask of 60 x 48 pixels for an image of 59 x 48"):
        good(photo(0, 255)[:, :-1], [mask_of("hair", 1.0)])
    with pytest.raises(BadInputError, match="uint8"):
        good(photo(0, 255) / 255, [mask_of("hair", 1.0)])


def test_a_crop_outside_of_the_image_colours_nothing() -> None:
    kinds = load_classes("hair2")
    mask = Mask.of(np.ones((2, 4, 4), np.float32), Crop(-90, 5, 20), (WIDTH, HEIGHT), Box(-100, -5, -80, 15), kinds)
    image = photo(0, 255)
    assert np.array_equal(HairDye(RED, 1.0)(image, [mask]), image)
    assert np.array_equal(MaskOverlay()(image, [mask]), image)
