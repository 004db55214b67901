"""A TFLite file in which equal vectors are stored once.

Quantizers write, for every tensor of N channels, N zero points of 8 bytes, all of them 0, for a weight and its bias
alike: a tenth of a small network's w8a8 file. FlatBuffers let any number of tables refer to one vector.
"""

from __future__ import annotations

from typing import Any

import flatbuffers

IDENTIFIER = b"TFL3"
_BYTES_ALIGNMENT = 16
"""Of constants, as the schema asks (``force_align``); Python's generated code packs them at 1."""


class SharingBuilder(flatbuffers.Builder):
    """A builder that gives a vector of numbers the place of an equal one that it has written already."""

    def __init__(self, size: int = 1024) -> None:
        super().__init__(size)
        self._places: dict[tuple[int, int, bytes], int] = {}
        self._before = self._size = self._alignment = 0
        self._plain = True

    def StartVector(self, elemSize: int, numElems: int, alignment: int) -> Any:  # noqa: N802 -- flatbuffers' names
        """See ``flatbuffers.Builder``."""
        if elemSize == 1 and numElems:
            alignment = _BYTES_ALIGNMENT
        self._before, self._size, self._alignment, self._plain = self.Offset(), elemSize, alignment, True
        return super().StartVector(elemSize, numElems, alignment)

    def PrependUOffsetTRelative(self, off: int) -> None:  # noqa: N802
        """See ``flatbuffers.Builder``. A vector of references: equal bytes would mean other things elsewhere."""
        self._plain = False
        super().PrependUOffsetTRelative(off)

    def EndVector(self, *args: Any) -> Any:  # noqa: N802
        """See ``flatbuffers.Builder``."""
        place = super().EndVector(*args)
        if not self._plain:
            return place
        head: int = self.Head()
        count = int.from_bytes(self.Bytes[head : head + 4], "little")
        key = (self._size, self._alignment, bytes(self.Bytes[head : head + 4 + count * self._size]))
        known = self._places.setdefault(key, place)
        if known != place:
            self.head = len(self.Bytes) - self._before  # as if it had not been written
        return known


def share_vectors(data: bytes) -> bytes:
    """The same network with equal vectors of numbers stored once.

    Args:
        data: a TFLite file.
    """
    from ai_edge_litert.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model_from_bytearray(bytearray(data))
    builder = SharingBuilder(len(data))
    builder.Finish(model.Pack(builder), file_identifier=IDENTIFIER)
    return bytes(builder.Output())
