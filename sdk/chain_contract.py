"""What the stages of a chain must have in common, so that each can read what the one before it gives.

image, box --relocalize--> box --uniformize--> picture of that crop --landmarks--> points, in that order; the last is a
must, the others may be left out. A segmentation stands alone, and so does a detection.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from pocketface.sdk.chain_ids import variant_id
from pocketface.sdk.errors import BundleError
from pocketface.sdk.manifest import PRECISIONS, Stage

AGAIN = "Fetch or build the bundle again"
_STAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


def check_names(stages: Sequence[Stage]) -> None:
    """Refuse names that a chain's ids could not be read with.

    Raises:
        BundleError: naming the first stage or variant.
    """
    for stage in stages:
        if not _STAGE.fullmatch(stage.name) or stage.name in PRECISIONS:
            raise wrong(f"stage {stage.name!r} of a chain", "a name of letters, digits, - and _, and no precision's")
        for variant in stage.variants:
            expected = variant_id(stage.name, variant.precision, variant.format)
            if variant.id != expected:
                raise wrong(f"variant {variant.id!r} of stage {stage.name!r}", f"{expected!r}, as in every chain")


def check_chain(stages: Sequence[Stage]) -> None:
    """Refuse stages that do not fit together: order, crops, colours, sizes. Each is sound by itself already.

    Raises:
        BundleError: naming the first two stages that do not fit.
    """
    _check_order(stages)
    first = stages[0]
    for stage in stages[1:]:
        for setting, why in (
            ("box_scale", "one for all, or their crops would not be the same"),
            ("channels", "one order of colours for all"),
        ):
            values = getattr(first.preprocess, setting), getattr(stage.preprocess, setting)
            if values[0] != values[1]:
                raise wrong(f"stages {first.name!r} and {stage.name!r} have {setting} {values[0]} and {values[1]}", why)
    for stage in stages:
        if stage.task == "relocalize" and stage.preprocess.box_scale != 1:
            # The corrected box is what the next stage looks at, and nothing widens it once more.
            raise wrong(
                f"stage {stage.name!r} corrects the box and has box_scale {stage.preprocess.box_scale:g}",
                "1 in a chain that relocalizes, where a crop is a box",
            )
    picture: Stage | None = None
    for stage in stages:
        if picture is not None:
            _check_size(picture, stage)
        if stage.task == "uniformize":
            picture = stage


def _check_order(stages: Sequence[Stage]) -> None:
    last, text = stages[-1], " -> ".join(stage.name for stage in stages)
    for stage in stages:
        if stage.task in ("segmentation", "detection"):
            if len(stages) == 1:
                return
            raise wrong(f"{text} holds stage {stage.name!r} of the task {stage.task}", f"a {stage.task} alone")
    if last.task != "landmarks":
        raise wrong(f"{text} ends in stage {last.name!r} of the task {last.task}", "a landmarks stage at the end")
    seen: dict[str, str] = {}
    for stage in stages:
        if stage.task in seen:
            raise wrong(f"stages {seen[stage.task]!r} and {stage.name!r} both have the task {stage.task}", "each once")
        if stage.task == "relocalize" and "uniformize" in seen:
            raise wrong(
                f"stage {stage.name!r} moves the box after stage {seen['uniformize']!r} made its picture",
                "relocalize before uniformize",
            )
        if stage.task == "landmarks" and stage is not last:
            raise wrong(f"stage {stage.name!r} of the task landmarks has stages after it", "landmarks at the end only")
        seen[stage.task] = stage.name


def _check_size(picture: Stage, stage: Stage) -> None:
    given, wanted = picture.preprocess.size, stage.preprocess.size
    if given % wanted:  # a larger one never divides
        raise wrong(
            f"stage {stage.name!r} takes {wanted} x {wanted} pixels, and the picture that stage {picture.name!r} gives "
            f"has {given} x {given}",
            f"that size, or a whole part of it: {given} divided by 2, 3, and so on",
        )


def unique(kind: str, names: list[str]) -> None:
    """Refuse a name that is listed twice.

    Raises:
        BundleError: naming it.
    """
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise wrong(f"{kind} {name!r} is listed more than once", "once")
        seen.add(name)


def wrong(what: str, expected: str) -> BundleError:
    """A manifest that contradicts itself."""
    return BundleError(f"manifest.json: {what}", expected=expected, next=AGAIN)
