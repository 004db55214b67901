"""Hair segmentation and face parsing (face-AR thesis, chapters 6 and 7): tables generated from a run's stored figures.

The thesis' figures are quoted as printed. Those of hair on Figaro1k (Table 6.1) are of the same test pictures; all
others are on other data or another device, and stand apart.
"""

from __future__ import annotations

from pathlib import Path

from pocketface.benchmarks.papers import common
from pocketface.benchmarks.papers.common import threads_text, warned
from pocketface.benchmarks.papers.masks import MaskResults
from pocketface.benchmarks.papers.masks_compare import (
    against_teacher,
    at_seed,
    effect,
    hints,
    is_hair,
    previous_verdicts,
)
from pocketface.benchmarks.papers.masks_printed import ALONE, PRIOR, WHOLE, printed_gain, quoted_62, quoted_71
from pocketface.benchmarks.papers.masks_tables import (
    border_table,
    class_table,
    hair_table,
    most_threads,
    networks_table,
    per_ms_table,
    speed_table,
    speed_verdicts,
    steps_table,
    variants_table,
    variants_verdicts,
    video_table,
)
from pocketface.benchmarks.reports.sections import Section


def write(results: MaskResults, path: Path) -> None:
    """Write the page and its figures, see ``common.write``."""
    common.write(results, path, page)


def page(results: MaskResults, *, command: str, notes: str = "") -> str:
    """The whole page, Markdown."""
    return common.page(results, title=title(results), sections=sections(results), command=command, notes=notes)


def title(results: MaskResults) -> str:
    """Of the page and of the report."""
    return f"{results.name}: {'hair segmentation' if is_hair(results) else 'face parsing'}"


def sections(results: MaskResults) -> list[Section]:
    """Everything there is to show; a part without figures is left out."""
    found = [*(_hair(results) if is_hair(results) else _parsing(results))]
    found += [hints(results), _borders(results), _previous(results), _variants(results), _speed(results)]
    found += [_steps(results)]
    if is_hair(results):
        found.append(
            Section(
                "Table 6.2 of the thesis, quoted",
                "As printed, on LFW-Part: other pictures, not comparable with anything here.",
                quoted_62(),
            )
        )
    return [section for section in found if section.rows]


def budget(results: MaskResults) -> str:
    """What the networks of the run's seed were trained with: epochs and pixels, from lowest to highest."""
    found = at_seed(results)
    epochs = _span([item.epochs for item in found])
    pixels = _span([item.input_size for item in found])
    return f"{epochs} epochs at {pixels} px"


def _span(values: list[int]) -> str:
    low, high = min(values, default=0), max(values, default=0)
    return str(low) if low == high else f"{low} to {high}"


def _hair(results: MaskResults) -> list[Section]:
    rows = hair_table(results)
    pictures = next((str(item.accuracy.whole.images) for item in at_seed(results)), "no")
    text = (
        f"On the {pictures} test pictures. mIoU is the mean of hair's and of background's IoU, precision and F1 are "
        "hair's, all at the size of the stored mask: pooled over all pixels, and as mean over the pictures of each "
        "picture's own (the thesis does not say which it prints). The budget is the recipe's, "
        f"{budget(results)}; the thesis trained for 190 epochs at 256 px, and gained {printed_gain(ALONE, PRIOR)} "
        f"points of mIoU by the prior and {printed_gain(PRIOR, WHOLE)} by border refinement."
    )
    verdict = (
        # Without a prior there is nothing that ImageNet's weights could go into.
        *effect(results, "Shape prior", "without refinement", "segmentation only", "model.options.prior", "model.init"),
        *effect(results, "Border refinement", "teacher", "without refinement", "model.options.refine"),
        *against_teacher(results),
    )
    return [Section("Table 6.1: hair", text, rows, {"minutes": 0, "M FLOPs": 0}, verdict)]


def _parsing(results: MaskResults) -> list[Section]:
    threads = threads_text(most_threads(results))
    return [
        Section(
            "Networks",
            "Overall F1 is that of `parts`, see the table of classes. All at the size of the stored mask; pooled over "
            f"all pixels unless said otherwise. The budget is the recipe's, {budget(results)}.",
            networks_table(results),
            {"minutes": 0, "M FLOPs": 0},
            against_teacher(results),
        ),
        Section(
            "F1 of each class",
            "Percent, pooled. The overall F1 is given by each convention in use: over the merged brows, the merged "
            "eyes, nose, lips and inner mouth (`parts`, which is ours), those as one, and with the large classes.",
            class_table(results),
        ),
        Section(
            "Table 7.1 of the thesis, quoted",
            "As printed, on HELEN: other pictures and labels, not comparable with anything here.",
            quoted_71() if results.networks else [],
        ),
        Section(
            "F-score per millisecond",
            warned(
                "Features f, expansion tau, the stem's part of the resolution, and the dense tail are a hourglass's. "
                f"Milliseconds are of inference, ratios to {results.speed.reference}. Sorted by the time on {threads}, "
                "of which the points per millisecond are too; a network is dominated if another is faster and at least "
                "as right. Networks with hints learnt from the teacher too, those without from the labels alone.",
                results.speed.warning,
            ),
            per_ms_table(results),
        ),
    ]


def _borders(results: MaskResults) -> Section:
    bands = dict.fromkeys(item.accuracy.borders.band for item in at_seed(results) if item.accuracy.borders is not None)
    whose = "Hair's" if is_hair(results) else "Mean over the classes but the background"
    text = (
        f"{whose}, within {', '.join(bands)}: F1 in that band around the true border (trimap), and how much of the "
        "contours lies that near to each other (BF)."
    )
    return Section("Borders", text, border_table(results))


def _previous(results: MaskResults) -> Section:
    text = (
        "Stills that a camera moves over, frame after frame, each frame with noise of its own in the noisy row. "
        "Flicker is 1 - IoU of consecutive masks, the movement taken out, mean over the classes; the floor is that of "
        "the true labels. Settled: a still picture, the network's own mask shown back to it."
    )
    return Section("Video and the previous mask", text, video_table(results), verdict=previous_verdicts(results))


def _variants(results: MaskResults) -> Section:
    text = (
        "Every file of the student through the runtime, each picture as the first frame of a video. Points of mIoU are "
        "against the fp32 file of the same format; the error is the largest of a class probability against torch."
    )
    return Section(
        "Variants",
        warned(text, results.warning),
        variants_table(results),
        {"peak MB": 1},
        variants_verdicts(results),
    )


def _speed(results: MaskResults) -> Section:
    text = (
        f"Ratios of inference to {results.speed.reference}, all in one interleaved run; p50 is of the whole, from a "
        "photo of 256 x 256 pixels to its mask. Peak memory is that of a process with the fp32 file, one picture at a "
        "time, on one thread."
    )
    return Section(
        "Speed",
        warned(text, results.speed.warning),
        speed_table(results),
        {"peak MB": 1},
        speed_verdicts(results),
    )


def _steps(results: MaskResults) -> Section:
    text = (
        "Milliseconds, medians, beside Table 7.2, which is quoted as printed and was measured on an iPhone X: another "
        "device, not comparable. Detection has no figure here: boxes are given until a detector is there, so our total "
        "is without it."
    )
    return Section("Steps of a frame", text, steps_table(results))
