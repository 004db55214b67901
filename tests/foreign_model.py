"""A network that was not trained here, small enough to be computed by hand, for the tests of ``pocketface pack``.

image (1, 3, 32, 32) --mean of each channel--> r, g, b --> landmark i: (X[i] + 2 r, Y[i] - g), in pixels of the input
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIZE = 32
PIXELS = np.array([[8, 10], [24, 10], [12, 24], [20, 26]], np.float64)
"""Where the four landmarks are in a grey image, in pixels of the input."""
SCHEME = {
    "name": "corners4",
    "points": 4,
    "parts": {"eyes": [0, 1], "mouth": [2, 3]},
    "flip": [1, 0, 3, 2],
    "normaliser": [0, 1],
}
CONTRACT: dict[str, Any] = {
    "name": "corners",
    "scheme": "corners4.json",
    "preprocess": {"size": SIZE, "mean": [100, 100, 100], "std": [50, 50, 50]},
    "outputs": {"points": {"decode": "pixel_points"}},
    "precision": "fp32",
    "golden_faces": 1,
    "weights_licence": "CC0-1.0",
}


def by_hand(colour: tuple[float, float, float]) -> np.ndarray:
    """(4, 2) pixels of the input, for an image of one colour, normalised as the contract says."""
    red, green, _ = ((value - 100) / 50 for value in colour)
    return PIXELS + np.array([2 * red, -green])


def write_model(
    path: Path,
    *,
    units: str = "pixels",
    shape: tuple[int, ...] = (1, 8),
    score: bool = False,
    bias: float = 0.5,
    shift: float = 0.0,
    side: Any = SIZE,
    batch: Any = 1,
    layout: str = "NCHW",
    twice: bool = False,
    two_inputs: bool = False,
    uint8: bool = False,
    int8_scale: float = 0.0,
    outputs: int = 4,
) -> Path:
    """Write the network as ONNX.

    Args:
        units: of its landmarks: ``pixels``, ``unit`` or ``normalised``.
        shape: of its landmarks.
        score: whether it gives a logit, (1, 1): bias + b.
        shift: added to every coordinate, in pixels.
        side, batch, layout: of its input; names make them dynamic.
        twice: give the landmarks as two outputs.
        two_inputs: take a second image that it does not look at.
        uint8: take pixels, and normalise inside.
        int8_scale: give the landmarks as int8 of this scale, zero point 3.
        outputs: pairs of values that it gives.
    """
    offsets, weights = PIXELS.reshape(-1) + shift, np.tile([[2.0, 0], [0, -1.0], [0, 0]], (1, 4))
    if units != "pixels":
        offsets, weights = (offsets + 0.5) / SIZE - (0.5 if units == "normalised" else 0.0), weights / SIZE
    offsets, weights = np.resize(offsets, 2 * outputs), np.resize(weights.T, (2 * outputs, 3)).T
    constants = {
        "W": weights.astype(np.float32),
        "b": offsets.astype(np.float32),
        "shape": np.array(shape, np.int64),
        "mean": np.full((1, 3, 1, 1), 100, np.float32),
        "std": np.full((1, 3, 1, 1), 50, np.float32),
        "V": np.array([[0.0], [0.0], [1.0]], np.float32),
        "v": np.array([bias], np.float32),
        "scale": np.array(int8_scale or 1.0, np.float32),
        "zero": np.array(3, np.int8),
    }
    nodes, image = [], "picture"
    if layout == "NHWC":
        nodes.append(helper.make_node("Transpose", [image], ["planes"], perm=[0, 3, 1, 2]))
        image = "planes"
    if uint8:
        nodes += [
            helper.make_node("Cast", [image], ["float"], to=TensorProto.FLOAT),
            helper.make_node("Sub", ["float", "mean"], ["centred"]),
            helper.make_node("Div", ["centred", "std"], ["values"]),
        ]
        image = "values"
    last = "plain" if int8_scale else "landmarks"
    nodes += [
        helper.make_node("ReduceMean", [image], ["colour"], axes=[2, 3], keepdims=0),
        helper.make_node("Gemm", ["colour", "W", "b"], ["flat"]),
        helper.make_node("Reshape", ["flat", "shape"], [last]),
    ]
    kind = TensorProto.INT8 if int8_scale else TensorProto.FLOAT
    if int8_scale:
        nodes.append(helper.make_node("QuantizeLinear", [last, "scale", "zero"], ["landmarks"]))
    given = [helper.make_tensor_value_info("landmarks", kind, shape)]
    if score:
        nodes.append(helper.make_node("Gemm", ["colour", "V", "v"], ["face"]))
        given.append(helper.make_tensor_value_info("face", TensorProto.FLOAT, (1, 1)))
    if twice:
        nodes.append(helper.make_node("Identity", ["landmarks"], ["again"]))
        given.append(helper.make_tensor_value_info("again", kind, shape))
    sides = [batch, 3, side, side] if layout == "NCHW" else [batch, side, side, 3]
    taken = TensorProto.UINT8 if uint8 else TensorProto.FLOAT
    inputs = [helper.make_tensor_value_info("picture", taken, sides)]
    if two_inputs:
        inputs.append(helper.make_tensor_value_info("other", taken, sides))
    read = {name for node in nodes for name in node.input}
    tensors = [numpy_helper.from_array(value, name) for name, value in constants.items() if name in read]
    graph = helper.make_graph(nodes, "foreign", inputs, given, tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def write_contract(folder: Path, **changes: Any) -> Path:
    """Write the scheme and the contract of this network, with some of its keys changed (None takes one away)."""
    import yaml

    (folder / "corners4.json").write_text(json.dumps(SCHEME))
    content = {key: value for key, value in {**CONTRACT, **changes}.items() if value is not None}
    (folder / "contract.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    return folder / "contract.yaml"
