"""300-W (iBUG): AFW, HELEN, LFPW and iBUG, annotated with 68 points (Sagonas et al. 2013).

Reads the original layout, `afw/ helen/{trainset,testset}/ lfpw/{trainset,testset}/ ibug/`, or as much of it as there
is, with whole photos or crops. `root` may also be the folder that holds `300w/`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pocketface.benchmarks.data.face import Face, OnSkip, Reader
from pocketface.benchmarks.data.pts import annotated_folders, read_tree
from pocketface.sdk.errors import BadInputError
from pocketface.sdk.manifest import Scheme

TRAIN_FOLDERS = ("afw", "helen/trainset", "lfpw/trainset")
TEST_FOLDERS = ("helen/testset", "lfpw/testset", "ibug")
"""HELEN and LFPW test are the Common subset (554 faces), iBUG the Challenging one (135)."""


def read_300w(
    root: Path, *, folders: Sequence[str] = (), scheme: Scheme, skip_bad: bool = False, on_skip: OnSkip | None = None
) -> list[Face]:
    """The faces of the named folders, or of all the folders of 300-W that are there."""
    known = [*TRAIN_FOLDERS, *TEST_FOLDERS]
    if not _present(root, known) and _present(root / "300w", known):
        root = root / "300w"
    present = _present(root, known)
    if not folders and not present:
        raise BadInputError(
            f"{root} holds none of 300-W's folders",
            expected=", ".join(known),
            choices=annotated_folders(root),
            next="Give 300-W's root, or read any tree of images and .pts files with --format pts",
        )
    return read_tree(root, folders=folders or present, scheme=scheme, skip_bad=skip_bad, on_skip=on_skip)


def _present(root: Path, known: Sequence[str]) -> list[str]:
    return [name for name in known if (root / name).is_dir()]


READER = Reader(
    name="300w",
    title="300-W: afw/, helen/, lfpw/, ibug/ with a .pts file beside each image",
    licence="300-W (iBUG): research use only, non-commercial",
    function=read_300w,
)
