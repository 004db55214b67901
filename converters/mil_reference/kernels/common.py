"""What the kernels share: types, and how a window slides over a padded tensor."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def ints(values: Any) -> tuple[int, ...]:
    """A constant vector (or number) as plain integers."""
    return tuple(int(value) for value in np.asarray(values).reshape(-1))


def one_of(value: Any, choices: Sequence[str], what: str) -> str:
    """A mode that a kernel knows.

    Raises:
        ValueError: it is another one.
    """
    if value not in choices:
        raise ValueError(f"{what} is {value!r}, known are {', '.join(choices)}")
    return str(value)


def padding(
    pad_type: str,
    pad: Any,
    sides: Sequence[int],
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
) -> list[tuple[int, int]]:
    """Numbers of elements before and after each spatial side.

    ``same`` gives ceil(side / stride) outputs as in TensorFlow: an odd element comes after, ``same_lower`` before.
    """
    kind = one_of(pad_type, ("valid", "custom", "same", "same_lower"), "pad_type")
    if kind == "valid":
        return [(0, 0)] * len(sides)
    if kind == "custom":
        flat = ints(pad) if pad is not None else (0,) * (2 * len(sides))
        if len(flat) != 2 * len(sides):
            raise ValueError(f"pad has {len(flat)} numbers for {len(sides)} spatial sides")
        return list(zip(flat[::2], flat[1::2], strict=True))
    result = []
    for side, size, stride, dilation in zip(sides, kernel, strides, dilations, strict=True):
        total = max(0, (math.ceil(side / stride) - 1) * stride + (size - 1) * dilation + 1 - side)
        smaller, larger = total // 2, total - total // 2
        result.append((smaller, larger) if kind == "same" else (larger, smaller))
    return result


def windows(
    tap: Sequence[int], outputs: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> tuple[Any, ...]:
    """Where one tap of a kernel falls in the padded input, for every output position."""
    places = zip(tap, outputs, strides, dilations, strict=True)
    return (
        ...,
        *(
            slice(at * dilation, at * dilation + (count - 1) * stride + 1, stride)
            for at, count, stride, dilation in places
        ),
    )


def per_channel(value: Any, rank: int, axis: int = 1) -> Array:
    """A vector over one axis, shaped to broadcast; a number stays one."""
    vector = np.asarray(value)
    if vector.ndim == 0:
        return vector
    shape = [1] * rank
    shape[axis] = -1
    return vector.reshape(shape)
