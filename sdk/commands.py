"""The subcommands that need nothing but the runtime: ``run`` and ``inspect``."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from PIL import Image

from pocketface.sdk.bundle import open_bundle
from pocketface.sdk.errors import BadInputError
from pocketface.sdk.files import refuse_existing
from pocketface.sdk.geometry import Box
from pocketface.sdk.images import checked_suffix, read_image, write_image
from pocketface.sdk.manifest import to_plain
from pocketface.sdk.mask_predictor import MaskPredictor
from pocketface.sdk.overlay import ContoursOverlay, MaskOverlay, PointsOverlay, ScoreOverlay
from pocketface.sdk.predictor import Predictor
from pocketface.sdk.terminal import write_json

VIDEO = (".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".3gp")

RUN_EXAMPLE = "Example: pocketface run photo.jpg --bundle runs/face68/bundle --out out.png --json out.json"
INSPECT_EXAMPLE = "Example: pocketface inspect runs/face68/bundle"


def run(
    image: Annotated[Path, typer.Argument(help="Photo to look at.", show_default=False)],
    bundle: Annotated[Path, typer.Option(help="Bundle folder or .pface file.", show_default=False)],
    box: Annotated[
        list[str] | None,
        typer.Option(
            help="Where a face is: x0,y0,x1,y1 in pixels, a square 1.25 x as long as the landmarks extend. "
            "Give it once a face; without it the whole photo is the box.",
            show_default=False,
        ),
    ] = None,
    variant: Annotated[
        str | None, typer.Option(help="Variant, or chain, to run (default: the bundle's own choice).")
    ] = None,
    threads: Annotated[int, typer.Option(help="Threads the runtime may use.")] = 1,
    out: Annotated[
        Path | None, typer.Option(help="Write the photo with the landmarks or the mask drawn on it.")
    ] = None,
    json: Annotated[
        str | None, typer.Option(help="Write the landmarks or the mask as JSON; - is standard output.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace files that exist.")] = False,
) -> None:
    """Find the landmarks in a photo, and the head pose where the network gives one, or the mask, as the phone will."""
    if image.suffix.lower() in VIDEO:
        raise BadInputError(
            f"{image} is a video, which this version does not read",
            expected="one image",
            next=f"Cut a frame out of it first: ffmpeg -i {image.name} -frames:v 1 frame.png",
        )
    boxes = [parse_box(text) for text in box] if box else None
    # Whatever would be refused at the end is refused before the work.
    if out is not None:
        checked_suffix(out)
        refuse_existing(out, force)
    if json is not None and json != "-":
        refuse_existing(Path(json), force)
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", Image.DecompressionBombWarning
        )  # read_image refuses such files in its own words
        pixels = read_image(image)
    with open_bundle(bundle) as opened:
        if opened.manifest.stages[-1].task == "segmentation":
            finder = MaskPredictor(opened, variant=variant, threads=threads)
            _run_mask(image, finder, pixels, boxes, out, json, force)
            return
        predictor = Predictor(opened, variant=variant, threads=threads)
    faces = predictor(pixels, boxes)
    if out is not None:
        drawn = ContoursOverlay(predictor.stage.marks)(pixels, faces)
        write_image(out, ScoreOverlay()(PointsOverlay()(drawn, faces), faces), force=force)
    if json is not None:
        found = {"faces": [face.to_dict() for face in faces]}
        write_json(_report(image, pixels.shape, predictor) | found, json, force=force)
    if json != "-":
        for number, face in enumerate(faces, 1):
            print(f"face {number}: {face}")
        print(f"{predictor.manifest.name} {predictor.id} by {predictor.executor}: {predictor.timings}")


def inspect(
    bundle: Annotated[Path, typer.Argument(help="Bundle folder or .pface file.", show_default=False)],
    json: Annotated[str | None, typer.Option(help="Write the manifest as JSON; - is standard output.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace files that exist.")] = False,
) -> None:
    """Show a bundle's network, variants, figures and origin."""
    with open_bundle(bundle) as opened:
        manifest = opened.manifest
    if json is not None:
        write_json(to_plain(manifest), json, force=force)
    if json != "-":
        from pocketface.sdk.inspection import print_manifest

        print_manifest(manifest)


def parse_box(text: str) -> Box:
    """``x0,y0,x1,y1`` as typed on the command line.

    Raises:
        BadInputError: not four finite numbers, or no area.
    """
    try:
        x0, y0, x1, y1 = (float(part) for part in text.split(","))
    except ValueError as error:
        raise BadInputError(
            f"box {text!r}", expected="four numbers x0,y0,x1,y1", next="Write it without spaces: --box 40,30,200,190"
        ) from error
    return Box(x0, y0, x1, y1).checked()


def _run_mask(
    image: Path,
    predictor: MaskPredictor,
    pixels: NDArray[np.uint8],
    boxes: list[Box] | None,
    out: Path | None,
    json: str | None,
    force: bool,
) -> None:
    """What ``run`` does with a segmentation bundle."""
    masks = predictor(pixels, boxes, cut=True)
    if out is not None:
        write_image(out, MaskOverlay()(pixels, masks), force=force)
    if json is not None:
        found = {"masks": [mask.to_dict() for mask in masks]}
        write_json(_report(image, pixels.shape, predictor) | found, json, force=force)
    if json != "-":
        for number, mask in enumerate(masks, 1):
            print(f"mask {number}: {mask}")
        print(f"{predictor.manifest.name} {predictor.id} by {predictor.executor}: {predictor.timings}")


def _report(image: Path, shape: tuple[int, ...], predictor: Predictor | MaskPredictor) -> dict[str, Any]:
    return {
        "image": str(image),
        "height": shape[0],
        "width": shape[1],
        "bundle": predictor.manifest.name,
        "variant": predictor.id,
        "executor": predictor.executor,
        "timings": predictor.timings,
    }
