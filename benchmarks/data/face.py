"""An annotated face, and the reader that finds all of them in a data set.

A reader takes a folder in the data set's own layout and a landmark scheme, and gives faces sorted by name. Names are
relative to the data set's root, so they, and everything hashed or listed under them, are the same on every machine.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pocketface.sdk.errors import AnnotationError, BadInputError
from pocketface.sdk.geometry import Box
from pocketface.sdk.manifest import Scheme

log = logging.getLogger(__name__)

OnSkip = Callable[[AnnotationError], None]
"""Told about every annotation that ``skip_bad`` leaves out."""


# Compared by identity: an array has no single truth value.
@dataclass(frozen=True, eq=False)
class Face:
    """One annotated face.

    Attributes:
        name: path-like id relative to the data set's root, without suffix, e.g. ``"helen/testset/296814969_3"``.
        image: the photo or crop it is in; several faces may share one.
        points: (n, 2) float32, pixels of that image, pixel centres at integers (0-based).
        attributes: what else the data set says about it, e.g. WFLW's ``{"blur": True, ...}``.
    """

    name: str
    image: Path
    points: NDArray[np.float32]
    attributes: Mapping[str, bool] = field(default_factory=dict)

    @property
    def box(self) -> Box:
        """The ground-truth box: a square of 1.25 x the longer side of the landmarks' bounding box, same centre."""
        return Box.around(self.points)

    @property
    def folder(self) -> str:
        """The part of the name before the last slash, e.g. ``"helen/testset"``."""
        return self.name.rpartition("/")[0]


class ReadFunction(Protocol):
    """What a reader's ``read`` looks like."""

    def __call__(
        self,
        root: Path,
        *,
        folders: Sequence[str] = (),
        scheme: Scheme,
        skip_bad: bool = False,
        on_skip: OnSkip | None = None,
    ) -> list[Face]: ...


@dataclass(frozen=True)
class Reader:
    """How one data set is read, and the terms it comes under.

    Attributes:
        name: as registered.
        title: one line for people.
        licence: terms of use, as they go into the manifest and the model card.
        scheme: name of the landmark scheme it is annotated in, where that is fixed.
        function: does the work.
    """

    name: str
    title: str
    licence: str
    function: ReadFunction
    scheme: str = "ibug68"

    def __call__(
        self,
        root: str | Path,
        *,
        folders: Sequence[str] = (),
        scheme: Scheme,
        skip_bad: bool = False,
        on_skip: OnSkip | None = None,
    ) -> list[Face]:
        """Read all faces of the folders.

        Args:
            root: the data set's root folder.
            folders: which of its parts, relative to the root with forward slashes; all of them by default.
            scheme: the mark-up that the annotations must have.
            skip_bad: leave out annotations that cannot be used, instead of raising.
            on_skip: called with the error of each one left out; by default a warning is logged.

        Returns:
            At least one face, sorted by name.

        Raises:
            AnnotationError: an annotation is broken or does not fit the scheme, its image is missing, or two faces
                share a name.
            BadInputError: the root or a folder does not exist, or holds no face.
        """
        root = Path(root)
        if not root.is_dir():
            state = "is not a folder" if root.exists() else "does not exist"
            raise BadInputError(f"data folder {root} {state}", next="Give the data set's root with --data")
        if isinstance(folders, str):  # its letters would be looked for, one by one
            raise BadInputError(f"folders {folders!r}", expected=f"a list, such as [{folders!r}]")
        faces = self.function(root, folders=folders, scheme=scheme, skip_bad=skip_bad, on_skip=on_skip)
        if not faces:
            where = f"{', '.join(folders)} of " if folders else ""
            raise BadInputError(
                f"no face found in {where}{root} (format {self.name})",
                expected=self.title,
                next="Check --data and --format",
            )
        faces = sorted(faces, key=lambda face: face.name)
        for one, other in itertools.pairwise(faces):
            if one.name == other.name:
                raise AnnotationError(
                    f"two annotations are named {one.name}", expected="one each", next="Rename or remove one of them"
                )
        return faces

    def read(
        self,
        root: str | Path,
        *,
        folders: Sequence[str] = (),
        scheme: Scheme,
        skip_bad: bool = False,
        on_skip: OnSkip | None = None,
    ) -> list[Face]:
        """Same as calling the reader."""
        return self(root, folders=folders, scheme=scheme, skip_bad=skip_bad, on_skip=on_skip)


def checked_points(values: ArrayLike, scheme: Scheme, where: str) -> NDArray[np.float32]:
    """Landmarks that fit the scheme, as float32.

    Args:
        values: (n, 2) pixels.
        scheme: the mark-up they must have.
        where: file (and line) to name in errors.

    Raises:
        AnnotationError: another number of points, a coordinate that is not finite, or outer eye corners in one place
            (errors are measured in units of their distance).
    """
    points = np.asarray(values, np.float64).reshape(-1, 2)
    if len(points) != scheme.points:
        raise AnnotationError(
            f"{where}: {len(points)} points",
            expected=f"{scheme.points} (scheme {scheme.name})",
            next="Fix the file, leave it out with --skip-bad, or choose a scheme with "
            f"{len(points)} points: pocketface schemes",
        )
    # A float64 beyond float32's range would turn into infinity later, out of sight.
    usable = np.isfinite(points) & (np.abs(points) < 1e9)
    if not usable.all():
        index, axis = np.argwhere(~usable)[0]
        raise AnnotationError(
            f"{where}: point {index + 1} has {'xy'[axis]} = {points[index, axis]:g}",
            expected="a position in pixels",
            next="Fix the file or leave it out with --skip-bad",
        )
    left, right = scheme.normaliser
    if not np.linalg.norm(points[left] - points[right]) > 0:
        raise AnnotationError(
            f"{where}: points {left + 1} and {right + 1} are in one place",
            expected="two outer eye corners apart: errors are measured in their distance",
            next="Fix the file or leave it out with --skip-bad",
        )
    return points.astype(np.float32)


def collect(makers: Iterable[Callable[[], Face]], skip_bad: bool, on_skip: OnSkip | None) -> Iterator[Face]:
    """Make faces one by one; with ``skip_bad``, report the annotations that cannot be used and go on."""
    for make in makers:
        try:
            yield make()
        except AnnotationError as error:
            if not skip_bad:
                raise
            if on_skip is not None:
                on_skip(error)
            else:
                log.warning("left out: %s", error)
