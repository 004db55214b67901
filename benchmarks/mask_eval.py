"""What ``pocketface eval`` does with a bundle of masks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from pocketface.benchmarks.data.label_files import labelled_source
from pocketface.benchmarks.data.labelled import usable
from pocketface.benchmarks.data.registry import LABELLED
from pocketface.benchmarks.mask_accuracy import MaskAccuracy, evaluate_masks
from pocketface.sdk.bundle import Bundle
from pocketface.sdk.mask_predictor import MaskPredictor
from pocketface.sdk.progress import track
from pocketface.sdk.terminal import console

if TYPE_CHECKING:
    from pocketface.benchmarks.data.face import OnSkip


def evaluate_bundle(
    bundle: Bundle,
    variants: Sequence[str],
    data: Path,
    *,
    format: str,
    folders: Sequence[str] = (),
    threads: int = 1,
    skip_bad: bool = False,
    on_skip: OnSkip | None = None,
) -> tuple[dict[str, MaskAccuracy], dict[str, Any]]:
    """Measure variants on labelled pictures, each as the first frame of a video.

    Args:
        bundle: opened, of masks.
        variants: ids.
        data: the data set's root.
        format: a reader of ``LABELLED``.
        folders: its parts; all of them by default.
        threads: threads the runtime may use.
        skip_bad, on_skip: leave out pictures that cannot be used, and tell.

    Returns:
        Id -> figures, and what the report says of the data.

    Raises:
        UnknownNameError: no such reader.
        AnnotationError, BadInputError: see the reader.
    """
    reader, classes = LABELLED[format], bundle.manifest.stages[-1].class_set
    found_here = reader(data, folders=folders, classes=classes, skip_bad=skip_bad, on_skip=on_skip)
    pictures = usable(found_here, classes, skip_bad=skip_bad, on_skip=on_skip)
    found = {}
    for id in variants:
        predictor = MaskPredictor(bundle, variant=id, threads=threads)
        with track(id, len(pictures)) as step:
            found[id] = evaluate_masks(predictor, pictures, progress=step)
    source = labelled_source(pictures, name=format, split=" ".join(folders), licence=reader.licence)
    return found, {"data": source}


def print_masks(name: str, found: dict[str, MaskAccuracy], unable: dict[str, str]) -> None:
    """One table of all variants; of a single one its classes too."""
    from rich.table import Table

    images = next(iter(found.values())).whole.images
    table = Table(title=f"{name}: {images} labelled pictures", title_justify="left")
    table.add_column("variant", overflow="fold")
    for column in ("mIoU\n%", "per image\n%", "mean F1\n%", "accuracy\n%", "trimap F1\n%", "BF\n%"):
        table.add_column(column, justify="right", no_wrap=True)
    for id, item in found.items():
        whole, along = item.whole, item.borders
        edges = (None, None) if along is None else (along.trimap_f1, along.bf)
        values = (whole.miou, whole.miou_per_image, whole.mean_f1, whole.accuracy, *edges)
        table.add_row(id, *("-" if value is None else f"{value:.2f}" for value in values))
    out = console()
    out.print(table)
    if len(found) == 1:
        out.print(next(iter(found.values())).whole)
    for id, why in unable.items():
        out.print(f"{id} not measured: {why}", markup=False)


def report(name: str, found: dict[str, MaskAccuracy], more: dict[str, Any]) -> dict[str, Any]:
    """JSON-able."""
    return {
        "bundle": name,
        **more,
        "variants": [{"variant": id, **msgspec.to_builtins(item)} for id, item in found.items()],
    }
