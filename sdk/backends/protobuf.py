"""Walk through protobuf messages without the protobuf package and without a schema."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

MAX_FIELDS = 4_000_000
"""Of one file: the largest network here has some ten thousand, and each costs about a microsecond."""

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


class Field(NamedTuple):
    """One field: its number, how it is written, its value if it is a varint, and its bytes if it is not."""

    number: int
    wire: int
    value: int
    data: memoryview


class Budget:
    """Fields that a walk may still look at, so that a file made of nothing but tiny ones ends."""

    def __init__(self, fields: int = MAX_FIELDS) -> None:
        self.left = fields


def fields(data: memoryview, budget: Budget) -> Iterator[Field]:
    """The fields of one message, in order.

    Raises:
        ValueError, IndexError: not readable as protobuf, or more fields than the budget.
    """
    position = 0
    while position < len(data):
        budget.left -= 1
        if budget.left < 0:
            raise ValueError(f"more than {MAX_FIELDS} fields")
        key, position = _varint(data, position)
        wire, value, start = key & 7, 0, position
        if wire == VARINT:
            value, position = _varint(data, position)
            start = position
        elif wire == FIXED64:
            position += 8
        elif wire == BYTES:
            length, start = _varint(data, position)
            position = start + length
        elif wire == FIXED32:
            position += 4
        else:
            raise ValueError(f"wire type {wire}")
        if position > len(data):
            raise ValueError("broken off")
        yield Field(key >> 3, wire, value, data[start:position])


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise ValueError("a number is too long")
