"""The report's charts: data in, inline SVG out. A chart without data is ``""``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pocketface.benchmarks.metrics import ced
from pocketface.benchmarks.reports.data import ReportData, VariantResult, finite
from pocketface.benchmarks.reports.svg import INK, MUTED, PAPER, SERIES, Tip, chart
from pocketface.benchmarks.reports.text import bytes_text, ms

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_PRECISIONS = ("fp32", "fp16", "w8", "w8a8", "w8a16", "w4", "pal4", "pal6", "dynamic")
_DASHES: dict[str, Any] = {"onnx": "-", "tflite": (0, (5, 2)), "coreml": (0, (1, 1.5)), "executorch": (0, (6, 2, 1, 2))}
_MARKERS: dict[str, str] = {"onnx": "o", "tflite": "s", "coreml": "^", "executorch": "D"}


def networks_ced(data: ReportData) -> str:
    """CED of every network that has errors per face."""
    curves = [
        (network.name, network.errors, SERIES[i % len(SERIES)], "-")
        for i, network in enumerate(data.networks)
        if _numbers(network.errors)
    ]
    return _ced_chart("ced-networks", "Networks, torch fp32", curves, data.threshold)


def variants_ced(data: ReportData) -> str:
    """CED of every variant that has errors per face, colour by precision, dashes by format."""
    curves = [
        (result.variant.id, result.errors, colour_of(result), _DASHES[result.variant.format])
        for result in data.variants
        if _numbers(result.errors)
    ]
    return _ced_chart("ced-variants", "Exported variants", curves, data.threshold)


def training_loss(data: ReportData) -> str:
    """Training loss by epoch. Networks may minimise different losses: compare shapes, not heights."""
    return _history_chart("training-loss", "Training loss", data, "train_loss", "loss (each network its own)")


def validation_nme(data: ReportData) -> str:
    """Validation NME by epoch."""
    return _history_chart("validation-nme", "Validation NME", data, "val_nme", "NME, %")


def latency_bars(data: ReportData) -> str:
    """p50 per variant and thread count, with a whisker to p90."""
    results = [result for result in data.variants if result.variant.latency]
    if not results:
        return ""
    counts = sorted({item.threads for result in results for item in result.variant.latency})
    height = 0.8 / len(counts)
    with chart(5.4, 1.2 + 0.24 * len(results) * max(1.4, len(counts))) as (axes, finish):
        tips: list[Tip] = []
        for row, result in enumerate(results):
            for item in result.variant.latency:
                k = counts.index(item.threads)
                y, colour = row + (k - (len(counts) - 1) / 2) * height, SERIES[k % len(SERIES)]
                (bar,) = axes.barh(y, item.p50_ms, height * 0.86, color=colour)
                tip = f"p50 {ms(item.p50_ms)}, p90 {ms(item.p90_ms)}, p99 {ms(item.p99_ms)} ms"
                tips.append((bar, f"{result.variant.id}, {_threads(item.threads)}: {tip}"))
                axes.plot([item.p50_ms, item.p90_ms], [y, y], color=INK, linewidth=1)
                axes.plot([item.p90_ms] * 2, [y - height / 4, y + height / 4], color=INK, linewidth=1)
                beside: dict[str, Any] = {"xytext": (5, 0), "textcoords": "offset points", "va": "center"}
                axes.annotate(ms(item.p50_ms), (item.p90_ms, y), fontsize=9, color=MUTED, **beside)
        axes.set_yticks(range(len(results)), [result.variant.id for result in results])
        axes.invert_yaxis()
        axes.set_xlim(0, max(item.p90_ms for result in results for item in result.variant.latency) * 1.13)
        axes.set_xlabel("milliseconds: bar p50, whisker to p90")
        axes.set_title("Latency")
        axes.grid(axis="y", visible=False)
        if len(counts) > 1:
            from matplotlib.patches import Patch

            handles = [Patch(color=SERIES[k % len(SERIES)], label=_threads(n)) for k, n in enumerate(counts)]
            axes.legend(
                handles=handles, loc="lower right", bbox_to_anchor=(1, 1), ncols=len(handles), borderaxespad=0.1
            )
        return finish("latency", tips)


def trade_off(data: ReportData) -> str:
    """Size, accuracy and latency of every variant that has all three; without any latency, size against accuracy."""
    figures = [(result, finite(result.accuracy.nme) if result.accuracy else None) for result in data.variants]
    accurate = [(result, nme) for result, nme in figures if nme is not None]
    threads = min((item.threads for result, _ in accurate for item in result.variant.latency), default=0)
    p50 = {id(r): item.p50_ms for r, _ in accurate for item in r.variant.latency if item.threads == threads}
    points = [(result, nme) for result, nme in accurate if id(result) in p50] or accurate
    if not points:
        return ""
    largest = max(result.variant.total_bytes for result, _ in points)
    rows = (len(points) + 1) // 2
    with chart(5.4, 3.3 + 0.17 * rows) as (axes, finish):
        tips: list[Tip] = []
        for result, _ in points:  # empty marks: the legend keeps the bundle's order, whatever is drawn first
            style: dict[str, Any] = {"marker": _MARKERS[result.variant.format], "color": colour_of(result)}
            axes.scatter([], [], s=45, label=f"{result.variant.id}  {bytes_text(result.variant.total_bytes)}", **style)
        # Large bubbles first, so that small ones lie on top.
        for result, nme in sorted(points, key=lambda point: -point[0].variant.total_bytes):
            size = result.variant.total_bytes
            x, area = (p50[id(result)], 30 + 500 * size / largest) if p50 else (size / 1e6, 90)
            style = {"marker": _MARKERS[result.variant.format], "color": colour_of(result)}
            bubble = axes.scatter([x], [nme], s=area, alpha=0.55, edgecolors=INK, linewidths=0.8, **style)
            tip = f"{result.variant.id}: NME {nme:.3f} %, {bytes_text(size)}"
            tips.append((bubble, tip + (f", p50 {ms(x)} ms" if p50 else "")))
        axes.set_title("Size, accuracy, latency" if p50 else "Size and accuracy")
        axes.margins(0.16, 0.22)
        axes.set_xlim(left=0)
        axes.set_xlabel(f"p50 with {_threads(threads)}, ms (area: file size)" if p50 else "file size, MB")
        axes.set_ylabel("NME on the test faces, %")
        axes.legend(loc="upper center", bbox_to_anchor=(0.45, -0.16), ncols=2, fontsize=8, columnspacing=1.2)
        return finish("trade-off", tips)


def reliability(data: ReportData) -> str:
    """Share of real faces against the face score, bin by bin."""
    bins = data.face_score.bins if data.face_score else ()
    if not bins:
        return ""
    with chart(4.4, 3.6) as (axes, finish):
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
        axes.plot([item.score for item in bins], [item.share for item in bins], color=SERIES[0], linewidth=1.5)
        most = max(item.count for item in bins) or 1
        tips: list[Tip] = []
        for item in bins:
            area = 20 + 140 * item.count / most
            dot = axes.scatter([item.score], [item.share], s=area, color=SERIES[0], alpha=0.8)
            tips.append((dot, f"score {item.score:.2f}: {item.share:.1%} are faces ({item.count} crops)"))
        axes.set_xlim(-0.04, 1.04)
        axes.set_ylim(-0.04, 1.04)
        axes.set_xlabel("face score")
        axes.set_ylabel("share that are faces")
        return finish("reliability", tips)


def colour_of(result: VariantResult) -> str:
    """The placeholder colour of a variant's precision."""
    precision = result.variant.precision
    return SERIES[_PRECISIONS.index(precision)] if precision in _PRECISIONS else MUTED


