"""A complete tiny bundle for tests, built without torch: the network is a real function of the image, and its golden
outputs come from numpy, not from the runtime under test.

image (1, 3, S, S) [--normalise if uint8] --mean over a 4 x 4 grid--> 48 values --Gemm--> points (1, n, 2), score (1,)
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from PIL import Image, ImageDraw

from pocketface.sdk import manifest as m
from pocketface.sdk.geometry import Box, Crop
from pocketface.sdk.preprocess import normalise, resample, to_pixels
from pocketface.sdk.schemes import load_scheme

GRID = 4
MEAN, STD = (127.5, 127.5, 127.5), (127.5, 127.5, 127.5)


def weights(points: int, precision: str = "fp32", seed: int = 7) -> dict[str, NDArray[np.float32]]:
    """``W`` (48, 2n + 1) and ``b``: the last column gives the score's logit, the others the points."""
    rng = np.random.default_rng(seed)
    turn = np.linspace(0, 2 * np.pi, points, endpoint=False)
    base = np.stack([0.3 * np.cos(turn), 0.35 * np.sin(turn)], axis=1).reshape(-1)
    W = rng.normal(0, 0.004, (3 * GRID * GRID, 2 * points + 1)).astype(np.float32)
    W[:, -1] *= 50
    b = np.append(base, 1.0).astype(np.float32)
    if precision == "fp16":
        W, b = W.astype(np.float16).astype(np.float32), b.astype(np.float16).astype(np.float32)
    elif precision != "fp32":  # 8 bits per output, kept as floats
        step = np.abs(W).max(axis=0) / 127
        W = (np.rint(W / step) * step).astype(np.float32)
    return {"W": W, "b": b}


