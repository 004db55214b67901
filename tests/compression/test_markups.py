"""Mark-ups are fixed matrices of the 68 points; sets that show one of them take turns."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pocketface.compression.training.markups import POINT_MARKUPS, Turns, deal, derive, markup_matrix, one_set
from pocketface.sdk.errors import AnnotationError, BadInputError, UnknownNameError
from pocketface.sdk.schemes.registry import load_scheme


def drawn(count: int = 3) -> torch.Tensor:
    return torch.randn(count, 68, 2, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("markup", POINT_MARKUPS)
def test_each_matrix_has_its_number_of_rows_of_sum_one(markup: str):
    matrix = markup_matrix(markup)
    assert matrix.shape == (int(markup), 68)
    torch.testing.assert_close(matrix.sum(1), torch.ones(int(markup)))
    assert (matrix >= 0).all()


def test_five_points_are_eye_centres_nose_tip_and_mouth_corners():
    points = drawn()
    by_hand = torch.stack(
        [points[:, 36:42].mean(1), points[:, 42:48].mean(1), points[:, 30], points[:, 48], points[:, 54]], 1
    )
    torch.testing.assert_close(derive(points, "5"), by_hand)


def test_nineteen_points_hold_the_five_and_their_mouth_is_the_middle_of_the_inner_lips():
    points = drawn()
    nineteen, five = derive(points, "19"), derive(points, "5")
    torch.testing.assert_close(nineteen[:, [7, 10, 13, 15, 17]], five)
    torch.testing.assert_close(nineteen[:, 16], (points[:, 62] + points[:, 66]) / 2)
    torch.testing.assert_close(nineteen[:, 18], points[:, 8])


@pytest.mark.parametrize("markup", POINT_MARKUPS)
def test_a_mirrored_face_has_the_mirrored_points_of_every_mark_up(markup: str):
    """Whatever the order: the set of points is symmetric under the scheme's flip."""
    flip = list(load_scheme("ibug68").flip)
    matrix = markup_matrix(markup)
    rows = {tuple(np.round(row, 5)) for row in matrix.numpy()}
    assert rows == {tuple(np.round(row, 5)) for row in matrix[:, flip].numpy()}


def test_what_a_set_has_not_is_refused_by_name():
    with pytest.raises(AnnotationError, match=r"CelebA.*mark-up 5.*mark-up 68"):
        derive(drawn()[:, :5], "68", have="5", name="CelebA")
    with pytest.raises(AnnotationError, match="CelebA"):
        derive(drawn(), "68", have="5", name="CelebA")
    with pytest.raises(UnknownNameError, match="19"):
        derive(drawn(), "21")
    first, second = deal([f"face {i}" for i in range(40)], ["68", "5"])
    assert first.points(drawn(), "68").shape == (3, 68, 2)
    with pytest.raises(AnnotationError, match=r"training set 2 of 2 has no annotations of mark-up 68"):
        second.points(drawn(), "68")


def test_dealing_gives_each_face_to_one_set_which_shows_its_own_mark_up_alone():
    names = [f"face {i}" for i in range(400)]
    sets = deal(names, ["68", "19", "5", "pose"])
    assert sorted(np.concatenate([item.rows for item in sets])) == list(range(400))
    assert all(70 <= len(item.rows) <= 130 for item in sets)
    assert [list(item.visible(drawn())) for item in sets] == [["68"], ["19"], ["5"], []]
    longer = deal([*names, "one more"], ["68", "19", "5", "pose"])
    for before, after in zip(sets, longer, strict=True):
        assert list(after.rows[: len(before.rows)]) == list(before.rows)


def test_sets_take_turns_batch_by_batch_in_an_order_of_seed_and_epoch_alone():
    sets = deal([f"face {i}" for i in range(100)], ["68", "5", "pose"])
    order, again = Turns(sets, 4, seed=1), Turns(sets, 4, seed=1)
    order.set_epoch(2)
    again.set_epoch(2)
    faces = list(order)
    assert faces == list(again)
    assert len(faces) == len(order) == 12 * (min(len(item.rows) for item in sets) // 4)
    assert len(set(faces)) == len(faces)
    for place, batch in enumerate(np.array(faces).reshape(-1, 4)):
        assert set(batch) <= set(sets[place % 3].rows)
    again.set_epoch(3)
    assert faces != list(again)


def test_a_set_smaller_than_a_batch_is_refused_by_its_mark_up():
    sets = deal([f"face {i}" for i in range(12)], ["68", "5"])
    with pytest.raises(BadInputError, match=r"mark-up (68|5)\) has \d+ faces"):
        Turns(sets, 12, seed=0)


def test_one_set_shows_everything():
    (only,) = one_set(7, ["68", "19", "pose"])
    assert list(only.rows) == list(range(7))
    assert list(only.visible(drawn())) == ["68", "19"]
