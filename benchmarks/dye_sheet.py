"""What recolouring makes of one photo: a contact sheet, and a clip whose right half is dyed while the camera moves.

photo --view around the face--> masks of the hair and of the face's parts --HairDye, Lipstick--> one column a look
      --camera wanders, noise of its own--> frames --masks, frame after frame--> left half as it was, right half painted

For docs take a face that may be shown to anyone, drawn or in the public domain: those in docs/ are the NASA portrait of
Eileen Collins, scikit-image's ``data.astronaut()``.
"""

from __future__ import annotations

import argparse
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pocketface.benchmarks.data.motion import MotionSpec, framed, still_crops
from pocketface.benchmarks.mask_video import noisy
from pocketface.benchmarks.module_command import ended
from pocketface.benchmarks.reports.sheet import contact_sheet
from pocketface.sdk.commands import parse_box
from pocketface.sdk.errors import BadInputError, BundleError
from pocketface.sdk.files import refuse_existing, write_atomic
from pocketface.sdk.geometry import Box, Crop
from pocketface.sdk.images import check_array, read_image
from pocketface.sdk.mask_predictor import MaskPredictor, load_mask
from pocketface.sdk.overlay import MaskOverlay
from pocketface.sdk.preprocess import resample
from pocketface.sdk.recolour import Colour, HairDye, Lipstick
from pocketface.sdk.results import Mask

VIEW = 1.5
"""Side of what is shown over the longer side of the face's box: the hair, and some of what is around it."""

MOTION = MotionSpec(frames=36, fps=12.0, reach=0.25, zoom=0.15, roll=15.0, periods=(3.0, 3.0), size=192)
"""How the clip's camera moves: every wave comes round once, so that the clip repeats without a jump."""

QUALITY = 72
"""Of the WebP. Higher keeps more of the noise, which is most of the file then."""

HAIR, LIPS = ("hair",), ("upper lip", "lower lip")


