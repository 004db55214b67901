"""Tiny chains for tests, built without torch: every network is linear, so that results follow by hand.

relocalize  box = mean colour (normalised) @ box_weights + correction
uniformize  image = gain * pixel / 255 + (1 - gain) / 2: 1 copies, -1 inverts
landmarks   points = marks + mean colour @ slope for every point; pose
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from bundle_factory import MEAN, STD, entry, picture
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from pocketface.sdk import manifest as m
from pocketface.sdk.geometry import Box, Crop
from pocketface.sdk.preprocess import normalise, resample

MARKS = np.array([[-0.25, -0.25], [0.25, -0.25], [0.0, 0.125], [0.0, 0.375]], np.float32)
SCHEME = m.Scheme(name="kite4", points=4, parts={"kite": (0, 1, 3, 2)}, closed=("kite",), normaliser=(0, 1))


@dataclass
class Nets:
    """The numbers in the networks of one precision."""

    correction: tuple[float, ...] = (0.0, 0.0, 1.0, 1.0)
    box_weights: NDArray[np.float32] = field(default_factory=lambda: np.zeros((3, 4), np.float32))
    gain: float = 1.0
    slope: NDArray[np.float32] = field(default_factory=lambda: np.zeros((3, 2), np.float32))
    pose: tuple[float, ...] | None = (0.1, -0.2, 0.3)


def make_chain(
    folder: Path,
    *,
    tasks: Sequence[str] = ("relocalize", "uniformize", "landmarks"),
    sizes: Sequence[int] = (16, 16, 16),
    nets: dict[str, Nets] | None = None,
    formats: Sequence[str] = ("onnx",),
    golden: int = 1,
) -> Path:
    """Build a chain; each stage is named after its task.

    Args:
        folder: is made, and returned.
        tasks, sizes: of the stages, in order.
        nets: precision -> numbers; each stage gets a variant of every precision and format. Only ``onnx`` can run.
        formats: ``onnx``, or others, which get dummy files.
        golden: number of golden cases, of the first precision.
    """
    nets = nets or {"fp32": Nets()}
    for name in ("models", "golden"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    stages = tuple(_stage(folder, task, size, nets, formats) for task, size in zip(tasks, sizes, strict=False))
    first, digest = next(iter(nets)), hashlib.sha256(b"name: chain\n").hexdigest()
    (folder / "card.md").write_text("# chain\n")
    files = []
    for number in range(golden):
        np.savez(folder / "golden" / f"{number:03d}.npz", **golden_case(stages, nets[first], number))
        files.append(entry(folder, f"golden/{number:03d}.npz"))
    contents = m.Manifest(
        schema=m.SCHEMA,
        name="chain",
        default=f"{first}.{formats[0]}" if len(stages) > 1 else stages[0].variants[0].id,
        stages=stages,
        golden=tuple(files),
        card=entry(folder, "card.md"),
        provenance=m.Provenance(
            recipe="name: chain\n", recipe_sha256=digest, data=(), tools={"onnx": onnx.__version__}
        ),
        weights_licence="CC0-1.0",
    )
    (folder / "manifest.json").write_bytes(m.encode(contents))
    return folder


def golden_case(stages: Sequence[m.Stage], nets: Nets, number: int = 0) -> dict[str, Any]:
    """What every stage sees and gives for one drawn picture, in numpy."""
    image, box = picture(seed=number), Box(20 + number, 8, 71 + number, 59)
    case: dict[str, Any] = {"image": image, "box": np.array(box, np.float64)}
    crop, drawn = Crop.from_box(box), None
    for step, stage in enumerate(stages):
        size = stage.preprocess.size
        if drawn is None:
            pixels = resample(image, crop, size)
        else:
            block = len(drawn) // size
            pixels = np.array(
                [
                    [
                        drawn[i * block : (i + 1) * block, j * block : (j + 1) * block].mean(axis=(0, 1))
                        for j in range(size)
                    ]
                    for i in range(size)
                ],
                np.float32,
            )
        tensor = normalise(pixels, MEAN, STD)
        colour = tensor[0].astype(np.float64).mean(axis=(1, 2))
        key = f"step{step}"
        case[f"{key}.input.image"] = tensor
        if stage.task == "relocalize":
            dx, dy, sw, sh = raw = colour @ nets.box_weights + nets.correction
            case[f"{key}.output.box"] = raw[None].astype(np.float32)
            cx, cy, width, height = crop.cx + dx * crop.side, crop.cy + dy * crop.side, crop.side * sw, crop.side * sh
            edges = (cx - width / 2, cy - height / 2, cx + width / 2, cy + height / 2)
            case[f"{key}.decoded.box"] = np.array(edges, np.float64)
            crop = Crop(cx, cy, max(width, height))
        elif stage.task == "uniformize":
            drawn = (nets.gain * pixels + 255 * (1 - nets.gain) / 2).astype(np.float32)
            case[f"{key}.output.picture"] = (drawn / 255).transpose(2, 0, 1)[None].astype(np.float32)
            case[f"{key}.decoded.image"] = drawn.clip(0, 255)
        else:
            points = MARKS + (colour @ nets.slope).astype(np.float32)
            case[f"{key}.output.points"] = points[None]
            case[f"{key}.decoded.points"] = ((crop.cx, crop.cy) + points * crop.side).astype(np.float32)
            if nets.pose is not None:
                case[f"{key}.output.pose"] = np.array([nets.pose], np.float32)
                case[f"{key}.decoded.pose"] = 90 * np.array(nets.pose, np.float32)
    return case


def _stage(folder: Path, task: Any, size: int, nets: dict[str, Nets], formats: Sequence[str]) -> m.Stage:
    specs: dict[str, list[m.OutputSpec]] = {
        "relocalize": [m.OutputSpec(name="box", shape=(1, 4), decode="box_correction")],
        "uniformize": [m.OutputSpec(name="picture", shape=(1, 3, size, size), decode="unit_image")],
        "landmarks": [m.OutputSpec(name="points", shape=(1, len(MARKS), 2), decode="normalised_points")],
    }
    if next(iter(nets.values())).pose is not None:
        specs["landmarks"].append(m.OutputSpec(name="pose", shape=(1, 3), decode="head_pose"))
    outputs = specs[task]
    variants = []
    for format in formats:
        for precision, numbers in nets.items():
            path = f"models/{task}.{precision}.{format}" + ("" if format in ("onnx", "tflite") else "/weights.bin")
            (folder / path).parent.mkdir(exist_ok=True)
            (folder / path).write_bytes(_network(task, size, numbers) if format == "onnx" else b"dummy")
            variants.append(
                m.Variant(
                    id=f"{task}.{precision}.{format}",
                    format=format,  # type: ignore[arg-type]
                    precision=precision,  # type: ignore[arg-type]
                    files=(entry(folder, path),),
                    inputs={"image": m.Binding(tensor="image", shape=(1, 3, size, size), layout="NCHW")},
                    outputs={spec.name: m.Binding(tensor=spec.name, shape=spec.shape) for spec in outputs},
                    tolerances=m.Tolerances(max_tensor_error=1e-4),
                    status="unverified",
                    reason="made for tests",
                )
            )
    return m.Stage(
        name=task,
        task=task,
        preprocess=m.Preprocess(size=size, mean=MEAN, std=STD),
        inputs=(m.TensorSpec(name="image", shape=(1, 3, size, size)),),
        outputs=tuple(outputs),
        scheme=SCHEME if task == "landmarks" else None,
        parameters=12,
        flops=0,
        variants=tuple(variants),
    )


def _network(task: str, size: int, nets: Nets) -> bytes:
    """The stage as an ONNX file."""
    constants: dict[str, Any] = {}
    pooled = [
        helper.make_node("GlobalAveragePool", ["image"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["colour"]),
    ]
    outputs: dict[str, list[int]]
    if task == "relocalize":
        nodes, outputs = [*pooled, helper.make_node("Gemm", ["colour", "W", "b"], ["box"])], {"box": [1, 4]}
        constants = {"W": nets.box_weights, "b": np.array(nets.correction, np.float32)}
    elif task == "uniformize":
        nodes = [
            helper.make_node("Mul", ["image", "k"], ["scaled"]),
            helper.make_node("Add", ["scaled", "c"], ["picture"]),
        ]
        offset = nets.gain * MEAN[0] / 255 + (1 - nets.gain) / 2
        constants = {"k": np.array([nets.gain * STD[0] / 255], np.float32), "c": np.array([offset], np.float32)}
        outputs = {"picture": [1, 3, size, size]}
    else:
        nodes = [*pooled, helper.make_node("MatMul", ["colour", "slope"], ["shift"])]  # (1, 2)
        nodes.append(helper.make_node("Add", ["marks", "shift"], ["points"]))  # (1, n, 2)
        constants, outputs = {"slope": nets.slope, "marks": MARKS[None]}, {"points": [1, len(MARKS), 2]}
        if nets.pose is not None:
            nodes.append(helper.make_node("Identity", ["angles"], ["pose"]))
            constants["angles"], outputs["pose"] = np.array([nets.pose], np.float32), [1, 3]
    taken = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, size, size])
    given = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()]
    values = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, task, [taken], given, values)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    return model.SerializeToString()
