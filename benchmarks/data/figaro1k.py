"""Figaro1k: 1050 photos of seven hair styles with a hair mask each (Svanera et al. 2016; Muhammad et al. 2018).

Reads the original layout: `Original/{Training,Testing}/FrameNNNNN-org.jpg` with
`GT/{Training,Testing}/FrameNNNNN-gt.png` (or `.pbm`), 840 and 210 of them. `root` may also be the folder that holds
`figaro1k/` or `Figaro1k/`. Masks are 1 bit, 0 and 1, or 8 bits, 0 and 255.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from pocketface.benchmarks.data.label_files import by_stem, chosen, inner_root
from pocketface.benchmarks.data.labelled import LUT, Labelled, LabelledReader, paired_entry

TITLE = "Figaro1k: Original/{Training,Testing}/X-org.jpg with GT/{Training,Testing}/X-gt.png"
PARTS = ("Training", "Testing")


def read_figaro1k(root: Path, *, folders: Sequence[str] = (), to_classes: LUT) -> Iterator[Callable[[], Labelled]]:
    """The pictures of the named parts, or of both."""
    root = inner_root(root, ("Original", "GT"), "figaro1k", "Figaro1k", "Figaro-1k")
    present = [part for part in PARTS if (root / "Original" / part).is_dir() or (root / "GT" / part).is_dir()]
    for part in chosen(root, folders, present, TITLE):
        images = by_stem(root / "Original" / part, (".jpg", ".jpeg", ".png"), "-org")
        masks = by_stem(root / "GT" / part, (".png", ".pbm", ".bmp"), "-gt")
        for stem in sorted(images.keys() | masks.keys()):
            yield partial(_entry, f"{part}/{stem}", images.get(stem), masks.get(stem), to_classes)


def _entry(name: str, image: Path | None, labels: Path | None, to_classes: LUT) -> Labelled:
    part, _, stem = name.rpartition("/")
    wanted = (f"Original/{part}/{stem}-org.jpg", f"GT/{part}/{stem}-gt.png")
    named = (f"Original/{part}/{image.name if image else stem}", f"GT/{part}/{stem}-gt")
    return paired_entry(name, image, labels, to_classes, wanted=wanted, named=named)


READER = LabelledReader(
    name="figaro1k",
    title=TITLE,
    licence="Figaro1k: research use only",
    merges={"hair2": {"background": (0,), "hair": (1, 255)}},
    function=read_figaro1k,
)
