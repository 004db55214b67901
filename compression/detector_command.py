"""The subcommand ``detector``: a detector's bundle out of weights that exist."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pocketface.compression.commands import Data, Out, RecipePath, Set
from pocketface.sdk.files import refuse_existing
from pocketface.sdk.options import Force, example
from pocketface.sdk.terminal import console, size_text


@example("pocketface detector compression/recipes/detectors/face-detector.yaml --weights WHEEL --data 300w --out OUT")
def detector(
    recipe: RecipePath,
    weights: Annotated[
        Path, typer.Option(help="The wheel of mediapipe 0.10.21, or the .tflite file in it.", show_default=False)
    ],
    data: Data,
    out: Out,
    set: Set = None,
    force: Force = False,
) -> None:
    """Make a face detector's bundle of MediaPipe's weights: converted, held against the original, judged, packed."""
    from pocketface.compression.detector import BUNDLE, RECORD, build_detector, packed_path
    from pocketface.compression.detector_recipe import load_detector_recipe
    from pocketface.compression.models.blazeface_weights import read_original
    from pocketface.sdk.progress import say

    loaded = load_detector_recipe(recipe, tuple(set or ()))
    original = read_original(weights)
    packed = packed_path(loaded, out)
    for path in (out / RECORD, out / BUNDLE, packed):
        refuse_existing(path, force)
    found = build_detector(loaded, original, data, out, say=say, force=force)
    for row in found.variants:
        figures = "" if row.detection is None else f", missed {row.detection['missed']:.2f} %"
        shipped = ", shipped" if row.shipped else ""
        text = f"{row.id}: {size_text(row.bytes)}, {row.status}{figures}{shipped}{'' if not row.reason else ': '}"
        console().print(f"{text}{row.reason}", markup=False, soft_wrap=True)
    console().print(f"bundle {packed} ({size_text(packed.stat().st_size)})\nfigures {out / RECORD}")
