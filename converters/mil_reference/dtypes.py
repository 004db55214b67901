"""The data types of MIL and of its weight file, and numbers of less than a byte."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

# MIL.proto's DataType -> our name: numpy's where numpy has the type, MIL's own for what is narrower than a byte.
NAMES = {
    1: "bool",
    2: "str",
    10: "float16",
    11: "float32",
    12: "float64",
    21: "int8",
    22: "int16",
    23: "int32",
    24: "int64",
    25: "int4",
    31: "uint8",
    32: "uint16",
    33: "uint32",
    34: "uint64",
    35: "uint4",
    36: "uint2",
    37: "uint1",
    38: "uint6",
    39: "uint3",
}

# The weight file's BlobDataType -> the same names.
BLOB_NAMES = {
    1: "float16",
    2: "float32",
    3: "uint8",
    4: "int8",
    6: "int16",
    7: "uint16",
    8: "int4",
    9: "uint1",
    10: "uint2",
    11: "uint4",
    12: "uint3",
    13: "uint6",
    14: "int32",
    15: "uint32",
}

_NARROW = {"int4": 4, "uint4": 4, "uint1": 1, "uint2": 2, "uint3": 3, "uint6": 6}

# As the operations "cast", "quantize" and so on spell them.
SPELLED = {"fp16": "float16", "fp32": "float32", "fp64": "float64"}


def bits(name: str) -> int:
    """Width of one stored number."""
    return _NARROW.get(name) or np.dtype(name).itemsize * 8


def stored_bytes(name: str, count: int) -> int:
    """Bytes that ``count`` numbers take, packed without gaps."""
    return math.ceil(bits(name) * count / 8)


def numpy_dtype(name: str) -> np.dtype[Any]:
    """What numpy holds such numbers in: the next wider type where it has none itself."""
    if name in _NARROW:
        return np.dtype(np.int8 if name.startswith("int") else np.uint8)
    return np.dtype(name)


def unpack(data: bytes | memoryview, name: str, count: int) -> NDArray[Any]:
    """``count`` numbers out of their stored bytes: little-endian, narrow ones packed from the lowest bit upwards.

    Returns:
        (count,), of ``numpy_dtype(name)``.
    """
    if name not in _NARROW:
        return np.frombuffer(data, np.dtype(name).newbyteorder("<"), count)
    values = unpack_bits(np.frombuffer(data, np.uint8), _NARROW[name], count)
    if name == "int4":
        return ((values ^ 8).astype(np.int8) - np.int8(8)).astype(np.int8)
    return values


def unpack_bits(packed: NDArray[np.uint8], width: int, count: int) -> NDArray[np.uint8]:
    """``count`` unsigned numbers of ``width`` bits, packed from the lowest bit of the first byte upwards.

    Raises:
        ValueError: there are fewer.
    """
    flat = np.unpackbits(packed, bitorder="little")
    if flat.size < width * count:
        raise ValueError(f"{packed.size} bytes hold fewer than {count} numbers of {width} bits")
    places = (1 << np.arange(width)).astype(np.uint8)
    numbers: NDArray[np.uint8] = (flat[: width * count].reshape(count, width) * places).sum(axis=1, dtype=np.uint8)
    return numbers
