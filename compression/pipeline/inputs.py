"""Faces as the runtime would feed them: calibration, parity and every reported accuracy go through sdk/preprocess."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from pocketface.benchmarks.data.face import Face
from pocketface.compression.models.heads import LandmarkNet
from pocketface.compression.recipe import ExportSpec
from pocketface.converters.pixels import PixelInput
from pocketface.sdk.geometry import Crop
from pocketface.sdk.images import read_image
from pocketface.sdk.preprocess import normalise, resample, to_pixels


def reference_pixels(faces: Sequence[Face], size: int) -> NDArray[np.float32]:
    """(N, size, size, 3) float32 in [0, 255]: each face in its ground-truth box."""
    return np.stack([resample(read_image(face.image), Crop.from_box(face.box), size) for face in faces])


def reference_truth(faces: Sequence[Face]) -> NDArray[np.float32]:
    """(N, n, 2) annotated landmarks in the normalised coordinates of the same crops."""
    return np.stack([Crop.from_box(face.box).to_normalised(face.points) for face in faces])


def shipped_network(net: LandmarkNet, spec: ExportSpec) -> LandmarkNet | PixelInput:
    """What is exported: the trained network, or one around it that takes pixels. Every reference runs this one."""
    return PixelInput(net, net.mean, net.std) if spec.input == "pixels" else net


def network_inputs(faces: Sequence[Face], net: LandmarkNet | PixelInput) -> NDArray[np.float32] | NDArray[np.uint8]:
    """(N, 3, S, S) as the network wants it: float32, normalised, or uint8 pixels."""
    return as_inputs(reference_pixels(faces, net.input_size), net)


def as_inputs(
    pixels: Sequence[NDArray[np.float32]] | NDArray[np.float32], net: LandmarkNet | PixelInput
) -> NDArray[np.float32] | NDArray[np.uint8]:
    """Crops (S, S, 3) float32 in [0, 255] -> (N, 3, S, S) as the network wants it."""
    if isinstance(net, PixelInput):
        return np.concatenate([to_pixels(image) for image in pixels])
    return np.concatenate([normalise(image, net.mean, net.std) for image in pixels])


def as_tensor(pixels: NDArray[np.float32]) -> torch.Tensor:
    """(N, S, S, 3) -> (N, 3, S, S)."""
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()
