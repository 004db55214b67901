"""Read one golden case: an npz file, without trusting a single size that it states.

npz --zip: few entries, stored or deflated, sizes within the limit--> npy headers: plain numbers, as many as there are
bytes--> arrays, all finite
"""

from __future__ import annotations

import io
import math
import struct
import tokenize
import zipfile
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pocketface.sdk.errors import BundleError

MAX_ENTRIES = 1000
"""Arrays of one case."""
MAX_SIDES = 8

_AGAIN = "Fetch or build the bundle again"
# What zipfile, zlib and numpy's header reader raise over broken files.
_BROKEN = (
    *(ValueError, OSError, EOFError, KeyError, IndexError, TypeError, SyntaxError, MemoryError, RecursionError),
    *(RuntimeError, NotImplementedError, OverflowError, struct.error, zlib.error),
    *(tokenize.TokenError, zipfile.BadZipFile),
)


def read_case(data: bytes, name: str, limit: int) -> dict[str, NDArray[Any]]:
    """Arrays of a golden case by name.

    Args:
        data: of the npz file.
        name: what errors call it.
        limit: most bytes of all arrays together.

    Raises:
        BundleError: no npz file, too large, needs pickle, holds something else than numbers, or a number that is not
            finite.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            infos = archive.infolist()
            size = sum(info.file_size for info in infos)
            if size > limit:
                raise BundleError(f"{name} unpacks to {size} bytes", expected=f"at most {limit}", next=_AGAIN)
            if len(infos) > MAX_ENTRIES:
                raise BundleError(f"{name} holds {len(infos)} arrays", expected=f"at most {MAX_ENTRIES}", next=_AGAIN)
            case = {}
            for info in infos:
                if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    raise ValueError(f"{info.filename} is packed in another way than stored or deflated")
                case[info.filename.removesuffix(".npy")] = _array(archive.read(info))
    except _BROKEN as error:
        raise BundleError(f"{name} is no readable golden case ({error})", next=_AGAIN) from error
    for key, value in case.items():
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            raise BundleError(
                f"{name}: array {key!r} holds NaN or infinity", expected="finite numbers, or nothing could be compared",
                next=_AGAIN,
            )  # fmt: skip
    return case


def _array(data: bytes) -> NDArray[Any]:
    """One npy file. The header's shape is believed only when it is as long as what follows."""
    stream = io.BytesIO(data)
    version = np.lib.format.read_magic(stream)
    if version == (1, 0):
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
    elif version == (2, 0):
        shape, fortran, dtype = np.lib.format.read_array_header_2_0(stream)
    else:
        raise ValueError(f"npy version {version}")
    if dtype.hasobject:
        raise ValueError("Object arrays cannot be loaded when allow_pickle=False")
    if dtype.kind not in "buif":
        raise ValueError(f"values of type {dtype}")
    if len(shape) > MAX_SIDES or any(side < 0 for side in shape):
        raise ValueError(f"shape {shape}")
    rest = data[stream.tell() :]
    if math.prod(shape) * dtype.itemsize != len(rest):
        raise ValueError(f"{len(rest)} bytes for shape {shape} of {dtype}")
    return np.frombuffer(rest, dtype).reshape(shape, order="F" if fortran else "C").copy()
