"""What a TFLite file must not hold, found without a flatbuffer package before a runtime sees it.

A constant, or a scale of integers, that is NaN or infinite: for the reason that onnx_file.py gives.

This walks the tables that lead to a constant (field numbers from LiteRT's schema.fbs), of every subgraph, and skips
everything else: Model -> SubGraph -> Tensor -> Buffer.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import numpy as np

from pocketface.sdk.errors import BundleError

# Fields of a Model, a SubGraph, a Tensor, its QuantizationParameters, and a Buffer.
_SUBGRAPHS, _BUFFERS, _TENSORS = 2, 4, 0
_TYPE, _BUFFER, _NAME, _QUANTIZATION, _SCALE = 1, 2, 3, 4, 2
_DATA, _OFFSET, _SIZE = 0, 1, 2
# TensorType -> how its values lie in a buffer. Complex numbers are two floats each; bfloat16 is the upper half of one.
_FLOAT_TYPES = {0: "<f4", 1: "<f2", 8: "<f4", 10: "<f8", 11: "<f8", 18: "<u2"}
_BFLOAT16 = 18


def check_tflite(data: bytes, name: str) -> None:
    """Refuse a TFLite file that holds a constant or a scale that is not finite.

    Raises:
        BundleError: it does, or it is not readable as a flatbuffer.
    """
    try:
        _Walk(data, name).run()
    except (struct.error, ValueError) as error:
        raise BundleError(
            f"{name} is not a readable TFLite file ({error})", next="Fetch or build the bundle again"
        ) from error


class _Walk:
    """Through one file, which must not lead it over more bytes than a sound file of its size has."""

    def __init__(self, data: bytes, name: str) -> None:
        self._data, self._name, self._left = data, name, 4 * len(data)
        self._seen: set[tuple[int, int, str]] = set()

    def run(self) -> None:
        model = self._number("<I", 0)
        buffers = list(self._tables(model, _BUFFERS))
        for graph in self._tables(model, _SUBGRAPHS):
            for tensor in self._tables(graph, _TENSORS):
                self._tensor(tensor, buffers)

    def _tensor(self, tensor: int, buffers: list[int]) -> None:
        quantization = self._table(tensor, _QUANTIZATION)
        if quantization:
            self._check(self._vector(quantization, _SCALE, 4), "<f4", tensor)
        # A field that is not written is 0: float32, and the buffer of those that hold no constant.
        kind = self._field(tensor, _TYPE)
        type = self._number("<b", kind) if kind else 0
        place = self._field(tensor, _BUFFER)
        number = self._number("<I", place) if place else 0
        if type not in _FLOAT_TYPES:
            return
        if number >= len(buffers):
            raise ValueError(f"buffer {number} of {len(buffers)}")
        buffer, dtype = buffers[number], _FLOAT_TYPES[type]
        self._check(self._vector(buffer, _DATA, 1), dtype, tensor)
        outside, size = self._field(buffer, _OFFSET), self._field(buffer, _SIZE)
        if outside and size:  # of large files: behind the flatbuffer
            self._check((self._number("<Q", outside), self._number("<Q", size)), dtype, tensor)

    def _check(self, part: tuple[int, int], dtype: str, tensor: int) -> None:
        """``part``: first byte and number of bytes."""
        start, count = part
        if not count or (*part, dtype) in self._seen:
            return
        self._seen.add((*part, dtype))
        self._spend(count)
        if start + count > len(self._data):
            raise ValueError("broken off")
        values = np.frombuffer(self._data, dtype, count // np.dtype(dtype).itemsize, start)
        if dtype == _FLOAT_TYPES[_BFLOAT16]:
            values = (values.astype("<u4") << 16).view("<f4")
        if not np.isfinite(values).all():
            first, length = self._vector(tensor, _NAME, 1)
            called = self._data[first : first + min(length, 80)].decode("utf-8", "replace")
            raise BundleError(
                f"{self._name}: constant {called!r}, or its scale, holds NaN or infinity",
                expected="finite numbers",
                next="Train or export it again; do not ship this bundle",
            )

    def _tables(self, table: int, number: int) -> Iterator[int]:
        """Where the tables of a vector of tables lie."""
        start, count = self._vector(table, number, 4)
        for place in range(start, start + count, 4):
            yield place + self._number("<I", place)

    def _table(self, table: int, number: int) -> int:
        place = self._field(table, number)
        return place + self._number("<I", place) if place else 0

    def _vector(self, table: int, number: int, item: int) -> tuple[int, int]:
        """First byte and number of bytes of a vector of items of so many bytes; (0, 0) where it is not written."""
        place = self._table(table, number)
        return (place + 4, item * self._number("<I", place)) if place else (0, 0)

    def _field(self, table: int, number: int) -> int:
        """Where a field of a table lies; 0 where it is not written."""
        rows = table - self._number("<i", table)
        place = 4 + 2 * number
        if place + 2 > self._number("<H", rows):
            return 0
        offset = self._number("<H", rows + place)
        return table + offset if offset else 0

    def _number(self, kind: str, place: int) -> int:
        self._spend(1)
        if place < 0:  # struct would count from the end
            raise ValueError("broken off")
        return int(struct.unpack_from(kind, self._data, place)[0])

    def _spend(self, count: int) -> None:
        self._left -= count
        if self._left < 0:
            raise ValueError("its parts add up to more than the file")
