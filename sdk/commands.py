"""The subcommands that need nothing but the runtime: ``run`` and ``inspect``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pocketface.sdk.backends.delegates import AUTO
from pocketface.sdk.bundle import open_bundle
from pocketface.sdk.errors import BadInputError
from pocketface.sdk.face_detector import DEFAULT, Later
from pocketface.sdk.geometry import Box
from pocketface.sdk.manifest import to_plain
from pocketface.sdk.options import BundlePath, Delegate
from pocketface.sdk.photo import run_photo
from pocketface.sdk.terminal import write_json
from pocketface.sdk.video.formats import is_video

RUN_EXAMPLE = "Example: pocketface run photo.jpg --out out.png --json out.json"
INSPECT_EXAMPLE = "Example: pocketface inspect face68"


def run(
    image: Annotated[Path | None, typer.Argument(help="Photo or video to look at.", show_default=False)] = None,
    bundle: Annotated[
        Path, typer.Option(help="Bundle folder, .pface file, or name of one that comes along (pocketface models).")
    ] = Path("face68"),
    camera: Annotated[
        int | None, typer.Option(help="Look at a camera instead; 0 is the first. Ctrl-C ends it.", show_default=False)
    ] = None,
    seconds: Annotated[
        float | None, typer.Option(help="Stop a video or camera after so long.", show_default=False)
    ] = None,
    box: Annotated[
        list[str] | None,
        typer.Option(
            help="Where a face is: x0,y0,x1,y1 in pixels, a square 1.25 x as long as the landmarks extend. "
            "Give it once a face; without it the detector looks for them. Of a video: where faces are at first.",
            show_default=False,
        ),
    ] = None,
    whole: Annotated[bool, typer.Option("--whole", help="The whole picture is the box: look for no faces.")] = False,
    detector: Annotated[Path, typer.Option(help="Bundle that finds faces, as --bundle.")] = Path(DEFAULT),
    variant: Annotated[
        str | None, typer.Option(help="Variant, or chain, to run (default: the bundle's own choice).")
    ] = None,
    threads: Annotated[int, typer.Option(help="Threads the runtime may use.")] = 1,
    delegate: Delegate = AUTO,
    against: Annotated[
        Path | None,
        typer.Option(
            help="Another bundle: --out shows what each makes of the photo, side by side.", show_default=False
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Write the photo or video with the landmarks or the mask drawn on it.")
    ] = None,
    json: Annotated[
        str | None,
        typer.Option(
            help="Write the landmarks or the mask as JSON, of a video one line a frame; - is standard output."
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace files that exist.")] = False,
) -> None:
    """Find the landmarks in a photo or video, and the head pose where the network gives one, or the mask, as the phone
    will."""
    if (image is None) == (camera is None):
        raise BadInputError(
            "a file and a camera" if image else "nothing to look at",
            expected="one photo or video, or a camera",
            next="Give a file, or --camera 0",
        )
    if seconds is not None and camera is None and image is not None and not is_video(image):
        raise BadInputError(f"--seconds {seconds:g} for a photo", expected="a video or a camera", next="Leave it out")
    if whole and box:
        raise BadInputError("--whole and --box", expected="one of them")
    boxes = [parse_box(text) for text in box] if box else None
    finder = None if whole or boxes else Later(detector, threads=threads)
    if image is not None and not is_video(image):
        run_photo(
            image,
            bundle,
            boxes=boxes,
            detector=finder,
            variant=variant,
            threads=threads,
            delegate=delegate,
            against=against,
            out=out,
            json=json,
            force=force,
        )
        return
    from pocketface.sdk.video.command import run_clip

    if against is not None:
        raise BadInputError("--against with a video", expected="a photo", next="Leave it out")
    run_clip(
        image if camera is None else camera,  # type: ignore[arg-type]
        bundle,
        boxes=boxes,
        variant=variant,
        threads=threads,
        delegate=delegate,
        out=out,
        json=json,
        seconds=seconds,
        force=force,
        detector=finder,
    )


def inspect(
    bundle: BundlePath,
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
