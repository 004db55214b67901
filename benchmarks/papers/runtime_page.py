"""The page of the runtime: docs/results/runtime.md."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pocketface.benchmarks.papers import common
from pocketface.benchmarks.papers.runtime import RuntimeResults
from pocketface.benchmarks.reports.sections import Row, Section
from pocketface.benchmarks.runtime_speed import FRAME, GOAL_IMPORT_S, GOALS_MS, SIDES, SIZES

BOXES = {"true": "the true box", "detected": "the detector's", "image": "the whole picture"}
BROKEN = {"bundle": "the bundle, in any way", "golden cases": "golden cases, hash mended"}
_FUZZ = "python -m pocketface.benchmarks.fuzz BUNDLE "
_NOTHING_OF_OURS = "Of ours, nothing crashed, hung, wrote outside of its folder or raised an untyped error."


def write(results: RuntimeResults, path: Path) -> None:
    """Write the page, and its figures beside it as ``.json``."""
    common.write(results, path, page)


def page(results: RuntimeResults, *, command: str, notes: str = "") -> str:
    """The whole page, Markdown."""
    return common.page(results, title="The runtime, measured", sections=sections(results), command=command, notes=notes)


def sections(results: RuntimeResults) -> list[Section]:
    """Every part that was measured."""
    found = [_boxes(results)]
    if results.detector:
        found.append(_detector(results.detector))
    if results.tracking:
        found.append(_tracking(results.tracking))
    found += [_speed(results.speed), _import(results.speed), _memory(results)]
    if results.fuzz:
        found.append(_fuzz(results.fuzz))
    return found


def _boxes(results: RuntimeResults) -> Section:
    faces, found = results.found["faces"], results.found
    rows: list[Row] = [
        {
            "box": BOXES[name],
            "faces": figures["faces"],
            "NME %": figures["nme"],
            "median %": figures["median"],
            "FR@0.1 %": figures["fr"],
        }
        for name, figures in results.nme.items()
    ]
    loss = results.nme["detected"]["nme"] - results.nme["true"]["nme"]
    return Section(
        "Where the box comes from",
        f"Landmarks by {results.bundle} {results.variant} on the faces that the shipped detector found. A detection is "
        "the annotated face from an intersection over union of 0.4 on. Pictures are crops of twice a face's box, so "
        "a whole one is a box twice too large.",
        rows,
        {"NME %": 3, "median %": 3},
        (
            f"The detector missed {found['missed']:.2f} % of {faces} faces; its boxes are off by "
            f"{found['box_error']:.1f} % of a side (mean of the corners).",
            f"False alarms: {found['false_alarms']:.3f} a picture once its face is painted over; "
            f"{found['others']:.3f} detections a picture are not the annotated face, some of them people nobody "
            "annotated.",
            f"Detected boxes cost {loss:+.3f} points of NME.",
        ),
    )


def _detector(record: Mapping[str, Any]) -> Section:
    rows: list[Row] = []
    for variant in record["variants"]:
        figures = variant["detection"] or {}
        rows.append(
            {
                "variant": variant["id"],
                "kB": variant["bytes"] / 1000,
                "max error": None if variant["max_tensor_error"] is None else f"{variant['max_tensor_error']:.1e}",
                "missed %": figures.get("missed"),
                "false alarms": figures.get("false_alarms"),
                "box error %": figures.get("box_error"),
                "faces": figures.get("faces"),
                "ships": "yes" if variant["shipped"] else "",
            }
        )
    error = record["original_error"]
    return Section(
        "The detector in every format",
        "BlazeFace with MediaPipe's weights. Error: of face probabilities, and of coordinates in sides of the picture "
        "weighed by them, against torch. Core ML by the reference executor, on fewer faces.",
        rows,
        {"kB": 0, "false alarms": 3},
        (
            f"Against MediaPipe's own file in LiteRT (max abs(a - b) / max abs(a)): logits {error['logits']:.1e}, "
            f"boxes and points {error['faces']:.1e}. {record['source']}.",
        ),
    )


def _tracking(record: Mapping[str, Any]) -> Section:
    chosen, data = record["chosen"], record["data"]
    ways = {"looking once": (chosen["margin"], None), "looking twice": (chosen["margin"], chosen["second_look"])}
    filters = {"": (None, None), ", chosen filter": (chosen["min_cutoff"], chosen["beta"])}
    by_setting = {
        (row["row"], (row["margin"], row["second_look"]), (row["min_cutoff"], row["beta"])): row
        for row in record["figures"]
    }
    rows: list[Row] = []
    for name in record["rows"]:
        for (way, boxes), (words, filter) in itertools.product(ways.items(), filters.items()):
            row = by_setting.get((name, boxes, filter))
            if row is not None:
                rows.append(
                    {
                        "faces move": name,
                        "tracker": way + words,
                        "looks a frame": row["looks"],
                        "NME %": row["nme"],
                        "jitter %": row["jitter"],
                        "lag ms": row["lag_ms"],
                        "lost %": row["lost"],
                    }
                )

    def listed(key: str) -> str:
        return ", ".join("never" if value is None else f"{value:g}" for value in record["grid"][key])

    return Section(
        "Following a face",
        f"{record['bundle']} {record['variant']}; {data['faces']} {data.get('split', '')} faces of {data['name']}, "
        f"{record['motion']['frames']} frames each at {record['motion']['fps']:g} a second: a camera wanders over a "
        f"still. Grid: margins {listed('margin')}; a second look below an overlap of {listed('second_look')}; One-Euro "
        f"min_cutoff {listed('min_cutoff')}, beta {listed('beta')}. Jitter: change of the error from frame to frame, "
        "in percent of the distance of the eyes.",
        rows,
        {"looks a frame": 2, "NME %": 3, "jitter %": 3},
        (
            f"Chosen: margin {_number(chosen['margin'])}, second look {_number(chosen['second_look'])}, min_cutoff "
            f"{_number(chosen['min_cutoff'])}, beta {_number(chosen['beta'])}: {record['rule']}.",
        ),
    )


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:g}"


def _speed(speed: Mapping[str, Any]) -> Section:
    cases, rows, verdict = speed["cases"], [], []
    post = cases["post"]
    for size in SIZES:
        goal, late = GOALS_MS[size], []
        for name, item in cases.items():
            if not name.startswith(f"pre {size} px"):
                continue
            total = item["least_ms"] + post["least_ms"]
            rows.append(
                {
                    "crop": name.removeprefix("pre "),
                    "least ms": item["least_ms"],
                    "median ms": item["median_ms"],
                    "with decoding, least ms": total,
                    "goal ms": goal,
                }
            )
            if total > goal:
                late.append(name.removeprefix(f"pre {size} px, "))
        kept = f"kept but for {'; '.join(late)}" if late else f"kept by every crop of {', '.join(map(str, SIDES))} px"
        verdict.append(f"{size} px: {goal:g} ms {kept}.")
    for name in ("overlays in place", "overlays on copies"):
        item = cases[name]
        rows.append({"crop": name, "least ms": item["least_ms"], "median ms": item["median_ms"]})
    kernel = cases["kernel"]
    return Section(
        "Pre- and post-processing",
        f"One thread, squares of a {FRAME[1]} x {FRAME[0]} frame, cases in turns over {speed['rounds']} rounds. A "
        f"fixed kernel among them took {kernel['least_ms']:.3f} ms at least and {kernel['median_ms']:.3f} in the "
        f"median: as far apart as these are, others were using the machine ({speed['busy']}).",
        rows,
        {"least ms": 2, "median ms": 2, "with decoding, least ms": 2, "goal ms": 1},
        tuple(verdict),
    )


def _import(speed: Mapping[str, Any]) -> Section:
    rows: list[Row] = [
        {"import": name, "wall s": item["wall_s"], "computing s": item["cpu_s"]}
        for name, item in speed["imports"].items()
    ]
    took = speed["imports"]["pocketface.sdk"]["wall_s"]
    return Section(
        "Importing it",
        "Least of ten fresh processes.",
        rows,
        {"wall s": 3, "computing s": 3},
        (f"{took:.3f} s: {'within' if took <= GOAL_IMPORT_S else 'over'} {GOAL_IMPORT_S:g} s.",),
    )


def _memory(results: RuntimeResults) -> Section:
    first, last = results.speed["memory"][0], results.speed["memory"][-1]
    rows: list[Row] = [
        {
            "run": "landmarks, photo after photo",
            "frames": int(last["frame"]),
            "at first MB": first["resident_mb"],
            "at last MB": last["resident_mb"],
            "most MB": max(item["resident_mb"] for item in results.speed["memory"]),
        }
    ]
    if results.video_memory:
        run = results.video_memory["result"]
        rows.append(
            {
                "run": "a video: read, followed, drawn, written",
                "frames": run["frames"],
                "at first MB": run["first_half_mb"],
                "at last MB": run["last_half_mb"],
                "most MB": max(run["rss_mb"]),
                "MB / 1,000 frames": run["slope_mb"],
            }
        )
    text = "Resident memory; of the video, the most of its first and last half without the first tenth."
    return Section("Memory over a long run", text, rows, {"MB / 1,000 frames": 3})


def _fuzz(record: Mapping[str, Any]) -> Section:
    rows: list[Row] = []
    ours, native, sizes = 0, [], []
    for run in record["runs"]:
        sizes.append(f"{run['bundle']} (`{run['command'].removeprefix(_FUZZ)}`, commit {run['commit'][:12]})")
        for part in (part for part in run["campaigns"] if part["mutants"]):
            broken, results = part["broken"], part["results"]
            variants = ", ".join(part["variants"]) or "-"
            row = {"bundle": run["bundle"], "broken": BROKEN.get(broken, f"{broken}, hash mended"), "run": variants}
            rows.append({**row, "mutants": part["mutants"], **results})
            ours += part["ours"]
            if others := len(part["findings"]) - part["ours"]:
                ends = [item for item in part["findings"] if item["result"] in ("crashed", "hung")]
                signals = [item["detail"].partition(":")[0] for item in ends]
                how = ", ".join(f"{signals.count(name)} x {name}" for name in sorted(set(signals)))
                native.append(f"{run['bundle']} {broken}: {others} of {part['mutants']} ended their process ({how}).")
    return Section(
        "Broken bundles",
        f"`{_FUZZ.strip()} ...`: {'; '.join(sizes)}. Opened: still sound, harmless, or refused once it was used. "
        "Untyped: an error that is none of ours; machine: one that blames the machine; wrote: a file outside of its "
        "folder. With a mended hash the runtime gets to see the bytes: a crash or a hang there is the runtime's own, "
        "anywhere else it is ours.",
        rows,
        {},
        (f"{ours} findings of ours." if ours else _NOTHING_OF_OURS, *native),
    )
