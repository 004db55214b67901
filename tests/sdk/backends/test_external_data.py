"""Against files made by the onnx package, with the external tensor in every place that can hold one."""

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from bundle_factory import onnx_bytes, weights
from onnx import TensorProto, helper, numpy_helper

from pocketface.sdk.backends.external_data import refuse_external_data
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
        refuse_external_data(PLACES[place]().SerializeToString(), "m.onnx")


def test_either_sign_of_it_is_enough() -> None:
    only_location, only_entries = external(), external()
    del only_location.external_data[:]
    only_entries.ClearField("data_location")
    for tensor in (only_location, only_entries):
        with pytest.raises(BundleError, match="other files"):
            refuse_external_data(helper.make_model(graph(initializer=[tensor])).SerializeToString(), "m")


def test_a_whole_file_passes() -> None:
    refuse_external_data(onnx_bytes(16, 5, weights(5)), "m")
    inside = helper.make_tensor("w", TensorProto.FLOAT, [3], [1, 2, 3])
    inside.data_location = TensorProto.DEFAULT
    model = helper.make_model(graph(initializer=[inside]))
    model.producer_name = "someone"
    refuse_external_data(model.SerializeToString(), "m")


def test_broken_bytes_are_a_bundle_error_or_pass_but_never_crash() -> None:
    data = onnx_bytes(16, 5, weights(5))
    with pytest.raises(BundleError, match="not a readable ONNX file"):
        refuse_external_data(data[:-3], "m")
    with pytest.raises(BundleError, match="not a readable ONNX file"):
        refuse_external_data(b"\xff" * 40, "m")
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(200):
        damaged = bytearray(data)
        damaged[rng.integers(0, 300)] = rng.integers(0, 256)
        try:
            refuse_external_data(bytes(damaged), "m")
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
        refuse_external_data(data, "m")
    else:
        with pytest.raises(BundleError, match="not a readable ONNX file"):
            refuse_external_data(data, "m")
