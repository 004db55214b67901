"""The Pareto front, against its definition."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketface.benchmarks.pareto import dominated_by
from pocketface.sdk.errors import BadInputError

FIGURES = st.integers(0, 4).map(float)


def brute(points: dict[str, tuple[float, ...]]) -> set[str]:
    """Every pair, by the definition."""
    return {
        name
        for name, figures in points.items()
        if any(
            all(a <= b for a, b in zip(other, figures, strict=True))
            and any(a < b for a, b in zip(other, figures, strict=True))
            for other in points.values()
        )
    }


@given(st.lists(st.tuples(FIGURES, FIGURES, FIGURES), max_size=12))
def test_as_its_definition_says(figures: list[tuple[float, ...]]):
    points = {f"p{number}": values for number, values in enumerate(figures)}
    found = dominated_by(points)
    assert set(found) == brute(points)
    for name, better in found.items():
        assert better not in found
        assert all(a <= b for a, b in zip(points[better], points[name], strict=True))


def test_a_front_by_hand():
    points = {
        "small": (5.0, 3.0, 0.9),
        "fast": (6.0, 1.0, 2.0),
        "right": (4.0, 9.0, 9.0),
        "worse than small": (5.0, 3.1, 0.9),
        "worse than all": (9.0, 8.0, 9.0),
    }
    assert dominated_by(points) == {"worse than small": "small", "worse than all": "small"}


def test_equals_do_not_dominate_each_other():
    assert dominated_by({"a": (1.0, 2.0), "b": (1.0, 2.0)}) == {}


def test_what_was_not_measured_is_worst():
    assert dominated_by({"a": (1.0, math.nan), "b": (1.0, 100.0)}) == {"a": "b"}


def test_points_must_have_the_same_figures():
    with pytest.raises(BadInputError, match="different numbers"):
        dominated_by({"a": (1.0,), "b": (1.0, 2.0)})
    assert dominated_by({}) == {}
