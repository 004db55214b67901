"""Networks of masks against each other: on the same pictures, seed by seed, with a previous mask and without, in time.

Every sentence follows from the figures alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pocketface.benchmarks.mask_accuracy import MaskAccuracy
from pocketface.benchmarks.papers.common import threads_text
from pocketface.benchmarks.papers.masks import MaskNetworkRow, MaskResults
from pocketface.benchmarks.reports.markdown import mean_and_range
from pocketface.benchmarks.reports.paired import Paired, paired
from pocketface.benchmarks.reports.sections import Row, Section
from pocketface.benchmarks.reports.text import number
from pocketface.benchmarks.segmentation import DEFAULT_OVERALL
from pocketface.sdk.manifest import Latency

HAIR = "hair2"

WITHIN, SHARE = 3.0, 0.1
"""Bounds set for hair: points of mIoU that the student may lose to its teacher, and the share of its time."""


def is_hair(results: MaskResults) -> bool:
    """Whether a run is of hair (chapter 6); else it is of face parsing (chapter 7)."""
    return results.classes == HAIR


def row_of(item: MaskNetworkRow) -> str:
    """``teacher``, ``student``, or the recipe's row."""
    return shown_as(item.row)


def shown_as(name: str) -> str:
    """A network's name in tables, where all are networks."""
    return name.removeprefix("row-")


def at_seed(results: MaskResults) -> list[MaskNetworkRow]:
    """The networks of the run's seed."""
    return [item for item in results.networks if item.seed == results.seed]


def by_row(results: MaskResults) -> dict[str, dict[int, MaskNetworkRow]]:
    """Row -> seed -> network; rows that were not trained with the run's seed are left out."""
    rows: dict[str, dict[int, MaskNetworkRow]] = {}
    for item in results.networks:
        rows.setdefault(row_of(item), {})[item.seed] = item
    return {name: found for name, found in rows.items() if results.seed in found}


def overall(found: MaskAccuracy) -> float | None:
    """F1 over the parts of the face, pooled; None of hair."""
    return found.whole.overall.get(DEFAULT_OVERALL)


def main_figure(results: MaskResults) -> tuple[str, bool]:
    """What a run is judged by beside mIoU per image: its name, and whether it is the overall F1."""
    parsing = not is_hair(results) and all(overall(item.accuracy) is not None for item in results.networks)
    return ("overall F1", True) if parsing else ("mIoU", False)


def judged(results: MaskResults, found: MaskAccuracy) -> float:
    """The figure that ``main_figure`` names, percent, pooled."""
    value = overall(found) if main_figure(results)[1] else None
    return found.whole.miou if value is None else value


def differences(one: MaskNetworkRow, other: MaskNetworkRow) -> list[str]:
    """What two networks were not made and trained with alike, as dotted keys of a recipe; seeds aside."""
    mine, its = made_with(one), made_with(other)
    return [key for key in dict.fromkeys([*mine, *its]) if mine.get(key) != its.get(key)]


def made_with(item: MaskNetworkRow) -> dict[str, Any]:
    """Dotted key of the recipe -> value."""
    known = {
        "model": {"name": item.model, "width": item.width, "input_size": item.input_size, "options": item.options},
        "train": {"epochs": item.epochs},
        "hints": item.hints,
    }
    found = _flat({"output_size": item.output_size, **(item.settings or known)})
    return {**found, "model.options.previous": item.previous}  # also where the recipe leaves it out


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in tree.items():
        found |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found


def alike_but(one: MaskNetworkRow, other: MaskNetworkRow, *parts: str) -> bool:
    """Whether two networks differ in nothing but these parts of the recipe."""
    return not _beyond(differences(one, other), parts)


def _beyond(keys: Sequence[str], parts: Sequence[str]) -> list[str]:
    return [key for key in keys if not any(key == part or key.startswith(f"{part}.") for part in parts)]


def hinted(item: MaskNetworkRow) -> bool:
    """Whether a network learns from a teacher."""
    return any(item.hints.values())


