"""Taking parts of a tensor and writing into parts of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from pocketface.converters.mil_reference.kernels.common import Array, ints, one_of

_MODES: dict[str, Callable[[Array, Any, Array], None]] = {
    "update": lambda data, places, values: data.__setitem__(places, values),
    "add": np.add.at,
    "sub": np.subtract.at,
    "mul": np.multiply.at,
    "div": np.divide.at,
    "max": np.maximum.at,
    "min": np.minimum.at,
}


def slice_by_index(
    x: Array,
    begin: Any,
    end: Any,
    stride: Any = None,
    begin_mask: Any = None,
    end_mask: Any = None,
    squeeze_mask: Any = None,
) -> Array:
    """x[begin:end:stride] on every axis; a mask drops begin or end, ``squeeze_mask`` takes the one element at begin."""
    return x[_slices(x.ndim, begin, end, stride, begin_mask, end_mask, squeeze_mask)]


def slice_update(
    x: Array,
    update: Array,
    begin: Any,
    end: Any,
    stride: Any = None,
    begin_mask: Any = None,
    end_mask: Any = None,
    squeeze_mask: Any = None,
) -> Array:
    """x with the part that `slice_by_index` would take replaced."""
    result = x.copy()
    result[_slices(x.ndim, begin, end, stride, begin_mask, end_mask, squeeze_mask)] = update
    return result


def slice_by_size(x: Array, begin: Any, size: Any) -> Array:
    """From begin, as many as size on every axis; -1 takes all that is left."""
    places = []
    for start, count, side in zip(ints(begin), ints(size), x.shape, strict=True):
        first = start + side if start < 0 else start
        places.append(slice(first, side if count == -1 else first + count))
    return x[tuple(places)]


def gather(x: Array, indices: Array, axis: Any = 0, batch_dims: Any = 0, validate_indices: Any = False) -> Array:
    """Slices along one axis; the first ``batch_dims`` axes of ``x`` and ``indices`` go together.

    An index beyond the side is not defined in MIL; here it is an error.
    """
    along, batch = int(axis) % x.ndim, int(batch_dims)
    places = np.asarray(indices, np.int64)
    if batch == 0:
        return np.take(x, places, axis=along)
    rows = [gather(one, where, along - batch) for one, where in zip(_flat(x, batch), _flat(places, batch), strict=True)]
    return np.stack(rows).reshape(*x.shape[:batch], *rows[0].shape)


def gather_along_axis(x: Array, indices: Array, axis: Any = 0, validate_indices: Any = False) -> Array:
    """numpy's take_along_axis."""
    return np.take_along_axis(x, np.asarray(indices, np.int64), axis=int(axis))


def gather_nd(x: Array, indices: Array, batch_dims: Any = 0, validate_indices: Any = False) -> Array:
    """x at the places whose coordinates are the last axis of ``indices``."""
    batch = int(batch_dims)
    if batch == 0:
        return x[tuple(np.moveaxis(np.asarray(indices, np.int64), -1, 0))]
    rows = [gather_nd(one, where) for one, where in zip(_flat(x, batch), _flat(indices, batch), strict=True)]
    return np.stack(rows).reshape(*x.shape[:batch], *rows[0].shape)


def scatter(
    data: Array, indices: Array, updates: Array, axis: Any = 0, mode: str = "add", validate_indices: Any = False
) -> Array:
    """data with slices along one axis changed by ``updates``."""
    along = int(axis) % data.ndim
    places = (slice(None),) * along + (np.asarray(indices, np.int64),)
    return _changed(data, places, updates, mode)


def scatter_along_axis(
    data: Array, indices: Array, updates: Array, axis: Any = 0, mode: str = "add", validate_indices: Any = False
) -> Array:
    """data with the elements that `gather_along_axis` would take changed by ``updates``."""
    places: list[Any] = list(np.indices(indices.shape, sparse=True))
    places[int(axis)] = np.asarray(indices, np.int64)
    return _changed(data, tuple(places), updates, mode)


def scatter_nd(data: Array, indices: Array, updates: Array, mode: str = "add", validate_indices: Any = False) -> Array:
    """data with the places that `gather_nd` would take changed by ``updates``."""
    return _changed(data, tuple(np.moveaxis(np.asarray(indices, np.int64), -1, 0)), updates, mode)


def _changed(data: Array, places: Any, updates: Array, mode: str) -> Array:
    result = data.copy()
    _MODES[one_of(mode, tuple(_MODES), "mode")](result, places, updates)
    return result


def _flat(x: Array, batch: int) -> Array:
    return x.reshape(-1, *x.shape[batch:])


def _slices(
    rank: int, begin: Any, end: Any, stride: Any, begin_mask: Any, end_mask: Any, squeeze_mask: Any
) -> tuple[Any, ...]:
    starts, ends = ints(begin), ints(end)
    if not len(starts) == len(ends) == rank:
        raise ValueError(f"{len(starts)} begins and {len(ends)} ends for {rank} axes")
    steps = ints(stride) if stride is not None else (1,) * rank
    no_start, no_end, single = (
        ints(mask) if mask is not None else (0,) * rank for mask in (begin_mask, end_mask, squeeze_mask)
    )
    places: list[Any] = []
    for axis in range(rank):
        first = None if no_start[axis] else starts[axis]
        if single[axis]:
            places.append(first or 0)
        else:
            places.append(slice(first, None if no_end[axis] else ends[axis], steps[axis]))
    return tuple(places)
