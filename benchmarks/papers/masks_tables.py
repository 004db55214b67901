"""The tables of a run of masks: networks, classes, borders, video, files, time."""

from __future__ import annotations

from typing import Any

from pocketface.benchmarks.mask_accuracy import MaskAccuracy
from pocketface.benchmarks.papers.common import speed_rows, threads_text
from pocketface.benchmarks.papers.masks import MaskNetworkRow, MaskResults, MaskVariantRow
from pocketface.benchmarks.papers.masks_compare import (
    at_seed,
    is_hair,
    judged,
    kept,
    main_figure,
    of_threads,
    overall,
    row_of,
    shown_as,
)
from pocketface.benchmarks.papers.masks_printed import COLUMNS_6, STAGES, TABLE_61, quoted_61, quoted_72
from pocketface.benchmarks.reports.sections import Row
from pocketface.benchmarks.reports.text import error, number
from pocketface.benchmarks.segmentation import OVERALL

RATIO = {True: 0.85, False: 1.15}
"""Whether it is hair -> bound of the student's time on two threads, that of MobileNetV2-224 being 1."""

PEAK_MB, W8A8_POINTS = 150.0, 0.5
"""Bounds of the peak memory for one picture at a time, and of what 8 bits may cost in points of mIoU."""


def hair_table(results: MaskResults) -> list[Row]:
    """Table 6.1: networks of the run's seed, the thesis' stages first, then the thesis' other rows."""
    order = [*STAGES, "student"]
    found = sorted(
        (item for item in at_seed(results) if item.accuracy.hair is not None),
        key=lambda item: order.index(row_of(item)) if row_of(item) in order else len(order),
    )
    rows: list[Row] = []
    for item in found:
        hair = item.accuracy.hair
        if hair is None:
            continue
        pooled, each = hair.pooled, hair.per_image
        figures = (pooled.precision, pooled.f1, pooled.miou, pooled.accuracy)
        rows.append(
            {
                "network": row_of(item),
                "in the paper": stage(item),
                **dict(zip(COLUMNS_6, figures, strict=True)),
                "mIoU % per image": each.miou,
                "F1 % per image": each.f1,
                **size_columns(item),
                "minutes": item.minutes,
                **quoted_61(stage(item)),
            }
        )
    shown = {row["in the paper"] for row in rows}
    others = [{"network": "", "in the paper": name, **quoted_61(name)} for name in TABLE_61 if name not in shown]
    return [*rows, *others] if rows else []


def stage(item: MaskNetworkRow) -> str:
    """The thesis' name of a network; empty for one that it has not."""
    name, options = STAGES.get(row_of(item), ("", {}))
    made = {key: item.options.get(key, True) for key in options}
    return name if item.model == "hair_two_stage" and made == options else ""


def size_columns(item: MaskNetworkRow) -> Row:
    """How large a network is."""
    return {
        "input px": item.input_size,
        "M parameters": item.parameters / 1e6,
        "M FLOPs": item.flops / 1e6,
    }


def networks_table(results: MaskResults) -> list[Row]:
    """Parsing: one row a network of the run's seed."""
    return [
        {
            "network": row_of(item),
            "model": item.model,
            **size_columns(item),
            "overall F1 %": overall(item.accuracy),
            "mean F1 %": item.accuracy.whole.mean_f1,
            "mIoU %": item.accuracy.whole.miou,
            "mIoU % per image": item.accuracy.whole.miou_per_image,
            "accuracy %": item.accuracy.whole.accuracy,
            "minutes": item.minutes,
        }
        for item in at_seed(results)
    ]


def class_table(results: MaskResults) -> list[Row]:
    """Parsing: F1 of each class, one column a network of the run's seed; then the overall figures."""
    found = {row_of(item): item.accuracy.whole for item in at_seed(results)}
    first = next(iter(found.values()), None)
    if first is None:
        return []
    rows: list[Row] = [
        {"class": item.name, **{name: whole.of(item.name).f1 for name, whole in found.items()}}
        for item in first.classes
    ]
    for convention in OVERALL:
        if convention in first.overall:
            figures = {name: whole.overall.get(convention) for name, whole in found.items()}
            rows.append({"class": f"overall F1: {convention}", **figures})
    rows.append({"class": "mean F1", **{name: whole.mean_f1 for name, whole in found.items()}})
    rows.append({"class": "mIoU", **{name: whole.miou for name, whole in found.items()}})
    return rows


