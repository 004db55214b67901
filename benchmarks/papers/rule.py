"""RULe (Dapogny et al., FG 2023): its tables, generated from a run's stored figures, each beside the paper's.

The paper's figures are quoted as printed; they are on other data (WFLW, AFLW2000-3D, 300VW), other sizes and another
machine, so only their order and their ratios can be compared.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from pocketface.benchmarks.head_pose import PoseAccuracy
from pocketface.benchmarks.metrics import Accuracy
from pocketface.benchmarks.reports.markdown import header, table
from pocketface.benchmarks.video import VideoResult
from pocketface.sdk.errors import BadInputError
from pocketface.sdk.files import write_atomic
from pocketface.sdk.manifest import ChainRun, DataSource, Latency

RESULTS = "results.json"

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


class NetworkRow(msgspec.Struct, frozen=True, kw_only=True):
    """One trained network.

    Attributes:
        hints: lambda_kd of a landmark network; None of another.
        accuracy, pose: of a landmark network, on clean test faces.
        last: figures of its last epoch.
    """

    name: str
    model: str
    width: float
    input_size: int
    parameters: int
    flops: int
    epochs: int
    minutes: float
    hints: float | None = None
    accuracy: Accuracy | None = None
    pose: PoseAccuracy | None = None
    last: dict[str, float] = msgspec.field(default_factory=dict)


class FileRow(msgspec.Struct, frozen=True, kw_only=True):
    """One file of a landmark network, through the runtime that ships, on clean test faces."""

    variant: str
    bytes: int
    accuracy: Accuracy


class Speed(msgspec.Struct, frozen=True, kw_only=True):
    """Files of each landmark network, and everything timed in one interleaved run.

    Attributes:
        rows: network -> its files.
        latency: ``NETWORK VARIANT``, ``chain VARIANT`` or the reference -> one entry a thread count.
        reference: what ratios refer to.
    """

    rows: dict[str, list[FileRow]] = msgspec.field(default_factory=dict)
    latency: dict[str, tuple[Latency, ...]] = msgspec.field(default_factory=dict)
    reference: str = ""
    warning: str = ""


class RuleResults(msgspec.Struct, frozen=True, kw_only=True):
    """A chain's run, as RUN/results.json keeps it."""

    kind: str = "chain"
    name: str
    seed: int
    recipe: str
    recipe_sha256: str
    commit: str
    data: tuple[DataSource, ...]
    machine: str
    networks: tuple[NetworkRow, ...]
    default: str
    chains: dict[str, Accuracy]
    degraded: dict[str, dict[str, Accuracy]]
    video: dict[str, dict[str, VideoResult]]
    runs: tuple[ChainRun, ...]
    box_error: dict[str, dict[str, Accuracy]] = msgspec.field(default_factory=dict)
    speed: Speed = Speed()
    warning: str = ""


def read(path: Path) -> RuleResults:
    """Read RUN/results.json of a chain's run.

    Raises:
        BadInputError: it is missing, or none of a chain.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=RuleResults)
    except (OSError, msgspec.DecodeError, msgspec.ValidationError) as error:
        raise BadInputError(
            f"{path}: no figures of a chain's run ({error})", next="Run pocketface compress with a chain's recipe"
        ) from error


def write(results: RuleResults, path: Path) -> None:
    """Write the page, and its figures beside it as ``.json``."""
    command = f"pocketface results {path.with_suffix('.json')} --page {path}"
    write_atomic(path, page(results, command=command).encode(), force=True)
    figures = msgspec.json.format(msgspec.json.encode(results), indent=1) + b"\n"
    write_atomic(path.with_suffix(".json"), figures, force=True)


def page(results: RuleResults, *, command: str) -> str:
    """The whole page, Markdown."""
    splits = ", ".join(f"{part.faces} {part.split}" for part in results.data)
    parts = [
        header(
            f"{results.name}: RULe, relocalize - uniformize - landmarks",
            command=command,
            facts={
                "data": f"{results.data[0].name}: {splits}; SHA-256 {results.data[-1].sha256[:16]} (test)",
                "seed": str(results.seed),
                "recipe": f"{results.name}, SHA-256 {results.recipe_sha256[:16]}",
                "commit": results.commit,
                "machine": results.machine,
            },
        ),
        "## Table I: landmark networks on clean faces\n\n" + table_one(results),
        "## Under each degradation\n\nNME in percent; the same landmark weights in all rows. Paper, under all: "
        f"LE {ALL['LE']}, R-U-LE {ALL['R-U-LE']} (WFLW).\n\n" + degraded_table(results),
        "## Growing box error\n\nNME in percent; 1 is scale 2/3 to 4/3 and translation +-0.4 iod.\n\n"
        + box_error_table(results),
        "## Video\n\n" + video_table(results),
        "## Chains\n\n" + chains_table(results),
        f"## Speed\n\nRatios of inference to {results.speed.reference}, all in one interleaved run.\n\n"
        + speed_table(results),
        f"## Recipe\n\n```yaml\n{results.recipe}```\n",
    ]
    return "\n".join(parts)


def table_one(results: RuleResults) -> str:
    """Table I: NME and pose error of the teacher and of each student."""
    rows = []
    for row in results.networks:
        if row.accuracy is None:
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
    return table(rows, digits={"minutes": 0, "M FLOPs": 0, "paper: ms": 0})


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


def speed_table(results: RuleResults) -> str:
    """Whole chains and single networks against a network that everyone knows: one interleaved run."""
    rows = []
    for name, found in results.speed.latency.items():
        row: dict[str, Any] = {"network or chain": name}
        for item in found:
            threads = f"{item.threads} thread{'s' if item.threads > 1 else ''}"
            row |= {f"p50 ms, {threads}": item.p50_ms, f"ratio, {threads}": item.ratio}
            row |= {f"{stage} ms, {threads}": value for stage, value in item.stages.items()}
        rows.append(row)
    return table(rows)


def degraded_table(results: RuleResults) -> str:
    """One row a degradation, one column a part of the chain; and what the whole gains over landmarks alone."""
    whole = max(PARTS, key=lambda name: (name in results.degraded, PARTS.index(name)))
    gained = f"{whole} against LE, %"
    rows: list[dict[str, Any]] = []
    for name in results.degraded["LE"]:
        found = {column: results.degraded[column][name].nme for column in results.degraded}
        paper = {f"paper: {column}": nme for column, nme in ALL.items() if name == "all"}
        rows.append({"degradation": name, **found, gained: 100 * (1 - found[whole] / found["LE"]), **paper})
    return table(rows, digits={gained: 0})


def box_error_table(results: RuleResults) -> str:
    """NME against growing box error, without and with R."""
    rows = []
    for share in next(iter(results.box_error.values()), {}):
        found = {row: figures[share].nme for row, figures in results.box_error.items()}
        rows.append({"box error, of the paper's": share, **found})
    return table(rows)


def video_table(results: RuleResults) -> str:
    """Moving faces: boxes from the frame before."""
    rows = []
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
    return table(rows)


def chains_table(results: RuleResults) -> str:
    """Every chain that ships: accuracy on clean faces and milliseconds by stage, one thread."""
    rows = []
    for run in results.runs:
        row: dict[str, Any] = {"chain": run.id, "NME %": results.chains[run.id].nme}
        for latency in run.latency:
            if latency.threads == 1:
                row |= {f"{stage} ms": value for stage, value in latency.stages.items()}
                row |= {"p50 ms": latency.p50_ms, "peak MB": latency.peak_rss_mb}
        rows.append(row)
    return table(rows)
