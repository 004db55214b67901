"""RULe (Dapogny et al., FG 2023): its tables, generated from a run's stored figures, each beside the paper's.

The paper's figures are quoted as printed; they are on other data (WFLW, AFLW2000-3D, 300VW), other sizes and another
machine, so only their order and their ratios can be compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from pocketface.benchmarks.papers import common
from pocketface.benchmarks.papers.common import speed_rows, warned
from pocketface.benchmarks.papers.rule import NetworkRow, RuleResults, Speed
from pocketface.benchmarks.reports.markdown import mean_and_range
from pocketface.benchmarks.reports.paired import paired
from pocketface.benchmarks.reports.sections import Row, Section

TABLE_I = {
    "teacher-landmarks": ("AC-DC", "acdc", 4.49, 5.29, 500),
    "landmarks": ("AC-DC-s", "acdc_s", 4.79, 5.55, 105),
    "row-small": ("AC-DC-s-small", "acdc_s", 4.94, 5.59, 60),
    "row-thin": ("AC-DC-s-thin", "acdc_s", 5.37, 5.69, 48),
    "row-sep": ("AC-DC-s-sep", "acdc_s_sep", 5.51, 5.70, 50),
}
"""Network of the recipe, and the model it must be -> the paper's name, NME on WFLW, head pose MAE on AFLW2000-3D,
milliseconds on a CPU (Table I)."""

PARTS = ("LE", "U-LE", "R-LE", "R-U-LE")
"""Rows of the degraded table, from landmarks alone to the whole chain; a further row is another landmark network."""

ALL = {"LE": 32.98, "R-U-LE": 10.85}
"""NME on WFLW under all degradations at once (section IV-D)."""

VIDEO = {
    ("LE", "spatial x8"): 15.81,
    ("R-U-LE", "spatial x8"): 6.60,
    ("LE", "spatial x8, temporal x10"): 19.84,
    ("R-U-LE", "spatial x8, temporal x10"): 11.08,
}
"""NME on 300VW (section IV-E)."""


def write(results: RuleResults, path: Path) -> None:
    """Write the page and its figures, see ``common.write``."""
    common.write(results, path, page)


def page(results: RuleResults, *, command: str, notes: str = "") -> str:
    """The whole page, Markdown."""
    return common.page(results, title=title(results), sections=sections(results), command=command, notes=notes)


def title(results: RuleResults) -> str:
    """Of the page and of the report."""
    return f"{results.name}: RULe, relocalize - uniformize - landmarks"


def sections(results: RuleResults) -> list[Section]:
    """Everything there is to show; a part without figures is left out."""
    found = [
        Section(
            "Table I: landmark networks on clean faces",
            "",
            table_one(results),
            {"minutes": 0, "M FLOPs": 0, "paper: ms": 0},
        ),
        hints(results),
        Section(
            "Under each degradation",
            "NME in percent; the same landmark weights in all rows of the chain. Paper, under all: "
            f"LE {ALL['LE']}, R-U-LE {ALL['R-U-LE']} (WFLW).",
            *degraded_table(results),
        ),
        Section(
            "Growing box error",
            "NME in percent; 1 is scale 2/3 to 4/3 and translation +-0.4 iod.",
            box_error_table(results),
        ),
        Section(
            "The pictures of stage U",
            "Degraded test faces in their true boxes against the clean crops: PSNR in dB, SSIM, and a distance of "
            "ImageNet features (like LPIPS, not LPIPS).",
            restored_table(results),
            {f"{name}: {figure}": 3 for name in results.restored for figure in ("SSIM", "distance")},
        ),
        Section(
            "Video",
            "Stills that a camera moves over; every box comes from the landmarks of the frame before.",
            video_table(results),
        ),
        Section("Chains", warned("On clean faces; one thread.", results.warning), chains_table(results)),
        Section(
            "Speed",
            warned(
                f"Ratios of inference to {results.speed.reference}, all in one interleaved run.", results.speed.warning
            ),
            speed_table(results),
        ),
    ]
    return [section for section in found if section.rows]


def table_one(results: RuleResults) -> list[Row]:
    """Table I: NME and pose error of the teacher and of each student, at the run's seed."""
    rows: list[Row] = []
    for row in results.networks:
        if row.accuracy is None or row.seed != results.seed:
            continue
        name, model, nme, pose, ms = TABLE_I.get(row.name, ("", "", None, None, None))
        if model != row.model:
            name, nme, pose, ms = row.name.removeprefix("row-"), None, None, None
        rows.append(
            {
                "network": name,
                "input px": row.input_size,
                "width": row.width,
                "M parameters": row.parameters / 1e6,
                "M FLOPs": row.flops / 1e6,
                "NME %": row.accuracy.nme,
                **_files(results.speed, row.name),
                "pose MAE deg": None if row.pose is None else row.pose.mae,
                "hints": "" if row.hints is None else f"{row.hints:g}",
                "minutes": row.minutes,
                "paper: NME %": nme,
                "paper: pose": pose,
                "paper: ms": ms,
            }
        )
    return rows


def _files(speed: Speed, name: str) -> dict[str, Any]:
    """Sizes, accuracy in 8 bits, and milliseconds on one thread."""
    found: dict[str, Any] = {}
    for row in speed.rows.get(name, []):
        precision = row.variant.partition(".")[0]
        if precision != "fp32":
            found[f"{precision} NME %"] = row.accuracy.nme
        found[f"{precision} MB"] = row.bytes / 1e6
        times = [item.p50_ms for item in speed.latency.get(f"{name} {row.variant}", ()) if item.threads == 1]
        found[f"{precision} ms"] = times[0] if times else None
    return found


