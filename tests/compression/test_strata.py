"""Faces drawn evenly over their traits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketface.compression.training.strata import stratified
from pocketface.sdk.errors import BadInputError


def names(count: int) -> list[str]:
    return [f"set/{number}" for number in range(count)]


def test_rare_faces_are_drawn_as_often_as_common_ones():
    pose = np.concatenate([np.linspace(-10, 10, 900), np.linspace(40, 60, 100)])  # one in ten is turned
    chosen = np.array(stratified(names(1000), {"pose": pose}, 40, bins=2))
    assert int((pose[chosen] > 25).sum()) == 20


def test_the_grid_of_two_traits_by_hand():
    pose = np.array([0.0, 0, 0, 0, 0, 0, 1, 1])
    light = np.array([0.0, 0, 0, 0, 0, 1, 0, 1])
    chosen = stratified(names(8), {"pose": pose, "light": light}, 4, bins=2)
    assert {(pose[i], light[i]) for i in chosen} == {(0, 0), (0, 1), (1, 0), (1, 1)}
    everyone = stratified(names(8), {"pose": pose, "light": light}, 100)
    assert everyone == list(range(8))


def test_a_single_odd_face_does_not_stretch_the_grid():
    light = np.concatenate([np.linspace(0, 100, 200), [1e6]])
    chosen = np.array(stratified(names(201), {"light": light}, 40))
    spans = np.histogram(light[chosen], bins=[0, 25, 50, 75, 1e7])[0]
    assert np.abs(spans - 10).max() <= 1


@given(st.integers(0, 60), st.integers(1, 80), st.integers(1, 5), st.randoms())
def test_faces_are_chosen_once_and_whatever_their_order(count: int, wanted: int, bins: int, random):
    values = [random.random() for _ in range(count)]
    own = names(count)
    if not count:
        return
    chosen = stratified(own, {"light": np.array(values)}, wanted, bins=bins)
    assert len(set(chosen)) == len(chosen) == min(wanted, count)
    assert chosen == sorted(chosen)
    order = list(range(count))
    random.shuffle(order)
    again = stratified([own[i] for i in order], {"light": np.array([values[i] for i in order])}, wanted, bins=bins)
    assert {own[order[i]] for i in again} == {own[i] for i in chosen}


def test_values_that_do_not_fit_are_refused():
    for values in (np.zeros(3), np.array([0.0, np.nan])):
        with pytest.raises(BadInputError, match="pose"):
            stratified(names(2), {"pose": values}, 1)