def effect(results: MaskResults, what: str, row: str, base: str, *parts: str) -> tuple[str, ...]:
    """What a part does, in words: ``row`` has it, ``base`` has not. Empty where one of them was not trained.

    Args:
        results: of the run.
        what: the part, e.g. ``"shape prior"``.
        row, base: rows of the recipe.
        parts: of the recipe, in which alone the rows may differ.
    """
    rows = by_row(results)
    if row not in rows or base not in rows:
        return ()
    one, other = rows[row][results.seed], rows[base][results.seed]
    if unlike := _beyond(differences(one, other), parts):
        return (f"{what}: {row} and {base} differ in {', '.join(unlike)} too, so that no effect of it can be told.",)
    return tuple(f"{what}: {line}" for line in (*on_pictures(results, row, base), *on_seeds(results, row, base)))


def on_pictures(results: MaskResults, row: str, base: str) -> tuple[str, ...]:
    """Two rows on the same test pictures, at the run's seed, and their borders."""
    rows = by_row(results)
    one, other = rows[row][results.seed].accuracy, rows[base][results.seed].accuracy
    lines = []
    if one.each and len(one.each) == len(other.each):
        several = len(rows[row]) > 1 or len(rows[base]) > 1
        seeds = f"seed {results.seed}" if several else "one seed"
        gap = paired(one.each, other.each)
        lines.append(f"{_gap(row, base, gap, 'mIoU on the same pictures')} (over pictures; {seeds}).")
    if one.borders is not None and other.borders is not None:
        figures = [
            f"{name} {number(a)} % against {number(b)} %"
            for name, a, b in (
                ("trimap F1", one.borders.trimap_f1, other.borders.trimap_f1),
                ("BF", one.borders.bf, other.borders.bf),
            )
            if a is not None and b is not None
        ]
        if figures:
            lines.append(f"along the borders {row} has {', '.join(figures)} of {base}.")
    return tuple(lines)


def on_seeds(results: MaskResults, row: str, base: str) -> tuple[str, ...]:
    """Two rows seed by seed, where both were trained with several: the run's figure, see ``main_figure``."""
    rows = by_row(results)
    seeds = sorted(rows[row].keys() & rows[base].keys())
    if len(seeds) < 2:
        return ()
    one, other = ([judged(results, rows[name][seed].accuracy) for seed in seeds] for name in (row, base))
    gap = paired(one, other)
    text = _gap(row, base, gap, f"{main_figure(results)[0]} (pooled)")
    named = ", ".join(str(seed) for seed in seeds)
    return (f"{text} (over seeds {named}; above in {gap.above} of {gap.count}).",)


def _gap(row: str, base: str, gap: Paired, what: str) -> str:
    """A difference and its interval; a tie where that holds 0."""
    sign = 1 if gap.mean >= 0 or not gap.sure else -1
    low, high = sorted((sign * (gap.mean - gap.reach), sign * (gap.mean + gap.reach)))
    figures = f"{number(sign * gap.mean)} points of {what}, 95 % interval {number(low)} to {number(high)}"
    if not gap.sure:
        return f"a tie of {row} and {base}, {figures}"
    return f"{row} is {'better' if sign > 0 else 'worse'} than {base} by {figures}"


def of_threads(found: Sequence[Latency], threads: int) -> Latency | None:
    """The entry of a thread count."""
    return next((item for item in found if item.threads == threads), None)


def against_teacher(results: MaskResults) -> tuple[str, ...]:
    """The student's accuracy and time against its teacher's; of hair also whether the bounds are kept."""
    rows = by_row(results)
    if "student" not in rows or "teacher" not in rows:
        return ()
    student, teacher = (rows[name][results.seed].accuracy.whole for name in ("student", "teacher"))
    gaps = {"pooled": student.miou - teacher.miou, "per image": student.miou_per_image - teacher.miou_per_image}
    told = ", ".join(f"{number(abs(gap))} {'above' if gap > 0 else 'below'} {how}" for how, gap in gaps.items())
    bound = _bound(results, -min(gaps.values()), WITHIN, " below")
    lines = [f"student against its teacher, points of mIoU: {told}{bound}."]
    for mine in results.speed.latency.get("student", ()):
        its = of_threads(results.speed.latency.get("teacher", ()), mine.threads)
        if its is not None and its.inference_ms > 0:
            share = mine.inference_ms / its.inference_ms
            times = f"{number(mine.inference_ms)} ms of {number(its.inference_ms)} ms, {number(share, 3)} of it"
            where = threads_text(mine.threads)
            lines.append(f"student against its teacher, time on {where}: {times}{_bound(results, share, SHARE)}.")
    return (*lines, *on_pictures(results, "student", "teacher"))


