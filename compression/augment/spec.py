"""How far training may vary a face, as data."""

from __future__ import annotations

import msgspec


class AugmentSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How far views may go. Ranges are +- around no change; probabilities in [0, 1].

    Attributes:
        rotation: degrees.
        flip: probability of a mirrored view.
        scale: share of the box's side, e.g. 0.1 for 0.9 .. 1.1.
        shift: share of the box's side, in x and in y.
        brightness: pixel units of [0, 255].
        contrast, saturation, colour: shares, e.g. 0.3 for 0.7 .. 1.3; ``colour`` is a gain per channel.
        noise: largest standard deviation, in pixel units.
        blur: largest blend with a blurred copy, in [0, 1]; half of the views stay sharp.
        occlusion: probability of one painted rectangle, 0.1 to 0.4 of the crop a side.
    """

    rotation: float = 45.0
    flip: float = 0.5
    scale: float = 0.10
    shift: float = 0.05
    brightness: float = 30.0
    contrast: float = 0.3
    saturation: float = 0.3
    colour: float = 0.1
    noise: float = 8.0
    blur: float = 0.8
    occlusion: float = 0.2
