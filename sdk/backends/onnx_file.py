"""What an ONNX file must not hold, found without the onnx package before a runtime sees it.

- A tensor may name a file to read its data from; a bundle must not reach outside its hashed files.
- A constant that is NaN or infinite: no network that was trained has one, whatever it computes with it is not finite
  either, and a comparison with NaN is never true, so it would slip through bounds.

This walks the protobuf messages that can hold a tensor (field numbers from onnx.proto) and skips everything else.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pocketface.sdk.backends.protobuf import BYTES, FIXED32, VARINT, Budget, Field, fields
from pocketface.sdk.errors import BundleError

# message -> field number -> message
_FIELDS: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "function": {7: "node", 11: "attribute"},
    "training": {1: "graph", 2: "graph"},
    "tensor": {},
}
_MAX_DEPTH = 100  # protobuf's own limit

# Fields of a TensorProto, and of an AttributeProto.
_TYPE, _FLOATS, _INTS, _NAME, _RAW, _DOUBLES, _EXTERNAL, _LOCATION = 2, 4, 5, 8, 9, 10, 13, 14
_ATTRIBUTE_NAME, _FLOAT, _FLOAT_LIST = 1, 2, 7
# TensorProto.DataType -> how its values lie in raw_data. bfloat16 is the upper half of a float32.
_FLOAT_TYPES = {1: "<f4", 10: "<f2", 11: "<f8", 16: "<u2"}
_FLOAT16, _BFLOAT16 = 10, 16


def check_onnx(data: bytes, name: str) -> None:
    """Refuse an ONNX file that reads from another file, or holds a constant that is not finite.

    Raises:
        BundleError: it does, or it is not readable as protobuf.
    """
    try:
        _walk(memoryview(data), "model", name, 0, Budget())
    except (IndexError, ValueError) as error:
        raise BundleError(
            f"{name} is not a readable ONNX file ({error})", next="Fetch or build the bundle again"
        ) from error


def _walk(data: memoryview, message: str, name: str, depth: int, budget: Budget) -> None:
    if depth > _MAX_DEPTH:
        raise ValueError("nested too deeply")
    known = _FIELDS[message]
    found: list[Field] = []
    for field in fields(data, budget):
        if message in ("tensor", "attribute"):
            found.append(field)
        if field.number in known:
            if field.wire != BYTES:
                raise ValueError(f"field {field.number} of a {message} is no message")
            _walk(field.data, known[field.number], name, depth + 1, budget)
    if message == "tensor":
        _check_tensor(found, name)
    elif message == "attribute":
        numbers = [_floats(field, "<f4") for field in found if field.number in (_FLOAT, _FLOAT_LIST)]
        _check_finite(numbers, f"attribute {_text(found, _ATTRIBUTE_NAME)!r}", name)


def _check_tensor(found: list[Field], name: str) -> None:
    if any(field.number == _EXTERNAL or (field.number == _LOCATION and field.value != 0) for field in found):
        raise BundleError(
            f"{name} keeps tensors in other files",
            expected="an ONNX file without external data",
            next="Save it with its data inside; do not trust this bundle",
        )
    # Of a field that occurs twice, protobuf takes the last.
    type = next((field.value for field in reversed(found) if field.number == _TYPE and field.wire == VARINT), 0)
    if type not in _FLOAT_TYPES:
        return
    numbers = []
    for field in found:
        if field.number == _RAW and field.wire == BYTES:
            numbers.append(_floats(field, _FLOAT_TYPES[type]))
        elif field.number in (_FLOATS, _DOUBLES):
            numbers.append(_floats(field, "<f4" if field.number == _FLOATS else "<f8"))
        elif field.number == _INTS and type in (_FLOAT16, _BFLOAT16):
            numbers.append(_bits(field).astype("<u2"))
    if type == _FLOAT16:
        numbers = [part.view("<f2") if part.dtype == np.uint16 else part for part in numbers]
    if type == _BFLOAT16:
        numbers = [(part.astype("<u4") << 16).view("<f4") if part.dtype == np.uint16 else part for part in numbers]
    _check_finite(numbers, f"constant {_text(found, _NAME)!r}", name)


def _floats(field: Field, dtype: str) -> NDArray[np.generic]:
    """Values of a field: a packed list, or one of them."""
    size = np.dtype(dtype).itemsize
    if field.wire == FIXED32 and size != 4:
        return np.empty(0, dtype)
    return np.frombuffer(field.data[: len(field.data) // size * size], dtype)


def _bits(field: Field) -> NDArray[np.int64]:
    """Values of a list of varints, packed or one of them: 16 bits each, as ONNX writes half floats."""
    if field.wire == VARINT:
        return np.array([field.value & 0xFFFF])
    octets = np.frombuffer(field.data, np.uint8).astype(np.int64)
    if not len(octets):
        return np.empty(0, np.int64)
    # A value is a run of octets of which the last alone is below 128.
    last = np.flatnonzero(octets < 128)
    first = np.concatenate([[0], last[:-1] + 1])
    values = np.zeros(len(last), np.int64)
    for place in range(3):
        there = first + place <= last
        values[there] |= (octets[(first + place)[there]] & 127) << (7 * place)
    return values & 0xFFFF


def _text(found: list[Field], number: int) -> str:
    texts = [bytes(field.data[:80]) for field in found if field.number == number and field.wire == BYTES]
    return texts[-1].decode("utf-8", "replace") if texts else ""


def _check_finite(numbers: list[NDArray[np.generic]], what: str, name: str) -> None:
    for part in numbers:
        if part.dtype.kind == "f" and not np.isfinite(part).all():
            raise BundleError(
                f"{name}: {what} holds NaN or infinity",
                expected="finite numbers",
                next="Train or export it again; do not ship this bundle",
            )
