"""Readers of labelled pictures on files made here: layouts, merges, and everything that can be wrong with a mask."""

from __future__ import annotations

import logging
import os
import shutil

import msgspec
import numpy as np
import pytest
from PIL import Image

from pocketface.benchmarks.data.celebamask import LAYERS
from pocketface.benchmarks.data.drawn_labels import write_drawn
from pocketface.benchmarks.data.label_files import labelled_hash, labelled_source
from pocketface.benchmarks.data.labelled import face_box, read_pair
from pocketface.benchmarks.data.registry import LABELLED
from pocketface.benchmarks.data.synthetic import PARSING_CLASSES, render_face
from pocketface.sdk.classes import load_classes
from pocketface.sdk.errors import AnnotationError, BadInputError, ImageError

HAIR, FACE = load_classes("hair2"), load_classes("face11")
RNG = np.random.default_rng(0)


def save(path, values, mode=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.asarray(values, np.uint8))
    (image.convert(mode) if mode else image).save(path)


def picture(width, height):
    return RNG.integers(0, 256, (height, width, 3))


@pytest.fixture
def figaro(tmp_path):
    """Three for training, one for testing; masks of 1 bit, of 8 bits, and as the `.pbm` of other copies."""
    root = tmp_path / "figaro1k"
    for part, number, mask, mode in (
        ("Training", 1, "png", "1"),
        ("Training", 2, "png", "L"),
        ("Training", 10, "pbm", "1"),
        ("Testing", 3, "png", "1"),
    ):
        save(root / "Original" / part / f"Frame{number:05}-org.jpg", picture(12, 8))
        hair = np.zeros((8, 12))
        hair[:2, number:] = 255
        save(root / "GT" / part / f"Frame{number:05}-gt.{mask}", hair, mode)
    return root


@pytest.fixture
def portraits(tmp_path):
    """CelebAMask-HQ as it is prepared: every class has its own column."""
    root = tmp_path / "celebamask"
    for part, stem in (("train", "0007"), ("train", "0250"), ("val", "0001")):
        save(root / part / "images" / f"{stem}.jpg", picture(19, 19))
        save(root / part / "labels" / f"{stem}.png", np.tile(np.arange(19), (19, 1)))
    return root