def hints(results: RuleResults) -> Section:
    """Rows that were trained with several seeds; what the hints do, in words that follow from the figures alone."""
    rows: dict[str, list[NetworkRow]] = {}
    for row in results.networks:
        if row.accuracy is not None and row.row:
            rows.setdefault(row.row, []).append(row)
    several = {name: found for name, found in rows.items() if len(found) > 1}
    figures: list[Row] = [
        {
            "row": name,
            "hints": f"{found[0].hints:g}",
            "seeds": ", ".join(str(row.seed) for row in found),
            "NME %": mean_and_range(_nme(found), 3),
            "pose MAE deg": mean_and_range([row.pose.mae for row in found if row.pose is not None], 3),
        }
        for name, found in several.items()
    ]
    lines = [
        _hint_verdict(several[name], several[base])
        for name in several
        for base in several
        if several[name][0].hints and not several[base][0].hints and _alike(several[name], several[base])
    ]
    text = "The same network, faces, budget, schedule and seeds; mean over the seeds (lowest to highest)."
    return Section("Hints: with the teacher and without", text, figures, verdict=tuple(lines))


def _nme(found: Sequence[NetworkRow]) -> list[float]:
    return [row.accuracy.nme for row in found if row.accuracy is not None]


def _alike(one: Sequence[NetworkRow], other: Sequence[NetworkRow]) -> bool:
    """Whether nothing but the hints differs, and both were trained with the same seeds."""
    same = all(getattr(one[0], name) == getattr(other[0], name) for name in ("model", "width", "input_size", "epochs"))
    return same and [row.seed for row in one] == [row.seed for row in other]


def _hint_verdict(taught: Sequence[NetworkRow], alone: Sequence[NetworkRow]) -> str:
    """Seed by seed: both rows start from the same weights and see the same views."""
    name, base = taught[0].row, alone[0].row
    gap = paired(_nme(alone), _nme(taught))
    share = 100 * gap.mean / fmean(_nme(alone))
    figures = (
        f"{gap.mean:.3f} points of NME, {share:.1f} %; better in {gap.above} of {gap.count} seeds, 95 % interval of "
        f"the mean {gap.mean - gap.reach:.3f} to {gap.mean + gap.reach:.3f}"
    )
    if not gap.sure:
        return f"{name} and {base}: a tie ({figures})."
    return f"{name} {'beats' if gap.mean > 0 else 'loses to'} {base} ({figures})."


def degraded_table(results: RuleResults) -> tuple[list[Row], dict[str, int], tuple[str, ...]]:
    """One row a degradation, one column a part of the chain; and what the whole gains over landmarks alone."""
    whole = max(PARTS, key=lambda name: (name in results.degraded, PARTS.index(name)))
    gained = f"{whole} against LE, %"
    rows: list[Row] = []
    for name in results.degraded["LE"]:
        found = {column: results.degraded[column][name].nme for column in results.degraded}
        paper = {f"paper: {column}": nme for column, nme in ALL.items() if name == "all"}
        rows.append({"degradation": name, **found, gained: 100 * (1 - found[whole] / found["LE"]), **paper})
    last = rows[-1]
    printed = 100 * (1 - ALL["R-U-LE"] / ALL["LE"])
    gain = f"{last[gained]:.1f} % less NME than LE under {last['degradation']}"
    verdict = f"{whole} has {gain} (paper: {printed:.0f} %, on WFLW)."
    return rows, {gained: 0}, (verdict,) if whole != "LE" else ()


def box_error_table(results: RuleResults) -> list[Row]:
    """NME against growing box error, without and with R."""
    rows: list[Row] = []
    for share in next(iter(results.box_error.values()), {}):
        found = {row: figures[share].nme for row, figures in results.box_error.items()}
        rows.append({"box error, of the paper's": share, **found})
    return rows


def restored_table(results: RuleResults) -> list[Row]:
    """How good stage U's pictures are, and how good what it was given."""
    rows: list[Row] = []
    for preset in next(iter(results.restored.values()), {}):
        row: dict[str, Any] = {"degradation": preset}
        for name, found in results.restored.items():
            figures = found[preset]
            row |= {f"{name}: PSNR": figures.psnr, f"{name}: SSIM": figures.ssim, f"{name}: distance": figures.distance}
        rows.append(row)
    return rows


def video_table(results: RuleResults) -> list[Row]:
    """Moving faces: boxes from the frame before."""
    rows: list[Row] = []
    for row, found in results.video.items():
        for name, result in found.items():
            rows.append(
                {
                    "row": row,
                    "protocol": name,
                    "NME %": result.accuracy.nme,
                    "median %": result.accuracy.median,
                    "FR@0.1 %": result.accuracy.fr,
                    "lost boxes %": result.lost,
                    "paper: NME %": VIDEO.get((row, name)),
                }
            )
    return rows


def chains_table(results: RuleResults) -> list[Row]:
    """Every chain that ships: accuracy on clean faces and milliseconds by stage, one thread."""
    rows: list[Row] = []
    for run in results.runs:
        row: dict[str, Any] = {"chain": run.id, "NME %": results.chains[run.id].nme}
        for latency in run.latency:
            if latency.threads == 1:
                row |= {f"{stage} ms": value for stage, value in latency.stages.items()}
                row |= {"p50 ms": latency.p50_ms, "peak MB": latency.peak_rss_mb}
        rows.append(row)
    return rows


def speed_table(results: RuleResults) -> list[Row]:
    """Whole chains and single networks against a network that everyone knows: one interleaved run."""
    return speed_rows(results.speed.latency, "network or chain")