def forward(tensor: NDArray[np.float32], values: dict[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
    """The network in numpy, with slow loops: ``tensor`` (1, 3, S, S) -> raw outputs."""
    cell = tensor.shape[2] // GRID
    pooled = [
        tensor[0, c, i * cell : (i + 1) * cell, j * cell : (j + 1) * cell].astype(np.float64).mean()
        for c in range(3)
        for i in range(GRID)
        for j in range(GRID)
    ]
    out = np.array(pooled) @ values["W"].astype(np.float64) + values["b"]
    return {"points": out[:-1].reshape(1, -1, 2).astype(np.float32), "score": out[-1:].astype(np.float32)}


def onnx_bytes(size: int, points: int, values: dict[str, NDArray[np.float32]], pixels: bool = False) -> bytes:
    """The same network as an ONNX file; with ``pixels``, one that takes uint8 and normalises."""
    cell, first = size // GRID, "normalised" if pixels else "image"
    taken = TensorProto.UINT8 if pixels else TensorProto.FLOAT
    inside = [
        helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["float", "mean"], ["centred"]),
        helper.make_node("Div", ["centred", "std"], ["normalised"]),
    ]
    nodes = [
        *(inside if pixels else []),
        helper.make_node("AveragePool", [first], ["pooled"], kernel_shape=[cell, cell], strides=[cell, cell]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Gemm", ["flat", "W", "b"], ["out"]),
        helper.make_node("Slice", ["out", "zero", "last", "axis"], ["xy"]),
        helper.make_node("Reshape", ["xy", "xy_shape"], ["points"]),
        helper.make_node("Slice", ["out", "last", "end", "axis"], ["logit"]),
        helper.make_node("Reshape", ["logit", "logit_shape"], ["score"]),
    ]
    integers = {
        "zero": [0],
        "last": [2 * points],
        "end": [2 * points + 1],
        "axis": [1],
        "xy_shape": [1, points, 2],
        "logit_shape": [1],
    }
    constants = [numpy_helper.from_array(value, name) for name, value in values.items()]
    constants += [numpy_helper.from_array(np.array(value, np.int64), name) for name, value in integers.items()]
    if pixels:
        for name, value in (("mean", MEAN), ("std", STD)):
            constants.append(numpy_helper.from_array(np.array(value, np.float32).reshape(1, 3, 1, 1), name))
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", taken, [1, 3, size, size])],
        [
            helper.make_tensor_value_info("points", TensorProto.FLOAT, [1, points, 2]),
            helper.make_tensor_value_info("score", TensorProto.FLOAT, [1]),
        ],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def picture(width: int = 90, height: int = 70, seed: int = 0) -> NDArray[np.uint8]:
    """A small drawn picture with an ellipse for a face."""
    rng = np.random.default_rng(seed)
    image = Image.fromarray(rng.integers(0, 90, (height, width, 3), np.uint8))
    tone = tuple(int(value) for value in rng.integers(120, 250, 3))
    ImageDraw.Draw(image).ellipse((width * 0.3, height * 0.2, width * 0.7, height * 0.9), fill=tone)
    return np.array(image)


def entry(root: Path, path: str) -> m.FileEntry:
    """The manifest's entry for a file that is there."""
    data = (root / path).read_bytes()
    return m.FileEntry(path=path, bytes=len(data), sha256=hashlib.sha256(data).hexdigest())


def make_bundle(
    folder: Path,
    *,
    size: int = 32,
    points: int = 68,
    variants: Sequence[str] = ("fp32.onnx",),
    golden: int = 2,
    allow_unverified: Sequence[str] = (),
    pixels: bool = False,
) -> Path:
    """Build a bundle.

    Args:
        folder: is made, and returned.
        size: input side, a multiple of 4.
        points: 68 and 98 use the built-in schemes, any other number a scheme of one part.
        variants: ids ``PRECISION.FORMAT``. ``onnx`` ones run; any other format gets a folder of dummy files and the
            status ``unverified``.
        golden: number of golden cases.
        allow_unverified: what the manifest says about variants without an executor.
        pixels: the network takes uint8 pixels and normalises itself.
    """
    for name in ("models", "golden"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    preprocess = m.Preprocess(size=size, mean=MEAN, std=STD, inside="multiply-add" if pixels else "")
    dtype: Any = "uint8" if pixels else "float32"
    cases = [_golden_case(number, size, points, pixels) for number in range(golden)]
    names = {68: "ibug68", 98: "wflw98"}
    ring = m.Scheme(
        name=f"ring{points}",
        points=points,
        parts={"ring": tuple(range(points))},
        closed=("ring",),
        normaliser=(0, points // 2),
    )
    manifest = m.Manifest(
        schema=m.SCHEMA,
        name="tiny",
        default=variants[0],
        stages=(
            m.Stage(
                name="landmarks",
                task="landmarks",
                preprocess=preprocess,
                inputs=(m.TensorSpec(name="image", shape=(1, 3, size, size), dtype=dtype),),
                outputs=(
                    m.OutputSpec(name="points", shape=(1, points, 2), decode="normalised_points"),
                    m.OutputSpec(name="score", shape=(1,), decode="face_logit"),
                ),
                scheme=load_scheme(names[points]) if points in names else ring,
                parameters=49 * (2 * points + 1),
                flops=96 * (2 * points + 1),
                variants=tuple(_variant(folder, id, size, points, cases, dtype) for id in variants),
            ),
        ),
        golden=tuple(_golden_file(folder, number, case) for number, case in enumerate(cases)),
        card=_card(folder),
        provenance=m.Provenance(
            recipe="name: tiny\n",
            recipe_sha256=hashlib.sha256(b"name: tiny\n").hexdigest(),
            data=(m.DataSource(name="drawn ellipses", split="train", faces=2, sha256="0" * 64, licence="CC0-1.0"),),
            tools={"onnx": onnx.__version__},
        ),
        weights_licence="CC0-1.0",
        allow_unverified=tuple(allow_unverified),
        metrics={"nme": 4.0},
    )
    (folder / "manifest.json").write_bytes(m.encode(manifest))
    return folder


def _variant(
    folder: Path, id: str, size: int, points: int, cases: list[dict[str, Any]], dtype: Any = "float32"
) -> m.Variant:
    precision, _, format = id.partition(".")
    binding = {
        "inputs": {"image": m.Binding(tensor="image", shape=(1, 3, size, size), dtype=dtype, layout="NCHW")},
        "outputs": {
            "points": m.Binding(tensor="points", shape=(1, points, 2)),
            "score": m.Binding(tensor="score", shape=(1,)),
        },
    }
    bounds = {"fp32": m.Tolerances(max_tensor_error=1e-4), "fp16": m.Tolerances(max_tensor_error=2e-3)}
    common: dict[str, Any] = {
        "id": id,
        "format": format,
        "precision": precision,
        "tolerances": bounds.get(precision, m.Tolerances(max_nme_increase=0.6)),
        **binding,
    }
    if format != "onnx":
        package = folder / "models" / f"tiny.{precision}.{format}"
        (package / "Data").mkdir(parents=True)
        (package / "Manifest.json").write_text("{}")
        (package / "Data" / "weights.bin").write_bytes(bytes(range(64)))
        files = sorted(path.relative_to(folder).as_posix() for path in package.rglob("*") if path.is_file())
        reason = f"no executor for {format} on the machine that built this"
        return m.Variant(
            files=tuple(entry(folder, path) for path in files), status="unverified", reason=reason, **common
        )
    path = f"models/tiny.{precision}.onnx"
    values = weights(points, precision)
    (folder / path).write_bytes(onnx_bytes(size, points, values, dtype == "uint8"))
    parity = _parity(values, cases, size) if cases else None
    status, reason = ("passed", "") if cases else ("unverified", "no golden cases")
    return m.Variant(files=(entry(folder, path),), status=status, reason=reason, parity=parity, **common)


def _parity(values: dict[str, NDArray[np.float32]], cases: list[dict[str, Any]], size: int) -> m.Parity:
    """What numpy finds when it compares these weights with the golden outputs, in the units the manifest asks for."""
    found = [forward(_as_float(case["step0.input.image"]), values) for case in cases]
    points = np.stack([new["points"] - case["step0.output.points"] for new, case in zip(found, cases, strict=True)])
    scores = np.array(
        [
            1 / (1 + np.exp(-new["score"][0])) - case["step0.decoded.score"]
            for new, case in zip(found, cases, strict=True)
        ]
    )
    distance = np.linalg.norm(points, axis=-1)
    return m.Parity(
        executor="numpy",
        faces=len(cases),
        outputs={
            name: m.OutputParity(max_error=float(np.abs(error).max()), mean_error=float(np.abs(error).mean()))
            for name, error in (("points", points), ("score", scores))
        },
        max_pixel_error=float(distance.max()) * size,
        mean_pixel_error=float(distance.mean()) * size,
        golden_error=float(distance.mean()),
    )


def _as_float(tensor: NDArray[Any]) -> NDArray[np.float32]:
    """What the network makes of its input before anything else."""
    if tensor.dtype != np.uint8:
        return tensor
    return np.stack([(tensor[:, c].astype(np.float32) - MEAN[c]) / STD[c] for c in range(3)], axis=1).astype(np.float32)


def _golden_case(number: int, size: int, points: int, pixels: bool = False) -> dict[str, Any]:
    image = picture(seed=number)
    box = Box(20 + number, 8, 71 + number, 59)
    crop = Crop.from_box(box)
    values = resample(image, crop, size)
    tensor = to_pixels(values) if pixels else normalise(values, MEAN, STD)
    raw = forward(_as_float(tensor), weights(points))
    return {
        "image": image,
        "box": np.array(box, np.float64),
        "step0.input.image": tensor,
        "step0.output.points": raw["points"],
        "step0.output.score": raw["score"],
        "step0.decoded.points": crop.to_image(raw["points"][0]),
        "step0.decoded.score": np.float32(1 / (1 + np.exp(-raw["score"][0]))),
    }


def _golden_file(folder: Path, number: int, case: dict[str, Any]) -> m.FileEntry:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **case)
    path = f"golden/{number:03d}.npz"
    (folder / path).write_bytes(buffer.getvalue())
    return entry(folder, path)


def _card(folder: Path) -> m.FileEntry:
    (folder / "card.md").write_text("# tiny\nAn ellipse finder for tests.\n")
    return entry(folder, "card.md")


def edit_manifest(folder: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """Change manifest.json as plain JSON (``change`` alters the dict in place), without any check."""
    path = folder / "manifest.json"
    raw = json.loads(path.read_text())
    change(raw)
    path.write_text(json.dumps(raw))
    return folder


def replace_file(folder: Path, path: str, data: bytes) -> Path:
    """Replace a file of the bundle and mend its manifest entry, so that only its content is wrong."""
    (folder / path).write_bytes(data)
    new = {"path": path, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}

    def mend(node: Any) -> None:
        if isinstance(node, dict):
            if node.get("path") == path:
                node.update(new)
            for child in node.values():
                mend(child)
        elif isinstance(node, list):
            for child in node:
                mend(child)

    return edit_manifest(folder, mend)


def zip_bundle(folder: Path, path: str | os.PathLike[str]) -> Path:
    """The same bundle as one ``.pface`` file."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                archive.write(file, file.relative_to(folder).as_posix())
    return Path(path)
