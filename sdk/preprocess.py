"""From an image to the network's input, exactly as on the phone.

image (H, W, 3) uint8 --resample--> (S, S, 3) float32 in [0, 255] --normalise--> tensor float32
                                                    where the network normalises: --to_pixels--> tensor uint8

The reference: the batched torch twin that training uses (compression/augment/crop.py) is tested against it. What it
does is said here; how, in an order that numpy is fast at, in sampling.py.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import numpy as np
from numpy.typing import NDArray

from pocketface.sdk.errors import BadInputError
from pocketface.sdk.geometry import Crop
from pocketface.sdk.manifest import Preprocess
from pocketface.sdk.sampling import halve as halve
from pocketface.sdk.sampling import sampled


def network_input(
    image: NDArray[np.uint8], crop: Crop, settings: Preprocess
) -> NDArray[np.float32] | NDArray[np.uint8]:
    """An image and a crop -> the tensor that a stage's contract asks for.

    Args:
        image: (H, W, 3) uint8 RGB.
        crop: where the network looks.
        settings: the stage's.

    Returns:
        (1, 3, S, S), float32 normalised, or uint8 where ``settings.inside`` says that the network normalises.
    """
    planes = _planes(image, crop, settings.size)
    if settings.inside or settings.channels == "BGR":
        return _fed(planes.transpose(1, 2, 0), settings)
    # They are ours, and laid out as the tensor is: what ``normalise`` does, without a copy.
    planes -= np.asarray(settings.mean, np.float32)[:, None, None]
    planes /= np.asarray(settings.std, np.float32)[:, None, None]
    return planes[None]


def _fed(pixels: NDArray[np.float32], settings: Preprocess) -> NDArray[np.float32] | NDArray[np.uint8]:
    """(S, S, 3) RGB pixel values -> the tensor that a stage's contract asks for."""
    if settings.channels == "BGR":
        pixels = pixels[:, :, ::-1]
    return to_pixels(pixels) if settings.inside else normalise(pixels, settings.mean, settings.std)


def stage_input(
    source: NDArray[np.uint8] | NDArray[np.float32], crop: Crop, settings: Preprocess
) -> NDArray[np.float32] | NDArray[np.uint8]:
    """The input of a stage in a chain: cut out of the image, or the picture that an earlier stage made of the crop.

    Args:
        source: (H, W, 3) uint8 RGB image; or (S, S, 3) float32 RGB picture of exactly this crop, in [0, 255], whose
            side is the stage's or a whole multiple of it.
        crop: where the network looks.
        settings: the stage's.

    Raises:
        BadInputError: a picture of another size.
    """
    if source.dtype == np.uint8:
        return network_input(cast(NDArray[np.uint8], source), crop, settings)
    return _fed(reduced(cast(NDArray[np.float32], source), settings.size), settings)


def reduced(picture: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """A smaller version of a square picture by means over whole blocks, not rounded: what ``resample`` does to a whole
    image for 2, 4, 8 and so on.

    Args:
        picture: (S, S, 3) float32.
        size: of the result; S is a multiple.

    Raises:
        BadInputError: it is not, or the picture is no such array.
    """
    if picture.ndim != 3 or picture.shape[0] != picture.shape[1] or picture.shape[2] != 3 or picture.shape[0] % size:
        raise BadInputError(
            f"picture of shape {picture.shape}",
            expected=f"({size}, {size}, 3), or a whole multiple of that size",
            next="Check the sizes of the chain's stages: pocketface inspect BUNDLE",
        )
    step = picture.shape[0] // size
    if step == 1:
        return picture
    return picture.reshape(size, step, size, step, 3).mean(axis=(1, 3), dtype=np.float32)


def halvings(side: float, size: int) -> int:
    """How often the image is halved before it is sampled: while the down-scale is 2 or more.

    Args:
        side: side of the crop in pixels of the image.
        size: side of the output in pixels.
    """
    count = 0
    while side / 2**count >= 2 * size:
        count += 1
    return count


def resample(image: NDArray[np.uint8], crop: Crop, size: int) -> NDArray[np.float32]:
    """Cut a rotated square out of an image.

    While the down-scale is 2 or more the image is halved by 2 x 2 means; then four-tap bilinear in float32, without
    rounding; taps outside the image count as 0.

    Args:
        image: (H, W, 3) uint8.
        crop: where to cut.
        size: side of the output, in pixels.

    Returns:
        (size, size, 3) float32 in [0, 255].

    Raises:
        BadInputError: the image is not (H, W, 3) uint8, or the crop has no area.
    """
    return np.ascontiguousarray(_planes(image, crop, size).transpose(1, 2, 0))


def _planes(image: NDArray[np.uint8], crop: Crop, size: int) -> NDArray[np.float32]:
    """(3, size, size) float32: as ``resample``, which has the checks' errors."""
    if image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape or image.dtype != np.uint8:
        raise BadInputError(
            f"image of shape {image.shape} and type {image.dtype}",
            expected="(height, width, 3) uint8 RGB",
            next="Convert it first, for example with pocketface.sdk.read_image",
        )
    if not (crop.side > 0 and all(map(math.isfinite, (crop.cx, crop.cy, crop.side, crop.angle)))):
        raise BadInputError(f"{crop}", expected="finite numbers and a side above 0", next="Give a box that has an area")
    return sampled(image, crop, size, halvings(crop.side, size))


def to_pixels(pixels: NDArray[np.float32], layout: str = "NCHW") -> NDArray[np.uint8]:
    """(S, S, 3) pixel values -> uint8 tensor of batch 1, for a network that normalises itself.

    Args:
        pixels: (S, S, 3) float32; rounded half to even and clipped to [0, 255].
        layout: ``"NCHW"`` or ``"NHWC"``.

    Returns:
        (1, 3, S, S) or (1, S, S, 3) uint8, contiguous.
    """
    rounded = np.rint(pixels)
    tensor = rounded.clip(0, 255, out=rounded).astype(np.uint8)
    return np.ascontiguousarray(tensor.transpose(2, 0, 1)[None] if layout == "NCHW" else tensor[None])


def normalise(
    pixels: NDArray[np.float32], mean: Sequence[float], std: Sequence[float], layout: str = "NCHW"
) -> NDArray[np.float32]:
    """(S, S, 3) pixel values -> the network's input tensor of batch 1.

    Args:
        pixels: (S, S, 3) float32 in [0, 255].
        mean, std: per channel, in pixel units.
        layout: ``"NCHW"`` or ``"NHWC"``.

    Returns:
        (1, 3, S, S) or (1, S, S, 3) float32, contiguous.
    """
    tensor = pixels - np.asarray(mean, np.float32)
    tensor /= np.asarray(std, np.float32)
    return np.ascontiguousarray(tensor.transpose(2, 0, 1)[None] if layout == "NCHW" else tensor[None])
