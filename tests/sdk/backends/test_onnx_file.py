"""Against files made by the onnx package, with the external tensor in every place that can hold one."""

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from bundle_factory import onnx_bytes, weights
from onnx import TensorProto, helper, numpy_helper

from pocketface.sdk.backends.onnx_file import check_onnx
from pocketface.sdk.errors import BundleError


def external() -> TensorProto:
    tensor = numpy_helper.from_array(np.zeros(2, np.float32), "w")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "../../secret"
    return tensor


def graph(**fields: list) -> onnx.GraphProto:
    made = helper.make_graph(fields.get("node", []), "g", [], [], fields.get("initializer", []))
    made.sparse_initializer.extend(fields.get("sparse", []))
    return made


def holding(attribute: onnx.AttributeProto) -> onnx.ModelProto:
    node = helper.make_node("Op", [], ["y"])
    node.attribute.append(attribute)
    return helper.make_model(graph(node=[node]))


def sparse() -> onnx.SparseTensorProto:
    made = onnx.SparseTensorProto()
    made.values.CopyFrom(external())
    return made


def in_function() -> onnx.ModelProto:
    model = helper.make_model(graph())
    node = helper.make_node("Constant", [], ["y"])
    node.attribute.append(helper.make_attribute("value", external()))
    model.functions.append(helper.make_function("d", "f", [], ["y"], [node], [helper.make_opsetid("", 17)]))
    return model


def in_training() -> onnx.ModelProto:
    model = helper.make_model(graph())
    model.training_info.add().initialization.CopyFrom(graph(initializer=[external()]))
    return model


PLACES: dict[str, Callable[[], onnx.ModelProto]] = {
    "initializer": lambda: helper.make_model(graph(initializer=[external()])),
    "sparse initializer": lambda: helper.make_model(graph(sparse=[sparse()])),
    "attribute": lambda: holding(helper.make_attribute("value", external())),
    "attribute list": lambda: holding(helper.make_attribute("value", [external()])),
    "sparse attribute": lambda: holding(helper.make_attribute("value", sparse())),
    "subgraph": lambda: holding(helper.make_attribute("body", graph(initializer=[external()]))),
    "subgraph list": lambda: holding(helper.make_attribute("body", [graph(initializer=[external()])])),
    "function": in_function,
    "training": in_training,
}


@pytest.mark.parametrize("place", PLACES)
def test_external_data_is_found_everywhere(place: str) -> None:
    with pytest.raises(BundleError, match=r"m.onnx keeps tensors in other files.*do not trust"):
        check_onnx(PLACES[place]().SerializeToString(), "m.onnx")


def test_either_sign_of_it_is_enough() -> None:
    only_location, only_entries = external(), external()
    del only_location.external_data[:]
    only_entries.ClearField("data_location")
    for tensor in (only_location, only_entries):
        with pytest.raises(BundleError, match="other files"):
            check_onnx(helper.make_model(graph(initializer=[tensor])).SerializeToString(), "m")


def test_a_whole_file_passes() -> None:
    check_onnx(onnx_bytes(16, 5, weights(5)), "m")
    inside = helper.make_tensor("w", TensorProto.FLOAT, [3], [1, 2, 3])
    inside.data_location = TensorProto.DEFAULT
    model = helper.make_model(graph(initializer=[inside]))
    model.producer_name = "someone"
    check_onnx(model.SerializeToString(), "m")


def test_broken_bytes_are_a_bundle_error_or_pass_but_never_crash() -> None:
    data = onnx_bytes(16, 5, weights(5))
    with pytest.raises(BundleError, match="not a readable ONNX file"):
        check_onnx(data[:-3], "m")
    with pytest.raises(BundleError, match="not a readable ONNX file"):
        check_onnx(b"\xff" * 40, "m")
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(200):
        damaged = bytearray(data)
        damaged[rng.integers(0, 300)] = rng.integers(0, 256)
        try:
            check_onnx(bytes(damaged), "m")
        except BundleError:
            refused += 1
    assert refused > 20


def wrapped(key: int, data: bytes) -> bytes:
    """``data`` as the length-delimited field of this key."""
    size, length = len(data), b""
    while size >= 0x80:
        length, size = length + bytes([size & 0x7F | 0x80]), size >> 7
    return bytes([key]) + length + bytes([size]) + data


@pytest.mark.parametrize(("depth", "fine"), [(10, True), (2000, False)])
def test_endless_nesting_is_refused(depth: int, fine: bool) -> None:
    data = b""
    for _ in range(depth):  # a graph's node's attribute's graph ...
        for field in (6, 5, 1):
            data = wrapped(field << 3 | 2, data)
    data = wrapped(7 << 3 | 2, data)
    if fine:
        onnx.load_from_string(data)  # the onnx package reads it the same way
        check_onnx(data, "m")
    else:
        with pytest.raises(BundleError, match="not a readable ONNX file"):
            check_onnx(data, "m")


BAD = [np.nan, np.inf, -np.inf]


def typed(kind: int, value: float, raw: bool) -> TensorProto:
    values = np.array([1.0, value, -2.5])
    if kind == TensorProto.BFLOAT16:
        tensor = helper.make_tensor("w", kind, [3], values.tolist())
        if raw:
            bits = np.array(tensor.int32_data, "<u2")
            tensor.ClearField("int32_data")
            tensor.raw_data = bits.tobytes()
        return tensor
    if raw:
        return numpy_helper.from_array(values.astype(helper.tensor_dtype_to_np_dtype(kind)), "w")
    return helper.make_tensor("w", kind, [3], values.tolist())


@pytest.mark.parametrize("raw", [True, False])
@pytest.mark.parametrize("kind", ["FLOAT", "FLOAT16", "DOUBLE", "BFLOAT16"])
@pytest.mark.parametrize("value", BAD)
def test_a_constant_that_is_not_finite(kind: str, raw: bool, value: float) -> None:
    number = TensorProto.DataType.Value(kind)
    with pytest.raises(BundleError, match=r"m.onnx: constant 'w' holds NaN or infinity"):
        check_onnx(helper.make_model(graph(initializer=[typed(number, value, raw)])).SerializeToString(), "m.onnx")
    check_onnx(helper.make_model(graph(initializer=[typed(number, 3.0, raw)])).SerializeToString(), "m.onnx")


@pytest.mark.parametrize("value", BAD)
def test_an_attribute_that_is_not_finite(value: float) -> None:
    for found in (value, [1.0, value], typed(TensorProto.FLOAT, value, True)):
        model = holding(helper.make_attribute("alpha", found))
        with pytest.raises(BundleError, match=r"m: (attribute 'alpha'|constant 'w') holds NaN"):
            check_onnx(model.SerializeToString(), "m")


def test_integers_that_look_like_nan_are_fine() -> None:
    bits = numpy_helper.from_array(np.array([0x7FC00000, -1], np.int32), "w")
    check_onnx(helper.make_model(graph(initializer=[bits])).SerializeToString(), "m")
    check_onnx(holding(helper.make_attribute("value", [1, 2])).SerializeToString(), "m")


def test_a_file_of_nothing_but_fields_ends() -> None:
    from pocketface.sdk.backends.protobuf import Budget, fields

    with pytest.raises(ValueError, match="fields"):
        list(fields(memoryview(b"\x08\x01" * 100), Budget(99)))
    assert len(list(fields(memoryview(b"\x08\x01" * 100), Budget(100)))) == 100
