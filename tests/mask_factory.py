"""Tiny segmentation bundles for tests, built without torch: every network is linear, so that results follow by hand.

image (1, 3, S, S) --means over S / M blocks--> (1, 3, M, M) --weights, bias--> logits (1, C, M, M)
                                     previous (1, C, M, M) --times gain--^ added
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from bundle_factory import MEAN, STD, entry, picture
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from pocketface.sdk import manifest as m
from pocketface.sdk.classes import load_classes
from pocketface.sdk.geometry import Box, Crop
from pocketface.sdk.preprocess import normalise, resample


def mask_weights(classes: int, seed: int = 3) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(C, 3) and (C,): what turns a cell's mean colour into logits."""
    rng = np.random.default_rng(seed)
    return rng.normal(0, 3, (classes, 3)).astype(np.float32), rng.normal(0, 0.5, classes).astype(np.float32)


def mask_forward(
    tensor: NDArray[np.float32], classes: int, grid: int, previous: NDArray[np.float32] | None = None, gain: float = 0.0
) -> NDArray[np.float32]:
    """The network in numpy, with slow loops: ``tensor`` (1, 3, S, S) -> logits (1, C, M, M)."""
    W, b = mask_weights(classes)
    step = tensor.shape[2] // grid
    out = np.zeros((1, classes, grid, grid), np.float32)
    for i in range(grid):
        for j in range(grid):
            cell = tensor[0, :, i * step : (i + 1) * step, j * step : (j + 1) * step].astype(np.float64)
            out[0, :, i, j] = W @ cell.mean(axis=(1, 2)) + b
    return out if previous is None else (out + np.float32(gain) * previous).astype(np.float32)


