"""The weights of BlazeFace, out of the ``.tflite`` file that the wheel of mediapipe carries (Apache-2.0, Google).

The wheel is read as a zip file and never installed: ``pip download --no-deps mediapipe==0.10.21``.
"""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from pocketface.compression.models.blazeface import VALUES, BlazeBlock, BlazeFace
from pocketface.sdk.errors import MissingExtraError, WeightsError

MEMBER = "mediapipe/modules/face_detection/face_detection_short_range.tflite"
SHA256 = "bbff11cebd1eb27a1e004cae0b0e63ec8c551cbf34a4451148b4908b8db3eca8"
"""Of that file in mediapipe 0.10.21."""
FETCH = "pip download --no-deps mediapipe==0.10.21"


class Original(NamedTuple):
    """The file as MediaPipe ships it: its bytes and where they come from, as a page may say."""

    content: bytes
    source: str


def read_original(path: Path) -> Original:
    """MediaPipe's detector.

    Args:
        path: the wheel of mediapipe, or the ``.tflite`` file itself.

    Raises:
        WeightsError: no such file, a wheel without it, or another version of it.
    """
    try:
        if path.suffix == ".whl":
            with zipfile.ZipFile(path) as wheel:
                content, source = wheel.read(MEMBER), f"{path.name}, {MEMBER}"
        else:
            content, source = path.read_bytes(), path.name
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise WeightsError(f"{path}: no BlazeFace in it ({error})", next=f"Fetch it: {FETCH}") from error
    found = hashlib.sha256(content).hexdigest()
    if found != SHA256:
        raise WeightsError(
            f"{path}: a detector of SHA-256 {found[:16]}…", expected=f"{SHA256[:16]}…", next=f"Fetch it: {FETCH}"
        )
    return Original(content, source)


def interpreter(original: Original) -> Any:
    """MediaPipe's file in LiteRT, which the weights are read from, and which ours is compared with.

    Raises:
        MissingExtraError: LiteRT is not installed.
    """
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError as error:
        raise MissingExtraError("MediaPipe's detector", "tflite", str(error)) from error
    opened = Interpreter(model_content=original.content, num_threads=1)
    opened.allocate_tensors()
    return opened


def load_blazeface(original: Original) -> BlazeFace:
    """Our network with MediaPipe's weights, in evaluation mode. They are float16 in the file, so little is rounded; see
    also ``equalize``."""
    opened = interpreter(original)
    tensors = {
        item["name"]: np.asarray(opened.get_tensor(item["index"]), np.float32)
        for item in opened.get_tensor_details()
        if item["name"].endswith(("/Kernel", "/Bias"))
    }
    net = BlazeFace(input_size=128)
    state = {f"{name}.{kind}": value for name, layer in _layers(net).items() for kind, value in _of(tensors, layer)}
    for name in ("fine_face", "coarse_face"):
        for kind in ("weight", "bias"):
            state[f"{name}.{kind}"] = _as_corners(state[f"{name}.{kind}"], net.input_size)
    net.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in state.items()})
    equalize(net)
    return net.eval()


@torch.no_grad()
def equalize(net: BlazeFace) -> None:
    """Give the channels between a block's two convolutions, which have no activation in between, such scales that the
    1 x 1 convolution weighs them alike (cross-layer equalization, Nagel et al., "Data-Free Quantization Through Weight
    Equalization and Bias Correction", 2019, section 4.1, with all of the scale given to the depthwise kernels: those
    are quantized by channel and lose nothing by it).

    Otherwise a few strong columns take most of the 8-bit steps of a row. The scales are powers of two, so what the
    network computes in float32 stays the same to the bit.
    """
    for block in net.modules():
        if isinstance(block, BlazeBlock):
            largest = block.pointwise.weight.abs().amax(dim=(0, 2, 3))
            scales = torch.where(largest > 0, torch.exp2(torch.log2(largest).round()), 1.0)
            block.pointwise.weight.div_(scales[None, :, None, None])
            block.depthwise.weight.mul_(scales[:, None, None, None])
            if block.depthwise.bias is not None:
                block.depthwise.bias.mul_(scales)


def _as_corners(values: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """Weights, or a bias, that give centre, width and height in pixels of the input -> corners in its sides; the key
    points are divided only. (anchors x 16, ...) -> the same."""
    rows = values.reshape(-1, VALUES - 1, *values.shape[1:]) / np.float32(size)
    centre, half = rows[:, 0:2].copy(), rows[:, 2:4] / 2
    rows[:, 0:2], rows[:, 2:4] = centre - half, centre + half
    return rows.reshape(values.shape)


def _layers(net: BlazeFace) -> dict[str, str]:
    """Our module -> the layer's name in the file."""
    found = {"stem": "conv2d"}
    blocks = [f"fine.{number}" for number in range(len(net.fine))]
    blocks += [f"coarse.{number}" for number in range(len(net.coarse))]
    for number, block in enumerate(blocks):
        found[f"{block}.depthwise"] = "depthwise_conv2d" + (f"_{number}" if number else "")
        found[f"{block}.pointwise"] = f"conv2d_{number + 1}"
    heads = {"fine_score": "classificator_8", "fine_face": "regressor_8"}
    return found | heads | {"coarse_score": "classificator_16", "coarse_face": "regressor_16"}


def _of(tensors: dict[str, NDArray[np.float32]], layer: str) -> list[tuple[str, NDArray[np.float32]]]:
    """A layer's weight, in torch's order of sides, and its bias."""
    kernel = tensors[f"{layer}/Kernel"]
    # (out, h, w, in); a depthwise one is (1, h, w, channels).
    order = (3, 0, 1, 2) if layer.startswith("depthwise") else (0, 3, 1, 2)
    return [("weight", kernel.transpose(order)), ("bias", tensors[f"{layer}/Bias"])]
