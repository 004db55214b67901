"""Margin, second look and smoothing of the tracker, measured on moving faces whose landmarks are known in every frame:
``python -m pocketface.benchmarks.tracking_command BUNDLE``.

stills --camera path (data/motion.py), noise of each frame's own--> frames --Tracker, each way of boxes--> raw landmarks
    --best way of boxes; One-Euro, each setting--> smoothed landmarks --> NME, jitter, lag; lost frames

Boxes come from raw landmarks, so that smoothing changes no box: every filter is tried on what the network gave. Without
noise of its own a frame of a still would be steadier than any camera's.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from pocketface.benchmarks.data.degrade import inter_ocular
from pocketface.benchmarks.data.face import Face
from pocketface.benchmarks.data.motion import Frame, MotionSpec, frames
from pocketface.benchmarks.mask_video import noisy
from pocketface.sdk.errors import BadInputError
from pocketface.sdk.geometry import Box
from pocketface.sdk.manifest import Part
from pocketface.sdk.predictor import Predictor
from pocketface.sdk.results import Landmarks
from pocketface.sdk.video.one_euro import OneEuro, OneEuroSettings
from pocketface.sdk.video.settings import TrackerSettings
from pocketface.sdk.video.tracker import Tracker

MARGINS = (0.95, 1.0, 1.05, 1.1)
SECOND_LOOKS = (None, 0.8, 0.9, 0.95)
MIN_CUTOFFS = (1.0, 2.0, 4.0, 8.0)
BETAS = (10.0, 30.0, 100.0, 300.0, 1000.0)
LOOKS = 1.25
"""How often the network may look at a frame, in the mean over the rows."""
ALLOWED = 1.03
"""The NME that smoothing may cost: this factor on what there is without."""

Boxes: TypeAlias = tuple[float, float | None]
"""Margin and second look, as in `TrackerSettings`."""


class Row(Part, frozen=True, kw_only=True):
    """How the faces are filmed.

    Attributes:
        every: one frame of so many is kept.
        noise: standard deviation of each frame's own noise, grey levels.
        motion: what shift, zoom and roll of the camera are multiplied by.
    """

    every: int = 1
    noise: float = 8.0
    motion: float = 1.0


ROWS = {"calm": Row(motion=0.2), "brisk": Row(), "brisk, 6 fps": Row(every=5)}
"""Someone who talks to the camera; the movement of the video protocol; the same at a low frame rate."""


class TrackingFigures(Part, frozen=True, kw_only=True):
    """One setting on one row.

    Attributes:
        row: of ``ROWS``.
        margin, second_look: of boxes, as in `TrackerSettings`.
        looks: how often the network looked at a frame, in the mean.
        min_cutoff, beta: of the filter; None without one.
        nme: mean error in percent of the inter-ocular distance, over the frames in which the face was seen, but for
            each clip's first, whose box was given.
        jitter: mean length of the change of the error from one frame to the next, in the same percent: what trembles,
            the true movement taken out.
        lag_ms: time by which the landmarks are behind, in milliseconds: the error, less its mean over the clip, is
            fitted by the true velocity times minus the lag, by least squares over all frames and points.
        lost: frames in which the face was not seen, percent.
    """

    row: str
    margin: float
    second_look: float | None
    looks: float
    min_cutoff: float | None
    beta: float | None
    nme: float
    jitter: float
    lag_ms: float
    lost: float


# Compared by identity, as the arrays it holds.
@dataclass(frozen=True, eq=False)
class Trail:
    """One face followed through one clip, unfiltered.

    Attributes:
        times: (k,) seconds, of the frames in which it was seen.
        numbers: (k,) which frames these are.
        ids: (k,) the tracker's id: a filter begins anew where it changes.
        points, truth: (k, n, 2) pixels.
        frames: how many there were.
        looks: how often the network was asked.
    """

    times: NDArray[np.float64]
    numbers: NDArray[np.int64]
    ids: NDArray[np.int64]
    points: NDArray[np.float32]
    truth: NDArray[np.float32]
    frames: int
    looks: int


def film(face: Face, row: Row, motion: MotionSpec, normaliser: tuple[int, int], seed: int = 0) -> list[Frame]:
    """The frames of one face under one row."""
    digest = hashlib.sha256(f"pocketface tracking 1\n{int(seed)}\n{face.name}".encode()).digest()
    random = np.random.RandomState(np.frombuffer(digest, "<u4"))
    scaled = {name: row.motion * getattr(motion, name) for name in ("reach", "zoom", "roll")}
    spec = msgspec.structs.replace(motion, **scaled)
    clip = frames(face, spec, normaliser=normaliser, seed=seed, every=row.every)
    return [Frame(noisy(frame.image, row.noise, random), frame.points) for frame in clip]


def follow(
    predictor: Callable[..., list[Landmarks]], clip: Sequence[Frame], step: float, settings: TrackerSettings
) -> Trail:
    """Follow a clip's face from its first, true box on.

    Args:
        predictor: of landmarks.
        clip: two frames or more.
        step: seconds from frame to frame.
        settings: of the tracker; smoothing and cuts are left out.
    """
    looks = 0

    def counted(image: NDArray[np.uint8], boxes: Sequence[Box]) -> list[Landmarks]:
        nonlocal looks
        looks += len(boxes)
        return predictor(image, boxes)

    plain = dataclasses.replace(settings, smoothing=None, cut=None)
    tracker = Tracker(counted, None, plain, boxes=[Box.around(clip[0].points)])
    seen = []
    for number, frame in enumerate(clip):
        for face in tracker(frame.image, number * step)[:1]:
            seen.append((number * step, number, face.id, face.points, frame.points))
    shape = (0, *clip[0].points.shape)
    times, numbers, ids, points, truth = zip(*seen, strict=True) if seen else ((), (), (), (), ())
    return Trail(
        np.array(times, np.float64),
        np.array(numbers, np.int64),
        np.array(ids, np.int64),
        np.array(points, np.float32).reshape(shape if not seen else (-1, *shape[1:])),
        np.array(truth, np.float32).reshape(shape if not seen else (-1, *shape[1:])),
        len(clip),
        looks,
    )


def smoothed(trail: Trail, settings: OneEuroSettings | None) -> NDArray[np.float32]:
    """(k, n, 2): the trail's points as the tracker would smooth them."""
    if settings is None:
        return trail.points
    filter, result, last = OneEuro(settings), np.empty_like(trail.points), None
    for index, points in enumerate(trail.points):
        if last is not None and trail.ids[index] != last:
            filter.reset()
        last = trail.ids[index]
        size = float((points.max(axis=0) - points.min(axis=0)).max())
        result[index] = filter(points, float(trail.times[index]), size)
    return result


