"""Image files to arrays and back.

file --decode, first frame--> EXIF rotation --> (H, W, 3) uint8 RGB

Colour profiles are not applied: values are taken as sRGB. Pillow is imported when a file is read or written.
"""

from __future__ import annotations

import contextlib
import io
import os
import stat
import struct
import zlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pocketface.sdk.errors import BadInputError, ImageError
from pocketface.sdk.files import os_problem, write_atomic

if TYPE_CHECKING:
    from PIL import Image

MAX_PIXELS = 80_000_000
"""Larger images are refused before they are decoded; a photo of 10 000 x 8 000 pixels takes 240 MB."""

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM", "AVIF")
"""What is read, where Pillow was built with it. Pillow knows thirty more; each is code that a stranger's file would
reach, and one of them (EPS) starts another program."""

WRITERS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".bmp": "BMP"}

# What Pillow's decoders raise on broken files, besides OSError.
_BROKEN = (SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, OverflowError, struct.error, zlib.error)


def read_image(path: str | os.PathLike[str]) -> NDArray[np.uint8]:
    """Read an image file.

    EXIF rotation is applied; of an animation the first frame is taken; transparency is laid on white; grey, palette,
    CMYK and 16-bit images are converted: 16 bits are rounded to 8, not cut off (grey with transparency, and TIFF in
    colour, keep their upper 8 bits, which is at most one level less).

    Returns:
        (H, W, 3) uint8, RGB.

    Raises:
        ImageError: the file is missing, empty, not an image of one of ``FORMATS``, broken off, a pipe or a device, has
            values without a known range, or is larger than ``MAX_PIXELS``.
    """
    from PIL import Image

    with opened_image(path) as image:
        low = _LOW_BYTES.get(_raw_mode(image))
        if low is None:
            return to_rgb(image, str(path))
        with Image.open(path, formats=_formats()) as again:
            return _deep(image, again, low)


@contextlib.contextmanager
def opened_image(path: str | os.PathLike[str], name: str | None = None) -> Iterator[Image.Image]:
    """An image file as Pillow opens it, once it is known to be one that may be decoded; nothing of it is converted.

    Args:
        path: of the file.
        name: what errors call it (default: the path).

    Raises:
        ImageError: as ``read_image``; also for what goes wrong in the block, where Pillow decodes.
    """
    from PIL import Image, UnidentifiedImageError

    path = Path(path)
    name = str(path) if name is None else name
    if path.is_dir():
        raise ImageError(f"{name} is a folder", expected="an image file", next="Name one image in it")
    try:
        about = path.stat()
        if not stat.S_ISREG(about.st_mode):  # a pipe would be waited for, a device never ends
            raise ImageError(f"{name} is a pipe or a device", expected="an image file", next="Save it to a file first")
        if about.st_size == 0:
            raise ImageError(f"{name} is empty", expected="an image file", next="Fetch or save it again")
        with Image.open(path, formats=_formats()) as image:
            _check_size(image, name)
            yield image
    except FileNotFoundError as error:
        raise ImageError(f"{name}: no such file", expected="an image file", next="Check the path") from error
    except UnidentifiedImageError as error:
        raise ImageError(
            f"{name} is not an image that can be read",
            expected="JPEG, PNG, WebP, AVIF, BMP, TIFF, GIF or PPM",
            next="Convert it first",
        ) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_large(name, str(error)) from error
    except PermissionError as error:
        raise os_problem(error, path, "read") from error
    except (OSError, *_BROKEN) as error:
        raise ImageError(
            f"{name} is broken ({error})", expected="a complete image file", next="Fetch or save it again"
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
    from PIL import Image, ImageChops, ImageOps

    _check_size(image, name)
    # Pillow gives 16-bit PNGs as "I" or "I;16" by version; in any other file "I" has no known range.
    wide = image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG")
    if not wide and image.mode in ("I", "F"):
        raise ImageError(
            f"{name} has 32-bit values (mode {image.mode})", expected="8 or 16 bits a channel", next="Convert it first"
        )
    if wide:
        return _grey(image)
    # Pillow takes every JPEG of ink for Adobe's, which hold it inverted; one that does not say so holds it as it is.
    ink = image.mode == "CMYK" and image.format in ("JPEG", "MPO") and "adobe" not in image.info
    image = ImageOps.exif_transpose(image)
    if ink:
        image = ImageChops.invert(image)
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        if image.mode in ("La", "RGBa"):
            image = image.convert({"La": "LA", "RGBa": "RGBA"}[image.mode])
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (255, 255, 255, 255)), image)
    return np.array(image.convert("RGB"))


