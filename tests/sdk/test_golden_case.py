"""Golden cases that lie about themselves; and, by hypothesis, that numpy's own files come back as they were."""

from __future__ import annotations

import contextlib
import io
import tracemalloc
import zipfile
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pocketface.sdk.errors import BundleError
from pocketface.sdk.golden_case import read_case

LIMIT = 2**20


def npz(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def packed(entry: bytes, kind: int = zipfile.ZIP_DEFLATED, count: int = 1) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", kind) as archive:
        for number in range(count):
            archive.writestr(f"a{number}.npy", entry)
    return buffer.getvalue()


def npy(header: str, data: bytes = b"", version: bytes = b"\x01\x00") -> bytes:
    text = header.encode("latin1")
    return b"\x93NUMPY" + version + len(text).to_bytes(2, "little") + text + data


numbers = hnp.arrays(
    st.sampled_from([np.dtype(name) for name in ("u1", "i4", "i8", "f4", "f8", "?", ">f4")]),
    hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4),
    elements={"allow_nan": False, "allow_infinity": False},
)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.sampled_from(["image", "step0.output.points", "b"]), numbers))
def test_what_numpy_writes_comes_back(arrays: dict[str, Any]) -> None:
    found = read_case(npz(**arrays), "g", LIMIT)
    assert set(found) == set(arrays)
    for name, value in arrays.items():
        assert found[name].dtype == value.dtype
        assert np.array_equal(found[name], value)


def test_fortran_order() -> None:
    value = np.asfortranarray(np.arange(12.0).reshape(3, 4))
    assert np.array_equal(read_case(npz(a=value), "g", LIMIT)["a"], value)


HEADER = "{'descr': '<f8', 'fortran_order': False, 'shape': %s, }"

WRONG: dict[str, tuple[bytes, str]] = {
    "more values than bytes": (packed(npy(HEADER % "(1000000000000,)", bytes(80))), "80 bytes for shape"),
    "fewer values than bytes": (packed(npy(HEADER % "(2,)", bytes(80))), "80 bytes for shape"),
    "a negative side": (packed(npy(HEADER % "(-1,)", bytes(8))), "shape"),
    "a shape that overflows": (packed(npy(HEADER % "(4294967296, 4294967296, 2)", b"")), "0 bytes for shape"),
    "many sides": (packed(npy(HEADER % str((1,) * 30), bytes(8))), "shape"),
    "objects": (packed(npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }", b"x")), "allow_pickle"),
    "text": (packed(npy("{'descr': '<U4', 'fortran_order': False, 'shape': (1,), }", bytes(16))), "values of type"),
    "records": (packed(npy("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }", bytes(4))), "type"),
    "a header that is a program": (packed(npy("__import__('os').system('true')")), "no readable"),
    "a header of brackets": (packed(npy("(" * 5000)), "no readable"),
    "an open string": (packed(npy("{'descr': '''")), "no readable"),
    "version 3": (packed(npy(HEADER % "()", bytes(8), b"\x03\x00")), "npy version"),
    "lzma": (packed(npy(HEADER % "()", bytes(8)), zipfile.ZIP_LZMA), "packed in another way"),
    "two thousand arrays": (packed(npy(HEADER % "()", bytes(8)), count=2000), "2000 arrays, expected at most 1000"),
    "a bomb": (packed(bytes(2 * LIMIT)), "unpacks to 2097152 bytes, expected at most"),
    "NaN": (npz(a=np.array([1, np.nan], np.float32)), "array 'a' holds NaN or infinity"),
    "infinity": (npz(a=np.array([-np.inf])), "array 'a' holds NaN or infinity"),
}


@pytest.mark.parametrize("what", WRONG)
def test_refused(what: str) -> None:
    data, message = WRONG[what]
    tracemalloc.start()
    try:
        with pytest.raises(BundleError, match=message) as caught:
            read_case(data, "golden/000.npz", LIMIT)
        assert tracemalloc.get_traced_memory()[1] < 8 * LIMIT
    finally:
        tracemalloc.stop()
    assert str(caught.value).startswith("golden/000.npz")


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damaged_anywhere(data: st.DataObject) -> None:
    whole = bytearray(npz(a=np.arange(6.0), image=np.zeros((2, 2, 3), np.uint8)))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(BundleError):
        read_case(bytes(whole), "g", LIMIT)
