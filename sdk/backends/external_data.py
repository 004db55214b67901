"""Find references from an ONNX file to other files, without the onnx package.

A tensor of an ONNX model may name a file to read its data from; a bundle must not reach outside its hashed files, so
such a model is refused. This walks the protobuf messages that can hold a tensor (field numbers from onnx.proto) and
skips everything else.
"""

from __future__ import annotations

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
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14
_MAX_DEPTH = 100  # protobuf's own limit


def refuse_external_data(data: bytes, name: str) -> None:
    """Refuse an ONNX file that reads from another file.

    Raises:
        BundleError: it does, or it is not readable as protobuf.
    """
    try:
        _walk(memoryview(data), "model", name, 0)
    except (IndexError, ValueError) as error:
        raise BundleError(
            f"{name} is not a readable ONNX file ({error})", next="Fetch or build the bundle again"
        ) from error


def _walk(data: memoryview, message: str, name: str, depth: int) -> None:
    if depth > _MAX_DEPTH:
        raise ValueError("nested too deeply")
    position, known = 0, _FIELDS[message]
    while position < len(data):
        key, position = _varint(data, position)
        field, wire = key >> 3, key & 7
        value = 0
        if wire == 0:
            value, position = _varint(data, position)
            end = position
        elif wire == 1:
            end = position + 8
        elif wire == 2:
            length, position = _varint(data, position)
            end = position + length
        elif wire == 5:
            end = position + 4
        else:
            raise ValueError(f"wire type {wire}")
        if end > len(data):
            raise ValueError("broken off")
        if message == "tensor" and (field == _EXTERNAL_DATA or (field == _DATA_LOCATION and value != 0)):
            raise BundleError(
                f"{name} keeps tensors in other files",
                expected="an ONNX file without external data",
                next="Save it with its data inside; do not trust this bundle",
            )
        if field in known:
            if wire != 2:
                raise ValueError(f"field {field} of a {message} is no message")
            _walk(data[position:end], known[field], name, depth + 1)
        position = end


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise ValueError("a number is too long")