def most_threads(results: MaskResults) -> int:
    """The largest thread count that networks were timed with; 1 if none was."""
    return max((item.threads for found in results.speed.latency.values() for item in found), default=1)


def per_ms_table(results: MaskResults) -> list[Row]:
    """Parsing: F1 per millisecond of inference, fastest first; the reference has no F1 and is left out."""
    threads = most_threads(results)
    timed: list[tuple[MaskNetworkRow, float, float]] = []
    for item in at_seed(results):
        latency, score = of_threads(results.speed.latency.get(item.name, ()), threads), overall(item.accuracy)
        if latency is not None and latency.inference_ms > 0 and score is not None:
            timed.append((item, latency.inference_ms, score))
    rows: list[Row] = []
    for item, ms, score in sorted(timed, key=lambda found: (found[1], found[0].name)):
        better = [(f1, row_of(other)) for other, time, f1 in timed if time < ms and f1 >= score]
        row: dict[str, Any] = {
            "network": row_of(item),
            "model": item.model,
            **{short: _option(item, name) for short, name in OPTIONS.items()},
            "previous": _yes(item.previous),
            "hints": _yes(any(item.hints.values())),
            "input px": item.input_size,
            "M parameters": item.parameters / 1e6,
            "overall F1 %": score,
        }
        for latency in sorted(results.speed.latency[item.name], key=lambda entry: entry.threads):
            row |= {f"ms, {threads_text(latency.threads)}": latency.inference_ms}
            row |= {f"ratio, {threads_text(latency.threads)}": latency.ratio}
        row |= {"F1 points per ms": score / ms, "dominated by": max(better)[1] if better else ""}
        rows.append(row)
    return rows


OPTIONS = {"f": "features", "tau": "expansion", "stem": "stem", "dense": "dense"}
"""Column -> ``model.options`` of a hourglass."""


def _option(item: MaskNetworkRow, name: str) -> Any:
    value = item.options.get(name)
    return _yes(value) if isinstance(value, bool) else value


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def border_table(results: MaskResults) -> list[Row]:
    """Along the borders: mean over the classes but the background; of hair that is hair."""
    return [
        {
            "network": row_of(item),
            "trimap F1 %": item.accuracy.borders.trimap_f1,
            "BF %": item.accuracy.borders.bf,
            "mIoU %": item.accuracy.whole.miou,
        }
        for item in at_seed(results)
        if item.accuracy.borders is not None
    ]


def video_table(results: MaskResults) -> list[Row]:
    """Flicker and accuracy on video, and, of networks with a previous mask, on a still that it has settled on."""
    named = {item.name: item for item in results.networks}
    column = f"{main_figure(results)[0]} %"
    rows: list[Row] = []
    for name in dict.fromkeys([*results.video, *results.settled]):
        item = named.get(name)
        known = {"network": shown_as(name), "previous": _yes(item.previous) if item else ""}
        for protocol, found in results.video.get(name, {}).items():
            rows.append(
                {
                    **known,
                    "row": protocol,
                    "flicker %": found.flicker.overall,
                    "changed pixels %": found.flicker.changed,
                    "floor %": found.floor.overall,
                    column: judged(results, MaskAccuracy(whole=found.accuracy)),
                }
            )
        if name in results.settled:
            if item is not None:
                rows.append({**known, "row": "still, first frame", column: judged(results, item.accuracy)})
            rows.append({**known, "row": "still, settled", column: judged(results, results.settled[name])})
    return rows


