"""The sheet and the clip of recoloured photos, by networks that call dark pixels hair and red ones lips."""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mask_factory
import numpy as np
import pytest
from bundle_factory import make_bundle
from mask_factory import make_mask_bundle
from numpy.typing import NDArray
from PIL import Image

from pocketface.benchmarks.data.motion import MotionSpec
from pocketface.benchmarks.data.synthetic import render_face
from pocketface.benchmarks.dye_sheet import LOOKS, MOTION, dye_clip, dye_sheet, main
from pocketface.benchmarks.reports.sheet import HEADER, contact_sheet
from pocketface.sdk.classes import load_classes
from pocketface.sdk.errors import BadInputError, BundleError
from pocketface.sdk.geometry import Box, Crop
from pocketface.sdk.mask_predictor import MaskPredictor, load_mask
from pocketface.sdk.preprocess import resample
from pocketface.sdk.recolour import VISIBLE, HairDye, Lipstick

SIZE = 128
FACE = render_face(10, SIZE)
BOX = Box.around(FACE.points)
SHORT = MotionSpec(frames=6, fps=6.0, reach=0.25, zoom=0.15, roll=15.0, periods=(1.0, 1.0), size=96)


def weights(classes: int, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Of mean colours in [-1, 1]: dark is hair, more red than green is lip, the rest background."""
    W, b = np.zeros((classes, 3), np.float32), np.full(classes, -30, np.float32)
    b[0] = 0
    if classes == 2:
        W[1], b[1] = -20, -20
    else:
        W[8], b[8], W[9], b[9] = (30, -30, 0), -14, (30, -30, 0), -14
    return W, b


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root, patch = tmp_path_factory.mktemp("masks"), pytest.MonkeyPatch()
    patch.setattr(mask_factory, "mask_weights", weights)
    try:
        return {
            "hair": make_mask_bundle(root / "hair"),
            "parsing": make_mask_bundle(root / "parsing", classes="face11"),
            "following": make_mask_bundle(root / "following", classes="face11", gain=1.0),
        }
    finally:
        patch.undo()


@pytest.fixture
def both(bundles: dict[str, Path]) -> dict[str, Any]:
    return {"hair": load_mask(bundles["hair"]), "parsing": load_mask(bundles["parsing"])}


class Watched:
    """A predictor that remembers what it was asked."""

    def __init__(self, predictor: MaskPredictor) -> None:
        self.predictor, self.classes, self.manifest = predictor, predictor.classes, predictor.manifest
        self.images: list[NDArray[np.uint8]] = []
        self.boxes: list[Any] = []
        self.cuts: list[bool] = []

    def __call__(self, image: NDArray[np.uint8], boxes: Any = None, *, cut: bool = False) -> Any:
        self.images.append(image)
        self.boxes.append(boxes)
        self.cuts.append(cut)
        return self.predictor(image, boxes, cut=cut)


def opened(clip: bytes) -> list[NDArray[np.float32]]:
    animation, frames = Image.open(io.BytesIO(clip)), []
    for number in range(animation.n_frames):  # type: ignore[attr-defined]
        animation.seek(number)
        frames.append(np.asarray(animation.convert("RGB"), np.float32))
    return frames


def test_the_sheet_shows_hair_lips_and_both_in_every_look(
    both: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: dict[str, NDArray[np.float32]] = {}

    def kept(columns: dict[str, NDArray[np.float32]], *, size: int) -> bytes:
        drawn.update(columns)
        return contact_sheet(columns, size=size)

    monkeypatch.setattr("pocketface.benchmarks.dye_sheet.contact_sheet", kept)
    sheet = np.asarray(Image.open(io.BytesIO(dye_sheet(FACE.image, BOX, **both, size=SIZE))).convert("RGB"), float)
    assert sheet.shape == (HEADER + 3 * SIZE, (2 + len(LOOKS)) * SIZE, 3)
    titles = ["photo", "masks", "copper hair, red lips", "blue hair, plum lips", "rose hair, coral lips"]
    assert list(drawn) == titles
    tiles = {name: [np.rint(255 * cell).astype(np.uint8) for cell in cells] for name, cells in drawn.items()}
    for column, name in enumerate(titles):
        shown = sheet[HEADER:, column * SIZE : (column + 1) * SIZE]
        assert np.abs(shown - np.concatenate(tiles[name])).mean() < 6, "what 256 colours leave"

    # One and a half boxes are more than the picture, so all of it is shown, from the first pixel's centre to the last.
    frame = np.rint(resample(FACE.image, Crop(63.5, 63.5, 127), SIZE)).astype(np.uint8)
    inner = Box(*((edge / 127) * SIZE - 0.5 for edge in BOX))
    (strands,), (parts,) = both["hair"](frame), both["parsing"](frame, [inner])
    hair, lips = strands.soft["hair"], parts.soft["upper lip"] + parts.soft["lower lip"]
    only_hair, only_lips = (hair > 0.98) & (lips < VISIBLE), (lips > 0.98) & (hair < VISIBLE)
    assert only_hair.sum() > 400
    assert only_lips.sum() > 100
    tints = [np.array(load_classes("face11").colours[number], float) for number in (8, 9)]
    half = {
        "hair": (frame + np.array(load_classes("hair2").colours[1])) / 2,
        "lips": frame / 2 + (tints[0] + tints[1]) / 4,  # two lips, each with half of the probability
    }
    for row, (dyed, painted) in enumerate([(True, False), (False, True), (True, True)]):
        assert np.array_equal(tiles["photo"][row], frame)
        untouched = (hair * dyed < VISIBLE) & (lips * painted < VISIBLE)
        for look, name in zip(LOOKS, titles[2:], strict=True):
            found, wanted = tiles[name][row], frame
            assert np.array_equal(found[untouched], frame[untouched])
            if dyed:
                wanted = HairDye(look.dye)(wanted, [strands])
            if painted:
                wanted = Lipstick(look.stick, gloss=0.3)(wanted, [parts])
            # The box is given in other digits than above: a level of rounding.
            assert np.abs(found.astype(int) - wanted).max() <= 1
            change = np.abs(found.astype(int) - frame).max(axis=2)
            assert (change[only_hair].mean() > 12) == dyed
            assert (change[only_lips].mean() > 12) == painted
        masks = tiles["masks"][row].astype(float)
        for where, name, shown in ((only_hair, "hair", dyed), (only_lips, "lips", painted)):
            assert np.abs(masks - (half[name] if shown else frame))[where].max() < 4


@pytest.mark.parametrize("kind", ["hair", "parsing"])
def test_with_one_bundle_only_its_own_row_is_drawn(both: dict[str, Any], kind: str) -> None:
    alone = Image.open(io.BytesIO(dye_sheet(FACE.image, BOX, **{kind: both[kind]}, size=SIZE)))
    assert alone.size == ((2 + len(LOOKS)) * SIZE, HEADER + SIZE)
    two = dye_sheet(FACE.image, BOX, **{kind: both[kind]}, size=SIZE, looks=LOOKS[:2])
    assert Image.open(io.BytesIO(two)).size == (4 * SIZE, HEADER + SIZE)


def test_the_clip_is_the_photo_on_the_left_and_painted_on_the_right(both: dict[str, Any]) -> None:
    hair: Any = Watched(both["hair"])
    clip = dye_clip(FACE.image, BOX, hair=hair, parsing=both["parsing"], motion=SHORT, noise=0)
    animation = Image.open(io.BytesIO(clip))
    assert (animation.format, animation.size, animation.n_frames) == ("WEBP", (96, 96), 6)  # type: ignore[attr-defined]
    assert animation.info["loop"] == 0
    animation.seek(1)
    animation.load()
    assert animation.info["duration"] == 167
    frames = opened(clip)
    first = resample(FACE.image, Crop(63.5, 63.5, 127), 96)
    assert np.abs(frames[0] - first)[:, :47].mean() < 6, "what the compression leaves"
    assert frames[0][:, 48].min() > 150, "a light line where the halves meet"
    # Two frames a look.
    for number, (frame, seen) in enumerate(zip(frames, hair.images, strict=True)):
        assert np.abs(frame - seen)[:, :47].mean() < 6
        (mask,) = both["hair"](seen)
        wanted, dark = HairDye(LOOKS[number // 2].dye)(seen, [mask]), mask.soft["hair"] > 0.9
        dark[:, :51] = False
        assert dark.sum() > 100
        assert np.abs(frame - wanted)[dark].mean() < 0.6 * np.abs(frame - seen)[dark].mean()


def test_the_clip_repeats_without_a_jump(both: dict[str, Any]) -> None:
    hair: Any = Watched(both["hair"])
    motion = MotionSpec(frames=24, fps=MOTION.fps, reach=0.25, zoom=0.1, roll=10, periods=(2.0, 2.0), size=48)
    photo = np.pad(FACE.image, ((64, 64), (64, 64), (0, 0)), mode="edge")  # room to move in
    dye_clip(photo, Box(*(edge + 64 for edge in BOX)), hair=hair, motion=motion, noise=0)
    films = [image.astype(float) for image in hair.images]
    steps = [np.abs(now - before).mean() for before, now in itertools.pairwise(films)]
    assert min(steps) > 0
    assert np.abs(films[0] - films[-1]).mean() <= 1.2 * max(steps)
    assert max(np.abs(film - films[0]).mean() for film in films) > 2 * max(steps), "it moves"


def test_the_same_input_gives_the_same_bytes_and_noise_is_new_in_each_frame(both: dict[str, Any]) -> None:
    still = MotionSpec(frames=3, fps=6.0, reach=0.0, zoom=0.0, roll=0.0, size=64)
    first = dye_clip(FACE.image, BOX, **both, motion=still, seed=1)
    assert first == dye_clip(FACE.image, BOX, **both, motion=still, seed=1)
    assert first != dye_clip(FACE.image, BOX, **both, motion=still, seed=2)
    assert dye_sheet(FACE.image, BOX, **both, size=48) == dye_sheet(FACE.image, BOX, **both, size=48)
    hair: Any = Watched(both["hair"])
    dye_clip(np.full((90, 90, 3), 128, np.uint8), Box(20, 20, 70, 70), hair=hair, motion=still, noise=5)
    values = np.stack(hair.images).astype(float) - 128
    assert values.std() == pytest.approx(5, rel=0.05)
    assert abs(np.corrcoef(values[0].ravel(), values[1].ravel())[0, 1]) < 0.05


def test_a_face_is_followed_where_it_was_in_the_frame_before(bundles: dict[str, Path]) -> None:
    """A white disc in the middle of the box: the box of each frame is centred where the frame before shows the disc."""
    y, x = np.mgrid[:220, :260]
    photo = np.repeat(255 * (np.hypot(x - 130, y - 110) < 12)[:, :, None], 3, axis=2).astype(np.uint8)
    box = Box(90, 80, 170, 140)
    parsing: Any = Watched(load_mask(bundles["following"]))
    hair: Any = Watched(load_mask(bundles["hair"]))
    motion = MotionSpec(frames=6, fps=6.0, reach=0.5, zoom=0.3, roll=40.0, periods=(1.0, 1.0), size=96)
    dye_clip(photo, box, hair=hair, parsing=parsing, motion=motion, noise=0)
    assert parsing.cuts == hair.cuts == [True] + 5 * [False]
    assert hair.boxes == 6 * [None]
    grid_y, grid_x = np.mgrid[:96, :96]
    places = []
    for number in range(6):
        light = parsing.images[max(0, number - 1)][:, :, 0].astype(float) / 255
        place = np.array([(light * grid_x).sum(), (light * grid_y).sum()]) / light.sum()
        ((asked,),) = [parsing.boxes[number]]
        np.testing.assert_allclose([(asked.x0 + asked.x1) / 2, (asked.y0 + asked.y1) / 2], place, atol=0.2)
        # The disc's radius is 12 / 80 of the box's longer side.
        assert np.sqrt(light.sum() / np.pi) / asked.width == pytest.approx(12 / 80, rel=0.03)
        assert asked.width == pytest.approx(asked.height)
        places.append(place)
    assert np.ptp(places, axis=0).max() > 5


@pytest.mark.parametrize("box", [Box(-0.5, -0.5, 40, 40), Box(60, 30, 99.5, 69.5), Box(-9, -9, 109, 79)], ids=str)
def test_nothing_beyond_the_photo_is_ever_shown(both: dict[str, Any], box: Box) -> None:
    hair: Any = Watched(both["hair"])
    white = np.full((70, 100, 3), 255, np.uint8)
    motion = MotionSpec(frames=8, fps=8.0, reach=1.0, zoom=0.5, roll=60.0, periods=(0.5, 1.0), size=64)
    dye_clip(white, box, hair=hair, motion=motion, noise=0)
    dye_sheet(white, box, hair=hair)
    assert min(image.min() for image in hair.images) == 255


BAD: list[tuple[Callable[[dict[str, Any]], object], type[Exception], str]] = [
    (lambda given: dye_sheet(FACE.image, BOX), BadInputError, "neither a hair nor a parsing bundle"),
    (lambda given: dye_clip(FACE.image, BOX), BadInputError, "neither a hair nor a parsing bundle"),
    (
        lambda given: dye_sheet(FACE.image, BOX, parsing=given["hair"]),
        BundleError,
        r"--parsing: bundle 'tinymask' lacks 'upper lip' and 'lower lip'.*Valid: background, hair",
    ),
    (lambda given: dye_sheet(FACE.image, Box(500, 5, 550, 50), **given), BadInputError, "lies outside the image"),
    (lambda given: dye_clip(FACE.image, Box(50, 5, 50, 50), **given), BadInputError, "has no area"),
    (lambda given: dye_sheet(FACE.image[:, :, 0], BOX, **given), BadInputError, "image of shape"),
    (lambda given: dye_sheet(FACE.image, BOX, **given, looks=()), BadInputError, "no looks"),
    (lambda given: dye_sheet(FACE.image, BOX, **given, looks=LOOKS[:1] * 2), BadInputError, "two looks of the same"),
    (lambda given: dye_sheet(FACE.image, BOX, **given, size=3), BadInputError, "pictures of 3 pixels"),
    (
        lambda given: dye_clip(FACE.image, BOX, **given, motion=MotionSpec(frames=1)),
        BadInputError,
        "a clip of 1 frames",
    ),
    (lambda given: dye_clip(FACE.image, BOX, **given, noise=float("nan")), BadInputError, "noise nan"),
]


@pytest.mark.parametrize(("call", "kind", "message"), BAD, ids=[message for _, _, message in BAD])
def test_bad_input_is_one_clear_line(
    both: dict[str, Any], call: Callable[[dict[str, Any]], object], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        call(both)


def test_a_hair_bundle_without_hair_is_refused(tmp_path: Path) -> None:
    (tmp_path / "lips.json").write_text('{"name": "lips", "names": ["background", "upper lip", "lower lip"]}')
    predictor = load_mask(make_mask_bundle(tmp_path / "lips", classes=str(tmp_path / "lips.json")))
    with pytest.raises(BundleError, match="--hair: bundle 'tinymask' lacks 'hair'"):
        dye_sheet(FACE.image, BOX, hair=predictor)
    assert dye_sheet(FACE.image, BOX, parsing=predictor, size=48)


def test_the_command_writes_both_or_says_why_not(
    bundles: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.fromarray(FACE.image).save(tmp_path / "photo.png")
    sheet, clip = tmp_path / "docs" / "dye.png", tmp_path / "docs" / "dye.webp"
    photo = ["--photo", str(tmp_path / "photo.png"), "--box", BOX.text()]
    hair, out = ["--hair", str(bundles["hair"])], ["--out", str(sheet)]
    assert main([*photo, *hair, *out, "--clip", str(clip)]) == 0
    assert Image.open(sheet).size == (5 * 200, HEADER + 200)
    assert len(opened(clip.read_bytes())) == MOTION.frames == 36
    assert clip.stat().st_size < 600_000
    both = [*photo, *hair, *out, "--parsing", str(bundles["parsing"])]
    before = sheet.read_bytes()
    assert main(both) == 2
    assert "--force" in capsys.readouterr().err
    assert sheet.read_bytes() == before
    assert main([*both, "--force"]) == 0
    assert Image.open(sheet).size == (5 * 200, HEADER + 3 * 200)

    none = tmp_path / "none.png"
    landmarks = str(make_bundle(tmp_path / "landmarks"))
    for wrong, message in (
        ([*photo, "--out", str(none)], "neither a hair nor a parsing bundle"),
        ([*photo, "--hair", landmarks, "--out", str(none)], "gives landmarks, expected masks"),
        ([*photo[:2], "--box", "1,2,3", *hair, "--out", str(none)], "box '1,2,3', expected four numbers"),
        ([*photo, *hair, "--out", str(none), "--clip", str(tmp_path / "clip.gif")], "a name that ends in .webp"),
        ([*photo, *hair, "--out", str(tmp_path / "none.jpg")], "a name that ends in .png"),
    ):
        assert main(wrong) == 2
        said = capsys.readouterr().err
        assert said.startswith("pocketface: ")
        assert said.count("\n") == 1
        assert message in said
    assert not list(tmp_path.glob("none*"))
