"""The hair shape prior's regression target: a clipped, eroded, signed distance map (face-AR thesis, eqs 6.1-6.4).

binary mask --distances to hair and to background, clipped--> dt = dt_mask - dt_inv --affine--> [-1, 1] float32

What the printed equations give, for d_max = 25 and e_max = 10: deep inside hair dt_mask = 25 and dt_inv = 0, so dt =
25; far outside dt_mask = 0 and dt_inv = 10, so dt = -10; hair next to background has 25 - 9 = 16, background next to
hair 24 - 10 = 14. So dt lies in [-e_max, d_max], the border at d_max - e_max = 15, not at 0; and the affine map that
takes -e_max to -1 and d_max to +1 puts the border at ``border_level`` = (d_max - e_max) / (d_max + e_max) = 3/7. It is
the same map for every picture (scaling each by its own extremes would have no result for a picture without hair).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import distance_transform_edt

from pocketface.sdk.errors import BadInputError, ConfigError
from pocketface.sdk.manifest import Part

STEPS = 254
"""Of a packed map: -1 is 0, +1 is 254, so that 0 (127) is exact; one step is 0.14 pixels at the printed settings."""


class DistanceSpec(Part, frozen=True, kw_only=True):
    """How far the map reaches.

    Attributes:
        d_max: reach into the background, pixels of a ``side`` x ``side`` picture (eq 6.1).
        e_max: reach into the hair, the magnitude of the erosion (eq 6.2), below d_max.
        side: of the pictures that d_max and e_max are meant for; the thesis trains at 256. A mask of another side has
            them in proportion, so that its map is the same map, only coarser or finer.

    Raises:
        ConfigError: out of range.
    """

    d_max: float = 25.0
    e_max: float = 10.0
    side: int = 256

    def __post_init__(self) -> None:
        if not (0 < self.e_max < self.d_max and math.isfinite(self.d_max)):
            raise ConfigError(f"d_max {self.d_max:g} and e_max {self.e_max:g}", expected="0 < e_max < d_max")
        if self.side < 1:
            raise ConfigError(f"side {self.side}", expected="at least 1")

    @property
    def border_level(self) -> float:
        """Value of the normalised map half-way between hair and background pixels: above it is hair, below it is
        not.
        """
        return (self.d_max - self.e_max) / (self.d_max + self.e_max)

    def reach(self, side: int) -> tuple[float, float]:
        """d_max and e_max in pixels of a picture of another side."""
        return self.d_max * side / self.side, self.e_max * side / self.side


DEFAULT_SPEC = DistanceSpec()


def clipped_distances(mask: ArrayLike, d_max: float, e_max: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Eqs 6.1 and 6.2 for one mask: (H, W) bool or 0 / 1 -> dt_mask in [0, d_max] and dt_inv in [0, e_max], both (H,
    W).

    The nearest pixel of an empty set is infinitely far: dt_mask is 0 without hair, dt_inv is 0 without background.

    Raises:
        BadInputError: the mask is no picture, or holds another value than 0 and 1.
    """
    hair = _binary(mask)
    return d_max - np.minimum(d_max, _distance(hair)), e_max - np.minimum(e_max, _distance(~hair))


def signed_distance(mask: ArrayLike, d_max: float, e_max: float) -> NDArray[np.float64]:
    """Eq 6.3: dt = dt_mask - dt_inv, (H, W) in [-e_max, d_max] pixels. Arguments and errors as
    ``clipped_distances``.
    """
    to_hair, to_background = clipped_distances(mask, d_max, e_max)
    return to_hair - to_background


