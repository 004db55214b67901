"""Layers that stay in float: on networks whose errors are known."""

from __future__ import annotations

import math

import pytest
from torch import nn

from pocketface.compression.quantize.sensitivity import layer_groups, search
from pocketface.sdk.errors import BadInputError

COSTS = {"a": 0.01, "b": 0.30, "c": 0.02, "d": 0.15, "e": 0.0}
GROUPS = [(name, 10 * number) for number, name in enumerate(COSTS, start=1)]


class Additive:
    """Every group in 8 bits costs its own; counts how often it was asked."""

    def __init__(self, **extra: float) -> None:
        self.costs, self.asked = {**COSTS, **extra}, list[tuple[str, ...]]()

    def __call__(self, keep: tuple[str, ...]) -> float:
        self.asked.append(keep)
        return sum(cost for name, cost in self.costs.items() if name not in keep)


@pytest.mark.parametrize(
    ("bound", "keep"),
    [(0.5, ()), (0.48, ()), (0.2, ("b",)), (0.05, ("b", "d")), (0.015, ("b", "d", "c")), (1e-9, ("b", "d", "c", "a"))],
)
def test_as_few_as_keep_the_bound(bound: float, keep: tuple[str, ...]):
    found = search(Additive(), GROUPS, bound)
    assert found.keep == keep
    assert found.reached
    assert found.increase == pytest.approx(sum(cost for name, cost in COSTS.items() if name not in keep))
    assert [effect.module for effect in found.effects] == ["b", "d", "c", "a", "e"]
    assert {effect.module: effect.relief for effect in found.effects} == pytest.approx(COSTS)
    assert {effect.module: effect.parameters for effect in found.effects} == dict(GROUPS)


def test_no_file_is_made_twice():
    trial = Additive()
    search(trial, GROUPS, 0.05)
    assert len(trial.asked) == len(set(trial.asked)) == 1 + 5 + 1


def test_a_bound_out_of_reach_is_not_claimed():
    # The rest costs 0.2, whatever stays in float.
    found = search(Additive(rest=0.2), GROUPS, 0.1)
    assert not found.reached
    assert found.increase == pytest.approx(0.2)
    assert found.keep == ("b", "d", "c", "a")
    assert "not kept" in str(found)


def test_what_makes_it_worse_is_left_out():
    def trial(keep: tuple[str, ...]) -> float:
        return {0: 0.5, 1: 0.3}.get(len(keep), 0.4)  # two in float are worse than one

    found = search(trial, GROUPS, 0.1)
    assert found.keep == ("a",)
    assert found.increase == 0.3
    worse = search(lambda keep: 0.5 + len(keep), GROUPS, 0.1)
    assert worse.keep == ()
    assert worse.increase == 0.5


def test_the_number_of_groups_in_float_can_be_limited():
    found = search(Additive(), GROUPS, 0.015, most=1)
    assert found.keep == ("b",)
    assert not found.reached


def test_nan_is_never_within_the_bound():
    assert not search(lambda keep: math.nan, GROUPS, 0.1).reached


def test_nothing_to_choose_from_is_refused():
    with pytest.raises(BadInputError, match="no layers"):
        search(Additive(), [], 0.1)


def test_groups_of_a_network():
    net = nn.Module()
    net.features = nn.Sequential(
        nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4)),
        nn.Sequential(nn.Conv2d(4, 4, 1), nn.Sequential(nn.Conv2d(4, 2, 1))),
        nn.ReLU(),
    )
    net.points = nn.Linear(2, 5)
    assert layer_groups(net) == [("features.0", 108), ("features.1", 20 + 10), ("points", 15)]
    assert layer_groups(net, depth=1, without=("points",)) == [("features", 138)]
    assert layer_groups(net, depth=3, without=("features.0",)) == [
        ("features.1.0", 20),
        ("features.1.1", 10),
        ("points", 15),
    ]
