"""Which layers cannot bear 8 bits, and how few of them have to stay in float until a bound is kept.

Each group of layers is left in float alone, which shows what its 8 bits cost in the company of all others; then the
costliest are left in float together, one after another, until the bound is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
from torch import nn

from pocketface.compression.quantize.base import under
from pocketface.sdk.errors import BadInputError

Trial = Callable[[tuple[str, ...]], float]
"""Modules that stay in float -> the task error's increase over torch, percentage points, e.g. of NME."""


class Effect(msgspec.Struct, frozen=True, kw_only=True):
    """One group of layers.

    Attributes:
        module: path in the network.
        parameters: of all layers below it.
        increase: of the task error with this group alone in float.
        relief: how much less that is than with everything in 8 bits: what the group's 8 bits cost.
    """

    module: str
    parameters: int
    increase: float
    relief: float


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One more group in float.

    Attributes:
        module: that joined the ones before.
        increase: of the task error then.
    """

    module: str
    increase: float


class Sensitivity(msgspec.Struct, frozen=True, kw_only=True):
    """What was found.

    Attributes:
        bound: on the task error's increase, percentage points.
        whole: increase with everything in 8 bits.
        effects: of every group, the costliest first.
        steps: the way to the bound; empty where it was kept from the start.
        keep: modules that stay in float.
    """

    bound: float
    whole: float
    effects: tuple[Effect, ...]
    steps: tuple[Step, ...]

    @property
    def keep(self) -> tuple[str, ...]:
        return tuple(step.module for step in self.steps)

    @property
    def increase(self) -> float:
        """What is left of the increase."""
        return self.steps[-1].increase if self.steps else self.whole

    @property
    def reached(self) -> bool:
        """Whether the bound is kept."""
        return self.increase <= self.bound

    def __str__(self) -> str:
        if not self.steps:
            return f"+{self.whole:.3f} points with everything in 8 bits; the bound is {self.bound:g}"
        many = f"{len(self.steps)} of {len(self.effects)} groups in float"
        held = "" if self.reached else ", which is not kept"
        return (
            f"+{self.whole:.3f} points in 8 bits, +{self.increase:.3f} with {many}; the bound is {self.bound:g}{held}"
        )


def search(trial: Trial, groups: Sequence[tuple[str, int]], bound: float, *, most: int | None = None) -> Sensitivity:
    """Find the groups that stay in float.

    Args:
        trial: makes and measures one file.
        groups: (module, parameters) of each group, see `layer_groups`.
        bound: on the increase, percentage points.
        most: groups that may stay in float; default: all but one.

    Returns:
        What was found; where the bound was not reached, with the shortest way to the smallest increase.

    Raises:
        BadInputError: there are no groups.
    """
    if not groups:
        raise BadInputError("no layers to choose from", expected="one group of layers or more")
    whole = trial(())
    alone = {module: trial((module,)) for module, _ in groups}
    effects = sorted(
        (
            Effect(module=module, parameters=count, increase=alone[module], relief=whole - alone[module])
            for module, count in groups
        ),
        key=lambda effect: (-effect.relief, effect.module),
    )
    steps: list[Step] = []
    increase, limit = whole, len(groups) - 1 if most is None else most
    for effect in effects[: max(0, limit)]:
        if increase <= bound:
            break
        keep = (*(step.module for step in steps), effect.module)
        increase = effect.increase if len(keep) == 1 else trial(keep)
        steps.append(Step(module=effect.module, increase=increase))
    if increase > bound and steps:  # out of reach: the best that was seen
        best = min(range(len(steps)), key=lambda index: steps[index].increase)
        steps = steps[: best + 1] if steps[best].increase < whole else []
    return Sensitivity(bound=bound, whole=whole, effects=tuple(effects), steps=tuple(steps))


def layer_groups(net: nn.Module, *, depth: int = 2, without: Sequence[str] = ()) -> list[tuple[str, int]]:
    """Groups of layers with weights, in the network's order: (module, its parameters).

    Args:
        net: the network.
        depth: parts of a path that name a group: 2 makes ``features.3`` one, whatever lies below it.
        without: modules whose arithmetic is float already.
    """
    counts: dict[str, int] = {}
    for path, module in net.named_modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear) and not under(path, tuple(without)):
            group = ".".join(path.split(".")[:depth])
            counts[group] = counts.get(group, 0) + sum(parameter.numel() for parameter in module.parameters())
    return list(counts.items())
