"""A picture with a class for each of its pixels, and the reader that finds all of them in a data set.

image file, label file(s) --decode, check--> (H, W, 3) uint8, (H, W) uint8 in the values of the wanted class set

Each reader knows its data set's own values and which class they are in each class set that it can be read as, by the
classes' names. As for faces (``face.py``), names are relative to the data set's root.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol, cast

import numpy as np
from numpy.typing import NDArray

from pocketface.benchmarks.data.face import Face, OnSkip, collect
from pocketface.benchmarks.data.label_files import image_size, named, read_values
from pocketface.sdk.errors import AnnotationError, BadInputError, ImageError
from pocketface.sdk.face_extent import face_extent
from pocketface.sdk.geometry import Box
from pocketface.sdk.images import read_image
from pocketface.sdk.manifest import ClassSet
from pocketface.sdk.preprocess import halve

_MEND = "Fix the file or leave it out with --skip-bad"

LUT = NDArray[np.int16]
"""(256,): the data set's own value -> class of the wanted set, 255, or -1 where the data set has no such
value."""

BoxOf = Callable[[NDArray[np.uint8], ClassSet, str], Box]
"""Labels (H, W), their classes, the picture's name -> where a network looks; see `labelled_box`."""


# Compared by identity: an array has no single truth value.
@dataclass(frozen=True, eq=False)
class Labelled:
    """One picture and the class of each of its pixels.

    Attributes:
        name: path-like id relative to the data set's root, without suffix, e.g. ``"Testing/Frame00010"``.
        image: the picture.
        labels: the file that holds the data set's own values; the folder of ``layers``, where there is a file a class.
        to_classes: own value -> class of the wanted set.
        layers: (value, file) of each class that is there, painted in this order; empty where ``labels`` is one file.
        reduce: the picture has so many times the labels' pixels a side, a power of 2, and is halved to their size.
    """

    name: str
    image: Path
    labels: Path
    to_classes: LUT
    layers: tuple[tuple[int, Path], ...] = ()
    reduce: int = 1

    @property
    def folder(self) -> str:
        """The part of the name before the last slash, e.g. ``"Testing"``."""
        return self.name.rpartition("/")[0]

    @property
    def files(self) -> tuple[Path, ...]:
        """The files with its labels."""
        return tuple(path for _, path in self.layers) or (self.labels,)

    def read(self) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Decode both.

        Returns:
            image (H, W, 3) uint8 RGB, labels (H, W) uint8 in the wanted class set, 255 to be ignored.

        Raises:
            AnnotationError: the labels cannot be read, have another size than the picture, or a value that is no class
                of the data set.
            ImageError: the picture cannot be read.
        """
        labels = self.read_labels()
        image = read_image(self.image)
        self._same_size((image.shape[1], image.shape[0]), (labels.shape[1], labels.shape[0]), self.files[0])
        step = self.reduce
        while step > 1:
            image = np.rint(halve(image.astype(np.float32))).astype(np.uint8)
            step //= 2
        return image, labels

    def read_labels(self) -> NDArray[np.uint8]:
        """The labels alone, (H, W) uint8.

        Raises:
            AnnotationError: as in ``read``.
        """
        values = self._painted() if self.layers else read_values(self.labels, self._where(self.labels))
        labels = self.to_classes[values]
        if labels.min() < 0:
            y, x = np.argwhere(labels < 0)[0]
            raise AnnotationError(
                f"{self._where(self.labels)}: value {values[y, x]} at pixel x {x}, y {y}",
                expected="a class of the data set: " + ", ".join(map(str, np.flatnonzero(self.to_classes >= 0))),
                next=_MEND,
            )
        return labels.astype(np.uint8)

    def check(self, *, decode: bool = True) -> Labelled:
        """Itself, if its files fit together.

        Args:
            decode: read the labels whole; without, only the sizes that the files' heads give.

        Raises:
            AnnotationError: as in ``read``, or the picture's head cannot be read.
        """
        shown = named(self.image, self.name)
        size = image_size(self.image, shown)
        if decode:
            height, width = self.read_labels().shape
            self._same_size(size, (width, height), self.files[0])
        else:
            for path in self.files:
                self._same_size(size, image_size(path, self._where(path)), path)
        return self

    def _painted(self) -> NDArray[np.uint8]:
        values: NDArray[np.uint8] | None = None
        for value, path in self.layers:
            mask = read_values(path, self._where(path)) > 0
            if values is None:
                values = np.zeros(mask.shape, np.uint8)
            if mask.shape != values.shape:
                raise AnnotationError(
                    f"{self._where(path)}: a mask of {mask.shape[1]} x {mask.shape[0]} pixels",
                    expected=f"{values.shape[1]} x {values.shape[0]}, as {self.layers[0][1].name} has",
                    next=_MEND,
                )
            values[mask] = value
        return cast(NDArray[np.uint8], values)

    def _same_size(self, image: tuple[int, int], labels: tuple[int, int], path: Path) -> None:
        if image != (labels[0] * self.reduce, labels[1] * self.reduce):
            width, height = (side / self.reduce for side in image)
            times = f" ({self.reduce} times that)" if self.reduce > 1 else ""
            raise AnnotationError(
                f"{self._where(path)}: a mask of {labels[0]} x {labels[1]} pixels",
                expected=f"{width:g} x {height:g}, the size of its image {self.image.name}{times}",
                next=_MEND,
            )

    def _where(self, path: Path) -> str:
        return named(path, self.name)


class ReadLabelled(Protocol):
    """What a reader's ``function`` looks like: one maker for each picture, in any order."""

    def __call__(
        self, root: Path, *, folders: Sequence[str] = (), to_classes: LUT
    ) -> Iterable[Callable[[], Labelled]]: ...


