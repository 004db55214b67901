"""The cumulative error distribution as a picture: share of faces at or below an error, one line a variant."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

from numpy.typing import ArrayLike

from pocketface.benchmarks.metrics import THRESHOLD, area_under_ced, ced
from pocketface.sdk.errors import BadInputError, MissingExtraError

SUFFIXES = (".png", ".svg", ".pdf")


def checked_plot(path: Path) -> None:
    """Refuse, before the work, a plot that could not be drawn.

    Raises:
        BadInputError: the suffix is none of ``SUFFIXES``.
        MissingExtraError: matplotlib is not installed.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise BadInputError(f"plot {path.name}", expected=f"a name ending in {', '.join(SUFFIXES)}", next="Rename it")
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("drawing the CED", "bench", str(error)) from error


def plot_ced(errors: Mapping[str, ArrayLike], *, threshold: float = THRESHOLD, suffix: str = ".png") -> bytes:
    """Draw one CED a name.

    Args:
        errors: name -> (N,) face errors, fractions.
        threshold: right end of the axis, and of the AUC in the legend.
        suffix: kind of file, one of ``SUFFIXES``.

    Returns:
        The file's bytes; the same for the same input.
    """
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for name, values in errors.items():
        x, y = ced(values, threshold, steps=1000)
        axes.plot(
            x * 100, y * 100, drawstyle="steps-post", label=f"{name}  (AUC {area_under_ced(values, threshold):.3f})"
        )
    axes.set_xlim(0, threshold * 100)
    axes.set_ylim(0, 100)
    axes.set_xlabel("error, % of the outer-eye-corner distance")
    axes.set_ylabel("faces, %")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    buffer = io.BytesIO()
    # Neither a date nor a version of the library nor random names in the file.
    stamp = {".png": {"Software": None}, ".svg": {"Date": None}, ".pdf": {"CreationDate": None}}[suffix.lower()]
    with rc_context({"svg.hashsalt": "pocketface"}):
        figure.savefig(buffer, format=suffix.lower()[1:], metadata=stamp)
    return buffer.getvalue()
