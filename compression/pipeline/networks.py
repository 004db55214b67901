"""The networks of a recipe of any kind, trained by name."""

from __future__ import annotations

from collections.abc import Sequence

from pocketface.compression.pipeline.chain.train import chain_networks
from pocketface.compression.pipeline.check import check_recipe
from pocketface.compression.pipeline.context import ChainContext, Context
from pocketface.compression.pipeline.lineage import lineage, lineage_names
from pocketface.compression.pipeline.segment.context import SegmentContext
from pocketface.compression.pipeline.segment.train import segment_networks
from pocketface.compression.pipeline.store import Done
from pocketface.compression.pipeline.train import train_stage
from pocketface.sdk.errors import UnknownNameError

AnyContext = Context | ChainContext | SegmentContext


def network_names(context: AnyContext) -> list[str]:
    """Names of a recipe's networks, in the order in which they are trained."""
    if not isinstance(context, Context):
        return list(context.recipe.networks())
    return [*sorted(context.recipe.teachers), *lineage_names(context.recipe)]


def train_networks(context: AnyContext, only: Sequence[str] = ()) -> dict[str, Done]:
    """Train networks, and before each what it learns from.

    Args:
        only: their names; all by default.

    Raises:
        UnknownNameError: the recipe has no network of a name in ``only``.
    """
    known = network_names(context)
    for name in only:
        if name not in known:
            raise UnknownNameError("network", name, known)
    if isinstance(context, ChainContext):
        return {name: trained.done for name, trained in chain_networks(context, only).items()}
    if isinstance(context, SegmentContext):
        return {name: trained.done for name, trained in segment_networks(context, only).items()}
    recipe = context.recipe
    check_recipe(recipe)
    found = {}
    for name in only or known:
        teacher = recipe.teachers.get(name)
        trained = train_stage(context, name, teacher) if teacher else lineage(context, name)[-1]
        found[name] = trained.done
    return found
