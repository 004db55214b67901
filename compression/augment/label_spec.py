"""How far training may vary a labelled picture, and the mask of the frame before, as data."""

from __future__ import annotations

import msgspec

_SHARES = ("resize", "crop_pad", "brightness", "contrast", "saturation")


class LabelAugment(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How far views may go: the defaults are the thesis' for hair (6.4.2). Ranges are +- around no change.

    Attributes:
        margin: (least, most) border of the view on each side, as a share of the box's longer side; around the whole
            picture 0. The thesis crops faces with 0.3 to 0.7 (7.5): see ``PARSING``.
        resize: share of width and of height, independently.
        shift_x, shift_y: share of the box's width and height that it moves.
        crop_pad: share of width and height that is cut off or added, at each of the four edges independently.
        flip: probability of a mirrored view.
        rotation: degrees.
        brightness, contrast, saturation: shares, e.g. 0.3 for factors of 0.7 to 1.3.
        lighting: standard deviation of the noise along the principal components of ImageNet's colours.
    """

    margin: tuple[float, float] = (0.0, 0.0)
    resize: float = 0.2
    shift_x: float = 0.6
    shift_y: float = 0.3
    crop_pad: float = 0.2
    flip: float = 0.5
    rotation: float = 0.0
    brightness: float = 0.3
    contrast: float = 0.3
    saturation: float = 0.3
    lighting: float = 0.1

    def __post_init__(self) -> None:
        for name in _SHARES:
            # At a half, a view that is cut on both sides and enlarged would have no width left.
            if not 0 <= getattr(self, name) < (0.5 if name == "crop_pad" else 1):
                limit = "below 0.5" if name == "crop_pad" else "below 1"
                raise ValueError(f"{name} is {getattr(self, name):g}: from 0, {limit}")
        for name in ("shift_x", "shift_y", "rotation", "lighting"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name):g}: 0 or more")
        if not 0 <= self.flip <= 1:
            raise ValueError(f"flip is {self.flip:g}: a probability, from 0 to 1")
        if not -0.5 < self.margin[0] <= self.margin[1]:
            raise ValueError(f"margin is {list(self.margin)}: least and most, above -0.5, in this order")

    @property
    def plain_scale(self) -> float:
        """Side of the view in the middle of the margin's range, over the box's longer side: what evaluation uses."""
        return 1 + self.margin[0] + self.margin[1]


HAIR = LabelAugment()
PARSING = LabelAugment(margin=(0.3, 0.7), resize=0.1, shift_x=0.1, shift_y=0.1, crop_pad=0.0, rotation=20.0, flip=0.5)
"""The thesis gives the margin only (7.5); the rest is ours, for a face that a detector has found."""


class PreviousAugment(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the fake mask of the frame before is (7.4.2, after Bazarevsky & Tkachenka 2018).

    Attributes:
        empty: probability of zeros: the first frame, or the first after a cut.
        major: probability of a mask that is far off, so that the network learns to leave it; the others are near.
        shift, major_shift: share of the crop's side, in x and in y.
        scale, major_scale: share, the same in x and y up to a fifth of it.
        rotation, major_rotation: degrees.
    """

    empty: float = 0.25
    major: float = 0.25
    shift: float = 0.03
    scale: float = 0.03
    rotation: float = 3.0
    major_shift: float = 0.3
    major_scale: float = 0.3
    major_rotation: float = 30.0

    def __post_init__(self) -> None:
        if not (self.empty >= 0 and self.major >= 0 and self.empty + self.major <= 1):
            raise ValueError(f"empty {self.empty:g} and major {self.major:g}: probabilities, at most 1 together")
        for name in ("shift", "rotation", "major_shift", "major_rotation"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name):g}: 0 or more")
        for name in ("scale", "major_scale"):
            if not 0 <= getattr(self, name) < 0.8:
                raise ValueError(f"{name} is {getattr(self, name):g}: from 0, below 0.8")
