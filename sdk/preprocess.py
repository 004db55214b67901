"""From an image to the network's input, exactly as on the phone.

image (H, W, 3) uint8 --resample--> (S, S, 3) float32 in [0, 255] --normalise--> tensor float32
                                                    where the network normalises: --to_pixels--> tensor uint8

The reference: a faster path, and the batched torch twin that training uses (compression/augment/crop.py), are tested
    against it.
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
    return _fed(resample(image, crop, settings.size), settings)


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


def halve(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Halve by 2 x 2 means; beyond an odd edge the image counts as 0. (H, W, C) -> (ceil(H/2), ceil(W/2), C)."""
    height, width = image.shape[:2]
    if height % 2 or width % 2:
        image = np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)))
    return (image[0::2, 0::2] + image[1::2, 0::2] + image[0::2, 1::2] + image[1::2, 1::2]) * np.float32(0.25)


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
    if image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape or image.dtype != np.uint8:
        raise BadInputError(
            f"image of shape {image.shape} and type {image.dtype}",
            expected="(height, width, 3) uint8 RGB",
            next="Convert it first, for example with pocketface.sdk.read_image",
        )
    if not (crop.side > 0 and all(map(math.isfinite, (crop.cx, crop.cy, crop.side, crop.angle)))):
        raise BadInputError(f"{crop}", expected="finite numbers and a side above 0", next="Give a box that has an area")
    count = halvings(crop.side, size)
    source, crop = _window(image, crop, count)
    for _ in range(count):
        source = halve(source)
        crop = Crop((crop.cx + 0.5) / 2 - 0.5, (crop.cy + 0.5) / 2 - 0.5, crop.side / 2, crop.angle)
    centres = (np.arange(size, dtype=np.float64) + 0.5) / size - 0.5
    grid = np.stack(np.meshgrid(centres, centres), axis=-1).reshape(-1, 2)
    return _bilinear(source, grid @ crop._axes() + (crop.cx, crop.cy)).reshape(size, size, 3)


def _window(image: NDArray[np.uint8], crop: Crop, count: int) -> tuple[NDArray[np.float32], Crop]:
    """The part that the crop can touch, cut on a grid that halving keeps; saves most of the work on big photos."""
    step, reach = 2**count, crop.side * 0.7072 + 2 ** (count + 1)
    x0, y0 = (max(0, int(np.floor((centre - reach) / step)) * step) for centre in (crop.cx, crop.cy))
    x1, y1 = (max(0, int(np.ceil((centre + reach) / step)) * step) for centre in (crop.cx, crop.cy))
    part = image[y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)].astype(np.float32)
    return part, Crop(crop.cx - x0, crop.cy - y0, crop.side, crop.angle)


def _bilinear(image: NDArray[np.float32], xy: NDArray[np.float64]) -> NDArray[np.float32]:
    """Sample (H, W, C) at (n, 2) positions -> (n, C); taps outside count as 0."""
    height, width = image.shape[:2]
    if height == 0 or width == 0:
        return np.zeros((len(xy), image.shape[2]), np.float32)
    low = np.floor(xy)
    fraction = (xy - low).astype(np.float32)
    # One pixel of zeros around the image stands for everything outside.
    padded = np.pad(image, ((1, 1), (1, 1), (0, 0))).reshape(-1, image.shape[2])
    out = np.zeros((len(xy), image.shape[2]), np.float32)
    for dx in (0, 1):
        for dy in (0, 1):
            x = np.clip(low[:, 0] + dx, -1, width).astype(np.intp) + 1
            y = np.clip(low[:, 1] + dy, -1, height).astype(np.intp) + 1
            weight = (fraction[:, 0] if dx else 1 - fraction[:, 0]) * (fraction[:, 1] if dy else 1 - fraction[:, 1])
            out += padded[y * (width + 2) + x] * weight[:, None]
    return out


def to_pixels(pixels: NDArray[np.float32], layout: str = "NCHW") -> NDArray[np.uint8]:
    """(S, S, 3) pixel values -> uint8 tensor of batch 1, for a network that normalises itself.

    Args:
        pixels: (S, S, 3) float32; rounded half to even and clipped to [0, 255].
        layout: ``"NCHW"`` or ``"NHWC"``.

    Returns:
        (1, 3, S, S) or (1, S, S, 3) uint8, contiguous.
    """
    tensor = np.rint(pixels).clip(0, 255).astype(np.uint8)
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
    tensor = (pixels - np.asarray(mean, np.float32)) / np.asarray(std, np.float32)
    return np.ascontiguousarray(tensor.transpose(2, 0, 1)[None] if layout == "NCHW" else tensor[None])
