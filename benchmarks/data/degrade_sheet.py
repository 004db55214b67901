"""A contact sheet of the degradations, on drawn faces: what a network gets to see, and the box it is cut from."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from pocketface.benchmarks.data.degrade import SINGLE, degradation, degrade, inter_ocular
from pocketface.benchmarks.data.synthetic import render_face
from pocketface.benchmarks.module_command import ended
from pocketface.sdk.errors import BadInputError
from pocketface.sdk.geometry import Box

NAMES = ("none", *SINGLE, "all")
HEADER = 14  # pixels above each column, for its name
_GREEN = (0, 255, 140)


def degradation_sheet(
    seeds: Sequence[int], *, names: Sequence[str] = NAMES, size: int = 112, seed: int = 0
) -> NDArray[np.uint8]:
    """One row a face, one column a degradation, each with the box that the crop is cut from.

    Args:
        seeds: of the drawn faces.
        names: presets of ``DEGRADATIONS``.
        size: side of a face in pixels.
        seed: of the degraded set.

    Returns:
        (14 + rows * size, columns * size, 3) uint8 RGB.

    Raises:
        BadInputError: no face or no degradation, or an argument out of range.
    """
    if not len(seeds) or not len(names):
        raise BadInputError(f"{len(seeds)} faces under {len(names)} degradations", expected="1 or more of each")
    specs = [degradation(name) for name in names]
    sheet = Image.new("RGB", (len(names) * size, HEADER + len(seeds) * size), (255, 255, 255))
    pen = ImageDraw.Draw(sheet)
    for column, name in enumerate(names):
        pen.text((column * size + 3, 1), name, fill=(0, 0, 0))
    for row, number in enumerate(seeds):
        face = render_face(number, size)
        box, iod = Box.around(face.points), inter_ocular(face.points)
        for column, spec in enumerate(specs):
            done = degrade(face.image, box, spec, iod=iod, name=str(number), seed=seed)
            tile = Image.fromarray(done.image)
            ImageDraw.Draw(tile).rectangle(done.box, outline=_GREEN)
            sheet.paste(tile, (column * size, HEADER + row * size))
    return np.array(sheet)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write a contact sheet of the degradations as a palette PNG."""
    parser = argparse.ArgumentParser(
        prog="python -m pocketface.benchmarks.data.degrade_sheet", description=main.__doc__
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("--first", type=int, default=0, help="the first drawn face's seed; the others follow")
    parser.add_argument("--count", type=int, default=2)
    parser.add_argument("--size", type=int, default=112)
    parser.add_argument("--seed", type=int, default=0, help="of the degraded set")
    given = parser.parse_args(arguments)
    return ended(lambda: _write(given))


def _write(given: argparse.Namespace) -> None:
    faces = range(given.first, given.first + given.count)
    sheet = Image.fromarray(degradation_sheet(faces, size=given.size, seed=given.seed))
    partial = given.out.with_name(f".{given.out.name}.partial")
    # 128 colours keep a page of the docs light.
    sheet.quantize(128, kmeans=1, dither=Image.Dither.NONE).save(partial, format="PNG", optimize=True)
    partial.replace(given.out)


if __name__ == "__main__":
    sys.exit(main())
