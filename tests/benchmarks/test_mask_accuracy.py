"""Bundles of masks on labelled pictures, still and filmed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from mask_factory import make_mask_bundle

from pocketface.benchmarks.data.drawn_labels import write_drawn
from pocketface.benchmarks.data.labelled import Labelled, labelled_box
from pocketface.benchmarks.data.motion import MotionSpec, framed, still_crops
from pocketface.benchmarks.data.registry import LABELLED
from pocketface.benchmarks.mask_accuracy import evaluate_masks
from pocketface.benchmarks.mask_video import evaluate_mask_video, noisy
from pocketface.sdk.classes import load_classes
from pocketface.sdk.errors import BadInputError
from pocketface.sdk.geometry import Box, Crop
from pocketface.sdk.mask_predictor import load_mask

SHORT = MotionSpec(frames=4, size=48)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn")
    write_drawn(folder / "test", count=3, seed=5, size=64)
    return folder


def pictures(root: Path, classes: str) -> list[Labelled]:
    return LABELLED["drawn"](root, folders=("test",), classes=load_classes(classes))


def test_figures_are_those_of_counting_by_hand(root: Path, tmp_path: Path):
    predictor, found = load_mask(make_mask_bundle(tmp_path / "b")), pictures(root, "hair2")
    measured = evaluate_masks(predictor, found)
    ious, both = [], np.zeros((2, 2))
    for picture in found:
        image, labels = picture.read()
        said = predictor(image)[0].labels
        counts = np.array([[np.sum((labels == a) & (said == b)) for b in (0, 1)] for a in (0, 1)])
        both += counts
        ious.append(np.mean([counts[c, c] / (counts[c].sum() + counts[:, c].sum() - counts[c, c]) for c in (0, 1)]))
    np.testing.assert_allclose(measured.each, 100 * np.array(ious))
    assert measured.whole.miou_per_image == pytest.approx(100 * np.mean(ious))
    assert measured.whole.accuracy == pytest.approx(100 * np.trace(both) / both.sum())
    assert measured.hair is not None
    assert measured.borders is not None
    assert measured.hair.pooled.precision == pytest.approx(100 * both[1, 1] / both[:, 1].sum())


def test_a_settled_mask_has_seen_itself(root: Path, tmp_path: Path):
    folder, found = make_mask_bundle(tmp_path / "b", classes="face11", gain=4.0), pictures(root, "face11")
    first, settled = (evaluate_masks(load_mask(folder), found, borders=False, settle=count) for count in (0, 2))
    assert first.borders is None
    assert first.whole.accuracy != settled.whole.accuracy
    predictor, right, all_ = load_mask(folder), 0, 0
    for picture in found:
        image, labels = picture.read()
        box = labelled_box(labels, predictor.classes)
        for number in range(3):
            (mask,) = predictor(image, [box], cut=number == 0)
        right, all_ = right + int((mask.labels == labels).sum()), all_ + labels.size
    assert settled.whole.accuracy == pytest.approx(100 * right / all_)


def test_noise_makes_masks_flicker_and_leaves_the_floor(root: Path, tmp_path: Path):
    folder, found = make_mask_bundle(tmp_path / "b", classes="face11"), pictures(root, "face11")
    still, shaky = (evaluate_mask_video(load_mask(folder), found, noise=noise, motion=SHORT) for noise in (0.0, 40.0))
    assert shaky.flicker.overall > still.flicker.overall
    assert shaky.floor == still.floor
    assert still.flicker.pairs == 3 * (SHORT.frames - 1)
    assert evaluate_mask_video(load_mask(folder), found, noise=40.0, motion=SHORT) == shaky


def test_a_memory_makes_masks_steadier(root: Path, tmp_path: Path):
    found, flicker = pictures(root, "face11"), {}
    for gain in (0.0, 20.0):  # each class is told to stay what it was
        folder = make_mask_bundle(tmp_path / f"b{gain:g}", classes="face11", gain=gain)
        flicker[gain] = evaluate_mask_video(load_mask(folder), found, noise=30.0, motion=SHORT).flicker.overall
    assert flicker[20.0] < 0.5 * flicker[0.0]


def test_hair_is_filmed_whole_and_a_face_with_its_surroundings(root: Path, tmp_path: Path):
    (picture, *_) = pictures(root, "hair2")
    hair = evaluate_mask_video(load_mask(make_mask_bundle(tmp_path / "h")), [picture], motion=SHORT)
    shown = sum(item.pixels for item in hair.accuracy.classes)
    # The first frame is the whole picture; the others lose what the camera's movement leaves out.
    assert 0.5 * SHORT.frames * SHORT.size**2 < shown <= SHORT.frames * SHORT.size**2
    _, labels = picture.read()
    crops = still_crops(SHORT, Crop.from_box(Box.of_image(64, 64), 0.5).box, 10.0, name="x")
    assert crops[0] == Crop(31.5, 31.5, 64.0, 0.0)
    assert labels.shape == (64, 64)


def test_a_box_lies_in_a_frame_where_its_corners_do():
    crop, box = Crop(30.0, 20.0, 40.0), Box(20.0, 15.0, 30.0, 25.0)
    found = framed(box, crop, 80)
    for x, y, corner in ((box.x0, box.y0, found[:2]), (box.x1, box.y1, found[2:])):
        wanted = (crop.to_normalised([(x, y)])[0] + 0.5) * 80 - 0.5
        np.testing.assert_allclose(corner, wanted, atol=1e-4)


def test_noise_has_the_deviation_it_is_given():
    grey = np.full((200, 200, 3), 128, np.uint8)
    random = np.random.RandomState(0)
    assert noisy(grey, 0.0, random) is grey
    made = noisy(grey, 8.0, random).astype(np.float64)
    assert made.std() == pytest.approx(8.0, rel=0.02)
    assert abs(made.mean() - 128) < 0.2


def test_no_pictures_are_refused(tmp_path: Path):
    with pytest.raises(BadInputError, match="no picture"):
        evaluate_masks(load_mask(make_mask_bundle(tmp_path / "b")), [])
