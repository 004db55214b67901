"""What a segmentation stage must hold beyond its types: classes, one output of logits, and at most one state, which is
the mask of the frame before.
"""

from __future__ import annotations

from pocketface.sdk.chain_contract import AGAIN, wrong
from pocketface.sdk.classes import check_classes
from pocketface.sdk.errors import BundleError, ConfigError
from pocketface.sdk.limits import MAX_SIDE
from pocketface.sdk.manifest import Stage, StateSpec

MAX_GRID = MAX_SIDE
"""Longest side of a mask, in cells."""

IMAGE, LOGITS, PREVIOUS = "image", "logits", "previous"
"""What a segmentation's inputs and its output are called."""


def check_stage(where: str, stage: Stage) -> None:
    """Refuse a segmentation stage that contradicts itself.

    Raises:
        BundleError: naming the first contradiction.
    """
    if stage.classes is None:
        raise wrong(f"{where} gives a mask and has no classes", "the classes that name its values")
    try:
        check_classes(stage.classes)
    except ConfigError as error:
        raise BundleError(f"manifest.json: {error.what}", expected=error.expected, next=AGAIN) from error
    found = [f"{spec.name} ({spec.decode})" for spec in stage.outputs]
    if found != [f"{LOGITS} (class_logits)"]:
        raise wrong(f"{where} gives {', '.join(found) or 'nothing'}", f"one output, {LOGITS} (class_logits)")
    shape, count = stage.outputs[0].shape, len(stage.classes.names)
    if len(shape) != 4 or shape[:2] != (1, count) or shape[2] != shape[3] or not 1 <= shape[3] <= MAX_GRID:
        raise wrong(f"{where}, output {LOGITS!r} has shape {shape}", f"(1, {count}, M, M), M from 1 to {MAX_GRID}")
    _check_state(where, stage)


def previous_state(shape: tuple[int, ...]) -> StateSpec:
    """The state of a network that is shown the mask of the frame before.

    Args:
        shape: (1, C, M, M), of the logits.
    """
    return StateSpec(
        name=PREVIOUS, shape=shape, input=PREVIOUS, output=LOGITS, reset="cut", frame="crop", handed="softmax"
    )


def _check_state(where: str, stage: Stage) -> None:
    names, shape = [spec.name for spec in stage.inputs], stage.outputs[0].shape
    wanted = [IMAGE, PREVIOUS] if stage.states else [IMAGE]
    if names != wanted:
        raise wrong(
            f"{where} takes {', '.join(names)} and has {len(stage.states)} states",
            f"{IMAGE}; or {IMAGE} and {PREVIOUS}, with one state",
        )
    if not stage.states:
        return
    if len(stage.states) != 1 or stage.states[0] != previous_state(shape):
        raise wrong(
            f"{where} has the states {', '.join(state.name for state in stage.states)}, not as a mask is handed on",
            f"one: {previous_state(shape)}",
        )
    if stage.inputs[1].shape != shape:
        raise wrong(f"{where}, input {PREVIOUS!r} has shape {stage.inputs[1].shape}", f"{shape}, as its output")
