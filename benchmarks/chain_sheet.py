"""What each stage of a chain makes of one photo in bad conditions, as a contact sheet.

Columns: the degraded photo in the box that is given; the landmark network alone on that; then the box that relocalize
gives, the picture that uniformize gives, and the chain's landmarks on the photo as it was.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pocketface.benchmarks.data.degrade import degradation, degrade
from pocketface.benchmarks.module_command import ended
from pocketface.benchmarks.reports.sheet import contact_sheet
from pocketface.sdk.bundle import open_bundle
from pocketface.sdk.chain import StageRunner, View, onward
from pocketface.sdk.commands import parse_box
from pocketface.sdk.errors import BundleError
from pocketface.sdk.files import write_atomic
from pocketface.sdk.geometry import Box, Crop
from pocketface.sdk.images import read_image
from pocketface.sdk.overlay import PointsOverlay
from pocketface.sdk.postprocess import decode
from pocketface.sdk.predictor import Predictor
from pocketface.sdk.preprocess import resample
from pocketface.sdk.results import Landmarks

PRESETS = ("box", "light", "downsample-x8", "all")
IOD_SHARE = 0.36
"""Inter-ocular distance over the side of a ground-truth box, about; the degradations are in units of it."""


def chain_sheet(
    predictor: Predictor,
    image: NDArray[np.uint8],
    box: Box,
    *,
    presets: Sequence[str] = PRESETS,
    size: int = 160,
    seed: int = 0,
) -> bytes:
    """Draw the sheet.

    Args:
        predictor: a chain.
        image: (H, W, 3) uint8 RGB, with one face.
        box: of the face, by the ground-truth convention.
        presets: of ``DEGRADATIONS``, one row each.
        size: side of a picture, pixels.
        seed: of the degradations.

    Returns:
        The bytes of a PNG.

    Raises:
        BundleError: the predictor is a single network.
    """
    *before, last = predictor.stages
    if not before:
        raise BundleError(f"{predictor.id} is one network", expected="a chain", next="Give the bundle of a chain")
    frame = Crop.from_box(box)
    whole = Crop(frame.cx, frame.cy, 1.5 * frame.side)
    columns: dict[str, list[NDArray[np.uint8]]] = {}
    for preset in presets:
        bad = degrade(image, box, degradation(preset), iod=IOD_SHARE * frame.side, name="sheet", seed=seed)
        view = View(bad.image, Crop.from_box(bad.box))
        cells = {"given": _look(view, size), "landmarks alone": _landmarks(last, view, bad.image, whole, size)}
        for runner in before:
            view = onward(runner.predict_tensor(runner.preprocess(*view)), runner.stage, view)
            cells[f"after {runner.stage.name}"] = _look(view, size)
        cells["the whole chain"] = _landmarks(last, view, image, whole, size)
        for name, cell in cells.items():
            columns.setdefault(name, []).append(cell)
    return contact_sheet(
        {name: (np.stack(cells) / 255).astype(np.float32) for name, cells in columns.items()}, size=size
    )


def _look(view: View, size: int) -> NDArray[np.uint8]:
    """What a stage is about to see."""
    side = view.source.shape[0]
    picture = _rounded(view.source)
    if view.source.dtype == np.uint8:
        return _rounded(resample(picture, view.crop, size))
    middle = (side - 1) / 2
    return _rounded(resample(picture, Crop(middle, middle, side), size))


def _landmarks(runner: StageRunner, view: View, image: NDArray[np.uint8], whole: Crop, size: int) -> NDArray[np.uint8]:
    """Landmarks that a view gives, drawn on an image."""
    points, score, _ = decode(runner.predict_tensor(runner.preprocess(*view)), runner.stage, view.crop)
    shown = ((whole.to_normalised(points) + 0.5) * size - 0.5).astype(np.float32)
    face = Landmarks(shown, score, Box(0, 0, size, size), runner.stage.marks.name)
    return PointsOverlay(radius=size / 110)(_rounded(resample(image, whole, size)), [face])


def _rounded(values: NDArray[Any]) -> NDArray[np.uint8]:
    return np.rint(np.clip(values, 0, 255)).astype(np.uint8)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the sheet of a photo as a PNG."""
    parser = argparse.ArgumentParser(prog="python -m pocketface.benchmarks.chain_sheet", description=main.__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("photo", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--box", required=True, help="x0,y0,x1,y1 of the face, pixels")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    return ended(lambda: _write(given))


def _write(given: argparse.Namespace) -> None:
    image, box = read_image(given.photo), parse_box(given.box)
    with open_bundle(given.bundle) as bundle:
        sheet = chain_sheet(Predictor(bundle), image, box, seed=given.seed)
    write_atomic(given.out, sheet, force=True)


if __name__ == "__main__":
    raise SystemExit(main())
