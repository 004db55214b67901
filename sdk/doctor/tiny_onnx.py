"""A one-layer ONNX model, written by hand: it tests onnxruntime where neither torch nor onnx are installed.

Field numbers are those of onnx.proto.
"""

from __future__ import annotations

from pocketface.sdk.doctor.layer import INPUT, INPUT_SHAPE, OUTPUT, OUTPUT_SHAPE, weights


def model() -> bytes:
    """The file of the model in `layer`: opset 13, its weights inside."""
    kernel = weights()
    node = _text(1, INPUT) + _text(1, "weight") + _text(2, OUTPUT) + _text(3, "conv") + _text(4, "Conv")
    tensor = b"".join(_number(1, side) for side in kernel.shape) + _number(2, 1) + _text(8, "weight")
    tensor += _part(9, kernel.astype("<f4").tobytes())
    graph = _part(1, node) + _text(2, "one_layer") + _part(5, tensor)
    graph += _part(11, _tensor_info(INPUT, INPUT_SHAPE)) + _part(12, _tensor_info(OUTPUT, OUTPUT_SHAPE))
    operators = _text(1, "") + _number(2, 13)
    return _number(1, 7) + _part(7, graph) + _part(8, operators)


def _tensor_info(name: str, shape: tuple[int, ...]) -> bytes:
    sides = b"".join(_part(1, _number(1, side)) for side in shape)
    return _text(1, name) + _part(2, _part(1, _number(1, 1) + _part(2, sides)))


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _part(field: int, data: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(data)) + data


def _text(field: int, text: str) -> bytes:
    return _part(field, text.encode())


def _varint(value: int) -> bytes:
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])