@pytest.fixture
def download(tmp_path):
    """CelebAMask-HQ as it is downloaded: pictures of twice the masks' size, one mask a class."""
    root = tmp_path / "CelebAMask-HQ"
    for number in (0, 2001):
        save(root / "CelebA-HQ-img" / f"{number}.jpg", np.full((16, 16, 3), 7 + number % 100))
        masks = root / "CelebAMask-HQ-mask-anno" / str(number // 2000)
        for layer, (low, high) in {"skin": (0, 6), "l_eye": (2, 3), "hair": (5, 8)}.items():
            mask = np.zeros((8, 8))
            mask[:, low:high] = 255
            save(masks / f"{number:05}_{layer}.png", mask, "RGB" if layer == "hair" else None)
    return root


def test_figaro_names_are_sorted_and_relative_and_masks_of_any_kind_are_hair(figaro):
    found = LABELLED["figaro1k"](figaro, classes=HAIR)
    assert [one.name for one in found] == [
        *("Testing/Frame00003", "Training/Frame00001", "Training/Frame00002", "Training/Frame00010")
    ]
    for one, start in zip(found, (3, 1, 2, 10), strict=True):
        image, labels = one.read()
        assert (image.shape, image.dtype, labels.dtype) == ((8, 12, 3), np.uint8, np.uint8)
        want = np.zeros((8, 12))
        want[:2, start:] = 1
        assert labels.tolist() == want.tolist()
    assert found[0].folder == "Testing"


def test_the_folder_that_holds_the_data_set_gives_the_same_names(figaro, portraits):
    outer = figaro.parent
    assert [one.name for one in LABELLED["figaro1k"](outer, folders=["Testing"], classes=HAIR)] == [
        "Testing/Frame00003"
    ]
    assert [one.name for one in LABELLED["celebamask"](outer, classes=FACE)] == ["train/0007", "train/0250", "val/0001"]


def test_the_19_classes_merge_into_helens_11(portraits):
    (one,) = LABELLED["celebamask"](portraits, folders=["val"], classes=FACE)
    # 0 background, 1 skin, 2 nose, 3 glasses, 4-5 eyes, 6-7 brows, 8-9 ears, 10 inner mouth, 11-12 lips, 13 hair,
    # 14 hat, 15 earring, 16 necklace, 17 neck, 18 cloth, by hand:
    want = [0, 1, 3, 1, 6, 7, 4, 5, 0, 0, 10, 8, 9, 2, 0, 0, 0, 0, 0]
    assert one.read()[1][4].tolist() == want
    (one,) = LABELLED["celebamask"](portraits, folders=["val"], classes=HAIR)
    assert one.read()[1][4].tolist() == [int(value == 13) for value in range(19)]


def test_classes_are_found_by_their_names_in_any_order(portraits):
    other = msgspec.structs.replace(FACE, name="mine", names=("background", *reversed(FACE.names[1:])))
    (one,) = LABELLED["celebamask"](portraits, folders=["val"], classes=other)
    (same,) = LABELLED["celebamask"](portraits, folders=["val"], classes=FACE)
    names = np.array(other.names)[one.read_labels()]
    assert (names == np.array(FACE.names)[same.read_labels()]).all()


def test_classes_that_a_data_set_has_not_are_refused(figaro):
    with pytest.raises(BadInputError, match="figaro1k as the classes 'face11'") as caught:
        LABELLED["figaro1k"](figaro, classes=FACE)
    assert caught.value.choices == ("hair2",)


def test_the_download_is_painted_in_its_own_order_at_the_masks_size(download):
    found = LABELLED["celebamask"](download.parent, classes=FACE)
    assert [one.name for one in found] == ["0/00000", "1/02001"]
    image, labels = found[1].read()
    assert image.shape == (8, 8, 3)
    assert np.abs(image.astype(int) - 8).max() <= 1
    assert labels.tolist() == [[1, 1, 6, 1, 1, 2, 2, 2]] * 8  # the eye over the skin, hair over both
    assert LAYERS.index("hair") + 1 == 13
    assert [one.name for one in LABELLED["celebamask"](download, folders=["1"], classes=FACE)] == ["1/02001"]


def test_a_downloaded_picture_must_be_twice_its_masks(download):
    path = download / "CelebAMask-HQ-mask-anno" / "0" / "00000_hair.png"
    save(path, np.zeros((9, 8)))
    with pytest.raises(AnnotationError, match=r"0/00000_hair\.png: a mask of 8 x 9 pixels, expected 8 x 8"):
        LABELLED["celebamask"](download, classes=FACE)
    (download / "CelebA-HQ-img" / "5.jpg").write_bytes((download / "CelebA-HQ-img" / "0.jpg").read_bytes())
    left: list[AnnotationError] = []
    LABELLED["celebamask"](download, classes=FACE, skip_bad=True, on_skip=left.append)
    assert [str(error).split(":")[0] for error in left] == ["0/00000_hair.png", "CelebA-HQ-img/5.jpg"]


def bad_size(root):
    save(root / "GT/Training/Frame00002-gt.png", np.zeros((9, 12)))
    return (
        r"Training/Frame00002-gt\.png: a mask of 12 x 9 pixels, expected 12 x 8, the size of its image Frame00002-org"
    )


def bad_value(root):
    values = np.zeros((8, 12))
    values[5, 7] = 128
    save(root / "GT/Training/Frame00002-gt.png", values)
    return r"Training/Frame00002-gt\.png: value 128 at pixel x 7, y 5, expected a class of the data set: 0, 1, 255"


def bad_colours(root):
    save(root / "GT/Training/Frame00002-gt.png", picture(12, 8))
    return r"Training/Frame00002-gt\.png: colours, expected one value"


def no_label(root):
    (root / "GT/Training/Frame00002-gt.png").unlink()
    return r"Original/Training/Frame00002-org\.jpg: its label is missing, expected GT/Training/Frame00002-gt\.png"


def no_image(root):
    (root / "Original/Training/Frame00002-org.jpg").unlink()
    return r"GT/Training/Frame00002-gt: its image is missing, expected Original/Training/Frame00002-org\.jpg"


def broken_label(root):
    path = root / "GT/Training/Frame00002-gt.png"
    path.write_bytes(path.read_bytes()[:44])
    return r"Training/Frame00002-gt\.png: cannot be read as an image"


def empty_label(root):
    (root / "GT/Training/Frame00002-gt.png").write_bytes(b"")
    return r"Training/Frame00002-gt\.png: the file is empty"


def image_is_text(root):
    (root / "Original/Training/Frame00002-org.jpg").write_text("not a picture")
    return r"Training/Frame00002-org\.jpg: cannot be read as an image"


def label_is_a_pipe(root):
    path = root / "GT/Training/Frame00002-gt.png"
    path.unlink()
    os.mkfifo(path)
    return r"Training/Frame00002-gt\.png: cannot be read as an image \(it is a pipe"


def label_is_a_bomb(root):
    """A label of 65 535 x 65 535 pixels, of which there is only the head; as a picture is refused, so is it."""
    head = b"P4\n65535 65535\n"
    (root / "GT/Training/Frame00002-gt.png").write_bytes(head + bytes(100))
    return r"Training/Frame00002-gt\.png: cannot be read as an image \(it is too large"


def label_of_another_format(root):
    """PostScript, which Pillow would hand to another program."""
    Image.new("L", (8, 8)).save(root / "GT/Training/Frame00002-gt.png", format="EPS")
    return r"Training/Frame00002-gt\.png: cannot be read as an image \(it is not an image that can be read"


SPOILERS = [
    *(label_is_a_pipe, label_is_a_bomb, label_of_another_format, bad_size, bad_value, bad_colours, no_label, no_image),
    *(broken_label, empty_label, image_is_text),
]


@pytest.mark.parametrize("spoil", SPOILERS, ids=lambda spoil: spoil.__name__)
def test_what_cannot_be_used_is_one_line_that_names_the_file(figaro, spoil, caplog):
    message = spoil(figaro)
    with pytest.raises(AnnotationError, match=message) as caught:
        LABELLED["figaro1k"](figaro, classes=HAIR)
    assert "\n" not in str(caught.value)
    assert str(figaro.parent) not in str(caught.value)
    left: list[AnnotationError] = []
    found = LABELLED["figaro1k"](figaro, classes=HAIR, skip_bad=True, on_skip=left.append)
    assert len(found) == 3
    assert [str(error) for error in left] == [str(caught.value)]
    with caplog.at_level(logging.WARNING):
        LABELLED["figaro1k"](figaro, classes=HAIR, skip_bad=True)
    assert "Frame00002" in caplog.text


def test_a_picture_that_breaks_off_is_found_when_it_is_read(figaro):
    path = figaro / "Original/Testing/Frame00003-org.jpg"
    save(path, picture(120, 80))
    save(figaro / "GT/Testing/Frame00003-gt.png", np.zeros((80, 120)))
    path.write_bytes(path.read_bytes()[:-2000])
    (one,) = LABELLED["figaro1k"](figaro, folders=["Testing"], classes=HAIR)
    with pytest.raises(ImageError, match=r"Frame00003-org\.jpg is broken"):
        one.read()
    with pytest.raises(AnnotationError, match=r"Frame00003-org\.jpg is broken"):  # so that it can be left out
        read_pair(one)


def test_a_mask_turned_with_its_photos_exif_is_the_photos_size(figaro):
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn: 8 x 12 as stored, 12 x 8 as seen
    path = figaro / "Original/Testing/Frame00003-org.jpg"
    Image.fromarray(picture(8, 12).astype(np.uint8)).save(path, exif=exif)
    (one,) = LABELLED["figaro1k"](figaro, folders=["Testing"], classes=HAIR)
    assert one.read()[0].shape == (8, 12, 3)


@pytest.mark.parametrize("name", LABELLED)
def test_an_empty_or_missing_folder_is_refused_with_what_was_expected(tmp_path, name):
    reader = LABELLED[name]
    with pytest.raises(BadInputError, match="holds no labelled pictures"):
        reader(tmp_path, classes=HAIR)
    with pytest.raises(BadInputError, match="does not exist"):
        reader(tmp_path / "none", classes=HAIR)
    with pytest.raises(BadInputError, match="a list, such as"):
        reader(tmp_path, folders="train", classes=HAIR)
    assert reader.licence


def test_a_part_that_is_not_there_is_refused_with_those_that_are(figaro, portraits):
    for name, root, parts in (
        ("figaro1k", figaro, ("Training", "Testing")),
        ("celebamask", portraits, ("train", "val")),
    ):
        with pytest.raises(BadInputError, match="folder 'test' is not in") as caught:
            LABELLED[name](root, folders=["test"], classes=HAIR)
        assert caught.value.choices == parts


def test_two_files_of_one_name_are_refused(portraits):
    shutil.copy(portraits / "val/images/0001.jpg", portraits / "val/images/0001.jpeg")
    with pytest.raises(AnnotationError, match="two files of one name"):
        LABELLED["celebamask"](portraits, classes=FACE)


def test_drawn_faces_come_back_from_disk_as_they_were_drawn(tmp_path):
    write_drawn(tmp_path / "train", count=2, seed=5, size=48)
    write_drawn(tmp_path / "test", count=1, seed=6, size=48)
    found = LABELLED["drawn"](tmp_path, folders=["train"], classes=FACE)
    assert [one.name for one in found] == ["train/00000", "train/00001"]
    for number, one in enumerate(found):
        face = render_face(int(np.random.SeedSequence([5, number]).generate_state(1)[0]), 48)
        image, labels = one.read()
        assert (image == face.image).all()
        assert (np.array(PARSING_CLASSES)[face.labels] == np.char.replace(np.array(FACE.names)[labels], " ", "_")).all()
    hair = LABELLED["drawn"](tmp_path, folders=["train"], classes=HAIR)
    assert (hair[1].read_labels() == (face.labels == 2)).all()
    with pytest.raises(BadInputError):
        write_drawn(tmp_path / "train", count=1)
    with pytest.raises(BadInputError, match="0 faces"):
        write_drawn(tmp_path / "more", count=0)


def test_the_face_box_spans_brows_to_chin_as_landmarks_do():
    """Drawn faces have both. The labels' box reaches further than the points: the thickness of a brow, ears."""
    for seed in (1, 2, 3):
        face = render_face(seed, 128)
        box = face_box(face.labels, FACE)
        low, high = face.points.min(0), face.points.max(0)
        side = (high - low).max()
        assert abs(box.y0 - low[1]) < 0.12 * side
        assert abs(box.y1 - high[1]) < 0.12 * side
        assert box.x0 < low[0] + 0.12 * side
        assert box.x1 > high[0] - 0.12 * side


def test_the_face_box_by_hand():
    labels = np.zeros((10, 12), np.uint8)
    labels[0:3] = 2  # hair, above and across
    labels[2:9, 3:8] = 1  # skin
    labels[4, 4] = 5  # a brow
    assert tuple(face_box(labels, FACE)) == (2.5, 3.5, 7.5, 8.5)
    labels[labels == 5] = 1
    assert tuple(face_box(labels, FACE)) == (2.5, 1.5, 7.5, 8.5)
    with pytest.raises(AnnotationError, match=r"val/0001: no pixel of a face"):
        face_box(np.full((4, 4), 2, np.uint8), FACE, "val/0001")


def test_the_hash_knows_names_pictures_labels_and_classes_but_no_order(figaro, portraits):
    found = LABELLED["figaro1k"](figaro, classes=HAIR)
    first = labelled_hash(found)
    assert labelled_hash(found[::-1]) == first
    assert labelled_hash(found[1:]) != first
    assert labelled_hash(LABELLED["celebamask"](portraits, classes=HAIR)) != labelled_hash(
        LABELLED["celebamask"](portraits, classes=FACE)
    )
    moved = figaro.parent / "elsewhere"
    figaro.rename(moved)
    assert labelled_hash(LABELLED["figaro1k"](moved, classes=HAIR)) == first
    for path in (moved / "Original/Training/Frame00001-org.jpg", moved / "GT/Training/Frame00001-gt.png"):
        before = path.read_bytes()
        path.write_bytes(before + b"\0")
        assert labelled_hash(LABELLED["figaro1k"](moved, classes=HAIR)) != first
        path.write_bytes(before)
    source = labelled_source(found[:0] or LABELLED["figaro1k"](moved, classes=HAIR), name="f", split="s", licence="l")
    assert (source.faces, source.sha256) == (4, first)
    with pytest.raises(BadInputError):
        labelled_hash([])


@pytest.mark.real
def test_real_figaro_is_the_official_split_and_a_third_is_hair(data_root):
    sizes = {}
    for part in ("Training", "Testing"):
        found = LABELLED["figaro1k"](data_root, folders=[part], classes=HAIR)
        sizes[part] = len(found)
        share = np.mean([one.read_labels().mean() for one in found[::10]])
        assert 0.25 < share < 0.45
    assert sizes == {"Training": 840, "Testing": 210}


@pytest.mark.real
def test_real_left_is_the_subjects_left(data_root):
    found = LABELLED["celebamask"](data_root, folders=["val"], classes=FACE)
    assert len(found) == 100
    for one in found[::7]:
        image, labels = one.read()
        assert image.shape[:2] == labels.shape
        for left, right in ((4, 5), (6, 7)):
            if (labels == left).any() and (labels == right).any():
                assert np.nonzero(labels == left)[1].mean() > np.nonzero(labels == right)[1].mean(), one.name
