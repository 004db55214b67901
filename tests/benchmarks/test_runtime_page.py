"""The runtime's page from stored figures: what is said follows from them."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pocketface.benchmarks.papers.registry import paper_of
from pocketface.benchmarks.papers.runtime import RuntimeResults, collect, read
from pocketface.benchmarks.papers.runtime_page import page, write
from pocketface.sdk.errors import BadInputError
from pocketface.sdk.manifest import DataSource


def accuracy(nme: float) -> dict[str, Any]:
    return {"faces": 3, "nme": nme, "median": nme, "fr": 0.0}


def spent(least: float) -> dict[str, float]:
    return {"least_ms": least, "median_ms": 2 * least}


CASES = {"kernel": spent(0.2), "post": spent(0.1), "overlays in place": spent(1.5), "overlays on copies": spent(4)}
CASES |= {f"pre {size} px, side {side}, 20 degrees": spent(0.5) for size in (128, 224) for side in (200, 400, 800)}

RESULTS = RuntimeResults(
    name="runtime",
    seed=0,
    recipe="bundle: tiny\n",
    recipe_sha256="0" * 64,
    commit="c" * 40,
    data=(DataSource(name="drawn", split="all", faces=3, sha256="1" * 64, licence="CC0"),),
    machine="a machine",
    bundle="tiny",
    variant="fp32.onnx",
    found={"faces": 3, "missed": 0.0, "others": 0.0, "false_alarms": 0.25, "box_error": 5.0},
    nme={"true": accuracy(4.0), "detected": accuracy(4.125), "image": accuracy(9.0)},
    speed={
        "cases": CASES,
        "rounds": 10,
        "busy": 0.5,
        "imports": {name: {"wall_s": 0.2, "cpu_s": 0.1} for name in ("numpy", "pocketface.sdk")},
        "memory": [{"frame": 100, "resident_mb": 80.0}, {"frame": 200, "resident_mb": 81.0}],
    },
)


def test_what_the_page_says_follows_from_the_figures() -> None:
    text = page(RESULTS, command="pocketface results x --page y", notes="A note.")
    assert "Detected boxes cost +0.125 points of NME." in text
    assert "128 px: 1 ms kept by every crop" in text
    assert "within 0.25 s" in text
    assert "A note." in text
    slow = copy.deepcopy(RESULTS.speed)
    slow["cases"]["pre 224 px, side 800, 20 degrees"] = spent(2.5)
    slow["imports"]["pocketface.sdk"]["wall_s"] = 0.4
    text = page(msgspec.structs.replace(RESULTS, speed=slow), command="x")
    assert "224 px: 2 ms kept but for side 800, 20 degrees." in text
    assert "over 0.25 s" in text


def campaign(broken: str, ours: int = 0, crashed: int = 0) -> dict[str, Any]:
    results = {"refused": 8 - crashed, "opened": 2, "untyped": ours, "crashed": crashed}
    findings = [{"detail": "KeyError: x at y", "result": "untyped"}] * ours
    findings += [{"detail": "SIGSEGV: bad", "result": "crashed"}] * crashed
    variants = [broken] if "." in broken else ["fp32.onnx", "w8.tflite"] if broken == "bundle" else []
    return {
        "broken": broken, "variants": variants, "mutants": 10, "results": results, "findings": findings, "ours": ours
    }  # fmt: skip


def fuzzed(*campaigns: dict[str, Any], bundle: str = "tiny") -> dict[str, Any]:
    command = "python -m pocketface.benchmarks.fuzz BUNDLE --mutants 10 --mended 5 --seed 3"
    return {"bundle": bundle, "command": command, "commit": "abcdef" * 7, "campaigns": list(campaigns)}


def test_broken_bundles_are_counted() -> None:
    def said(*campaigns: dict[str, Any]) -> str:
        fuzz = {"schema": 2, "runs": [fuzzed(*campaigns)]}
        return page(msgspec.structs.replace(RESULTS, fuzz=fuzz), command="x")

    assert "Of ours, nothing crashed" in said(campaign("bundle"))
    assert "2 findings of ours." in said(campaign("bundle", ours=2))


def test_every_run_of_the_fuzzer_names_its_bundle_and_what_ran() -> None:
    runs = [
        fuzzed(campaign("bundle"), campaign("golden cases"), campaign("fp32.onnx"), campaign("w8.tflite", crashed=3)),
        fuzzed(campaign("bundle"), bundle="other"),
    ]
    text = page(msgspec.structs.replace(RESULTS, fuzz={"schema": 2, "runs": runs}), command="x")
    assert "Of ours, nothing crashed" in text
    assert "tiny w8.tflite: 3 of 10 ended their process (3 x SIGSEGV)." in text
    assert "`--mutants 10 --mended 5 --seed 3`, commit abcdefabcdef" in text
    rows = [line for line in text.splitlines() if line.startswith(("| tiny ", "| other "))]
    cells = [[cell.strip() for cell in row.strip("|").split("|")][:4] for row in rows]
    assert cells == [
        ["tiny", "the bundle, in any way", "fp32.onnx, w8.tflite", "10"],
        ["tiny", "golden cases, hash mended", "-", "10"],
        ["tiny", "fp32.onnx, hash mended", "fp32.onnx", "10"],
        ["tiny", "w8.tflite, hash mended", "w8.tflite", "10"],
        ["other", "the bundle, in any way", "fp32.onnx, w8.tflite", "10"],
    ]
    runs[1]["campaigns"].append(campaign("golden cases", ours=2))
    text = page(msgspec.structs.replace(RESULTS, fuzz={"schema": 2, "runs": runs}), command="x")
    assert "2 findings of ours." in text
    assert "Of ours, nothing" not in text


def test_the_page_is_written_from_its_own_figures(tmp_path: Path) -> None:
    write(RESULTS, tmp_path / "runtime.md")
    assert read(tmp_path / "runtime.json") == RESULTS
    paper = paper_of(tmp_path / "runtime.json")
    assert paper is not None
    paper.write(paper.read(tmp_path / "runtime.json"), tmp_path / "again.md")
    first, again = ((tmp_path / name).read_text() for name in ("runtime.md", "again.md"))
    assert first.replace("runtime.", "again.") == again


def test_parts_are_read_or_refused(tmp_path: Path) -> None:
    broken = tmp_path / "fuzz.json"
    broken.write_text("[]")
    given: dict[str, Any] = {"data": "d", "split": "", "licence": "", "commit": "", "rounds": 1, "frames": 200}
    for parts in ({"fuzz": broken}, {"fuzz": tmp_path / "none.json"}, {"other": broken}):
        with pytest.raises(BadInputError, match=r"fuzz|other"):
            collect(tmp_path, None, None, [], parts=parts, **given)  # type: ignore[arg-type]
