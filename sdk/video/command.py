"""What ``pocketface run`` does with a video or a camera."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pocketface.sdk.any_predictor import predictor_of
from pocketface.sdk.bundle import open_bundle
from pocketface.sdk.detection import Detector
from pocketface.sdk.errors import BadInputError
from pocketface.sdk.files import refuse_existing
from pocketface.sdk.geometry import Box
from pocketface.sdk.mask_predictor import MaskPredictor
from pocketface.sdk.progress import track
from pocketface.sdk.video.camera import open_camera
from pocketface.sdk.video.formats import checked_format
from pocketface.sdk.video.reader import VideoReader
from pocketface.sdk.video.run import run_video


def run_clip(
    source: Path | int,
    bundle: Path,
    *,
    boxes: Sequence[Box] | None,
    variant: str | None,
    threads: int,
    delegate: str,
    out: Path | None,
    json: str | None,
    seconds: float | None,
    force: bool,
    detector: Detector | None = None,
) -> None:
    """Run a bundle on a video file, or on the camera of a number, and print what came of it.

    Args:
        source: a file, or a camera's number.
        bundle: folder, ``.pface`` file, or name of a bundle that comes with the package.
        detector: finds the faces; None looks in ``boxes``, or in the whole picture. Masks that have no skin to follow
            are of the whole picture.
        boxes, variant, threads, delegate, out, json, seconds, force: as the command's options.

    Raises:
        BadInputError, EnvironmentProblemError: see `run_video`, `VideoReader`, `open_camera`, `open_bundle`.
    """
    # Whatever would be refused at the end is refused before the work.
    if out is not None:
        checked_format(out)
        refuse_existing(out, force)
        if isinstance(source, Path) and out.exists() and source.exists() and out.samefile(source):
            raise BadInputError(f"{out} is the video itself", next="Choose another name for --out")
    if json is not None and json != "-":
        refuse_existing(Path(json), force)
    with open_bundle(bundle) as opened:
        predictor = predictor_of(opened, variant=variant, threads=threads, delegate=delegate)
    if isinstance(predictor, MaskPredictor) and "skin" not in predictor.classes.names:
        detector = None
    title = f"camera {source}, Ctrl-C ends it" if isinstance(source, int) else source.name
    with (
        open_camera(source) if isinstance(source, int) else VideoReader(source, threads=threads) as reader,
        track(title, None if seconds is not None else reader.count) as step,
    ):
        summary = run_video(
            reader,
            predictor,
            out=out,
            json=json,
            detector=detector,
            boxes=boxes,
            seconds=seconds,
            threads=threads,
            force=force,
            progress=step,
        )
    if json != "-":
        print(f"{predictor.manifest.name} {predictor.id} by {predictor.executor}: {summary}")
        if not summary.with_faces:
            print("no face was seen: say where one is in the first frame with --box x0,y0,x1,y1")