def mask_onnx(size: int, grid: int, classes: int, gain: float | None) -> bytes:
    """The same network as an ONNX file; without a gain it takes no previous mask."""
    W, b = mask_weights(classes)
    step, shape = size // grid, [1, classes, grid, grid]
    inputs = [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, size, size])]
    constants = [numpy_helper.from_array(W[:, :, None, None], "W"), numpy_helper.from_array(b, "b")]
    nodes = [
        helper.make_node("AveragePool", ["image"], ["cells"], kernel_shape=[step, step], strides=[step, step]),
        helper.make_node("Conv", ["cells", "W", "b"], ["logits" if gain is None else "seen"]),
    ]
    if gain is not None:
        inputs.append(helper.make_tensor_value_info("previous", TensorProto.FLOAT, shape))
        constants.append(numpy_helper.from_array(np.array(gain, np.float32), "gain"))
        nodes.append(helper.make_node("Mul", ["previous", "gain"], ["remembered"]))
        nodes.append(helper.make_node("Add", ["seen", "remembered"], ["logits"]))
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, shape)]
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Over the classes, (C, M, M)."""
    powers = np.exp(logits.astype(np.float64))
    return powers / powers.sum(axis=0)


def slow_mask(probabilities: NDArray[Any], crop: Crop, image_size: tuple[int, int]) -> NDArray[np.float64]:
    """(C, H, W) soft masks by a loop over the pixels: the four cells around each, weighted by hand."""
    width, height = image_size
    count, size, _ = probabilities.shape
    out = np.zeros((count, height, width))
    out[0] = 1
    turn = np.deg2rad(crop.angle)
    for y in range(height):
        for x in range(width):
            dx, dy = (x - crop.cx) / crop.side, (y - crop.cy) / crop.side
            u, v = dx * np.cos(turn) + dy * np.sin(turn), dy * np.cos(turn) - dx * np.sin(turn)
            if max(abs(u), abs(v)) > 0.5 + 1e-9:
                continue
            j, i = (min(max((at + 0.5) * size - 0.5, 0), size - 1) for at in (u, v))
            value = np.zeros(count)
            for row in range(size):
                for column in range(size) if abs(row - i) < 1 else ():
                    if abs(column - j) < 1:
                        value += (1 - abs(row - i)) * (1 - abs(column - j)) * probabilities[:, row, column]
            out[:, y, x] = value
    return out


def make_mask_bundle(
    folder: Path,
    *,
    classes: str = "hair2",
    size: int = 32,
    grid: int = 16,
    gain: float | None = None,
    variants: Sequence[str] = ("fp32.onnx",),
    golden: int = 1,
) -> Path:
    """Build a bundle.

    Args:
        folder: is made, and returned.
        classes: name of a built-in set.
        size, grid: sides of the input and of the mask; the first is a multiple of the second.
        gain: weight of the previous mask; None builds a network without one.
        variants: ids ``PRECISION.FORMAT``; ``onnx`` ones run, any other is a dummy file.
        golden: number of golden cases.
    """
    for name in ("models", "golden"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    kinds = load_classes(classes)
    shape = (1, len(kinds.names), grid, grid)
    image = m.TensorSpec(name="image", shape=(1, 3, size, size))
    previous = m.TensorSpec(name="previous", shape=shape)
    state = m.StateSpec(
        name="previous", shape=shape, input="previous", output="logits", frame="crop", reset="cut", handed="softmax"
    )
    inputs = (image,) if gain is None else (image, previous)
    made = []
    for id in variants:
        precision, _, format = id.partition(".")
        path = f"models/tiny.{precision}.{format}" + ("/weights.bin" if format == "coreml" else "")
        (folder / path).parent.mkdir(exist_ok=True)
        data = mask_onnx(size, grid, len(kinds.names), gain) if format == "onnx" else b"dummy"
        (folder / path).write_bytes(data)
        made.append(
            m.Variant(
                id=id,
                format=format,  # type: ignore[arg-type]
                precision=precision,  # type: ignore[arg-type]
                files=(entry(folder, path),),
                inputs={spec.name: m.Binding(tensor=spec.name, shape=spec.shape, layout="NCHW") for spec in inputs},
                outputs={"logits": m.Binding(tensor="logits", shape=shape, layout="NCHW")},
                tolerances=m.Tolerances(max_tensor_error=1e-4),
                status="unverified",
                reason="built for a test",
            )
        )
    stage = m.Stage(
        name="hair" if classes == "hair2" else "parsing",
        task="segmentation",
        preprocess=m.Preprocess(size=size, mean=MEAN, std=STD),
        inputs=inputs,
        outputs=(m.OutputSpec(name="logits", shape=shape, decode="class_logits"),),
        states=() if gain is None else (state,),
        classes=kinds,
        parameters=4 * len(kinds.names),
        flops=0,
        variants=tuple(made),
    )
    files = []
    for number in range(golden):
        np.savez(folder / "golden" / f"{number:03d}.npz", **mask_golden(number, size, grid, len(kinds.names), gain))
        files.append(entry(folder, f"golden/{number:03d}.npz"))
    (folder / "card.md").write_text("# tiny mask\n")
    digest = hashlib.sha256(b"name: mask\n").hexdigest()
    contents = m.Manifest(
        schema=m.SCHEMA,
        name="tinymask",
        default=variants[0],
        stages=(stage,),
        golden=tuple(files),
        card=entry(folder, "card.md"),
        provenance=m.Provenance(recipe="name: mask\n", recipe_sha256=digest, data=(), tools={"onnx": onnx.__version__}),
        weights_licence="CC0-1.0",
        allow_unverified=tuple(variants),
    )
    (folder / "manifest.json").write_bytes(m.encode(contents))
    return folder


def mask_golden(number: int, size: int, grid: int, classes: int, gain: float | None) -> dict[str, Any]:
    """One drawn picture, what the network sees and gives, and its mask, in numpy."""
    image, box = picture(seed=number), Box(20 + number, 8, 71 + number, 59)
    crop = Crop.from_box(box)
    tensor = normalise(resample(image, crop, size), MEAN, STD)
    before = None
    case: dict[str, Any] = {"image": image, "box": np.array(box, np.float64), "step0.input.image": tensor}
    if gain is not None:
        before = np.full((1, classes, grid, grid), 1 / classes, np.float32)
        case["step0.input.previous"] = before
    case["step0.output.logits"] = logits = mask_forward(tensor, classes, grid, before, gain or 0.0)
    probabilities = softmax(logits[0])
    case["step0.decoded.probabilities"] = probabilities.astype(np.float32)
    labels = slow_mask(probabilities, crop, (image.shape[1], image.shape[0])).argmax(axis=0)
    case["step0.decoded.labels"] = labels.astype(np.uint8)
    return case
