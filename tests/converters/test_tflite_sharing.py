"""Equal vectors stored once: the same network in fewer bytes."""

from __future__ import annotations

from typing import Any

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from tiny_export import exported, inputs

from pocketface.converters.tflite_sharing import SharingBuilder, share_vectors


def results(data: bytes) -> dict[str, Any]:
    opened = Interpreter(model_content=data, num_threads=1)
    run = opened.get_signature_runner()
    (name,) = run.get_input_details()
    found: dict[str, Any] = run(**{name: np.ascontiguousarray(inputs(1, seed=4).transpose(0, 2, 3, 1))})
    return found


def shared_twice(values: list[list[int]], size: int) -> tuple[list[int], bytes]:
    """Where vectors of integers of so many bytes are put, and what was written."""
    builder, places = SharingBuilder(), []
    for numbers in values:
        builder.StartVector(size, len(numbers), size)
        for number in reversed(numbers):
            (builder.PrependInt64 if size == 8 else builder.PrependInt32)(number)
        places.append(builder.EndVector())
    return places, bytes(builder.Bytes[builder.Head() :])


def test_equal_vectors_have_one_place_and_others_their_own() -> None:
    places, content = shared_twice([[0] * 50, [1, 2], [0] * 50, [2, 1], [1, 2]], 8)
    assert places[0] == places[2]
    assert places[1] == places[4]
    assert len(set(places)) == 3
    alone = shared_twice([[0] * 50, [1, 2], [2, 1]], 8)[1]
    assert content == alone


def test_equal_bytes_of_other_types_are_other_vectors() -> None:
    builder = SharingBuilder()
    places = []
    for size, count in ((8, 1), (4, 2)):  # eight bytes of zeros each
        builder.StartVector(size, count, size)
        for _ in range(count):
            (builder.PrependInt64 if size == 8 else builder.PrependInt32)(0)
        places.append(builder.EndVector())
    assert places[0] != places[1]


def test_vectors_of_references_are_never_shared() -> None:
    builder = SharingBuilder()
    places = []
    for text in ("one", "two"):
        word = builder.CreateString(text)
        builder.StartVector(4, 1, 4)
        builder.PrependUOffsetTRelative(word)
        places.append(builder.EndVector())
    assert places[0] != places[1]
    assert isinstance(builder, flatbuffers.Builder)


@pytest.mark.slow
def test_a_network_gives_the_same_from_fewer_bytes() -> None:
    from tiny_quantize import quantized

    for item in (exported("tflite"), quantized("tflite.w8a8")):
        data = item.path.read_bytes()
        small = share_vectors(data)
        assert len(small) <= len(data) + 64  # constants that were not aligned
        before, after = results(data), results(small)
        assert all((before[name] == after[name]).all() for name in before)
        assert share_vectors(small) == small


@pytest.mark.slow
def test_constants_lie_where_the_schema_wants_them() -> None:
    """At multiples of 16 bytes, found by searching the file for their bytes."""
    data = share_vectors(exported("tflite").path.read_bytes())
    from ai_edge_litert.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model_from_bytearray(bytearray(data))
    constants = [bytes(buffer.data) for buffer in model.buffers if buffer.data is not None and len(buffer.data) > 256]
    assert constants
    assert all(data.index(constant) % 16 == 0 for constant in constants)
