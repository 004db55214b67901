"""Which of several things are worth having: those that no other beats in one respect without losing in another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pocketface.sdk.errors import BadInputError


def dominated_by(points: Mapping[str, Sequence[float]]) -> dict[str, str]:
    """Point -> one that is at least as good in every respect and better in one, of those that are not dominated
    themselves; points that nothing dominates are left out: they are the Pareto front.

    Args:
        points: name -> figures, of which less is better (an error, milliseconds, bytes), equally many for each. A
            figure that is not a number is worse than any number.

    Raises:
        BadInputError: points of different numbers of figures.
    """
    if len({len(figures) for figures in points.values()}) > 1:
        raise BadInputError("points with different numbers of figures", expected="the same figures for each")
    values = {
        name: tuple(float("inf") if figure != figure else float(figure) for figure in figures)
        for name, figures in points.items()
    }
    # By rising figures a point is dominated by an earlier one or by none, and an earlier one on the front at that.
    front: list[str] = []
    found: dict[str, str] = {}
    for name in sorted(values, key=lambda name: values[name]):
        better = next((other for other in front if _dominates(values[other], values[name])), None)
        if better is None:
            front.append(name)
        else:
            found[name] = better
    return {name: found[name] for name in points if name in found}


def _dominates(one: Sequence[float], other: Sequence[float]) -> bool:
    return all(a <= b for a, b in zip(one, other, strict=True)) and tuple(one) != tuple(other)
