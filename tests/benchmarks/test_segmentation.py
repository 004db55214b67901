"""Figures of label maps against 4 x 4 cases by hand, scikit-learn on flattened arrays, and slow loops."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn import metrics as sk

from pocketface.benchmarks.hair_accuracy import hair_figures
from pocketface.benchmarks.segmentation import OVERALL, Confusion, figures, group_f1
from pocketface.sdk.classes import load_classes
from pocketface.sdk.errors import BadInputError, UnknownNameError

FACE = load_classes("face11").names
TRUTH = np.array([[0, 0, 1, 1], [0, 0, 1, 1], [0, 0, 1, 1], [0, 255, 1, 1]], np.uint8)
SAID = np.array([[0, 0, 1, 1], [0, 1, 1, 1], [0, 1, 1, 1], [0, 1, 0, 1]], np.uint8)
# Counted 15: hair 8 in the truth, 9 in the prediction, 7 in both.


def confusion(*pairs, classes=("background", "hair")):
    counted = Confusion(classes)
    for place, (said, true) in enumerate(pairs):
        counted.add(said, true, name=f"picture {place}")
    return counted


def drawn(seed: int, classes: int = 5, shape: tuple[int, int] = (17, 23), ignore: bool = True):
    rng = np.random.default_rng(seed)
    true = rng.integers(0, classes, shape).astype(np.uint8)
    said = np.where(rng.random(shape) < 0.6, true, rng.integers(0, classes, shape)).astype(np.uint8)
    if ignore:
        true[rng.random(shape) < 0.1] = 255
    return said, true


def test_a_four_by_four_case_by_hand():
    got = figures(confusion((SAID, TRUTH)))
    hair = got.of("hair")
    assert hair.pixels == 8
    assert hair.precision == pytest.approx(100 * 7 / 9)
    assert hair.recall == pytest.approx(100 * 7 / 8)
    assert hair.f1 == pytest.approx(100 * 14 / 17)
    assert hair.iou == pytest.approx(100 * 7 / 10)
    assert got.of("background").iou == pytest.approx(100 * 5 / 8)
    assert got.miou == got.miou_per_image == pytest.approx(50 * (7 / 10 + 5 / 8))
    assert got.accuracy == got.accuracy_per_image == pytest.approx(100 * 12 / 15)
    table = hair_figures(confusion((SAID, TRUTH)))
    assert table.pooled == table.per_image
    assert table.pooled.precision == hair.precision
    assert table.pooled.f1 == hair.f1
    assert table.pooled.miou == pytest.approx(got.miou)
    assert table.pooled.accuracy == pytest.approx(80)
    assert table.pooled.hair_iou == pytest.approx(70)


def test_pooled_figures_weigh_pictures_by_their_pixels_and_figures_per_image_do_not():
    # 4 pixels all right (hair only), 16 pixels all hair in the truth and none found.
    small, large = np.ones((2, 2), np.uint8), np.ones((4, 4), np.uint8)
    counted = confusion((small, small), (np.zeros_like(large), large))
    got, hair = figures(counted), hair_figures(counted)
    assert got.accuracy == pytest.approx(20)
    assert got.accuracy_per_image == pytest.approx(50)
    assert got.miou == pytest.approx((100 * 4 / 20 + 0) / 2)
    assert got.miou_per_image == pytest.approx((100 + 0) / 2)  # no background in the first: hair alone counts
    assert hair.per_image.precision == pytest.approx(50)  # 0 / 0 where hair is and none was found is 0
    assert hair.pooled.precision == pytest.approx(100)


@pytest.mark.parametrize("seed", range(4))
def test_every_figure_agrees_with_scikit_learn(seed):
    said, true = drawn(seed)
    kept = true != 255
    t, p = true[kept], said[kept]
    counted = confusion((said, true), classes="abcde")
    np.testing.assert_array_equal(counted.counts[0], sk.confusion_matrix(t, p))
    got = figures(counted)
    precision, recall, f1, support = sk.precision_recall_fscore_support(t, p, zero_division=0)
    iou = sk.jaccard_score(t, p, average=None)
    for row, *values in zip(got.classes, precision, recall, f1, iou, strict=True):
        assert (row.precision, row.recall, row.f1, row.iou) == pytest.approx([100 * value for value in values])
    assert [row.pixels for row in got.classes] == support.tolist()
    assert got.mean_f1 == pytest.approx(100 * f1.mean())
    assert got.accuracy == pytest.approx(100 * sk.accuracy_score(t, p))


def test_pictures_add_up_whatever_their_sizes():
    pictures = [drawn(seed, shape=(5 + seed, 9)) for seed in range(3)]
    flat = tuple(np.concatenate([pair[side].ravel() for pair in pictures])[None] for side in (0, 1))
    together, once = (figures(confusion(*pairs, classes="abcde")) for pairs in (pictures, [flat]))
    assert together.classes == once.classes
    assert together.images == 3
    single = [figures(confusion(pair, classes="abcde")).miou for pair in pictures]
    assert together.miou_per_image == pytest.approx(np.mean(single))


def test_a_right_mask_has_100_everywhere_and_swapping_keeps_f1_and_iou():
    said, true = drawn(7, ignore=False)
    right = figures(confusion((true, true), classes="abcde"))
    assert {right.miou, right.mean_f1, right.accuracy, right.miou_per_image} == {100.0}
    one, other = (figures(confusion(pair, classes="abcde")) for pair in ((said, true), (true, said)))
    for a, b in zip(one.classes, other.classes, strict=True):
        assert (a.f1, a.iou, a.precision) == pytest.approx((b.f1, b.iou, b.recall))


def test_a_class_in_neither_has_no_figures_and_one_in_either_has_zeros():
    got = figures(confusion((np.array([[0, 1]]), np.array([[0, 2]])), classes="abcd"))
    assert (got.of("d").precision, got.of("d").f1, got.of("d").iou) == (None, None, None)
    assert (got.of("b").precision, got.of("b").recall, got.of("b").f1) == (0, 0, 0)
    assert (got.of("c").precision, got.of("c").recall, got.of("c").iou) == (0, 0, 0)
    assert got.miou == pytest.approx(100 / 3)
    json.dumps(got.to_dict(), allow_nan=False)
    cells = [list(column.cells) for column in got.table().columns]
    assert [column[3] for column in cells] == ["d", "0", "-", "-", "-", "-"]
    assert [column[0] for column in cells] == ["a", "1", "100.00", "100.00", "100.00", "100.00"]


def test_what_is_predicted_under_ignored_pixels_does_not_count():
    other = SAID.copy()
    other[3, 1] = 200
    np.testing.assert_array_equal(confusion((other, TRUTH)).counts, confusion((SAID, TRUTH)).counts)


@pytest.mark.parametrize("convention", OVERALL)
def test_overall_scores_agree_with_a_slow_loop_over_pixels(convention):
    rng = np.random.default_rng(5)
    true, said = rng.integers(0, 11, (2, 12, 12)).astype(np.uint8)
    tp = fp = fn = 0
    for group in OVERALL[convention]:
        for y, x in np.ndindex(12, 12):
            is_true, is_said = FACE[true[y, x]] in group, FACE[said[y, x]] in group
            tp, fp, fn = tp + (is_true and is_said), fp + (is_said and not is_true), fn + (is_true and not is_said)
    got = figures(confusion((said, true), classes=FACE), overall=[convention])
    assert got.overall == pytest.approx({convention: 100 * 2 * tp / (2 * tp + fp + fn)})


def test_conventions_differ_as_their_names_say():
    brow_left, brow_right, eye, hair = (FACE.index(name) for name in ("left brow", "right brow", "left eye", "hair"))
    true = np.array([[brow_left, brow_left, hair, 0]])
    said = np.array([[brow_right, eye, hair, 0]])
    got = figures(confusion((said, true), classes=FACE), overall=list(OVERALL)).overall
    assert got["parts"] == pytest.approx(100 * 2 / 4)  # sides may be swapped, an eye is no brow
    assert got["parts as one"] == pytest.approx(100)
    assert got["parts and skin"] == pytest.approx(got["parts"])
    assert got["parts, skin and hair"] == pytest.approx(100 * 4 / 6)


def test_classes_without_parts_have_no_overall_score():
    assert figures(confusion((SAID, TRUTH))).overall == {}
    assert np.isnan(group_f1(np.eye(2, dtype=np.int64), ("background", "hair"), (("nose",),)))


def test_bad_masks_are_refused_by_name():
    counted = Confusion(("background", "hair"))
    with pytest.raises(BadInputError, match=r"frame7: predicted mask of shape \(4, 4\) against true .* \(2, 4\)"):
        counted.add(SAID, TRUTH[:2], name="frame7")
    with pytest.raises(BadInputError, match="frame7: true class 9 at x 1, y 0, expected 0 to 1, or 255"):
        counted.add(np.zeros((1, 2), int), np.array([[0, 9]]), name="frame7")
    with pytest.raises(BadInputError, match="predicted class 255 at x 0"):
        counted.add(np.array([[255, 0]]), np.array([[0, 0]]))
    with pytest.raises(BadInputError, match="mask of float64"):
        counted.add(np.zeros((1, 1)), np.zeros((1, 1), int))
    with pytest.raises(BadInputError, match="no picture"):
        figures(counted)
    counted.add(np.array([[0]]), np.array([[255]]), name="empty")
    with pytest.raises(BadInputError, match="empty: every pixel is ignored"):
        figures(counted)
    with pytest.raises(UnknownNameError, match="parts"):
        figures(confusion((SAID, TRUTH)), overall=["part"])
    with pytest.raises(UnknownNameError):
        hair_figures(Confusion(("background", "beard")))