def _ced_chart(
    name: str, title: str, curves: Sequence[tuple[str, Sequence[float | None], str, Any]], limit: float
) -> str:
    if not curves:
        return ""
    with chart(5.4, 4.0) as (axes, finish):
        tips: list[Tip] = []
        for label, errors, colour, dashes in curves:
            beyond = limit * 10  # a face without a figure must not raise the curve
            x, y = ced([beyond if (error := finite(value)) is None else error for value in errors], limit)
            (line,) = axes.plot(x * 100, y * 100, color=colour, linestyle=dashes, linewidth=1.8, label=label)
            tips.append((line, label))
        axes.set_xlim(0, limit * 100)
        axes.set_ylim(0, 101)
        axes.set_title(title)
        axes.set_xlabel("error of a face, % of the outer eye corners' distance")
        axes.set_ylabel("faces with at most this error, %")
        axes.legend(loc="lower right", fontsize=9 if len(curves) < 7 else 8, labelspacing=0.3)
        return finish(name, tips)


def _history_chart(name: str, title: str, data: ReportData, field: str, label: str) -> str:
    series = []
    for i, network in enumerate(data.networks):
        measured = [(epoch.epoch, finite(getattr(epoch, field))) for epoch in network.history]
        points = [(epoch, value) for epoch, value in measured if value is not None]
        if points:
            series.append((network.name, points, SERIES[i % len(SERIES)]))
    if not series:
        return ""
    with chart(5.4, 3.4) as (axes, finish):
        from matplotlib.ticker import MaxNLocator

        tips: list[Tip] = []
        for curve, points, colour in series:
            epochs, values = zip(*points, strict=True)
            (line,) = axes.plot(epochs, values, color=colour, linewidth=1.6, label=curve)
            tips.append((line, f"{curve}: last {values[-1]:.4g}"))
            if field == "val_nme":
                best = int(np.argmin(values))
                mark = axes.scatter([epochs[best]], [values[best]], s=34, color=colour, edgecolors=PAPER, zorder=3)
                tips.append((mark, f"{curve}: best {values[best]:.3f} % in epoch {epochs[best]}"))
        every = [value for _, points, _ in series for _, value in points]
        # The first epochs are far off the rest; on a linear axis they would flatten everything that matters.
        if min(every) > 0 and max(every) > 8 * min(every):
            _log_axis(axes)
        axes.set_title(title)
        axes.set_xlabel("epoch")
        axes.set_ylabel(label)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(loc="best")
        return finish(name, tips)


def _numbers(errors: Sequence[float | None]) -> bool:
    return any(finite(error) is not None for error in errors)


def _log_axis(axes: Axes) -> None:
    """A logarithmic y axis with plain numbers at 1, 2, 5."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_locator(NullLocator())


def _threads(count: int) -> str:
    return f"{count} thread{'s' * (count != 1)}"
