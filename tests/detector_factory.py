"""A tiny detector's bundle for tests, built without torch: every bright cell of a grid is a face, so that results
follow by hand.

image (1, 3, S, S) --means over S / G blocks--> (1, 3, G, G) --12 x their mean - 6--> a logit a cell --constant boxes-->
(1, G x G, 9): logit, the cell's centre, two cells wide and high, two eyes in the cell
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from bundle_factory import MEAN, STD, entry
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from pocketface.sdk import manifest as m
from pocketface.sdk.geometry import Box, Crop
from pocketface.sdk.preprocess import normalise, resample

GAIN, OFFSET = 12.0, -6.0
"""From a cell's mean in [-1, 1] to its logit: 6 where it is white, far below 0 where it is grey or black."""


def places(grid: int, tilt: float = 0.0) -> NDArray[np.float32]:
    """(1, G * G, 8): what the network says of every cell's box and eyes. ``tilt``: degrees the eyes are turned."""
    rows = []
    for i in range(grid):
        for j in range(grid):
            cx, cy = (j + 0.5) / grid - 0.5, (i + 0.5) / grid - 0.5
            dx, dy = 0.25 / grid * np.cos(np.radians(tilt)), 0.25 / grid * np.sin(np.radians(tilt))
            corners = [cx - 1 / grid, cy - 1 / grid, cx + 1 / grid, cy + 1 / grid]
            rows.append([*corners, cx - dx, cy - dy, cx + dx, cy + dy])
    return np.array([rows], np.float32)


def detector_forward(tensor: NDArray[np.float32], grid: int, tilt: float = 0.0) -> NDArray[np.float32]:
    """The network in numpy, with slow loops: ``tensor`` (1, 3, S, S) -> (1, G * G, 9)."""
    step = tensor.shape[2] // grid
    logits = [
        GAIN * tensor[0, :, i * step : (i + 1) * step, j * step : (j + 1) * step].astype(np.float64).mean() + OFFSET
        for i in range(grid)
        for j in range(grid)
    ]
    return np.concatenate((np.array(logits, np.float32)[None, :, None], places(grid, tilt)), axis=2)


def detector_onnx(size: int, grid: int, tilt: float = 0.0) -> bytes:
    """The same network as an ONNX file."""
    step, cells = size // grid, grid * grid
    constants = [
        numpy_helper.from_array(np.full((1, 3, 1, 1), GAIN / 3, np.float32), "W"),
        numpy_helper.from_array(np.full(1, OFFSET, np.float32), "b"),
        numpy_helper.from_array(np.array([1, cells, 1], np.int64), "shape"),
        numpy_helper.from_array(places(grid, tilt), "places"),
    ]
    nodes = [
        helper.make_node("AveragePool", ["image"], ["cells"], kernel_shape=[step, step], strides=[step, step]),
        helper.make_node("Conv", ["cells", "W", "b"], ["grid"]),
        helper.make_node("Reshape", ["grid", "shape"], ["logits"]),
        helper.make_node("Concat", ["logits", "places"], ["faces"], axis=2),
    ]
    graph = helper.make_graph(
        nodes,
        "detector",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, size, size])],
        [helper.make_tensor_value_info("faces", TensorProto.FLOAT, [1, cells, 9])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    return model.SerializeToString()


def detector_stage(size: int = 32, grid: int = 8, face_box: m.FaceBox | None = None) -> m.Stage:
    """What the manifest says of it, without variants."""
    return m.Stage(
        name="detector",
        task="detection",
        preprocess=m.Preprocess(size=size, mean=MEAN, std=STD),
        inputs=(m.TensorSpec(name="image", shape=(1, 3, size, size)),),
        outputs=(m.OutputSpec(name="faces", shape=(1, grid * grid, 9), decode="anchor_faces"),),
        detector=m.DetectorSpec(points=("left", "right"), eyes=(0, 1), face_box=face_box or m.FaceBox()),
        parameters=4,
        flops=0,
        variants=(),
    )


def make_detector_bundle(folder: Path, *, size: int = 32, grid: int = 8, tilt: float = 0.0) -> Path:
    """Build a bundle with one ONNX variant and one golden case: a white square on black, which is one face."""
    for name in ("models", "golden"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "models" / "tiny.fp32.onnx").write_bytes(detector_onnx(size, grid, tilt))
    stage = detector_stage(size, grid)
    variant = m.Variant(
        id="fp32.onnx",
        format="onnx",
        precision="fp32",
        files=(entry(folder, "models/tiny.fp32.onnx"),),
        inputs={"image": m.Binding(tensor="image", shape=(1, 3, size, size), layout="NCHW")},
        outputs={"faces": m.Binding(tensor="faces", shape=(1, grid * grid, 9))},
        tolerances=m.Tolerances(max_tensor_error=1e-4),
        status="unverified",
        reason="built for a test",
    )
    np.savez(folder / "golden" / "000.npz", **_golden(size, grid, tilt))
    (folder / "card.md").write_text("# tiny detector\n")
    contents = m.Manifest(
        schema=m.SCHEMA,
        name="tinydetector",
        default="fp32.onnx",
        stages=(with_variant(stage, variant),),
        golden=(entry(folder, "golden/000.npz"),),
        card=entry(folder, "card.md"),
        provenance=m.Provenance(recipe="", recipe_sha256=hashlib.sha256(b"").hexdigest(), data=(), tools={}),
        weights_licence="CC0-1.0",
        allow_unverified=("fp32.onnx",),
    )
    (folder / "manifest.json").write_bytes(m.encode(contents))
    return folder


def with_variant(stage: m.Stage, variant: m.Variant) -> m.Stage:
    """The stage with this one variant."""
    import msgspec

    return msgspec.structs.replace(stage, variants=(variant,))


def white_cells(cells: list[tuple[int, int]], *, grid: int = 8, side: int = 160) -> NDArray[np.uint8]:
    """(side, side, 3) uint8, black but for these cells, (row, column) each, in white."""
    image, step = np.zeros((side, side, 3), np.uint8), side // grid
    for i, j in cells:
        image[i * step : (i + 1) * step, j * step : (j + 1) * step] = 255
    return image


def _golden(size: int, grid: int, tilt: float) -> dict[str, Any]:
    """One white cell of a picture, what the network sees and gives, and the one face, by hand."""
    image = white_cells([(2, 3)], grid=grid)
    side = image.shape[0]
    tensor = normalise(resample(image, Crop((side - 1) / 2, (side - 1) / 2, side), size), MEAN, STD)
    outputs = detector_forward(tensor, grid, tilt)
    step = side / grid
    # The cell's centre in pixels, two cells wide and high; a white cell's logit is GAIN + OFFSET.
    cx, cy = 3.5 * step - 0.5, 2.5 * step - 0.5
    face = [cx - step, cy - step, cx + step, cy + step, 1 / (1 + np.exp(-(GAIN + OFFSET))), tilt]
    return {
        "image": image,
        "box": np.array(Box.of_image(side, side), np.float64),
        "step0.input.image": tensor,
        "step0.output.faces": outputs,
        "step0.decoded.faces": np.array([face]),
    }
