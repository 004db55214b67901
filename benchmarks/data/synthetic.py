"""Drawn faces with exact landmarks, parsing labels, hair masks, head poses and motion: for tests, demos, golden inputs.

seed --> person (shape, look, light, background) + moment (pose, expression) --> sheets in 3D --> pixels and labels

A face is a surface in 3D with a painted texture; landmarks and label edges are points of that surface, so that they are
known, not estimated. Colours are drawn at twice the resolution and halved, labels at the picture's own. The same seed
gives the same bytes on the same machine and library versions. numpy and Pillow alone; nothing is read from disk.

The parts: ``synthetic_shape`` (points, surface, view), ``synthetic_look`` (people and motion), ``synthetic_canvas`` and
``synthetic_paint`` (textures), ``synthetic_sheets`` (head, hair, ears, glasses, shoulders), ``synthetic_scene``
(background, light, camera), ``synthetic_raster`` (surfaces to pixels).

    python -m pocketface.benchmarks.data.synthetic docs/synthetic-contact-sheet.png
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from pocketface.benchmarks.data.synthetic_look import Moment, sample_look, sample_moment, sample_motion
from pocketface.benchmarks.data.synthetic_raster import draw
from pocketface.benchmarks.data.synthetic_scene import Light, background, develop
from pocketface.benchmarks.data.synthetic_shape import Head, Identity, View
from pocketface.benchmarks.data.synthetic_sheets import person
from pocketface.benchmarks.module_command import ended
from pocketface.sdk.errors import BadInputError, EnvironmentProblemError

PARSING_CLASSES: tuple[str, ...] = (
    "background", "skin", "hair", "nose", "left_brow", "right_brow", "left_eye", "right_eye", "upper_lip", "lower_lip",
    "inner_mouth",
)  # fmt: skip
_HAIR = PARSING_CLASSES.index("hair")
_SIZES = (16, 1024)
# One stream of random numbers for each thing, so that a change to one leaves the others as they were.
_SHAPE, _LOOK, _LIGHT, _BACKGROUND, _GRAIN, _TONE, _MOMENT, _MOTION, _PLACE, _SENSOR = range(10)


@dataclass(frozen=True)
class SyntheticFace:
    """One drawn face and everything that is known about it.

    Args:
        image: (H, W, 3) uint8 RGB.
        points: (68, 2) float32 landmarks in iBUG order, x and y in pixels, pixel centres at integers. Hidden points
            (behind hair or the nose) are given where they are; jaw points of the side turned away lie on the visible
            outline.
        labels: (H, W) uint8, an index of ``PARSING_CLASSES`` for each pixel. Left and right are the subject's. Ears
            are skin; the neck is background; what glasses cover keeps its label.
        hair: (H, W) bool, the same as ``labels == 2``.
        pose: yaw, pitch, roll in degrees, within +-40, +-20, +-25. Yaw > 0 turns the nose to the image's right, pitch
            > 0 lifts the chin, roll > 0 turns clockwise on the screen.
        seed: what it was drawn from.
    """

    image: np.ndarray
    points: np.ndarray
    labels: np.ndarray
    hair: np.ndarray
    pose: tuple[float, float, float]
    seed: int


def render_face(seed: int, size: int = 192) -> SyntheticFace:
    """Draw one face.

    Args:
        seed: any integer from 0; decides everything.
        size: side of the square picture, 16 to 1024 pixels. The picture's content does not depend on it.

    Returns:
        The face; the longer side of its landmarks' box takes 47 to 62 % of the picture, and all points are inside.

    Raises:
        BadInputError: if the seed is negative or the size out of range.
    """
    _check(seed, size)
    return _render(seed, [sample_moment(_random(seed, _MOMENT))], size)[0]


def render_sequence(seed: int, frames: int, size: int = 192) -> list[SyntheticFace]:
    """Draw a clip of about 30 frames a second: the person, light and background of ``render_face(seed)``, moving
    smoothly.

    Args:
        seed: any integer from 0.
        frames: how many, from 1.
        size: side of the square pictures, 16 to 1024 pixels.

    Returns:
        The frames in order. Pose, expression and place are smooth in time; sensor noise is new in each frame.

    Raises:
        BadInputError: if an argument is out of range.
    """
    _check(seed, size)
    if frames < 1:
        raise BadInputError(f"a sequence of {frames} frames", expected="1 or more")
    return _render(seed, sample_motion(_random(seed, _MOTION), frames), size)


def render_background(seed: int, size: int = 192) -> np.ndarray:
    """Draw the background of ``render_face(seed)`` without the person: a negative for face scores.

    Args:
        seed: any integer from 0.
        size: side of the square picture, 16 to 1024 pixels.

    Returns:
        (size, size, 3) uint8 RGB, equal to the face's picture wherever the person does not cover it.

    Raises:
        BadInputError: if an argument is out of range.
    """
    _check(seed, size)
    picture = background(_random(seed, _BACKGROUND), size)
    return develop(picture, _random(seed, _TONE), _random(seed, _SENSOR, 0))


def _check(seed: int, size: int) -> None:
    if seed < 0:
        raise BadInputError(f"seed {seed}", expected="an integer from 0")
    if not _SIZES[0] <= size <= _SIZES[1]:
        raise BadInputError(f"a synthetic face of {size} pixels", expected=f"{_SIZES[0]} to {_SIZES[1]}")


def _random(*key: int) -> np.random.Generator:
    return np.random.default_rng([int(k) for k in key])


def _render(seed: int, moments: Sequence[Moment], size: int) -> list[SyntheticFace]:
    who, look = Identity.sample(_random(seed, _SHAPE)), sample_look(_random(seed, _LOOK))
    light = Light.sample(_random(seed, _LIGHT))
    behind = np.zeros((size, size, 4), np.uint8)
    behind[..., :3] = background(_random(seed, _BACKGROUND), size)
    backdrop = behind.view(np.uint32)[..., 0].repeat(2, 0).repeat(2, 1)
    heads = [Head(who, moment.does) for moment in moments]
    flat = [View(moment.pose).landmarks(head) for head, moment in zip(heads, moments, strict=True)]
    places = _place(flat, moments, size, _random(seed, _PLACE))
    faces = []
    for number, (head, moment, (scale, centre)) in enumerate(zip(heads, moments, places, strict=True)):
        view = View(moment.pose, scale, (float(centre[0]), float(centre[1])))
        canvas, labels = backdrop.copy(), np.zeros((size, size), np.uint8)
        draw(person(head, look, view, light, _random(seed, _GRAIN), size), canvas, labels)
        packed = Image.fromarray(canvas.view(np.uint8).reshape(*canvas.shape, 4))
        picture = np.asarray(packed.convert("RGB").reduce(2))
        image = develop(picture, _random(seed, _TONE), _random(seed, _SENSOR, number))
        points = (flat[number] * scale + centre).astype(np.float32)
        faces.append(SyntheticFace(image, points, labels, labels == _HAIR, moment.pose, int(seed)))
    return faces


def _place(
    flat: Sequence[np.ndarray], moments: Sequence[Moment], size: int, rng: np.random.Generator
) -> list[tuple[float, np.ndarray]]:
    """Scale and pivot of each frame, from landmarks drawn at scale 1 around (0, 0): all inside, with a margin."""
    share, jitter = rng.uniform(0.47, 0.62), rng.uniform(-0.5, 0.5, 2)
    zooms = np.array([moment.zoom for moment in moments])
    shifts = np.array([moment.shift for moment in moments]) * size
    low = np.array([points.min(0) for points in flat]) * zooms[:, None]
    high = np.array([points.max(0) for points in flat]) * zooms[:, None]
    scale = share * size / float((high - low).max())
    margin = 0.03 * size
    room = size - 1 - 2 * margin
    first, last = (low * scale + shifts).min(0), (high * scale + shifts).max(0)
    shrink = min(1.0, float(room / (last - first).max()))  # a clip may roam further than the picture allows
    scale, shifts, first, last = scale * shrink, shifts * shrink, first * shrink, last * shrink
    lowest, highest = margin - first, size - 1 - margin - last
    free = highest - lowest
    # Somewhat below the middle, as in photographs: there is hair above the brows.
    centre = (lowest + highest) / 2 + jitter * np.minimum(free, 0.25 * size) + (0, 0.04 * size)
    centre = np.clip(centre, lowest, highest)
    return [(float(scale * zoom), centre + shift) for zoom, shift in zip(zooms, shifts, strict=True)]


def write_dataset(
    folder: Path, *, count: int, seed: int = 0, size: int = 192, progress: Callable[[int], None] | None = None
) -> Path:
    """Write faces as 300-W does: ``00000.png`` with ``00000.pts`` beside it (1-based), and ``SYNTHETIC.txt``, which
    says how.

    Folders of different ``seed`` share no face: face i is drawn from a number mixed from (seed, i). Everything is
    written under a temporary name beside the folder, which appears complete or not at all.

    Args:
        folder: does not exist yet, or is empty.
        count: how many faces, from 1.
        seed: of the whole set.
        size: side of the pictures, 16 to 1024 pixels.
        progress: called after each face with the number of faces written.

    Returns:
        The folder.

    Raises:
        BadInputError: if the folder holds something, or an argument is out of range.
        EnvironmentProblemError: if the disk does not take it.
    """
    folder = Path(folder)
    _check(seed, size)
    if count < 1:
        raise BadInputError(f"a data set of {count} faces", expected="1 or more")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        kind = "is not empty" if folder.is_dir() else "is not a folder"
        raise BadInputError(
            f"{folder} {kind}", expected="a new or empty folder", next="choose another folder, or empty it"
        )
    digits = max(5, len(str(count - 1)))
    partial = folder.parent / f".{folder.name}.{os.getpid()}.partial"
    try:
        partial.mkdir(parents=True)
        for index in range(count):
            face = render_face(int(np.random.SeedSequence([seed, index]).generate_state(1)[0]), size)
            name = f"{index:0{digits}d}"
            Image.fromarray(face.image).save(partial / f"{name}.png", compress_level=4)
            (partial / f"{name}.pts").write_text(_pts(face.points), encoding="ascii")
            if progress:
                progress(index + 1)
        note = f"pocketface synthetic faces, drawn, not photographed: seed {seed}, count {count}, size {size}\n"
        (partial / "SYNTHETIC.txt").write_text(note, encoding="ascii")
        if folder.exists():
            folder.rmdir()
        partial.rename(folder)
    except OSError as error:
        raise EnvironmentProblemError(
            f"cannot write {folder}: {error.strerror or error}", next="free some space or choose another folder"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def _pts(points: np.ndarray) -> str:
    lines = [f"{x + 1:.3f} {y + 1:.3f}" for x, y in points.astype(float)]
    return "\n".join(["version: 1", f"n_points: {len(lines)}", "{", *lines, "}", ""])


_TINTS = np.array(
    [(0, 0, 0), (232, 190, 150), (120, 60, 30), (255, 205, 60), (60, 200, 90), (20, 120, 60), (60, 130, 255),
     (30, 60, 190), (235, 60, 60), (235, 90, 170), (250, 250, 250)], np.float32
)  # fmt: skip


def contact_sheet(seeds: Sequence[int], *, columns: int = 8, size: int = 160, overlay: bool = False) -> np.ndarray:
    """Many faces in one picture.

    Args:
        seeds: one a face.
        columns: faces in a row, from 1; the last row is filled up with white.
        size: side of a face in pixels.
        overlay: draw landmarks and tint the parsing classes.

    Returns:
        (rows * size, columns * size, 3) uint8 RGB.

    Raises:
        BadInputError: if there is no seed, or an argument is out of range.
    """
    if not len(seeds) or columns < 1:
        raise BadInputError(f"{len(seeds)} faces in {columns} columns", expected="1 or more of each")
    rows = -(-len(seeds) // columns)
    sheet = np.full((rows * size, columns * size, 3), 255, np.uint8)
    for number, seed in enumerate(seeds):
        face = render_face(seed, size)
        row, column = divmod(number, columns)
        tile = _annotated(face) if overlay else face.image
        sheet[row * size : (row + 1) * size, column * size : (column + 1) * size] = tile
    return sheet


def _annotated(face: SyntheticFace) -> np.ndarray:
    known = (face.labels > 0)[..., None] * np.float32(0.5)
    image = Image.fromarray((face.image * (1 - known) + _TINTS[face.labels] * known).astype(np.uint8))
    pen = ImageDraw.Draw(image)
    r = max(1.0, face.image.shape[0] / 160)
    for x, y in face.points.tolist():
        pen.ellipse((x - r, y - r, x + r, y + r), fill=(0, 255, 140))
    return np.asarray(image)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write a contact sheet as a palette PNG."""
    parser = argparse.ArgumentParser(prog="python -m pocketface.benchmarks.data.synthetic", description=main.__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=0, help="the first face's seed; the others follow")
    parser.add_argument("--count", type=int, default=32)
    parser.add_argument("--columns", type=int, default=8)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--overlay", action="store_true", help="draw landmarks and parsing classes")
    given = parser.parse_args(arguments)
    return ended(lambda: _write(given))


def _write(given: argparse.Namespace) -> None:
    seeds = range(given.seed, given.seed + given.count)
    sheet = contact_sheet(seeds, columns=given.columns, size=given.size, overlay=given.overlay)
    partial = given.out.with_name(f".{given.out.name}.partial")
    # 256 colours, dithered, keep a page of the docs light.
    full = Image.fromarray(sheet)
    small = full.quantize(palette=full.quantize(256, kmeans=1), dither=Image.Dither.FLOYDSTEINBERG)
    small.save(partial, format="PNG", optimize=True)
    partial.replace(given.out)


if __name__ == "__main__":
    sys.exit(main())