Merge = Mapping[str, tuple[int, ...]]
"""Class name -> the data set's own values that are this class."""


@dataclass(frozen=True)
class LabelledReader:
    """How one labelled data set is read, and the terms it comes under.

    Attributes:
        name: as registered.
        title: one line for people.
        licence: terms of use, as they go into the manifest and the model card.
        merges: class set's name -> how the data set's own values become its classes. A set of another name with the
            same class names, in any order, is as good.
        function: finds the files.
    """

    name: str
    title: str
    licence: str
    merges: Mapping[str, Merge]
    function: ReadLabelled

    def __call__(
        self,
        root: str | Path,
        *,
        folders: Sequence[str] = (),
        classes: ClassSet,
        skip_bad: bool = False,
        on_skip: OnSkip | None = None,
    ) -> list[Labelled]:
        """Find and check all pictures of the folders.

        Args:
            root: the data set's root folder.
            folders: which of its parts, relative to the root with forward slashes; all of them by default.
            classes: what the labels shall be.
            skip_bad: leave out pictures whose labels cannot be used, instead of raising.
            on_skip: called with the error of each one left out; by default a warning is logged.

        Returns:
            At least one, sorted by name.

        Raises:
            AnnotationError: labels are missing, cannot be read, have another size than their picture or a value that
                is no class; or labels are there and their picture is not.
            BadInputError: the data set has no such classes; the root or a folder does not exist, or holds nothing.
        """
        root, to_classes = Path(root), self.lut(classes)
        if not root.is_dir():
            state = "is not a folder" if root.exists() else "does not exist"
            raise BadInputError(f"data folder {root} {state}", next="Give the data set's root with --data")
        if isinstance(folders, str):  # its letters would be looked for, one by one
            raise BadInputError(f"folders {folders!r}", expected=f"a list, such as [{folders!r}]")
        found = collect_labelled(self.function(root, folders=folders, to_classes=to_classes), skip_bad, on_skip)
        if not found:
            where = f"{', '.join(folders)} of " if folders else ""
            raise BadInputError(
                f"no labelled picture found in {where}{root} (format {self.name})",
                expected=self.title,
                next="Check --data and --format",
            )
        found = sorted(found, key=lambda one: one.name)
        for one, other in itertools.pairwise(found):
            if one.name == other.name:
                raise AnnotationError(f"two pictures are named {one.name}", expected="one each", next="Rename one")
        return found

    def lut(self, classes: ClassSet) -> LUT:
        """The data set's own values -> the classes of a set.

        Raises:
            BadInputError: the data set cannot be read as these classes.
        """
        wanted = {_plain(name): index for index, name in enumerate(classes.names)}
        for merge in self.merges.values():
            if {_plain(name) for name in merge} == set(wanted):
                table: LUT = np.full(256, -1, np.int16)
                for name, values in merge.items():
                    table[list(values)] = wanted[_plain(name)]
                return table
        raise BadInputError(
            f"data set {self.name} as the classes {classes.name!r} ({', '.join(classes.names)})",
            choices=sorted(self.merges),
            next="Choose a class set that the data set is labelled for",
        )


