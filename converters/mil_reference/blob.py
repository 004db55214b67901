"""Reads numbers out of a package's weight file (MIL blob storage, version 2).

file:  uint32 count, uint32 version, 56 bytes reserved; then for each constant, at a multiple of 64,
entry: uint32 0xDEADBEEF, uint32 type, uint64 bytes, uint64 offset of the data, uint64 unused bits at its end, 32 bytes
reserved. An operation names the offset of an entry.
"""

from __future__ import annotations

import math
import struct

import numpy as np
from numpy.typing import NDArray

from pocketface.converters.mil_reference.dtypes import BLOB_NAMES, stored_bytes, unpack
from pocketface.sdk.errors import BundleError

_HEADER = 64
_ENTRY = struct.Struct("<IIQQQ")
_SENTINEL = 0xDEADBEEF
_VERSION = 2


class WeightFile:
    """A weight file in memory.

    Args:
        data: all of its bytes.
        name: for errors.

    Raises:
        BundleError: it does not begin like a weight file of a version known here.
    """

    def __init__(self, data: bytes, name: str) -> None:
        self._data, self._name = memoryview(data), name
        if len(data) < _HEADER:
            raise self._wrong(f"has {len(data)} bytes", f"at least {_HEADER}")
        version = struct.unpack_from("<I", data, 4)[0]
        if version != _VERSION:
            raise self._wrong(f"has version {version}", str(_VERSION))

    def read(self, offset: int, dtype: str, shape: tuple[int, ...]) -> NDArray[np.generic]:
        """The constant whose entry is at ``offset``.

        Args:
            offset: of the entry, in bytes.
            dtype: its type as the program declares it, e.g. ``"float16"`` or ``"uint4"``.
            shape: as the program declares it.

        Returns:
            Of this shape; numbers narrower than a byte in int8 or uint8.

        Raises:
            BundleError: no entry there, another type or size than declared, or data beyond the end of the file.
        """
        size, where = len(self._data), f"at offset {offset}"
        if offset < _HEADER or offset + _ENTRY.size > size:
            raise self._wrong(f"has no entry {where}", f"an offset between {_HEADER} and its size, {size}")
        sentinel, kind, length, start, _unused = _ENTRY.unpack_from(self._data, offset)
        if sentinel != _SENTINEL:
            raise self._wrong(f"has no entry {where}", f"the mark {_SENTINEL:#x}, not {sentinel:#x}")
        if BLOB_NAMES.get(kind) != dtype:
            raise self._wrong(f"holds {BLOB_NAMES.get(kind, f'type {kind}')} {where}", dtype)
        wanted = stored_bytes(dtype, math.prod(shape))
        if length != wanted:
            raise self._wrong(f"holds {length} bytes {where}", f"{wanted} for {dtype} {shape}")
        if start + length > size:
            raise self._wrong(f"should have data up to byte {start + length} {where}", f"at most its size, {size}")
        return unpack(self._data[start : start + length], dtype, math.prod(shape)).reshape(shape)

    def _wrong(self, what: str, expected: str) -> BundleError:
        return BundleError(f"{self._name} {what}", expected=expected, next="Fetch or build the bundle again")
