"""Errors of masks by hand, their truth, and inputs beside the image."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pocketface.benchmarks.data.drawn_labels import write_drawn
from pocketface.benchmarks.data.labelled import labelled_box
from pocketface.benchmarks.data.registry import LABELLED
from pocketface.benchmarks.segmentation import Confusion, figures
from pocketface.converters.mask_kind import miou_error
from pocketface.converters.mask_reference import labelled_references, labels_on_grid
from pocketface.converters.parity import References, compare
from pocketface.converters.reference import references
from pocketface.converters.verdict import judge
from pocketface.sdk.classes import load_classes
from pocketface.sdk.errors import BadInputError
from pocketface.sdk.geometry import Box, Crop
from pocketface.sdk.manifest import OutputSpec, Preprocess, Stage, TensorSpec, Tolerances
from pocketface.sdk.mask_contract import previous_state

Array = NDArray[np.float32]
M = 4


def part(logits: Array, truth: NDArray | None = None, **more: Array) -> References:
    images = np.zeros((len(logits), 3, 8, 8), np.float32)
    return References(images, {"logits": logits}, truth, {"logits": "class_logits"}, more)


def logits_of(classes: int, *, seed: int = 0, count: int = 1) -> Array:
    return np.random.default_rng(seed).normal(0, 3, (count, classes, M, M)).astype(np.float32)


def stage(states: bool, classes: str = "hair2") -> Stage:
    kinds = load_classes(classes)
    shape = (1, len(kinds.names), M, M)
    image, previous = TensorSpec(name="image", shape=(1, 3, 8, 8)), TensorSpec(name="previous", shape=shape)
    return Stage(
        name="mask",
        task="segmentation",
        preprocess=Preprocess(size=8, mean=(0, 0, 0), std=(255, 255, 255)),
        inputs=(image, previous) if states else (image,),
        outputs=(OutputSpec(name="logits", shape=shape, decode="class_logits"),),
        states=(previous_state(shape),) if states else (),
        classes=kinds,
        parameters=0,
        flops=0,
        variants=(),
    )


def test_errors_are_of_probabilities_and_in_grey_levels() -> None:
    """exp(ln 3) to 1 is 0.75 to 0.25, where it was 0.5 to 0.5; one of 16 cells."""
    want = np.full((1, 2, M, M), 2, np.float32)
    found = want.copy()
    found[0, 1, 2, 3] += np.float32(math.log(3))
    result = compare(lambda _: {"logits": found}, variant="v", executor="e", faces=part(want))
    assert result.main.max_error == pytest.approx(0.25, abs=1e-6)
    assert result.main.mean_error == pytest.approx(0.25 / 16, abs=1e-6)
    assert (result.max_pixel_error, result.mean_pixel_error) == pytest.approx((63.75, 63.75 / 16), abs=1e-3)
    assert result.main.relative_error == pytest.approx(math.log(3) / 2, abs=1e-6)  # of the logits as they are
    assert "grey levels" in str(result)


def test_a_large_logit_that_is_larger_changes_nothing() -> None:
    want = np.zeros((1, 3, M, M), np.float32)
    want[:, 1] = 900
    result = compare(lambda _: {"logits": 1.1 * want}, variant="v", executor="e", faces=part(want))
    assert result.main.max_error == 0


def test_the_miou_of_a_picture_by_hand() -> None:
    """Found 0 0 / 1 1 where it is 0 1 / 1 255: class 0 is 1 of 2, class 1 1 of 2; class 2 occurs nowhere."""
    said = np.array([[0, 0], [1, 1]])
    logits = 5.0 * np.eye(3)[said].transpose(2, 0, 1)
    assert miou_error(logits, np.array([[0, 1], [1, 255]], np.uint8)) == pytest.approx(50)
    assert miou_error(logits, said) == 0


def test_the_task_error_is_the_metrics_of_pictures() -> None:
    want, found = logits_of(5, count=6), logits_of(5, seed=1, count=6)
    truth = np.random.default_rng(2).choice([0, 1, 2, 4, 255], (6, M, M)).astype(np.uint8)
    rows = iter(found[:, None])
    result = compare(lambda _: {"logits": next(rows)}, variant="v", executor="e", faces=part(want, truth))
    for logits, error in ((want, result.nme_reference), (found, result.nme)):
        counted = Confusion([f"class {number}" for number in range(5)])
        for one, labels in zip(logits, truth, strict=True):
            counted.add(one.argmax(axis=0).astype(np.uint8), labels)
        assert error == pytest.approx(100 - figures(counted).miou_per_image)
    assert judge(result, Tolerances(max_nme_increase=result.nme_increase)).status == "passed"  # type: ignore[arg-type]
    reason = judge(result, Tolerances(max_nme_increase=-100)).reason
    assert re.fullmatch(r"mIoU error increase .* > -100 percentage points", reason)


@pytest.mark.parametrize(
    "truth",
    [
        np.zeros((1, 2, M, M), np.uint8),  # the output's shape
        np.full((1, M, M), 2, np.uint8),  # no class
        np.full((1, M, M), 255, np.uint8),  # nothing that counts
        np.full((1, M, M), 0.5, np.float32),
        np.full((1, M, M), np.nan, np.float32),
    ],
)
def test_a_truth_that_is_no_labels_is_refused(truth: NDArray) -> None:
    with pytest.raises(BadInputError, match="of classes or 255"):
        part(np.zeros((1, 2, M, M), np.float32), truth)


@pytest.mark.parametrize("shape", [(1, 1, M, M), (1, 2, M, M + 1), (1, 2, M)])
def test_logits_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(BadInputError, match="references of shapes"):
        part(np.zeros(shape, np.float32))


def test_a_run_is_given_the_inputs_that_belong_to_the_image() -> None:
    want, previous = logits_of(2, count=3), logits_of(2, seed=4, count=3)
    given: list[Array] = []

    def run(tensor: Array, others: dict[str, Array]) -> dict[str, Array]:
        given.append(others["previous"])
        return {"logits": want[len(given) - 1 : len(given)]}

    result = compare(run, variant="v", executor="e", faces=part(want, previous=previous))
    assert result.main.max_error == 0
    assert np.array_equal(np.concatenate(given), previous)


def test_inputs_that_do_not_belong_to_the_images_are_refused() -> None:
    want = logits_of(2, count=3)
    with pytest.raises(BadInputError, match=r"previous \(2, 2, 4, 4\)"):
        part(want, previous=want[:2])
    with pytest.raises(BadInputError, match="previous hold NaN"):
        part(want, previous=np.full_like(want, np.nan))


def test_references_begin_without_a_mask_unless_one_is_given() -> None:
    images = np.zeros((2, 3, 8, 8), np.float32)

    def run(tensor: Array, others: dict[str, Array]) -> dict[str, Array]:
        return {"logits": others["previous"] + 1}

    assert (references(run, images, stage=stage(True)).main == 1).all()
    given = logits_of(2, count=2)
    found = references(run, images, stage=stage(True), others={"previous": given})
    assert np.array_equal(found.main, given + 1)
    assert np.array_equal(found.others["previous"], given)
    assert not references(lambda _: {"logits": given[:1]}, images, stage=stage(False)).others


def test_labels_on_a_grid_match_a_slow_loop() -> None:
    """A crop that is turned and reaches beyond the picture."""
    labels = np.random.default_rng(0).integers(0, 5, (20, 30)).astype(np.uint8)
    crop, size = Crop(24, 6, 18, 20), 7
    found, turn = labels_on_grid(labels, crop, size), math.radians(20)
    assert 255 in found
    for i in range(size):
        for j in range(size):
            u, v = ((at + 0.5) / size - 0.5 for at in (j, i))
            x = 24 + 18 * (u * math.cos(turn) - v * math.sin(turn))
            y = 6 + 18 * (u * math.sin(turn) + v * math.cos(turn))
            column, row = round(x), round(y)
            inside = 0 <= column < 30 and 0 <= row < 20
            assert found[i, j] == (labels[row, column] if inside else 255)


def test_labelled_pictures_become_references(tmp_path: Path) -> None:
    write_drawn(tmp_path / "test", count=2, size=32)
    classes = load_classes("face11")
    pictures = LABELLED["drawn"](tmp_path, classes=classes)
    answer = logits_of(11)
    found = labelled_references(lambda _, others: {"logits": answer}, pictures, stage(True, "face11"))
    image, labels = pictures[1].read()
    rows, columns = np.nonzero((labels > 0) & (labels != classes.names.index("hair")))
    box = labelled_box(labels, classes, "x")
    assert box.width == pytest.approx(box.height)
    assert box.x0 < columns.min()
    assert columns.max() < box.x1
    assert rows.max() < box.y1
    crop = Crop.from_box(box)
    assert found.truth is not None
    assert np.array_equal(found.truth[1], labels_on_grid(labels, crop, M))
    assert (found.others["previous"] == 0).all()
    assert found.inputs.shape == (2, 3, 8, 8)
    assert not np.array_equal(found.inputs[0], found.inputs[1])
    hair = LABELLED["drawn"](tmp_path, classes=load_classes("hair2"))[0]
    assert labelled_box(hair.read()[1], load_classes("hair2"), "x") == Box.of_image(32, 32)
    assert image.shape == (32, 32, 3)
