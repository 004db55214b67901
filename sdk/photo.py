"""What ``pocketface run`` does with a photo."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pocketface.sdk.any_predictor import AnyPredictor
from pocketface.sdk.bundle import open_bundle
from pocketface.sdk.detection import Detector
from pocketface.sdk.errors import BadInputError
from pocketface.sdk.files import refuse_existing
from pocketface.sdk.geometry import Box
from pocketface.sdk.images import checked_suffix, read_image, write_image
from pocketface.sdk.mask_predictor import MaskPredictor
from pocketface.sdk.overlay import ContoursOverlay, MaskOverlay, PointsOverlay, ScoreOverlay, SideBySide
from pocketface.sdk.predictor import Predictor
from pocketface.sdk.results import Landmarks, Mask
from pocketface.sdk.terminal import write_json

NOBODY = "no face was found: say where one is with --box x0,y0,x1,y1, or that the picture is one with --whole"


def run_photo(
    photo: Path,
    bundle: Path,
    *,
    boxes: Sequence[Box] | None,
    detector: Detector | None,
    variant: str | None,
    threads: int,
    delegate: str,
    against: Path | None,
    out: Path | None,
    json: str | None,
    force: bool,
) -> None:
    """Run a bundle on a photo, and print what came of it.

    Args:
        photo: a file.
        bundle, against: folder, ``.pface`` file, or name of a bundle that comes with the package.
        boxes: where faces are; None asks the detector, or takes the whole photo without one. Masks are of the whole
            photo then in any case.
        detector, variant, threads, delegate, out, json, force: as the command's options.

    Raises:
        BadInputError, BundleError, EnvironmentProblemError: see `Predictor`, `read_image`, `open_bundle`.
    """
    if against is not None and out is None:
        raise BadInputError("--against without --out", expected="a picture to write", next="Add --out compared.png")
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
        pixels = read_image(photo)
    with open_bundle(bundle) as opened:
        if opened.manifest.stages[-1].task == "segmentation":
            if against is not None:
                raise BadInputError("--against with a bundle of masks", expected="bundles of landmarks")
            finder = MaskPredictor(opened, variant=variant, threads=threads, delegate=delegate)
            _run_mask(photo, finder, pixels, boxes, out, json, force)
            return
        predictor = Predictor(opened, variant=variant, threads=threads, delegate=delegate, detector=detector)
    faces = predictor(pixels, boxes)
    if out is not None:
        drawn = _drawn(predictor, pixels, faces)
        if against is not None:
            other, more = _other(against, pixels, [face.box for face in faces], threads, delegate)
            drawn = SideBySide((_title(predictor), _title(other)))([drawn, _drawn(other, pixels, more)])
        write_image(out, drawn, force=force)
    _tell(photo, pixels.shape, predictor, faces, json, force)
    if not faces and json != "-":
        print(NOBODY)


def _other(
    against: Path, pixels: NDArray[np.uint8], boxes: Sequence[Box], threads: int, delegate: str
) -> tuple[Predictor, list[Landmarks]]:
    """The bundle to compare with, and what it finds in the same boxes."""
    with open_bundle(against) as opened:
        predictor = Predictor(opened, threads=threads, delegate=delegate)
    return predictor, predictor(pixels, boxes)


def _drawn(predictor: Predictor, pixels: NDArray[np.uint8], faces: list[Landmarks]) -> NDArray[np.uint8]:
    """A copy of the photo with lines, dots, boxes and scores."""
    drawn = ContoursOverlay(predictor.stage.marks)(pixels, faces)
    return ScoreOverlay()(PointsOverlay()(drawn, faces, out=drawn), faces, out=drawn)


def _title(predictor: Predictor) -> str:
    return f"{predictor.manifest.name} {predictor.id}"


def _run_mask(
    photo: Path,
    predictor: MaskPredictor,
    pixels: NDArray[np.uint8],
    boxes: Sequence[Box] | None,
    out: Path | None,
    json: str | None,
    force: bool,
) -> None:
    """What ``run`` does with a segmentation bundle."""
    masks = predictor(pixels, boxes, cut=True)
    if out is not None:
        write_image(out, MaskOverlay()(pixels, masks), force=force)
    _tell(photo, pixels.shape, predictor, masks, json, force)


def _tell(
    photo: Path,
    shape: tuple[int, ...],
    predictor: AnyPredictor,
    found: Sequence[Landmarks] | Sequence[Mask],
    json: str | None,
    force: bool,
) -> None:
    """What was found, by what and how fast: as JSON, and in words unless standard output is for JSON."""
    one, several = ("mask", "masks") if isinstance(predictor, MaskPredictor) else ("face", "faces")
    if json is not None:
        report = {
            "image": str(photo),
            "height": shape[0],
            "width": shape[1],
            "bundle": predictor.manifest.name,
            "variant": predictor.id,
            "executor": predictor.executor,
            "timings": predictor.timings,
            several: [item.to_dict() for item in found],
        }
        write_json(report, json, force=force)
    if json != "-":
        for number, item in enumerate(found, 1):
            print(f"{one} {number}: {item}")
        print(f"{predictor.manifest.name} {predictor.id} by {predictor.executor}: {predictor.timings}")
