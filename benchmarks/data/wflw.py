"""WFLW (Wu et al. 2018): 98 points and six attributes a face, in the data set's own lists.

    WFLW_annotations/list_98pt_rect_attr_train_test/list_98pt_rect_attr_{train,test}.txt
    WFLW_images/37--Soccer/37_Soccer_soccer_ball_37_45.jpg

One face a line: 98 x y pairs (0-based), a detector's rectangle (not used: boxes come from the points), six attributes
of 0 or 1, the image. Folders are `train` and `test`; `test/pose`, `test/blur` and so on are the faces of a split that
have the attribute.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path, PurePosixPath

from pocketface.benchmarks.data.face import Face, OnSkip, Reader, checked_points, collect
from pocketface.sdk.errors import AnnotationError, BadInputError
from pocketface.sdk.manifest import Scheme

SPLITS = ("train", "test")
ATTRIBUTES = ("pose", "expression", "illumination", "make-up", "occlusion", "blur")
FOLDERS = (*SPLITS, *(f"{split}/{name}" for split in SPLITS for name in ATTRIBUTES))
_LISTS = "list_98pt_rect_attr_train_test"
_RECTANGLE, _TAIL = 4, 4 + len(ATTRIBUTES) + 1
_MEND = "Fix the line or leave it out with --skip-bad"


def read_wflw(
    root: Path, *, folders: Sequence[str] = (), scheme: Scheme, skip_bad: bool = False, on_skip: OnSkip | None = None
) -> list[Face]:
    """The faces of the named splits or subsets, or of both splits."""
    lists, images = _layout(root)
    wanted = [folder.strip("/") for folder in folders] or [
        split for split in SPLITS if (lists / _list_name(split)).is_file()
    ]
    if unknown := [folder for folder in wanted if folder not in FOLDERS]:
        raise BadInputError(
            f"WFLW has no folder {unknown[0]!r}", choices=FOLDERS, next="Name one of these with --folder"
        )
    faces: list[Face] = []
    for split in SPLITS:
        named = {folder.partition("/")[2] for folder in wanted if folder.partition("/")[0] == split}
        if not named:
            continue
        found = collect(_lines(lists / _list_name(split), split, images, scheme), skip_bad, on_skip)
        faces += [face for face in found if "" in named or any(face.attributes[name] for name in named)]
    return faces


def _layout(root: Path) -> tuple[Path, Path]:
    """The folder of lists and the folder of images."""
    lists = [folder for folder in (root / "WFLW_annotations" / _LISTS, root / _LISTS, root) if _holds_list(folder)]
    images = [folder for folder in (root / "WFLW_images", root.parent / "WFLW_images") if folder.is_dir()]
    if not lists or not images:
        missing = f"WFLW_annotations/{_LISTS}/{_list_name('test')}" if not lists else "WFLW_images/"
        raise BadInputError(
            f"{root} has no {missing}",
            choices=sorted(path.name for path in root.iterdir() if path.is_dir()),
            next="Give the folder that holds WFLW_annotations/ and WFLW_images/",
        )
    return lists[0], images[0]


def _holds_list(folder: Path) -> bool:
    return any((folder / _list_name(split)).is_file() for split in SPLITS)


def _list_name(split: str) -> str:
    return f"list_98pt_rect_attr_{split}.txt"


def _lines(path: Path, split: str, images: Path, scheme: Scheme) -> Iterator[Callable[[], Face]]:
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInputError(f"{path.name}: cannot be read ({error})", next="Fetch WFLW_annotations again") from error
    seen: Counter[str] = Counter()
    for number, line in enumerate(lines, 1):
        if line.strip():
            # Counted before anything is left out: a face keeps its name whatever becomes of the others.
            photo = line.split()[-1]
            seen[photo] += 1
            yield partial(_face, line, f"{path.name} line {number}", f"{split}/", seen[photo], images, scheme)


def _face(line: str, where: str, prefix: str, index: int, images: Path, scheme: Scheme) -> Face:
    words = line.split()
    coordinates = len(words) - _TAIL
    if coordinates < 2 or coordinates % 2:
        raise AnnotationError(f"{where}: {len(words)} fields", expected=f"{2 * scheme.points + _TAIL}", next=_MEND)
    try:
        values = [float(word) for word in words[:coordinates]]
    except ValueError as error:
        raise AnnotationError(f"{where}: {error}", expected="coordinates in pixels", next=_MEND) from error
    flags = words[coordinates + _RECTANGLE : -1]
    if not set(flags) <= {"0", "1"}:
        raise AnnotationError(f"{where}: attributes {' '.join(flags)}", expected="six of 0 or 1", next=_MEND)
    photo = PurePosixPath(words[-1])
    image = images / photo
    if photo.is_absolute() or ".." in photo.parts or not image.is_file():
        raise AnnotationError(
            f"{where}: its image is missing", expected=f"WFLW_images/{photo}", next="Add the image, or --skip-bad"
        )
    return Face(
        # Numbered as in AFW and HELEN, so that whoever splits by photo does it alike: X_1, X_2 are faces of X.
        name=f"{prefix}{photo.with_suffix('')}_{index}",
        image=image,
        points=checked_points(values, scheme, where),
        attributes={name: flag == "1" for name, flag in zip(ATTRIBUTES, flags, strict=True)},
    )


READER = Reader(
    name="wflw",
    title="WFLW: WFLW_annotations/ and WFLW_images/",
    licence="WFLW: research use only, non-commercial",
    function=read_wflw,
    scheme="wflw98",
)
