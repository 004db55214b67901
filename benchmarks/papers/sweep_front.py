"""The front of a sweep as a picture, and as a page on which every point says what it is."""

from __future__ import annotations

import io
from collections.abc import Sequence

from pocketface.benchmarks.papers.sweep import SweepResults, SweepVariant
from pocketface.sdk.errors import MissingExtraError


def front_png(results: SweepResults) -> bytes:
    """NME over milliseconds; areas follow bytes, hollow points are beaten, the line joins the front.

    Raises:
        MissingExtraError: the extra ``bench`` is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("drawing the front", "bench", str(error)) from error
    figure = Figure(figsize=(8, 5), dpi=110)
    axes = figure.subplots()
    for number, (name, points) in enumerate(_by_student(results).items()):
        xs, ys = [_ms(results, point) for point in points], [point.validation.nme for point in points]
        sizes = [12 + point.bytes / 4e4 for point in points]
        colour = f"C{number}"
        fills = ["none" if point.beaten_by else colour for point in points]
        axes.scatter(xs, ys, s=sizes, label=name, c=fills, edgecolors=colour, alpha=0.8)
    front = sorted((p for p in _timed(results) if not p.beaten_by), key=lambda p: _ms(results, p))
    axes.plot([_ms(results, p) for p in front], [p.validation.nme for p in front], color="0.7", lw=1, zorder=0)
    for point in front:
        axes.annotate(f" {point.id}", (_ms(results, point), point.validation.nme), fontsize=7)
    axes.set_xlabel(f"milliseconds of one face, {results.threads} thread{'s' * (results.threads > 1)}")
    axes.set_ylabel("NME on the validation faces, %")
    axes.legend(fontsize=7)
    axes.grid(alpha=0.3)
    figure.tight_layout()
    out = io.BytesIO()
    figure.savefig(out, format="png", metadata={"Software": ""})
    return out.getvalue()


def front_html(results: SweepResults) -> str:
    """The same to point at, zoom into and filter, by plotly; one file that loads nothing.

    Raises:
        MissingExtraError: the extra ``bench`` is not installed.
    """
    try:
        import plotly.graph_objects as go
    except ImportError as error:
        raise MissingExtraError("drawing the front", "bench", str(error)) from error
    figure = go.Figure()
    for name, points in _by_student(results).items():
        figure.add_scatter(
            x=[_ms(results, point) for point in points],
            y=[point.validation.nme for point in points],
            mode="markers",
            name=name,
            marker={
                "size": [8 + point.bytes / 4e5 for point in points],
                "symbol": ["circle-open" if point.beaten_by else "circle" for point in points],
            },
            text=[
                f"{point.name}<br>NME on the test faces {point.accuracy.nme:.3f} %<br>{point.bytes / 1e6:.2f} MB"
                + (f"<br>beaten by {point.beaten_by}" if point.beaten_by else "<br>on the front")
                for point in points
            ],
        )
    figure.update_layout(
        title=results.name,
        xaxis_title=f"milliseconds of one face, {results.threads} thread(s)",
        yaxis_title="NME on the validation faces, %",
    )
    return str(figure.to_html(include_plotlyjs=True, full_html=True))


def _timed(results: SweepResults) -> list[SweepVariant]:
    return [variant for variant in results.variants if variant.ms(results.threads) is not None]


def _by_student(results: SweepResults) -> dict[str, Sequence[SweepVariant]]:
    timed = _timed(results)
    return {
        student.name: points
        for student in results.students
        if (points := [variant for variant in timed if variant.student == student.name])
    }


def _ms(results: SweepResults, variant: SweepVariant) -> float:
    return variant.ms(results.threads) or 0.0