def prior_target(mask: ArrayLike, spec: DistanceSpec = DEFAULT_SPEC, *, side: int | None = None) -> NDArray[np.float32]:
    """What the prior network regresses: eq 6.3, normalised.

    Args:
        mask: (H, W) bool or 0 / 1, hair is 1, at the scale of the network's input.
        spec: d_max and e_max.
        side: of the square picture this mask is at the scale of; the mask's longer side unless said otherwise.

    Returns:
        (H, W) float32: (2 dt - d_max + e_max) / (d_max + e_max), in [-1, 1]; -1 without hair, +1 without background.

    Raises:
        BadInputError: the mask is no picture, or holds another value than 0 and 1.
    """
    hair = _binary(mask)
    d_max, e_max = spec.reach(max(hair.shape) if side is None else side)
    return ((2 * signed_distance(hair, d_max, e_max) - d_max + e_max) / (d_max + e_max)).astype(np.float32)


def hair_of(prior: ArrayLike, spec: DistanceSpec = DEFAULT_SPEC) -> NDArray[np.bool_]:
    """The mask back from a normalised map: above the border's level."""
    return np.asarray(prior, np.float32) > np.float32(spec.border_level)


def hardtanh(values: ArrayLike) -> NDArray[np.float32]:
    """Eq 6.4, the prior network's last activation: x clipped to [-1, 1]."""
    return np.clip(np.asarray(values, np.float32), -1, 1)


# Compared by identity: an array has no single truth value.
@dataclass(frozen=True, eq=False)
class PriorCache:
    """The targets of a whole set, one byte a pixel (a float map of 840 pictures at 256 would take 220 MB).

    Attributes:
        packed: (N, S, S) uint8, 0 for -1 to 254 for +1.
    """

    packed: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.packed)

    def __getitem__(self, index: int | slice | NDArray[np.intp]) -> NDArray[np.float32]:
        """Targets, float32 in [-1, 1], at most half a step (1 / 254) from ``prior_target``."""
        return unpack(self.packed[index])


def pack(prior: ArrayLike) -> NDArray[np.uint8]:
    """float in [-1, 1] -> uint8 0 to 254, rounded."""
    packed: NDArray[np.uint8] = np.rint((np.asarray(prior, np.float32) + 1) * (STEPS / 2)).astype(np.uint8)
    return packed


def unpack(packed: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The inverse of ``pack``, float32."""
    values: NDArray[np.float32] = packed.astype(np.float32) * np.float32(2 / STEPS) - np.float32(1)
    return values


def cache_priors(
    masks: Iterable[ArrayLike], spec: DistanceSpec = DEFAULT_SPEC, *, progress: Callable[[int], None] | None = None
) -> PriorCache:
    """The targets of masks of one size; where views are warped at random, the map is computed after the warp instead.

    Args:
        masks: each (S, S) bool or 0 / 1.
        spec: d_max and e_max.
        progress: called with the number of masks done.

    Raises:
        BadInputError: as ``prior_target``, naming the mask by its place; no mask; or masks of different sizes.
    """
    parts: list[NDArray[np.uint8]] = []
    for place, mask in enumerate(masks):
        try:
            part = pack(prior_target(mask, spec))
        except BadInputError as error:
            raise BadInputError(f"mask {place}: {error.what}", expected=error.expected) from error
        if parts and part.shape != parts[0].shape:
            raise BadInputError(f"mask {place}: of shape {part.shape}", expected=f"{parts[0].shape}, as the first")
        parts.append(part)
        if progress is not None:
            progress(len(parts))
    if not parts:
        raise BadInputError("no masks", expected="at least one")
    return PriorCache(np.stack(parts))


def _binary(mask: ArrayLike) -> NDArray[np.bool_]:
    values = np.asarray(mask)
    if values.ndim != 2 or not values.size:
        raise BadInputError(f"mask of shape {values.shape}", expected="(height, width)")
    if values.dtype != np.bool_:
        wrong = (values != 0) & (values != 1)
        if wrong.any():
            raise BadInputError(f"mask with the value {values[wrong][0]}", expected="0 and 1, hair is 1")
    return values.astype(np.bool_)


def _distance(members: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Distance of each pixel to the nearest member, pixels; infinite where there is none (scipy's is then
    arbitrary).
    """
    if not members.any():
        return np.full(members.shape, np.inf)
    distance: NDArray[np.float64] = distance_transform_edt(~members)
    return distance