@dataclass(frozen=True)
class Look:
    """A colour of the hair and one of the lips, with their names."""

    hair: str
    dye: Colour
    lips: str
    stick: Colour

    def paint(
        self, image: NDArray[np.uint8], hair: Sequence[Mask] | None, parts: Sequence[Mask] | None
    ) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 -> the same with the hair dyed and the lips painted, each where it has masks."""
        if hair is not None:
            image = HairDye(self.dye)(image, hair)
        return image if parts is None else Lipstick(self.stick, gloss=0.3)(image, parts)

    def title(self, hair: bool, lips: bool) -> str:
        """Names of the colours that are used."""
        return ", ".join([f"{self.hair} hair"] * hair + [f"{self.lips} lips"] * lips)


LOOKS = (
    Look("copper", (190, 90, 40), "red", (190, 20, 40)),
    Look("blue", (50, 90, 200), "plum", (120, 30, 85)),
    Look("rose", (220, 115, 160), "coral", (235, 95, 80)),
)


def dye_sheet(
    image: NDArray[np.uint8],
    box: Box,
    *,
    hair: MaskPredictor | None = None,
    parsing: MaskPredictor | None = None,
    looks: Sequence[Look] = LOOKS,
    size: int = 200,
) -> bytes:
    """Draw the sheet: the photo, the masks, then a column for each look. The rows are the hair alone, the lips alone
    and both; with one bundle only its own row.

    Args:
        image: (H, W, 3) uint8 RGB, with one face.
        box: of the face, by the ground-truth convention.
        hair: a bundle with the class ``hair``; one with ``skin`` too looks at the box, any other at all that is shown.
        parsing: a bundle with the classes ``upper lip`` and ``lower lip``.
        looks: at least one.
        size: side of a picture, pixels.

    Returns:
        The bytes of a PNG.

    Raises:
        BadInputError: no image, a box outside of it or without area, neither bundle, no looks, or two of one
            name.
        BundleError: a bundle without the classes that are coloured.
    """
    _check(image, box, hair, parsing, looks, size)
    crop = _view(box, image)
    frame = np.rint(resample(image, crop, size)).astype(np.uint8)
    strands, parts = _masks(frame, framed(box, crop, size), hair, parsing, cut=True)
    rows = [(strands, None), (None, parts), (strands, parts)] if strands and parts else [(strands, parts)]
    columns = {"photo": [frame] * len(rows), "masks": [_tinted(frame, *row) for row in rows]}
    for look in looks:
        title = look.title(strands is not None, parts is not None)
        columns[title] = [look.paint(frame, *row) for row in rows]
    if len(columns) != len(looks) + 2:
        raise BadInputError("two looks of the same names", expected="a name of its own for each")
    return contact_sheet(
        {name: (np.stack(cells) / 255).astype(np.float32) for name, cells in columns.items()}, size=size
    )


def dye_clip(
    image: NDArray[np.uint8],
    box: Box,
    *,
    hair: MaskPredictor | None = None,
    parsing: MaskPredictor | None = None,
    looks: Sequence[Look] = LOOKS,
    motion: MotionSpec = MOTION,
    noise: float = 4.0,
    seed: int = 0,
) -> bytes:
    """Film the photo, and colour each frame's right half. The same input gives the same bytes.

    A network with a previous mask is shown its own, and a face is looked for where its box was in the frame before, as
    a tracker gives it.

    Args:
        image, box, hair, parsing: as for ``dye_sheet``.
        looks: one after the other, each for as many frames.
        motion: how the camera moves; it stays within the photo.
        noise: standard deviation of each frame's own noise, grey levels; of a still scene, what makes masks flicker.
        seed: of movement and noise.

    Returns:
        The bytes of an animated WebP that repeats for ever.

    Raises:
        BadInputError: as for ``dye_sheet``; fewer frames than looks, or a noise that is no standard deviation.
        BundleError: a bundle without the classes that are coloured.
    """
    _check(image, box, hair, parsing, looks, motion.size)
    if motion.frames < max(2, len(looks)):
        raise BadInputError(f"a clip of {motion.frames} frames", expected="two or more, and one for each look")
    if not (noise >= 0 and math.isfinite(noise)):
        raise BadInputError(f"noise {noise!r}", expected="a standard deviation in grey levels, 0 or more")
    still = _view(box, image)
    seen = Crop(still.cx, still.cy, still.side / 2).box  # a frame shows twice of what is filmed
    crops = [
        _inside(crop, image) for crop in still_crops(motion, seen, max(box.width, box.height), name="dye", seed=seed)
    ]
    random, size, frames = np.random.RandomState(seed), motion.size, []
    for index, crop in enumerate(crops):
        frame = noisy(np.rint(resample(image, crop, size)).astype(np.uint8), noise, random)
        followed = framed(box, crops[max(0, index - 1)], size)
        masks = _masks(frame, followed, hair, parsing, cut=not index)
        painted = looks[index * len(looks) // len(crops)].paint(frame, *masks)
        painted[:, : size // 2] = frame[:, : size // 2]
        painted[:, size // 2] = 255  # where the halves meet
        frames.append(Image.fromarray(painted))
    buffer = io.BytesIO()
    frames[0].save(
        buffer,
        "WEBP",
        save_all=True,
        append_images=frames[1:],
        duration=round(1000 / motion.fps),
        loop=0,
        quality=QUALITY,
        method=6,
    )
    return buffer.getvalue()


def _check(
    image: NDArray[np.uint8],
    box: Box,
    hair: MaskPredictor | None,
    parsing: MaskPredictor | None,
    looks: Sequence[Look],
    size: int,
) -> None:
    check_array(image)
    box.checked((image.shape[1], image.shape[0]))
    if hair is None and parsing is None:
        raise BadInputError(
            "neither a hair nor a parsing bundle", expected="one of them, or both", next="Give --hair or --parsing"
        )
    for predictor, wanted, option in ((hair, HAIR, "--hair"), (parsing, LIPS, "--parsing")):
        missing = [] if predictor is None else [name for name in wanted if name not in predictor.classes.names]
        if predictor is not None and missing:
            raise BundleError(
                f"{option}: bundle {predictor.manifest.name!r} lacks {' and '.join(map(repr, missing))}",
                expected=f"a bundle whose classes hold {' and '.join(map(repr, wanted))}",
                choices=predictor.classes.names,
                next="Give a bundle of the other kind",
            )
    if not looks:
        raise BadInputError("no looks", expected="one or more")
    if size < 16:
        raise BadInputError(f"pictures of {size} pixels", expected="16 or more")


def _view(box: Box, image: NDArray[np.uint8]) -> Crop:
    """What is shown of a photo, before the camera moves."""
    return _inside(Crop.from_box(box, VIEW), image)


def _inside(crop: Crop, image: NDArray[np.uint8]) -> Crop:
    """A crop moved so far that all of it lies between the outermost pixels' centres, and smaller where it must be:
    beyond the photo is black.
    """
    height, width = image.shape[:2]
    turn = math.radians(crop.angle)
    spread = abs(math.cos(turn)) + abs(math.sin(turn))  # of its bounding square, over its side
    side = min(crop.side, (min(width, height) - 1) / spread)
    half = side * spread / 2
    cx, cy = (min(max(at, half), length - 1 - half) for at, length in ((crop.cx, width), (crop.cy, height)))
    return Crop(cx, cy, side, crop.angle)


def _masks(
    frame: NDArray[np.uint8], box: Box, hair: MaskPredictor | None, parsing: MaskPredictor | None, *, cut: bool
) -> tuple[list[Mask] | None, list[Mask] | None]:
    """What each bundle finds; None for one that is not there."""
    found: list[list[Mask] | None] = []
    for predictor in (hair, parsing):
        if predictor is None:
            found.append(None)
        else:  # as they are trained: parts of a face in its box, hair in the whole picture
            found.append(predictor(frame, [box] if "skin" in predictor.classes.names else None, cut=cut))
    return found[0], found[1]


def _tinted(frame: NDArray[np.uint8], hair: list[Mask] | None, parts: list[Mask] | None) -> NDArray[np.uint8]:
    """The masks, drawn; hair that both bundles find is that of the hair bundle."""
    result = frame if hair is None else MaskOverlay(HAIR)(frame, hair)
    if parts is None:
        return result
    names = parts[0].classes.names[1:]
    return MaskOverlay(names if hair is None else tuple(name for name in names if name not in HAIR))(result, parts)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the sheet of a photo as a PNG, and the clip as an animated WebP."""
    parser = argparse.ArgumentParser(prog="python -m pocketface.benchmarks.dye_sheet", description=main.__doc__)
    parser.add_argument("--hair", type=Path, help="bundle that finds hair")
    parser.add_argument("--parsing", type=Path, help="bundle that finds the parts of a face")
    parser.add_argument("--photo", type=Path, required=True)
    parser.add_argument("--box", required=True, help="x0,y0,x1,y1 of the face, pixels")
    parser.add_argument("--out", type=Path, required=True, help="the sheet, .png")
    parser.add_argument("--clip", type=Path, help="the clip, .webp")
    parser.add_argument("--seed", type=int, default=0, help="of the clip's movement and noise")
    parser.add_argument("--force", action="store_true", help="replace files that exist")
    given = parser.parse_args(arguments)
    return ended(lambda: _write(given))


def _write(given: argparse.Namespace) -> None:
    for path, suffix in ((given.out, ".png"), (given.clip, ".webp")):
        if path is not None and path.suffix.lower() != suffix:
            raise BadInputError(f"{path}: cannot write this type", expected=f"a name that ends in {suffix}")
        if path is not None:
            refuse_existing(path, given.force)
    image, box = read_image(given.photo), parse_box(given.box)
    hair, parsing = (None if path is None else load_mask(path) for path in (given.hair, given.parsing))
    made = {given.out: dye_sheet(image, box, hair=hair, parsing=parsing)}
    if given.clip is not None:
        made[given.clip] = dye_clip(image, box, hair=hair, parsing=parsing, seed=given.seed)
    for path, data in made.items():
        write_atomic(path, data, force=given.force)


if __name__ == "__main__":
    raise SystemExit(main())
