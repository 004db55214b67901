"""What a detection stage must hold beyond its types: one output of anchors, and how it is read."""

from __future__ import annotations

import math

from pocketface.sdk.chain_contract import wrong
from pocketface.sdk.manifest import Stage

MAX_ANCHORS, MAX_POINTS = 100_000, 1000
FACES = "faces"
"""What a detection's output is called."""


def check_stage(where: str, stage: Stage) -> None:
    """Refuse a detection stage that contradicts itself.

    Raises:
        BundleError: naming the first contradiction.
    """
    found = [f"{spec.name} ({spec.decode})" for spec in stage.outputs]
    if found != [f"{FACES} (anchor_faces)"]:
        raise wrong(f"{where} gives {', '.join(found) or 'nothing'}", f"one output, {FACES} (anchor_faces)")
    if len(stage.inputs) != 1 or stage.states:
        raise wrong(f"{where} has states or several inputs", "one image in")
    spec = stage.detector
    if spec is None:
        raise wrong(f"{where} finds faces and has no detector", "how its output is read")
    shape, values = stage.outputs[0].shape, 5 + 2 * len(spec.points)
    if len(spec.points) > MAX_POINTS or len(shape) != 3 or shape[::2] != (1, values):
        raise wrong(f"{where}, output {FACES!r} has shape {shape}", f"(1, N, {values})")
    if not 1 <= shape[1] <= MAX_ANCHORS:
        raise wrong(f"{where} has {shape[1]} anchors", f"1 to {MAX_ANCHORS}")
    if spec.eyes[0] == spec.eyes[1] or not all(0 <= eye < len(spec.points) for eye in spec.eyes):
        raise wrong(f"{where} has the eyes {spec.eyes}", f"two of its {len(spec.points)} points")
    if not (0 < spec.min_score < 1 and 0 < spec.max_overlap <= 1):
        bounds = f"min_score {spec.min_score:g} and max_overlap {spec.max_overlap:g}"
        raise wrong(f"{where} has {bounds}", "a score inside of 0 and 1, an overlap above 0 and at most 1")
    box = spec.face_box
    if not (all(math.isfinite(value) for value in (box.dx, box.dy, box.scale)) and 0 < box.scale <= 100):
        raise wrong(f"{where} has face_box {box}", "finite numbers, and a scale above 0 and at most 100")
