"""What a network's outputs mean, as data: a landmark scheme, or a set of classes. Parts of manifest.py."""

from __future__ import annotations

from pocketface.sdk.measured import Part

Rgb = tuple[int, int, int]


class Scheme(Part, frozen=True, kw_only=True):
    """A landmark mark-up, as data.

    Attributes:
        name: e.g. ``"ibug68"``.
        points: number of landmarks.
        parts: facial part -> indices (from 0), in drawing order.
        closed: parts whose outline is a closed curve.
        flip: permutation: landmark i of a mirrored face is landmark flip[i] of the original.
        normaliser: the two landmarks whose distance normalises errors (outer eye corners).
        names: one name per landmark, or empty.
    """

    name: str
    points: int
    parts: dict[str, tuple[int, ...]]
    closed: tuple[str, ...] = ()
    flip: tuple[int, ...] = ()
    normaliser: tuple[int, int] = (36, 45)
    names: tuple[str, ...] = ()


class ClassSet(Part, frozen=True, kw_only=True):
    """The classes of a segmentation, as data.

    Attributes:
        name: e.g. ``"hair2"``.
        names: one name per class; its index is the class's value in a mask, and 0 is always ``"background"``.
        flip: permutation: class i of a mirrored image is class flip[i] of the original; empty where none changes.
        colours: one RGB colour per class, for drawing, or empty.
    """

    name: str
    names: tuple[str, ...]
    flip: tuple[int, ...] = ()
    colours: tuple[Rgb, ...] = ()
