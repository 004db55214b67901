"""The protocol ``300w-degraded``: the same faces in bad conditions, one degradation at a time and all at once.

Everything is measured as in ``accuracy``; only what the network gets to see differs (``data/degrade.py``). The degraded
set is a function of the faces' names and the seed: every network, variant and run sees the same one, and a face has the
same amount of, say, noise alone and under all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pocketface.benchmarks.accuracy import AccuracyResult, View, evaluate
from pocketface.benchmarks.data.degrade import (
    DEGRADATIONS,
    SCALE,
    SINGLE,
    TRANSLATION,
    DegradeSpec,
    degradation,
    degrade,
    inter_ocular,
)
from pocketface.benchmarks.data.face import Face
from pocketface.benchmarks.metrics import THRESHOLD, Accuracy
from pocketface.sdk.errors import BadInputError
from pocketface.sdk.geometry import Box
from pocketface.sdk.predictor import Predictor
from pocketface.sdk.terminal import write_json

if TYPE_CHECKING:
    from rich.table import Table

PROTOCOL = "300w-degraded"
ROWS = ("none", *SINGLE, "downsample-x8", "light", "box", "all")
"""What the protocol measures: presets of ``DEGRADATIONS``, in this order."""

BOX_ERRORS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25)
"""Multiples of the paper's box error."""

Progress = Callable[[str, int, int], None]
"""Called with (degradation, faces done, faces in all)."""


# Compared by identity, as the results it holds.
@dataclass(frozen=True, eq=False)
class RobustnessResult:
    """What one variant did on the same faces under each degradation.

    Attributes:
        results: name of the degradation -> its `AccuracyResult`, in the order measured.
        seed: of the degraded set.
    """

    results: dict[str, AccuracyResult] = field(repr=False)
    seed: int = 0

    @property
    def variant(self) -> str:
        """Id of what was measured."""
        return next(iter(self.results.values())).variant

    @property
    def executor(self) -> str:
        """What ran it."""
        return next(iter(self.results.values())).executor

    def __getitem__(self, name: str) -> Accuracy:
        """The figures under one degradation."""
        return self.results[name].accuracy

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; figures in the units of ``Accuracy``, faces' errors as fractions."""
        return {
            "protocol": PROTOCOL,
            "seed": self.seed,
            "variant": self.variant,
            "executor": self.executor,
            "rows": [
                {
                    "degradation": name,
                    "ranges": DEGRADATIONS[name].to_dict(),
                    "accuracy": result.accuracy.to_dict(),
                    "faces": dict(zip(result.names, result.errors.tolist(), strict=True)),
                }
                for name, result in self.results.items()
            ],
        }

    def save(self, path: str | Path, *, force: bool = False) -> None:
        """Write ``to_dict`` as JSON.

        Raises:
            BadInputError: the file exists and ``force`` is not set.
        """
        write_json(self.to_dict(), str(path), force=force)

    def table(self) -> Table:
        """One row a degradation."""
        from rich.table import Table

        threshold = next(iter(self.results.values())).accuracy.threshold
        table = Table(title=f"{self.variant} by {self.executor}, degraded, seed {self.seed}", title_justify="left")
        table.add_column("degradation", no_wrap=True)
        for column in ("faces", "NME\n%", "median\n%", f"FR@{threshold:g}\n%", f"AUC\n@{threshold:g}"):
            table.add_column(column, justify="right", no_wrap=True)
        for name, result in self.results.items():
            figures = result.accuracy
            table.add_row(
                name, str(figures.faces), f"{figures.nme:.3f}", f"{figures.median:.3f}", f"{figures.fr:.2f}",
                f"{figures.auc:.4f}",
            )  # fmt: skip
        return table

    def __rich__(self) -> Table:
        return self.table()

    def __str__(self) -> str:
        from rich.console import Console

        console = Console(width=100, color_system=None, highlight=False)
        with console.capture() as capture:
            console.print(self.table())
        return capture.get().rstrip()


def evaluate_degraded(
    predictor: Predictor,
    faces: Sequence[Face],
    *,
    names: Sequence[str] = ROWS,
    seed: int = 0,
    threshold: float = THRESHOLD,
    progress: Progress | None = None,
    on_skip: Callable[[BadInputError], None] | None = None,
) -> RobustnessResult:
    """Measure a variant on degraded faces.

    Args:
        predictor: one variant, loaded.
        faces: annotated in the predictor's scheme, each with a name of its own.
        names: presets of ``DEGRADATIONS``; the protocol's by default.
        seed: of the degraded set.
        threshold: of FR and AUC.
        progress: told after each face.
        on_skip: as in ``evaluate``; a face may be left out under one degradation only, where its moved box misses the
            image.

    Raises:
        BadInputError: no degradation, one named twice, or as ``evaluate`` (whose other errors come through too).
        UnknownNameError: no such degradation.
    """
    specs = {name: degradation(name) for name in names}  # all names are known before anything runs
    if not specs or len(specs) != len(names):
        raise BadInputError(f"degradations {', '.join(names) or 'none given'}", expected="at least one, each once")
    results = {}
    for name, spec in specs.items():
        results[name] = evaluate(
            predictor,
            faces,
            threshold=threshold,
            progress=_named(progress, name),
            on_skip=on_skip,
            view=degraded_view(spec, normaliser=predictor.stage.marks.normaliser, seed=seed),
        )
    return RobustnessResult(results, seed)


def box_error_spec(share: float) -> DegradeSpec:
    """The paper's box error (section IV-D: scale 2/3 .. 4/3, translation +-0.4 iod), so many times as large.

    Args:
        share: 0 and up, below 3: 1 is the paper's, 0 the true box.
    """
    low, high = (1 + share * (end - 1) for end in SCALE)
    return DegradeSpec(scale=(low, high), translation=(share * TRANSLATION[0], share * TRANSLATION[1]))


def evaluate_box_error(
    predictor: Predictor,
    faces: Sequence[Face],
    *,
    shares: Sequence[float] = BOX_ERRORS,
    seed: int = 0,
    progress: Progress | None = None,
    on_skip: Callable[[BadInputError], None] | None = None,
) -> dict[float, Accuracy]:
    """Accuracy against growing box error: what a detector, or the box of the frame before, may hand over.

    Args:
        predictor: one variant or chain, loaded.
        faces: annotated in its scheme.
        shares: multiples of the paper's ranges, see `box_error_spec`; a face's draws are the same for all, scaled.
        seed, progress, on_skip: as in `evaluate_degraded`.
    """
    found = {}
    for share in shares:
        view = degraded_view(box_error_spec(share), normaliser=predictor.stage.marks.normaliser, seed=seed)
        named = _named(progress, f"{share:g}")
        found[share] = evaluate(predictor, faces, progress=named, on_skip=on_skip, view=view).accuracy
    return found


def degraded_view(spec: DegradeSpec, *, normaliser: tuple[int, int], seed: int = 0) -> View:
    """What a predictor sees of a face: for ``evaluate``.

    Args:
        spec: what may happen to it.
        normaliser: the two landmarks whose distance is the inter-ocular distance.
        seed: of the degraded set.
    """

    def view(face: Face, image: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], Box]:
        iod = inter_ocular(face.points, normaliser)
        done = degrade(image, face.box, spec, iod=iod, name=face.name, seed=seed)
        return done.image, done.box

    return view


def _named(progress: Progress | None, name: str) -> Callable[[int, int], None] | None:
    return None if progress is None else lambda done, total: progress(name, done, total)
