"""Image files to arrays and back.

file --decode, first frame--> EXIF rotation --> (H, W, 3) uint8 RGB

Colour profiles are not applied: values are taken as sRGB.
"""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from pocketface.sdk.errors import BadInputError, ImageError
from pocketface.sdk.files import os_problem, write_atomic

MAX_PIXELS = 80_000_000
"""Larger images are refused before they are decoded; a photo of 10 000 x 8 000 pixels takes 240 MB."""

WRITERS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".bmp": "BMP"}

# What Pillow's decoders raise on broken files, besides OSError.
_BROKEN = (SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, OverflowError, struct.error, zlib.error)


def read_image(path: str | os.PathLike[str]) -> NDArray[np.uint8]:
    """Read an image file.

    EXIF rotation is applied; of an animation the first frame is taken; transparency is laid on white; grey, palette,
    CMYK and 16-bit images are converted.

    Returns:
        (H, W, 3) uint8, RGB.

    Raises:
        ImageError: the file is missing, empty, not an image, broken off, or larger than ``MAX_PIXELS``.
    """
    path = Path(path)
    if path.is_dir():
        raise ImageError(f"{path} is a folder", expected="an image file", next="Name one image in it")
    try:
        if path.stat().st_size == 0:
            raise ImageError(f"{path} is empty", expected="an image file", next="Fetch or save it again")
        with Image.open(path) as image:
            return to_rgb(image, str(path))
    except FileNotFoundError as error:
        raise ImageError(f"{path}: no such file", expected="an image file", next="Check the path") from error
    except UnidentifiedImageError as error:
        raise ImageError(
            f"{path} is not an image that can be read",
            expected="JPEG, PNG, WebP, BMP, TIFF or GIF",
            next="Convert it first",
        ) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_large(str(path), str(error)) from error
    except ImageError:
        raise
    except PermissionError as error:
        raise os_problem(error, path, "read") from error
    except (OSError, *_BROKEN) as error:
        raise ImageError(
            f"{path} is broken ({error})", expected="a complete image file", next="Fetch or save it again"
        ) from error


def to_rgb(image: Image.Image, name: str = "the image") -> NDArray[np.uint8]:
    """Convert a Pillow image, as ``read_image`` does.

    Args:
        image: any mode; an animation gives its current frame.
        name: what errors call it.

    Returns:
        (H, W, 3) uint8, RGB.

    Raises:
        ImageError: larger than ``MAX_PIXELS``, or its values have no known range (32-bit integers, floats).
    """
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise _too_large(name, f"{width} x {height} pixels")
    if width == 0 or height == 0:
        raise ImageError(f"{name} has {width} x {height} pixels", expected="at least 1 x 1", next="Give another image")
    # Pillow gives 16-bit PNGs as "I" or "I;16" by version; in any other file "I" has no known range.
    wide = image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG")
    if not wide and image.mode in ("I", "F"):
        raise ImageError(
            f"{name} has 32-bit values (mode {image.mode})", expected="8 or 16 bits a channel", next="Convert it first"
        )
    image = ImageOps.exif_transpose(image)
    if wide:
        values = np.asarray(image).astype(np.int64)
        grey = ((values + 128) // 257).clip(0, 255).astype(np.uint8)  # 65535 -> 255, rounded
        return np.repeat(grey[:, :, None], 3, axis=2)
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        if image.mode in ("La", "RGBa"):
            image = image.convert({"La": "LA", "RGBa": "RGBA"}[image.mode])
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (255, 255, 255, 255)), image)
    return np.array(image.convert("RGB"))


def write_image(path: str | os.PathLike[str], array: NDArray[np.uint8], *, force: bool = False) -> None:
    """Write (H, W, 3) uint8 RGB to a file; the suffix chooses the format (JPEG at quality 95).

    Raises:
        BadInputError: an unknown suffix, an array that is no image, or a file that exists without ``force``.
        EnvironmentProblemError: the disk is full, or the place is not writable.
    """
    path = Path(path)
    check_array(array)
    kind = checked_suffix(path)
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, kind, **({"quality": 95} if kind in ("JPEG", "WEBP") else {}))
    write_atomic(path, buffer.getvalue(), force=force)


def checked_suffix(path: str | os.PathLike[str]) -> str:
    """Pillow's format name for a file to be written.

    Raises:
        BadInputError: the suffix is none of ``WRITERS``.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in WRITERS:
        raise BadInputError(
            f"{path}: cannot write images of type {suffix or 'none'!r}",
            choices=WRITERS,
            next="Change the file's suffix",
        )
    return WRITERS[suffix]


def check_array(array: NDArray[np.uint8]) -> None:
    """Refuse what is not (H, W, 3) uint8 with at least one pixel."""
    shape, dtype = getattr(array, "shape", None), getattr(array, "dtype", type(array).__name__)
    if shape is None or len(shape) != 3 or shape[2] != 3 or 0 in shape or dtype != np.uint8:
        raise BadInputError(
            f"image of shape {shape} and type {dtype}",
            expected="(height, width, 3) uint8 RGB",
            next="Convert it first, for example with pocketface.sdk.read_image",
        )


def _too_large(name: str, got: str) -> ImageError:
    return ImageError(
        f"{name} is too large ({got})", expected=f"at most {MAX_PIXELS} pixels", next="Scale it down first"
    )
