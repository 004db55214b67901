"""A whole sweep on drawn faces, at the smallest size: what it shares, what it measures, what it ships."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny import SHORT, tiny_recipe
from typer.testing import CliRunner

from pocketface.benchmarks.papers import sweep as figures_of_sweep
from pocketface.benchmarks.papers import sweep_page
from pocketface.benchmarks.papers.sweep import SweepResults
from pocketface.compression.pipeline.sweep import run_sweep
from pocketface.compression.recipe_file import dump_recipe
from pocketface.compression.sweep_recipe import load_sweep
from pocketface.converters.verify import verify_bundle
from pocketface.sdk import cli
from pocketface.sdk.bundle import open_bundle
from pocketface.sdk.errors import BadInputError, GateFailedError, UnknownNameError

pytestmark = pytest.mark.slow

STUDENTS: dict[str, Any] = {
    "plain": {},
    "pruned": {"prune": {"options": {"keep_flops": 0.7, "round_to": 4, "batches": 1}, "train": {**SHORT, "epochs": 1}}},
    "eight": {
        "qat": {"train": {**SHORT, "epochs": 2}},
        "export": {
            "formats": {"onnx": ["fp32", "w8a8"]},
            "tune": {"onnx.w8a8": {"calibration": ["minmax", "moving_average"]}},
        },
        "gates": {"max_nme_increase": {"w8a8": 50.0}},
    },
    "bad": {"gates": {"max_nme": 0.001}},
}


def write(folder: Path, **changes: Any) -> Path:
    export: dict[str, Any] = {
        "formats": {"onnx": ["fp32", "w8"], "coreml": ["fp32"]},
        "golden_faces": 1,
        "parity_faces": 8,
    }
    base = tiny_recipe(
        {
            "export": {**export, "quantize": {"onnx.w8": {"min_elements": 64}}},
            "gates": {"max_nme_increase": {"w8": 50.0}},
        },
        loss={"name": "l1"},
    )
    (folder / "base.yaml").write_text(dump_recipe(base))
    bench = {"threads": [1], "runs": 5, "warmup": 1}
    plain = {"name": "tiny sweep", "base": "base.yaml", "students": STUDENTS, "bench": bench, **changes}
    (folder / "sweep.yaml").write_text(yaml.safe_dump(plain, sort_keys=False))
    return folder / "sweep.yaml"


@pytest.fixture(scope="module")
def run(drawn_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, SweepResults]:
    folder = tmp_path_factory.mktemp("sweep")
    path = write(folder)
    return folder, run_sweep(load_sweep(path), drawn_folder, folder / "run", jobs=2, threads=1, progress=False)


def test_every_variant_is_measured(run: tuple[Path, SweepResults]):
    folder, found = run
    assert [student.name for student in found.students] == list(STUDENTS)
    plain, pruned, eight, bad = found.students
    assert "student: NME on the test faces" in bad.failed
    assert not plain.failed
    assert pruned.before == {"student": plain.accuracy}, "the same student before"
    assert list(pruned.later) == ["pruned"]
    assert pruned.flops <= 0.7 * plain.flops
    assert eight.key == plain.key
    assert (len(eight.curve), plain.curve) == (2, ())
    assert [one.settings["calibration"] for one in eight.tuned["onnx.w8a8"]] == ["minmax", "moving_average"]
    assert sum(one.taken for one in eight.tuned["onnx.w8a8"]) == 1
    names = [variant.name for variant in found.variants]
    expected = [f"{name} {id}" for name in ("plain", "pruned") for id in ("fp32.onnx", "w8.onnx", "fp32.coreml")]
    assert names == [*expected, "eight fp32.onnx", "eight w8a8.onnx", "eight fp32.coreml"]
    for variant in found.variants:
        assert bool(variant.latency) == variant.id.endswith("onnx")
        assert variant.parent == f"fp32.{variant.id.rpartition('.')[2]}"
    with open_bundle(folder / "run" / "students" / "plain" / "bundle") as bundle:
        sizes = {variant.id: variant.total_bytes for variant in bundle.manifest.stages[0].variants}
    assert {v.id: v.bytes for v in found.variants if v.student == "plain"} == sizes


def test_the_front_is_what_nothing_beats(run: tuple[Path, SweepResults]):
    _, found = run
    timed = {v.name: (v.validation.nme, v.ms(1), v.bytes) for v in found.variants if v.latency}
    for variant in found.variants:
        if not variant.latency:
            assert variant.beaten_by == ""
            continue
        own = timed[variant.name]
        beaten = any(all(a <= b for a, b in zip(other, own, strict=True)) and other != own for other in timed.values())
        assert bool(variant.beaten_by) == beaten
    best = min((v for v in found.variants if v.latency and not v.beaten_by), key=lambda v: v.validation.nme)
    assert found.chosen == best.name


def test_the_bundle_holds_what_is_worth_shipping(run: tuple[Path, SweepResults]):
    folder, found = run
    student, _, id = found.chosen.partition(" ")
    with open_bundle(folder / "run" / "bundle") as bundle:
        variants = bundle.manifest.stages[0].variants
        assert [variant.id for variant in variants] == list(found.shipped)
        assert bundle.manifest.default == id
        assert verify_bundle(bundle).failures() == []
        rows = {v.id: v for v in found.variants if v.student == student}
        for variant in variants:
            assert variant.latency == rows[variant.id].latency
            if variant.id == "fp32.onnx":
                assert variant.latency[0].ratio == 1, "against its own bundle's, not the sweep's first"
            assert rows[variant.id].beaten_by == ""


def test_students_share_their_stages_and_nothing_is_done_twice(run: tuple[Path, SweepResults], drawn_folder: Path):
    folder, found = run
    stages = {path.name for path in (folder / "run" / "stages").iterdir() if path.is_dir()}
    trained = [name for name in stages if name.startswith(("student-", "pruned-", "qat-"))]
    assert len(trained) == 3, "the same student, once, and what was made of it"
    again = run_sweep(load_sweep(folder / "sweep.yaml"), drawn_folder, folder / "run", progress=False)
    assert again == found
    assert {path.name for path in (folder / "run" / "stages").iterdir() if path.is_dir()} == stages


def test_page_report_and_front(run: tuple[Path, SweepResults], tmp_path: Path):
    folder, found = run
    read = figures_of_sweep.read(folder / "run" / "results.json")
    assert read == found
    page = tmp_path / "page.md"
    sweep_page.write(read, page)
    text = page.read_text()
    assert "![The front](page.png)" in text
    assert page.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    for variant in found.variants:
        assert f"| {variant.name} | {variant.accuracy.nme:.3f} | {variant.validation.nme:.3f} |" in text
    front = sum(bool(variant.latency) and not variant.beaten_by for variant in found.variants)
    assert f"{front} of 6 timed variants are on the front" in text
    eight = found.students[2]
    assert "![eight: training for 8 bits](page-1.png)" in text
    assert (tmp_path / "page-1.png").read_bytes().startswith(b"\x89PNG")
    assert f"| 2 | {eight.curve[1]:.3f} |" in text
    plain = next(variant for variant in found.variants if variant.name == "plain fp32.onnx")
    assert f"plain fp32.onnx: {plain.validation.nme:.3f} %." in text
    assert "eight: settings of onnx.w8a8 that were tried" in text
    assert found.chosen in (folder / "run" / "report.html").read_text()
    html = (folder / "run" / "front.html").read_text()
    assert "plotly" in html
    assert all(variant.name in html for variant in found.variants if variant.latency)


def test_bounds_that_nothing_keeps_fail_loudly(run: tuple[Path, SweepResults], drawn_folder: Path, tmp_path: Path):
    folder, _ = run
    path = write(tmp_path, choose={"max_mb": 0.001})
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "stages").symlink_to(folder / "run" / "stages")
    with pytest.raises(GateFailedError, match=r"max_mb 0\.001; bad: student: NME"):
        run_sweep(load_sweep(path), drawn_folder, tmp_path / "run", progress=False)
    assert json.loads((tmp_path / "run" / "results.json").read_text())["chosen"] == ""
    assert not (tmp_path / "run" / "bundle").exists()


def test_the_command_tells_the_front(run: tuple[Path, SweepResults], drawn_folder: Path):
    folder, found = run
    paths = [str(folder / "sweep.yaml"), "--data", str(drawn_folder), "--out", str(folder / "run")]
    result = CliRunner().invoke(cli.app, ["sweep", *paths, "--quiet"])
    assert f"default {found.chosen}" in result.output
    assert result.exit_code == 1
    assert "bad: student: NME" in " ".join(result.output.split())


def test_a_mistake_of_one_student_is_told_before_any_is_trained(drawn_folder: Path, tmp_path: Path):
    students = {**STUDENTS, "typo": {"prune": {"method": "chanels", "train": SHORT}}}
    path = write(tmp_path, students=students)
    for jobs in (1, 2):
        with pytest.raises(UnknownNameError, match="chanels"):
            run_sweep(load_sweep(path), drawn_folder, tmp_path / "run", jobs=jobs, progress=False)
    assert not (tmp_path / "run" / "stages").exists()


def test_an_error_of_another_process_is_told_as_it_is(drawn_folder: Path, tmp_path: Path):
    with pytest.raises(BadInputError) as caught:
        run_sweep(load_sweep(write(tmp_path)), tmp_path / "nowhere", tmp_path / "run", jobs=2, progress=False)
    assert "nowhere" in str(caught.value)


def test_a_bound_on_latency_counts_in_a_sweep(run: tuple[Path, SweepResults], drawn_folder: Path, tmp_path: Path):
    folder, _ = run
    gates = {"max_nme_increase": {"w8": 50.0}, "max_latency_ratio": {"w8": 1e-6}}
    path = write(tmp_path, students={"slow": {"gates": gates}})
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "stages").symlink_to(folder / "run" / "stages")
    found = run_sweep(load_sweep(path), drawn_folder, tmp_path / "run", progress=False)
    assert [variant.id for variant in found.variants] == ["fp32.onnx", "fp32.coreml"]
    assert "w8.onnx: latency ratio" in found.students[0].failed
