"""Drawn faces with their labels as a data set on disk: PART/images/X.png + PART/labels/X.png, the class as the value.

The layout is CelebAMask-HQ's prepared one; values are those of ``synthetic.PARSING_CLASSES``. Ears are skin there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from pocketface.benchmarks.data.celebamask import prepared, prepared_parts
from pocketface.benchmarks.data.label_files import chosen
from pocketface.benchmarks.data.labelled import LUT, Labelled, LabelledReader
from pocketface.benchmarks.data.synthetic import PARSING_CLASSES, render_face
from pocketface.sdk.errors import BadInputError
from pocketface.sdk.files import atomic_folder

TITLE = "drawn faces: PART/images/X.png with PART/labels/X.png"
_HAIR = PARSING_CLASSES.index("hair")


def write_drawn(
    folder: Path, *, count: int, seed: int = 0, size: int = 192, progress: Callable[[int], None] | None = None
) -> Path:
    """Write one part of a data set: ``images/00000.png``, ``labels/00000.png`` and so on, and ``SYNTHETIC.txt``, which
    says how. The faces are those of ``synthetic.write_dataset`` with the same seed.

    Args:
        folder: e.g. ``ROOT/train``; does not exist yet, or is empty. It appears complete or not at all.
        count: how many faces, from 1.
        seed: folders of different seeds share no face.
        size: side of the pictures, 16 to 1024 pixels.
        progress: called after each face with the number of faces written.

    Raises:
        BadInputError: the folder holds something, or an argument is out of range.
        EnvironmentProblemError: the disk does not take it.
    """
    if count < 1:
        raise BadInputError(f"a data set of {count} faces", expected="1 or more")
    if seed < 0:
        raise BadInputError(f"seed {seed}", expected="an integer from 0")
    digits = max(5, len(str(count - 1)))
    with atomic_folder(folder) as partial:
        for inner in ("images", "labels"):
            (partial / inner).mkdir()
        for index in range(count):
            face = render_face(int(np.random.SeedSequence([seed, index]).generate_state(1)[0]), size)
            name = f"{index:0{digits}d}.png"
            Image.fromarray(face.image).save(partial / "images" / name, compress_level=4)
            Image.fromarray(face.labels).save(partial / "labels" / name)
            if progress:
                progress(index + 1)
        note = f"pocketface synthetic faces, drawn, not photographed: seed {seed}, count {count}, size {size}\n"
        (partial / "SYNTHETIC.txt").write_text(note, encoding="ascii")
    return Path(folder)


def read_drawn(root: Path, *, folders: Sequence[str] = (), to_classes: LUT) -> Iterator[Callable[[], Labelled]]:
    """The faces of the named parts, or of all."""
    yield from prepared(root, chosen(root, folders, prepared_parts(root), TITLE), to_classes)


READER = LabelledReader(
    name="drawn",
    title=TITLE,
    licence="drawn by pocketface: Apache-2.0",
    merges={
        "face11": {name: (value,) for value, name in enumerate(PARSING_CLASSES)},
        "hair2": {
            "background": tuple(value for value in range(len(PARSING_CLASSES)) if value != _HAIR),
            "hair": (_HAIR,),
        },
    },
    function=read_drawn,
)
