"""Pictures side by side: one column a kind, one row a subject."""

from __future__ import annotations

import io
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from pocketface.sdk.errors import BadInputError

HEADER = 14
"""Pixels above each column, for its name."""


def contact_sheet(columns: Mapping[str, NDArray[np.float32]], *, size: int = 128) -> bytes:
    """Draw a sheet.

    Args:
        columns: name -> (N, S, S, 3) pictures in [0, 1]; every column has as many.
        size: side of a picture on the sheet, pixels; nearest neighbours, so that pixels can be seen.

    Returns:
        The bytes of a PNG.

    Raises:
        BadInputError: no columns, no pictures, or columns of different lengths.
    """
    counts = {name: len(pictures) for name, pictures in columns.items()}
    if not counts or len(set(counts.values())) != 1 or 0 in counts.values():
        raise BadInputError(
            f"columns of {counts or 'nothing'} pictures", expected="one or more of each, as many of all"
        )
    rows = next(iter(counts.values()))
    sheet = Image.new("RGB", (len(columns) * size, HEADER + rows * size), (255, 255, 255))
    pen = ImageDraw.Draw(sheet)
    for column, (name, pictures) in enumerate(columns.items()):
        pen.text((column * size + 3, 1), name, fill=(0, 0, 0))
        for row, picture in enumerate(pictures):
            tile = Image.fromarray(np.rint(255 * np.clip(picture, 0, 1)).astype(np.uint8))
            sheet.paste(tile.resize((size, size), Image.Resampling.NEAREST), (column * size, HEADER + row * size))
    buffer = io.BytesIO()
    # A palette is two thirds of the size, and is not seen. Pillow dithers only towards a palette that it is given, and
    # the octree's keeps rare colours, which the median cut turns into frequent ones.
    palette = sheet.quantize(256, method=Image.Quantize.FASTOCTREE)
    sheet.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
