"""CelebAMask-HQ: portraits with 19 classes (Lee et al. 2020), as it is downloaded or prepared.

Prepared, a label file a picture, value = class:  PART/images/X.jpg + PART/labels/X.png, for any parts (train, val ...)
Downloaded, a mask a class:                       CelebA-HQ-img/X.jpg + CelebAMask-HQ-mask-anno/N/0000X_skin.png ...
(parts are 0 to 14; masks are painted in the order of its own g_mask.py; the pictures have twice the masks' pixels a
side and are halved: the stored mask is what a metric is measured on).

face11 is the 11 classes of HELEN (Smith et al. 2013), whose skin excludes ears and neck. Hat, ears, jewellery, neck
and cloth are background. Glasses are skin: HELEN knows none and labels the face through them, eyes and brows are
painted over them here, and what is left is frames and cheek behind glass. (Drawn faces count ears as skin.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from pocketface.benchmarks.data.label_files import by_stem, chosen, inner_root
from pocketface.benchmarks.data.labelled import LUT, Labelled, LabelledReader, paired_entry
from pocketface.sdk.errors import AnnotationError

TITLE = "CelebAMask-HQ: PART/{images,labels}/, or CelebA-HQ-img/ with CelebAMask-HQ-mask-anno/"
LAYERS = (
    *("skin", "nose", "eye_g", "l_eye", "r_eye", "l_brow", "r_brow", "l_ear", "r_ear", "mouth"),
    *("u_lip", "l_lip", "hair", "hat", "ear_r", "neck_l", "neck", "cloth"),
)
"""Class n + 1 of the data set, in the order in which masks are painted."""
_IMAGES, _MASKS = "CelebA-HQ-img", "CelebAMask-HQ-mask-anno"
_SUFFIXES = (".jpg", ".jpeg", ".png")


def read_celebamask(root: Path, *, folders: Sequence[str] = (), to_classes: LUT) -> Iterator[Callable[[], Labelled]]:
    """The pictures of the named parts, or of all."""
    names = ("celebamask", "CelebAMask-HQ")
    original = inner_root(root, (_MASKS,), *names)
    if (original / _MASKS).is_dir():
        yield from _original(original, folders, to_classes)
        return
    for here in (root, *(root / name for name in names)):
        present = prepared_parts(here)
        if present:
            root = here
            break
    yield from prepared(root, chosen(root, folders, present, TITLE), to_classes)


def prepared_parts(root: Path) -> list[str]:
    """Folders of the root that hold ``images/`` or ``labels/``."""
    if not root.is_dir():
        return []
    inner = (folder for folder in root.iterdir() if not folder.name.startswith("."))
    return sorted(folder.name for folder in inner if (folder / "images").is_dir() or (folder / "labels").is_dir())


def prepared(root: Path, parts: Sequence[str], to_classes: LUT) -> Iterator[Callable[[], Labelled]]:
    """PART/images/X.jpg with PART/labels/X.png, the class as the value."""
    for part in parts:
        images, labels = by_stem(root / part / "images", _SUFFIXES), by_stem(root / part / "labels", (".png",))
        for stem in sorted(images.keys() | labels.keys()):
            yield partial(_entry, f"{part}/{stem}", images.get(stem), labels.get(stem), to_classes)


def _entry(name: str, image: Path | None, labels: Path | None, to_classes: LUT) -> Labelled:
    part, _, stem = name.rpartition("/")
    wanted = (f"{part}/images/{stem}.jpg", f"{part}/labels/{stem}.png")
    named = (f"{part}/images/{image.name if image else stem}", f"{part}/labels/{stem}.png")
    return paired_entry(name, image, labels, to_classes, wanted=wanted, named=named)


def _original(root: Path, folders: Sequence[str], to_classes: LUT) -> Iterator[Callable[[], Labelled]]:
    values = {layer: value for value, layer in enumerate(LAYERS, 1)}
    parts = sorted((path.name for path in (root / _MASKS).iterdir() if path.is_dir()), key=lambda name: name.zfill(9))
    images = {stem.zfill(5): path for stem, path in by_stem(root / _IMAGES, _SUFFIXES).items()}
    masked: set[str] = set()
    for part in chosen(root, folders, parts, TITLE):
        layers: dict[str, list[tuple[int, Path]]] = {}
        for name, path in by_stem(root / _MASKS / part, (".png",)).items():
            number, _, layer = name.partition("_")
            if layer not in values:
                raise AnnotationError(f"{_MASKS}/{part}/{path.name}: no known class", choices=LAYERS, next="Remove it")
            layers.setdefault(number.zfill(5), []).append((values[layer], path))
        masked |= layers.keys()
        for number in sorted(layers):
            yield partial(_layered, f"{part}/{number}", images.get(number), sorted(layers[number]), to_classes)
    if not folders:  # a picture says nothing about its part: only the whole set shows which have no mask at all
        for number in sorted(images.keys() - masked):
            yield partial(_layered, f"{_MASKS}/{number}", images[number], [], to_classes)


def _layered(name: str, image: Path | None, layers: list[tuple[int, Path]], to_classes: LUT) -> Labelled:
    part, _, number = name.rpartition("/")
    if not layers:
        raise AnnotationError(
            f"{_IMAGES}/{int(number)}.jpg: its label is missing",
            expected=f"{_MASKS}/N/{number}_skin.png and the like",
            next="Add the masks or leave it out with --skip-bad",
        )
    if image is None:
        raise AnnotationError(
            f"{_MASKS}/{part}/{number}_*.png: their image is missing",
            expected=f"{_IMAGES}/{int(number)}.jpg",
            next="Add the image or leave it out with --skip-bad",
        )
    # 30 000 pictures of some ten masks each: their values are decoded when they are used, and any value is a class.
    entry = Labelled(
        name=name, image=image, labels=layers[0][1].parent, to_classes=to_classes, layers=tuple(layers), reduce=2
    )
    return entry.check(decode=False)


_NOT_FACE = (8, 9, 14, 15, 16, 17, 18)  # ears, hat, earring, necklace, neck, cloth

READER = LabelledReader(
    name="celebamask",
    title=TITLE,
    licence="CelebAMask-HQ: research use only, non-commercial",
    merges={
        "face11": {
            "background": (0, *_NOT_FACE),
            "skin": (1, 3),
            "hair": (13,),
            "nose": (2,),
            "left brow": (6,),
            "right brow": (7,),
            "left eye": (4,),
            "right eye": (5,),
            "upper lip": (11,),
            "lower lip": (12,),
            "inner mouth": (10,),
        },
        "hair2": {"background": tuple(value for value in range(19) if value != 13), "hair": (13,)},
    },
    function=read_celebamask,
)