def _bound(results: MaskResults, value: float, bound: float, word: str = "") -> str:
    """Whether a bound is kept; only the student of hair has one."""
    return f" (bound {bound:g}{word}): {kept(value, bound)}" if is_hair(results) else ""


def kept(value: float, bound: float) -> str:
    """Whether a bound is, in words."""
    return "kept" if value <= bound else "not kept"


def hints(results: MaskResults) -> Section:
    """Rows that differ from another in nothing but their hints."""
    rows = by_row(results)
    first = {name: found[results.seed] for name, found in rows.items()}
    pairs = [
        (name, base)
        for name, item in first.items()
        for base, other in first.items()
        if hinted(item) and not hinted(other) and alike_but(item, other, "hints")
    ]
    shown = [name for name in rows if any(name in pair for pair in pairs)]
    word, parsing = main_figure(results)
    figures: list[Row] = []
    for name in shown:
        found = [rows[name][seed] for seed in sorted(rows[name])]
        row: dict[str, Any] = {
            "row": name,
            "hints": ", ".join(f"{kind} {weight:g}" for kind, weight in first[name].hints.items() if weight) or "none",
            "seeds": ", ".join(str(item.seed) for item in found),
            "mIoU %": mean_and_range([item.accuracy.whole.miou for item in found]),
            "mIoU per image %": mean_and_range([item.accuracy.whole.miou_per_image for item in found]),
        }
        if parsing:
            row[f"{word} %"] = mean_and_range([judged(results, item.accuracy) for item in found])
        figures.append(row)
    lines = [line for pair in pairs for line in (*on_pictures(results, *pair), *on_seeds(results, *pair))]
    text = (
        "The same network, pictures, budget and schedule; of several seeds the mean (lowest to highest). Weights of "
        "the hints as in the recipe."
    )
    return Section("Hints: with the teacher and without", text, figures, verdict=tuple(lines))


def previous_pairs(results: MaskResults) -> list[tuple[MaskNetworkRow, MaskNetworkRow]]:
    """Networks that see the previous mask, each with one that does not and is alike in all else, of one seed."""
    return [
        (item, other)
        for item in results.networks
        for other in results.networks
        if item.previous and not other.previous and item.seed == other.seed
        if alike_but(item, other, "model.options.previous")
    ]


def previous_verdicts(results: MaskResults) -> tuple[str, ...]:
    """What the previous mask does to flicker, and at what accuracy, in each row of the protocol."""
    lines = []
    word = main_figure(results)[0]
    for item, other in previous_pairs(results):
        for row, found in results.video.get(item.name, {}).items():
            base = results.video.get(other.name, {}).get(row)
            if base is None:
                continue
            told, was = number(found.flicker.overall), number(base.flicker.overall)
            floor = number(found.floor.overall)
            got, had = (number(judged(results, MaskAccuracy(whole=video.accuracy))) for video in (found, base))
            # As written: what looks the same is the same.
            change = (
                f"leaves flicker at {told}"
                if told == was
                else f"{'lowers' if float(told) < float(was) else 'raises'} flicker from {was} to {told}"
            )
            level = "no lower" if float(got) >= float(had) else "lower"
            pair = f"{shown_as(item.name)} against {shown_as(other.name)}, {row}"
            lines.append(
                f"{pair}: the previous mask {change} % (floor {floor}) at {word} {got} % against {had} %, which is "
                f"{level}."
            )
    return tuple(lines)