def figures(
    trails: Sequence[Trail], row: str, boxes: Boxes, settings: OneEuroSettings | None, normaliser: tuple[int, int]
) -> TrackingFigures:
    """What one setting comes to on the trails of one row and way of boxes.

    Raises:
        BadInputError: no face was seen in two frames in a row.
    """
    errors, jumps, against, squares = [], [], 0.0, 0.0
    for trail in trails:
        if not len(trail.times):
            continue
        unit = np.array([inter_ocular(truth, normaliser) for truth in trail.truth])[:, None, None]
        error = (smoothed(trail, settings).astype(np.float64) - trail.truth) / unit
        later = trail.numbers > 0
        errors.append(np.linalg.norm(error[later], axis=2).mean(axis=1))
        neighbours = np.flatnonzero(np.diff(trail.numbers) == 1)
        if not len(neighbours):
            continue
        steps = np.diff(trail.times)[neighbours][:, None, None]
        velocity = (trail.truth[neighbours + 1].astype(np.float64) - trail.truth[neighbours]) / unit[1:][neighbours]
        velocity /= steps
        jumps.append(np.linalg.norm(error[neighbours + 1] - error[neighbours], axis=2).ravel())
        centred = (error - error.mean(axis=0))[neighbours + 1]
        against += float((centred * velocity).sum())
        squares += float((velocity**2).sum())
    if not jumps or not squares:
        raise BadInputError(f"{row}, margin {boxes[0]:g}: no face was followed", expected="moving faces that are seen")
    total = sum(trail.frames for trail in trails)
    return TrackingFigures(
        row=row,
        margin=boxes[0],
        second_look=boxes[1],
        looks=sum(trail.looks for trail in trails) / total,
        min_cutoff=None if settings is None else settings.min_cutoff,
        beta=None if settings is None else settings.beta,
        nme=100 * float(np.concatenate(errors).mean()),
        jitter=100 * float(np.concatenate(jumps).mean()),
        lag_ms=-1000 * against / squares,
        lost=100 * (1 - sum(len(trail.times) for trail in trails) / total),
    )