# How Pillow unpacks a PNG of 16 bits a channel (the upper bytes only) -> how it would unpack the lower bytes.
_LOW_BYTES = {"RGB;16B": "RGB;16L", "RGBA;16B": "RGBA;16L"}


@cache
def _formats() -> tuple[str, ...]:
    from PIL import Image

    Image.preinit()
    from PIL import TiffImagePlugin, WebPImagePlugin  # noqa: F401  each registers itself

    with contextlib.suppress(ImportError):
        from PIL import AvifImagePlugin  # noqa: F401
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _check_size(image: Image.Image, name: str) -> None:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise _too_large(name, f"{width} x {height} pixels")
    if width == 0 or height == 0:
        raise ImageError(f"{name} has {width} x {height} pixels", expected="at least 1 x 1", next="Give another image")


def _raw_mode(image: Image.Image) -> str:
    tiles: Any = getattr(image, "tile", ())
    return str(tiles[0].args) if image.format == "PNG" and len(tiles) == 1 else ""


def _deep(image: Image.Image, again: Image.Image, low: str) -> NDArray[np.uint8]:
    """A colour PNG of 16 bits a channel, exactly.

    Args:
        image, again: the same file opened twice.
        low: how the second one is to be unpacked, for the lower bytes.
    """
    from PIL import ImageOps

    again.tile = [again.tile[0]._replace(args=low)]  # type: ignore[attr-defined]
    upper, lower = (np.asarray(ImageOps.exif_transpose(half)).astype(np.int64) for half in (image, again))
    values = upper * 256 + lower
    colours, through = values[..., :3], image.info.get("transparency")
    if values.shape[2] == 4:
        return _on_white(colours, values[..., 3:])
    if isinstance(through, tuple):  # one colour is transparent
        return _on_white(colours, np.where((colours == through).all(axis=2, keepdims=True), 0, 65535))
    return _rounded(colours)


def _grey(image: Image.Image) -> NDArray[np.uint8]:
    """Grey values of 16 bits; in TIFF also of 12 bits, or with 0 for white."""
    from PIL import ImageOps

    top, through = 65535, image.info.get("transparency")
    tags = getattr(image, "tag_v2", {})
    bits, photometric = tags.get(258, (16,)), tags.get(262, 1)
    values = np.asarray(ImageOps.exif_transpose(image)).astype(np.int64)
    if isinstance(bits, tuple) and bits[0] < 16:
        top = 2 ** int(bits[0]) - 1
    if photometric == 0:
        values = top - values
    if top != 65535:
        values = values * 65535 // top
    values = values[..., None]
    alpha = np.where(values == through, 0, 65535) if isinstance(through, int) else np.full_like(values, 65535)
    return np.repeat(_on_white(values, alpha), 3, axis=2)


def _on_white(values: NDArray[np.int64], alpha: NDArray[np.int64]) -> NDArray[np.uint8]:
    return _rounded((values * alpha + 65535 * (65535 - alpha) + 32767) // 65535)


def _rounded(values: NDArray[np.int64]) -> NDArray[np.uint8]:
    return ((values + 128) // 257).clip(0, 255).astype(np.uint8)  # 65535 -> 255


def write_image(path: str | os.PathLike[str], array: NDArray[np.uint8], *, force: bool = False) -> None:
    """Write (H, W, 3) uint8 RGB to a file; the suffix chooses the format (JPEG at quality 95).

    Raises:
        BadInputError: an unknown suffix, an array that is no image, or a file that exists without ``force``.
        EnvironmentProblemError: the disk is full, or the place is not writable.
    """
    from PIL import Image

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
