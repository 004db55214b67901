"""How steady label maps are on video: the share of each class that changes from one frame to the next.

labels of t - 1 --warp by the known motion--> where they lie in t --against labels of t--> 1 - IoU, of each class

The motion is known where a camera wanders over a still (benchmarks/data/motion.py): ``still_crops`` gives the same path
as crops, ``Clip.of_still`` the frames. Without one, consecutive frames are compared as they are, and real movement
counts as flicker too: only clips that are the same in all rows may then be compared.

Warping picks the nearest pixel, so the true labels themselves flicker a little along borders: ``Clip.labels`` warped
the same way give that floor, which a table should print beside the figures.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pocketface.benchmarks.segmentation import check_labels, class_figures
from pocketface.sdk.classes.registry import IGNORED as IGNORE
from pocketface.sdk.errors import BadInputError
from pocketface.sdk.geometry import Crop
from pocketface.sdk.preprocess import resample

if TYPE_CHECKING:
    from rich.table import Table


# Compared by identity: arrays have no single truth value.
@dataclass(frozen=True, eq=False)
class Clip:
    """Frames of a labelled still that a camera moves over.

    Attributes:
        images: each (S, S, 3) uint8; black beyond the still.
        labels: each (S, S) uint8, the still's label at the nearest pixel; 255 beyond it.
        crops: of the still, one a frame.
    """

    images: tuple[NDArray[np.uint8], ...]
    labels: tuple[NDArray[np.uint8], ...]
    crops: tuple[Crop, ...]

    @classmethod
    def of_still(cls, image: NDArray[np.uint8], labels: NDArray[np.uint8], crops: Sequence[Crop], size: int) -> Clip:
        """Film a still.

        Args:
            image: (H, W, 3) uint8.
            labels: (H, W) uint8.
            crops: as ``still_crops`` gives them.
            size: side of a frame, pixels.
        """
        return cls(
            tuple(np.rint(resample(image, crop, size)).astype(np.uint8) for crop in crops),
            tuple(still_labels(labels, crop, size) for crop in crops),
            tuple(crops),
        )

    @property
    def motion(self) -> list[NDArray[np.float64]]:
        """For each frame but the first, where its pixels were in the frame before: as ``motion_between``."""
        size = self.labels[0].shape[0]
        return [motion_between(before, now, size) for before, now in zip(self.crops, self.crops[1:], strict=False)]


def motion_between(before: Crop, now: Crop, size: int) -> NDArray[np.float64]:
    """(2, 3) affine map from pixels (x, y, 1) of a frame to pixels of the one before, both (size, size) crops of one
    still.
    """
    corners = np.array([[-0.5, -0.5], [0.5, -0.5], [-0.5, 0.5]])
    turned = np.array([_place(before, _image(now, corner)) for corner in corners])  # normalised, in the frame before
    origin, across, down = (
        turned + 0.5
    ) * size - 0.5  # where pixel edges (-0.5, -0.5), (S-0.5, -0.5), (-0.5, S-0.5) lie
    linear = np.stack([(across - origin) / size, (down - origin) / size], axis=1)
    return np.column_stack([linear, origin + linear @ (0.5, 0.5)])


def warp_labels(
    labels: NDArray[np.uint8], motion: ArrayLike, shape: tuple[int, int] | None = None
) -> NDArray[np.uint8]:
    """Labels of one frame as they lie in another, from the nearest pixel.

    Args:
        labels: (H, W) uint8.
        motion: (2, 3): pixel (x, y, 1) of the result -> (x, y) in ``labels``.
        shape: of the result; that of ``labels`` unless given.

    Returns:
        uint8; 255 where the place lies outside ``labels``.

    Raises:
        BadInputError: no (2, 3) map of finite numbers.
    """
    matrix = np.asarray(motion, np.float64)
    if matrix.shape != (2, 3) or not np.isfinite(matrix).all():
        raise BadInputError(f"motion of shape {matrix.shape}", expected="(2, 3), finite")
    height, width = labels.shape if shape is None else shape
    ys, xs = np.mgrid[:height, :width]
    places = np.tensordot(matrix, np.stack([xs, ys, np.ones_like(xs)]), axes=1)
    # Half-way places must not fall on either side by chance of rounding errors.
    x, y = np.floor(places + (0.5 + 1e-9)).astype(np.int64)
    inside = (x >= 0) & (x < labels.shape[1]) & (y >= 0) & (y < labels.shape[0])
    warped = np.full((height, width), IGNORE, np.uint8)
    warped[inside] = labels[y[inside], x[inside]]
    return warped


def still_labels(labels: NDArray[np.uint8], crop: Crop, size: int) -> NDArray[np.uint8]:
    """The labels that a (size, size) crop of a labelled picture shows, from the nearest pixel; 255 beyond it."""
    corners = np.array([[-0.5, -0.5], [0.5, -0.5], [-0.5, 0.5]])
    origin, across, down = (_image(crop, corner) for corner in corners)
    linear = np.stack([(across - origin) / size, (down - origin) / size], axis=1)
    return warp_labels(labels, np.column_stack([linear, origin + linear @ (0.5, 0.5)]), (size, size))


@dataclass(frozen=True, eq=False)
class Flicker:
    """How much label maps change between consecutive frames, percent; 0 is steady.

    Attributes:
        classes: names, by class value.
        warped: whether the frame before was moved by the known motion first.
        pairs: (pairs, C) float64: 1 - IoU of each class in each pair of frames; NaN where neither frame has the class.
        changes: (pairs,) float64: share of the pixels compared whose class is another.
    """

    classes: tuple[str, ...]
    warped: bool
    pairs: NDArray[np.float64] = field(repr=False)
    changes: NDArray[np.float64] = field(repr=False)

    @property
    def by_class(self) -> dict[str, float | None]:
        """Mean over the pairs in which the class occurs; None where it never does."""
        return {
            name: float(np.nanmean(column)) * 100 if np.isfinite(column).any() else None
            for name, column in zip(self.classes, self.pairs.T, strict=True)
        }

    @property
    def overall(self) -> float:
        """Mean over pairs of the mean over the classes, background included, that occur in the pair."""
        return float(np.nanmean(self.pairs, axis=1).mean()) * 100

    @property
    def changed(self) -> float:
        """Mean over pairs of the share of pixels whose class is another."""
        return float(self.changes.mean()) * 100

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            "pairs": len(self.pairs),
            "warped": self.warped,
            "overall": self.overall,
            "changed": self.changed,
            "classes": self.by_class,
        }

    def table(self) -> Table:
        """One row a class."""
        from rich.table import Table

        table = Table(title=str(self), title_justify="left")
        table.add_column("class", no_wrap=True)
        table.add_column("flicker\n%", justify="right", no_wrap=True)
        for name, value in self.by_class.items():
            table.add_row(name, "-" if value is None else f"{value:.3f}")
        return table

    def __rich__(self) -> Table:
        return self.table()

    def __str__(self) -> str:
        how = "motion taken out" if self.warped else "motion counted in"
        return f"flicker {self.overall:.3f} %  changed pixels {self.changed:.3f} %  ({len(self.pairs)} pairs, {how})"


def flicker(
    masks: Iterable[ArrayLike],
    classes: Sequence[str],
    *,
    motion: Sequence[ArrayLike] | None = None,
    cuts: Iterable[int] = (),
) -> Flicker:
    """Temporal consistency of one clip: of each class, 1 - IoU of frame t and the frame before as it lies in t.

    Args:
        masks: (H, W) label maps, in order, all of one size; 255 is compared with nothing.
        classes: names, by class value.
        motion: for each frame but the first, (2, 3) from its pixels to the frame before's (``Clip.motion``); None
            compares the frames as they are.
        cuts: frames (from 0) that follow a cut: they are not compared with the frame before.

    Raises:
        BadInputError: fewer than two frames that can be compared, sizes that differ, a class outside the map, not one
            motion for each pair, or a pair that has no pixel in common.
    """
    frames = [np.asarray(mask) for mask in masks]
    if motion is not None and len(motion) != max(len(frames) - 1, 0):
        raise BadInputError(
            f"{len(motion)} motions of {len(frames)} frames", expected="one for each frame but the first"
        )
    skipped = frozenset(cuts)
    rows: list[NDArray[np.float64]] = []
    changes: list[float] = []
    for index in range(1, len(frames)):
        if index in skipped:
            continue
        before, now = frames[index - 1], frames[index]
        if before.shape != now.shape:
            raise BadInputError(
                f"frame {index}: mask of shape {now.shape}", expected=f"{before.shape}, as the one before"
            )
        # Each against itself: also where the warp leaves out, a class must be one.
        before, _ = check_labels(before, before, len(classes), f"frame {index - 1}")
        now, _ = check_labels(now, now, len(classes), f"frame {index}")
        moved = before if motion is None else warp_labels(before, motion[index - 1])
        kept = (moved != IGNORE) & (now != IGNORE)
        if not kept.any():
            raise BadInputError(
                f"frames {index - 1} and {index} share no pixel", expected="overlap", next="Name the cut"
            )
        counts = np.bincount(
            now[kept].astype(np.int64) * len(classes) + moved[kept], minlength=len(classes) ** 2
        ).reshape(len(classes), len(classes))
        rows.append(1 - class_figures(counts)["iou"])
        changes.append(1 - float(np.trace(counts) / counts.sum()))
    if not rows:
        raise BadInputError(f"{len(frames)} frames", expected="at least two in a row without a cut")
    return Flicker(tuple(classes), motion is not None, np.stack(rows), np.array(changes))


def joined(results: Sequence[Flicker]) -> Flicker:
    """Several clips as one: every pair of frames counts the same.

    Raises:
        BadInputError: no clip, other classes, or one clip with known motion and one without.
    """
    if len({(result.classes, result.warped) for result in results}) != 1:
        raise BadInputError(
            f"{len(results)} clips of different kinds" if results else "no clips", expected="clips measured alike"
        )
    return Flicker(
        results[0].classes,
        results[0].warped,
        np.concatenate([result.pairs for result in results]),
        np.concatenate([result.changes for result in results]),
    )


def _image(crop: Crop, normalised: NDArray[np.float64]) -> NDArray[np.float64]:
    """One normalised place of a crop -> pixels of the image, in float64: Crop's own arrays are float32, too coarse
    here.
    """
    radians = math.radians(crop.angle)
    cos, sin = math.cos(radians), math.sin(radians)
    u, v = normalised * crop.side
    return np.array([crop.cx + u * cos - v * sin, crop.cy + u * sin + v * cos])


def _place(crop: Crop, point: NDArray[np.float64]) -> NDArray[np.float64]:
    """The inverse of ``_image``."""
    radians = math.radians(crop.angle)
    cos, sin = math.cos(radians), math.sin(radians)
    x, y = point - (crop.cx, crop.cy)
    return np.array([x * cos + y * sin, y * cos - x * sin]) / crop.side