def sweep(
    predictor: Predictor,
    faces: Sequence[Face],
    *,
    rows: dict[str, Row] | None = None,
    margins: Sequence[float] = MARGINS,
    second_looks: Sequence[float | None] = SECOND_LOOKS,
    min_cutoffs: Sequence[float] = MIN_CUTOFFS,
    betas: Sequence[float] = BETAS,
    motion: MotionSpec | None = None,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> list[TrackingFigures]:
    """Every margin and second look without a filter, and every filter with the best of them, on every row.

    Args:
        predictor: a variant or a chain, loaded.
        faces: annotated in its scheme.
        rows: how they are filmed; None takes ``ROWS``.
        margins, second_looks, min_cutoffs, betas: the grid.
        motion: how the camera moves.
        seed: of movement and noise.
        progress: told the number of faces done.
    """
    rows, spec = rows or ROWS, motion or MotionSpec()
    normaliser = predictor.stage.marks.normaliser
    ways = list(itertools.product(margins, second_looks))
    trails: dict[tuple[str, Boxes], list[Trail]] = {(row, boxes): [] for row in rows for boxes in ways}
    for done, face in enumerate(faces, 1):
        for name, row in rows.items():
            clip = film(face, row, spec, normaliser, seed)
            for boxes in ways:
                settings = TrackerSettings(margin=boxes[0], second_look=boxes[1])
                trails[name, boxes].append(follow(predictor, clip, row.every / spec.fps, settings))
        if progress is not None:
            progress(done)
    plain = [figures(found, row, boxes, None, normaliser) for (row, boxes), found in trails.items()]
    best = choose_boxes(plain)
    filters = [OneEuroSettings(cutoff, beta) for cutoff in min_cutoffs for beta in betas]
    return plain + [figures(trails[row, best], row, best, settings, normaliser) for row in rows for settings in filters]


def choose_boxes(found: Sequence[TrackingFigures]) -> Boxes:
    """The margin and second look to take.

    Those with the least NME without a filter, a lost frame counted as an error of 100 %, of those that look at a frame
    ``LOOKS`` times at most. Both are means over the rows.
    """
    ways: dict[Boxes, list[TrackingFigures]] = {}
    for row in found:
        if row.min_cutoff is None:
            ways.setdefault((row.margin, row.second_look), []).append(row)
    quick = [boxes for boxes, rows in ways.items() if statistics.fmean(row.looks for row in rows) <= LOOKS]
    return min(quick, key=lambda boxes: _error(ways[boxes]))


def choose_filter(found: Sequence[TrackingFigures], boxes: Boxes) -> OneEuroSettings | None:
    """The filter to take with these boxes; None: none.

    The one with the least jitter, as a share of that without, of those whose NME is at most ``ALLOWED`` times that
    without. All are means over the rows.
    """
    by_filter: dict[tuple[float | None, float | None], list[TrackingFigures]] = {}
    for row in found:
        if (row.margin, row.second_look) == boxes:
            by_filter.setdefault((row.min_cutoff, row.beta), []).append(row)
    plain = {row.row: row.jitter for row in by_filter[None, None]}
    bound = ALLOWED * _error(by_filter[None, None])
    allowed = (key for key, rows in by_filter.items() if _error(rows) <= bound)
    cutoff, beta = min(allowed, key=lambda key: statistics.fmean(row.jitter / plain[row.row] for row in by_filter[key]))
    return None if cutoff is None or beta is None else OneEuroSettings(cutoff, beta)


def _error(rows: Sequence[TrackingFigures]) -> float:
    return statistics.fmean(row.nme * (1 - row.lost / 100) + row.lost for row in rows)