def variants_table(results: MaskResults) -> list[Row]:
    """Every file of the student."""
    word, parsing = main_figure(results)
    rows: list[Row] = []
    for item in results.variants:
        drops = drop(results, item)
        latency = of_threads(item.latency, 1)
        hair = None if item.accuracy.hair is None else item.accuracy.hair.pooled.f1
        rows.append(
            {
                "variant": item.id,
                "MB": item.bytes / 1e6,
                "mIoU %": item.accuracy.whole.miou,
                "against fp32, points": None if drops is None else -drops[0],
                "per image, points": None if drops is None else -drops[1],
                **({f"{word} %": judged(results, item.accuracy)} if parsing else {"hair F1 %": hair}),
                "probability error": error(item.error),
                "ms, 1 thread": None if latency is None else latency.inference_ms,
                "peak MB": None if latency is None else latency.peak_rss_mb,
                "executor": item.executor,
                "ships": ("yes, default" if item.id == results.default else "yes") if item.passed else "no",
            }
        )
    return [*rows, *({"variant": id, "ships": f"no: {why}"} for id, why in results.left_out.items())]


def drop(results: MaskResults, item: MaskVariantRow) -> tuple[float, float] | None:
    """Points of mIoU, pooled and per image, that a file loses to the fp32 file of its format; else to the student's
    own figures, which are those of its fp32 file."""
    precision, _, form = item.id.partition(".")
    if precision == "fp32":
        return None
    base = next((other.accuracy for other in results.variants if other.id == f"fp32.{form}"), None)
    base = base or next((other.accuracy for other in at_seed(results) if row_of(other) == "student"), None)
    if base is None:
        return None
    mine, its = item.accuracy.whole, base.whole
    return its.miou - mine.miou, its.miou_per_image - mine.miou_per_image


def variants_verdicts(results: MaskResults) -> tuple[str, ...]:
    """What 8 bits cost, against the bound."""
    lines = []
    for item in results.variants:
        drops = drop(results, item)
        if not item.id.startswith("w8a8.") or drops is None:
            continue
        told = " and ".join(
            f"{number(abs(points))} {'below' if points > 0 else 'above'} fp32 {how}"
            for points, how in zip(drops, ("pooled", "per image"), strict=True)
        )
        lines.append(f"{item.id}: mIoU {told}, points (bound {W8A8_POINTS:g} below): {kept(max(drops), W8A8_POINTS)}.")
    lines += [f"{id} has no figures: {why}." for id, why in results.left_out.items() if id.startswith("w8a8.")]
    return tuple(lines)


def speed_table(results: MaskResults) -> list[Row]:
    """Networks against one that everyone knows: one interleaved run. Peak memory of a process with the fp32 file."""
    rows = speed_rows(results.speed.latency, "network", lambda item: {"inference ms": item.inference_ms})
    peaks = results.speed.peak_mb
    untimed = [{"network": name} for name in peaks if name not in results.speed.latency]
    return [
        {**row, "network": shown_as(row["network"]), "peak MB": peaks.get(row["network"])} for row in (*rows, *untimed)
    ]


def speed_verdicts(results: MaskResults) -> tuple[str, ...]:
    """The student's time on two threads and its memory, against the bounds."""
    bound = RATIO[is_hair(results)]
    lines = []
    two = of_threads(results.speed.latency.get("student", ()), 2)
    if two is not None:
        size = next((item.output_size for item in at_seed(results) if row_of(item) == "student"), 0)
        against = f"a mask of {size} cells a side in {number(two.ratio)} x the time of {results.speed.reference}"
        unsure = f" Not sure: {results.speed.warning}." if results.speed.warning else ""
        lines.append(f"student: {against} on two threads (bound {bound:g}): {kept(two.ratio, bound)}.{unsure}")
    peak = results.speed.peak_mb.get("student")
    if peak is not None:
        lines.append(f"student: peak {number(peak, 1)} MB (bound {PEAK_MB:g}): {kept(peak, PEAK_MB)}.")
    return tuple(lines)


def steps_table(results: MaskResults) -> list[Row]:
    """The steps of a frame, and below them Table 7.2."""
    rows: list[Row] = [
        {
            "network": item.name,
            "photo": f"{item.width} x {item.height}",
            "threads": item.threads,
            "detection": None,
            "transform": item.transform,
            "inference": item.inference,
            "decode": item.decode,
            "colour": item.colour,
            "effect": item.effect,
            "total": item.total,
        }
        for item in results.steps
    ]
    return [*rows, *quoted_72()] if rows else []