def collect_labelled(
    makers: Iterable[Callable[[], Labelled]], skip_bad: bool, on_skip: OnSkip | None
) -> list[Labelled]:
    """Make them one by one; with ``skip_bad``, report those that cannot be used and go on."""
    # The same loop serves faces; it never looks at what it collects.
    return cast(list[Labelled], list(collect(cast(Iterable[Callable[[], Face]], makers), skip_bad, on_skip)))


def usable(
    pictures: Iterable[Labelled], classes: ClassSet, *, skip_bad: bool = False, on_skip: OnSkip | None = None
) -> list[Labelled]:
    """The pictures that can be decoded and that show where a network is to look; before hours are spent on the others.

    Args:
        pictures: as a reader gives them, whose files' heads fit together.
        classes: of the labels.
        skip_bad, on_skip: as for a reader.

    Raises:
        AnnotationError: a picture that cannot be decoded, or without a face where the classes have one.
    """

    def checked(picture: Labelled) -> Labelled:
        _, labels = read_pair(picture)
        labelled_box(labels, classes, picture.name)
        return picture

    return collect_labelled((partial(checked, picture) for picture in pictures), skip_bad, on_skip)


def paired_entry(
    name: str,
    image: Path | None,
    labels: Path | None,
    to_classes: LUT,
    *,
    wanted: tuple[str, str],
    named: tuple[str, str],
) -> Labelled:
    """A picture and its labels, of which one may be missing.

    Args:
        name: of the entry.
        image, labels: what was found.
        to_classes: see `Labelled`.
        wanted: where the image and where the labels should be.
        named: how messages call the image and the labels that were found.

    Raises:
        AnnotationError: one is missing, or they do not fit.
    """
    if image is None:
        raise AnnotationError(
            f"{named[1]}: its image is missing",
            expected=wanted[0],
            next="Add the image or leave it out with --skip-bad",
        )
    if labels is None:
        raise AnnotationError(
            f"{named[0]}: its label is missing",
            expected=wanted[1],
            next="Add the labels or leave it out with --skip-bad",
        )
    return Labelled(name=name, image=image, labels=labels, to_classes=to_classes).check()


def read_pair(entry: Labelled) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """``entry.read()``, with a picture that cannot be read as an ``AnnotationError``, so that it can be left out."""
    try:
        return entry.read()
    except ImageError as error:
        raise AnnotationError(error.what, expected=error.expected, next=error.next) from error


def face_box(labels: NDArray[np.uint8], classes: ClassSet, where: str = "the picture") -> Box:
    """The tight box around a labelled face: what landmarks from the brows to the chin and jaw would span.

    See `face_extent`; the thesis (7.5) crops by landmarks, which the labels have not.

    Args:
        labels: (H, W) in ``classes``.
        classes: of the labels.
        where: what errors call it.

    Raises:
        AnnotationError: there is no face.
    """
    found = face_extent(labels, classes)
    if found is None:
        raise AnnotationError(
            f"{where}: no pixel of a face",
            expected="skin, eyes, mouth or the like",
            next="Leave it out with --skip-bad",
        )
    return found


def labelled_box(labels: NDArray[np.uint8], classes: ClassSet, name: str = "the picture") -> Box:
    """Of classes with skin, the square around the face, 1.25 times its longer side; of others the whole picture.

    Raises:
        AnnotationError: there is no face.
    """
    height, width = labels.shape
    if "skin" not in classes.names:
        return Box.of_image(width, height)
    tight = face_box(labels, classes, name)
    return Box.around([(tight.x0, tight.y0), (tight.x1, tight.y1)])


def _plain(name: str) -> str:
    return name.replace("_", " ").lower()
