from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pocketface.benchmarks.data.labelled import Labelled
from pocketface.compression.label_cache import build_label_cache, halve_labels
from pocketface.sdk.classes import load_classes
from pocketface.sdk.errors import AnnotationError, BadInputError
from pocketface.sdk.preprocess import halve

FACE = load_classes("face11")
SAME = np.arange(256).astype(np.int16)


def entry(folder: Path, name: str, image: np.ndarray, labels: np.ndarray) -> Labelled:
    Image.fromarray(image.astype(np.uint8)).save(folder / f"{name}.png")
    Image.fromarray(labels.astype(np.uint8)).save(folder / f"{name}-labels.png")
    return Labelled(f"t/{name}", folder / f"{name}.png", folder / f"{name}-labels.png", SAME)


@pytest.fixture
def entries(tmp_path: Path) -> list[Labelled]:
    """Three sizes, with a face (skin and a brow) in each."""
    rng, made = np.random.default_rng(0), []
    for number, (width, height) in enumerate([(30, 20), (17, 41), (64, 50)]):
        labels = np.zeros((height, width))
        labels[4:-3, 5:-2] = 1
        labels[6, 7] = 5
        made.append(entry(tmp_path, str(number), rng.integers(0, 256, (height, width, 3)), labels))
    return made


def test_pictures_and_labels_are_kept_as_they_are(entries: list[Labelled]):
    cache = build_label_cache(entries, classes=FACE)
    assert (len(cache), cache.names) == (3, ["t/0", "t/1", "t/2"])
    assert cache.pictures.images.shape == (3, 3, 64, 64)
    assert cache.sizes.tolist() == [[30, 20], [17, 41], [64, 50]]
    for row, one in enumerate(entries):
        image, labels = one.read()
        height, width = labels.shape
        assert (cache.pictures.images[row, :, :height, :width].permute(1, 2, 0).numpy() == image).all()
        assert (cache.labels[row, :height, :width].numpy() == labels).all()
        assert not cache.pictures.images[row, :, height:].any()
        assert not cache.pictures.images[row, :, :, width:].any()
    assert (cache.labels.dtype, cache.pictures.images.dtype) == (torch.uint8, torch.uint8)


def test_views_are_taken_around_the_picture_or_the_face(entries: list[Labelled]):
    # The whole picture spans -0.5 to width - 0.5; the face's columns are 5 to width - 3, its rows 6 to height - 4.
    whole = build_label_cache(entries, classes=FACE).boxes
    assert whole.tolist() == [[14.5, 9.5, 30, 20], [8, 20, 17, 41], [31.5, 24.5, 64, 50]]
    face = build_label_cache(entries, classes=FACE, frame="face").boxes
    assert face[0].tolist() == [16, 11, 23, 11]
    assert face[2].tolist() == [33, 26, 57, 41]


def test_large_pictures_are_halved_with_labels_and_box(entries: list[Labelled]):
    cache = build_label_cache(entries, classes=FACE, frame="face", max_side=32)
    assert cache.sizes.tolist() == [[30, 20], [9, 21], [32, 25]]
    image, labels = entries[2].read()
    want = np.rint(halve(image.astype(np.float32)))
    assert (cache.pictures.images[2, :, :25, :32].permute(1, 2, 0).numpy() == want).all()
    # Skin fills columns 5 to 61 and rows 4 to 46. Column 5 and rows 46 share their blocks with background, two to two,
    # and the first in reading order is the background's column 4 and the skin's row 46; the brow (6, 7) is outvoted.
    assert cache.labels[2, 2:24, 3:31].unique().tolist() == [1]
    assert not cache.labels[2, :, :3].any()
    assert not cache.labels[2, :2].any()
    assert labels[6, 7] == 5


def test_a_halved_label_is_what_most_of_its_block_are():
    rng = np.random.default_rng(1)
    for height, width in ((6, 8), (5, 7), (1, 1)):
        labels = rng.integers(0, 3, (height, width)).astype(np.uint8)
        labels[rng.random(labels.shape) < 0.2] = 255
        got = halve_labels(labels)
        for y, x in np.ndindex(got.shape):
            rows, columns = (min(2 * y, height - 1), min(2 * y + 1, height - 1)), (2 * x, min(2 * x + 1, width - 1))
            block = [int(labels[i, j]) for i in rows for j in columns]
            votes = Counter(block)
            leaders = [value for value in block if votes[value] == max(votes.values())]
            assert got[y, x] == leaders[0], block


def test_what_cannot_be_used_is_named_or_left_out(entries: list[Labelled], tmp_path: Path):
    bald = entry(tmp_path, "bald", np.zeros((8, 8, 3)), np.full((8, 8), 2))
    entries[1].image.write_bytes(b"not a picture")
    with pytest.raises(AnnotationError, match=r"1\.png is not an image"):
        build_label_cache(entries, classes=FACE)
    left: list[AnnotationError] = []
    cache = build_label_cache([*entries, bald], classes=FACE, frame="face", skip_bad=True, on_skip=left.append)
    assert cache.names == ["t/0", "t/2"]
    assert "t/bald: no pixel of a face" in str(left[1])
    assert build_label_cache([bald], classes=FACE).names == ["t/bald"]
    with pytest.raises(BadInputError, match="no labelled picture"):
        build_label_cache([bald], classes=FACE, frame="face", skip_bad=True)


def test_a_copy_on_the_same_device_is_itself(entries: list[Labelled]):
    cache = build_label_cache(entries, classes=FACE)
    assert cache.to("cpu") is cache
    moved = cache.to("meta")
    assert {part.device.type for part in (moved.labels, moved.sizes, moved.boxes, moved.pictures.images)} == {"meta"}
