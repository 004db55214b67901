"""How the networks of a chain are named: STAGE.PRECISION.FORMAT for one; PRECISION.FORMAT for the same of every stage;
ids of one variant each, joined by +, for a mix.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from pocketface.sdk.errors import BundleError

if TYPE_CHECKING:  # manifest.py builds on this
    from pocketface.sdk.manifest import Stage, Variant

MIX = "+"


def variant_id(stage: str, precision: str, format: str) -> str:
    """Id of a variant in a chain."""
    return f"{stage}.{precision}.{format}"


def is_mix(id: str) -> bool:
    """Whether an id of a chain names variants of single stages, or tries to. Stages of a chain have no dot in their
    names."""
    return MIX in id or id.count(".") == 2


def common(stages: Sequence[Stage]) -> tuple[str, ...]:
    """Ids that give every stage a variant: see ``Manifest.chains``."""
    if len(stages) < 2:
        return tuple(variant.id for stage in stages for variant in stage.variants)
    shared = set.intersection(*(set(_kinds(stage)) for stage in stages))
    # In the order of the last stage, the one that everything is about.
    return tuple(kind for kind in _kinds(stages[-1]) if kind in shared)


def resolve(stages: Sequence[Stage], id: str, bundle: str) -> tuple[tuple[Stage, Variant], ...]:
    """The variant of each stage that an id names: see ``Manifest.chain``.

    Args:
        stages: of the bundle.
        id: of a variant, a chain or a mix.
        bundle: its name, for messages.

    Raises:
        BundleError: a stage has no such variant, or is named twice or not at all.
    """
    if len(stages) == 1:
        return ((stages[0], _named(stages[0].variants, id, f"bundle {bundle!r}")),)
    if not is_mix(id):
        return tuple((stage, _of_kind(stage, id, stages, bundle)) for stage in stages)
    chosen: dict[str, Variant] = {}
    by_name = {stage.name: stage for stage in stages}
    for part in id.split(MIX):
        name = part.partition(".")[0]
        if name not in by_name:
            raise BundleError(
                f"bundle {bundle!r} has no stage {name!r} (in {id!r})", choices=by_name, next=_next(stages)
            )
        if name in chosen:
            raise BundleError(f"{id!r} names stage {name!r} twice", expected="each stage once", next=_next(stages))
        chosen[name] = _named(by_name[name].variants, part, f"stage {name!r} of bundle {bundle!r}")
    for stage in stages:
        if stage.name not in chosen:
            raise BundleError(
                f"{id!r} names no variant of stage {stage.name!r}",
                choices=[variant.id for variant in stage.variants],
                next=_next(stages),
            )
    return tuple((stage, chosen[stage.name]) for stage in stages)


def _kinds(stage: Stage) -> list[str]:
    """PRECISION.FORMAT of each variant."""
    return [f"{variant.precision}.{variant.format}" for variant in stage.variants]


def _named(variants: Iterable[Variant], id: str, where: str) -> Variant:
    variants = tuple(variants)
    for variant in variants:
        if variant.id == id:
            return variant
    raise BundleError(f"{where} has no variant {id!r}", choices=[v.id for v in variants], next="Name one of these")


def _of_kind(stage: Stage, kind: str, stages: Sequence[Stage], bundle: str) -> Variant:
    for variant in stage.variants:
        if f"{variant.precision}.{variant.format}" == kind:
            return variant
    raise BundleError(
        f"stage {stage.name!r} of bundle {bundle!r} has no variant {kind!r}",
        choices=_kinds(stage),
        next=_next(stages),
    )


def _next(stages: Sequence[Stage]) -> str:
    ids = ", ".join(common(stages))
    mix = MIX.join(f"{stage.name}.PRECISION.FORMAT" for stage in stages)
    return f"Name one that every stage has ({ids or 'here none'}), or a mix: {mix}"
