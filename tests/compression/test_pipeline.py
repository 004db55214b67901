"""The whole run on drawn faces, at the smallest size: what it makes, what it skips, what a failed gate does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tiny import NETWORK, SHORT, tiny_recipe
from typer.testing import CliRunner

from pocketface.compression.pipeline.ablation import run_ablation
from pocketface.compression.pipeline.context import Context
from pocketface.compression.pipeline.page import collect, read_results, write_page
from pocketface.compression.pipeline.run import RunResult, compress
from pocketface.compression.recipe_file import dump_recipe, load_recipe
from pocketface.converters.verify import verify_bundle
from pocketface.sdk import cli, load
from pocketface.sdk.bundle import open_bundle
from pocketface.sdk.errors import ConfigError, GateFailedError

pytestmark = pytest.mark.slow

EVERYTHING: dict[str, Any] = {
    "export": {
        "formats": {"onnx": ["fp32", "w8a8"]},
        "calibration_faces": 8,
        "golden_faces": 2,
        "parity_faces": 8,
    },
    "bench": {"threads": [1], "runs": 3, "warmup": 1},
    "gates": {"max_nme_increase": {"w8a8": 50.0}},
    "ablation": {
        "model": NETWORK["model"],
        "train": {**SHORT, "epochs": 1, "views": 2},
        "rows": [
            {"name": "L2", "loss": {"name": "l2"}, "seeds": [0, 1]},
            {"name": "KD phi 2.5", "loss": {"name": "kd"}, "seeds": [0]},
        ],
    },
}


def recipe(**changes: Any):
    return tiny_recipe({**EVERYTHING, **changes}, loss={"name": "kd"}, train={**SHORT, "views": 2})


@pytest.fixture(scope="module")
def run(drawn_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Context, RunResult]:
    context = Context(recipe(), drawn_folder, tmp_path_factory.mktemp("run"), progress=False)
    return context, compress(context)


def stages(context: Context) -> set[str]:
    return {path.name for path in context.store.root.iterdir() if path.is_dir() and not path.name.startswith(".")}


def test_a_run_gives_a_bundle_that_verifies_and_runs(run: tuple[Context, RunResult], drawn_folder: Path):
    context, result = run
    assert result.bundle == context.run / "bundle"
    with open_bundle(result.bundle) as bundle:
        shipped = [variant.id for variant in bundle.manifest.stages[0].variants]
        assert shipped == ["fp32.onnx", "w8a8.onnx"]
        assert verify_bundle(bundle).failures() == []
        for variant in bundle.manifest.stages[0].variants:
            assert variant.parity is not None
            assert variant.metrics["nme"] > 0
            assert variant.latency[0].runs == 3
    image = next((drawn_folder / "test").glob("*.png"))
    (face,) = load(result.bundle)(image)
    assert face.points.shape == (68, 2)
    assert 0 <= face.score <= 1


def test_variants_on_the_test_faces_agree_with_torch(run: tuple[Context, RunResult]):
    _, result = run
    torch = result.accuracy["student"].accuracy.nme
    assert result.variants["fp32.onnx"].accuracy.nme == pytest.approx(torch, abs=1e-3)
    assert len(result.variants["fp32.onnx"].errors) == 6


def test_the_report_and_the_recipe_lie_beside_the_bundle(run: tuple[Context, RunResult]):
    context, _ = run
    assert load_recipe(context.run / "recipe.yaml") == context.recipe
    html = (context.run / "report.html").read_text()
    assert "w8a8.onnx" in html
    figures = json.loads((context.run / "results.json").read_text())
    assert figures["networks"]["student"]["accuracy"]["faces"] == 6


def test_what_is_done_is_not_done_again(run: tuple[Context, RunResult], monkeypatch):
    context, result = run
    before = stages(context)
    monkeypatch.setattr("pocketface.compression.pipeline.train.fit", lambda *_, **__: pytest.fail("trained again"))
    again = compress(Context(context.recipe, context.data, context.run, progress=False))
    assert stages(context) == before
    assert all(not trained.done.fresh for trained in again.networks)
    assert [c.id for c in again.candidates] == [c.id for c in result.candidates]


def test_a_changed_gate_retrains_nothing_and_a_failed_one_ships_nothing_of_the_kind(
    run: tuple[Context, RunResult], monkeypatch
):
    context, _ = run
    before = stages(context)
    monkeypatch.setattr("pocketface.compression.pipeline.train.fit", lambda *_, **__: pytest.fail("trained again"))
    strict = recipe(gates={"max_nme_increase": {"w8a8": 50.0}, "max_size_mb": {"w8a8": 0.001}})
    with pytest.raises(GateFailedError, match=r"w8a8\.onnx.*size") as caught:
        compress(Context(strict, context.data, context.run, progress=False))
    assert caught.value.exit_code == 1
    with open_bundle(context.run / "bundle") as bundle:
        assert [variant.id for variant in bundle.manifest.stages[0].variants] == ["fp32.onnx"]
    kept = {name for name in stages(context) if name.startswith(("quantize", "export", "student"))}
    assert kept == {name for name in before if name.startswith(("quantize", "export", "student"))}
    assert list(context.store.root.glob("quantize-*/w8a8.onnx"))


def test_a_student_that_is_not_good_enough_is_not_shipped(run: tuple[Context, RunResult], tmp_path: Path):
    context, _ = run
    strict = recipe(gates={"max_nme": 0.001, "max_nme_increase": {"w8a8": 50.0}})
    other = Context(strict, context.data, tmp_path, progress=False)
    (tmp_path / "stages").rmdir()
    (tmp_path / "stages").symlink_to(context.store.root)
    with pytest.raises(GateFailedError, match="student: NME"):
        compress(other)
    assert not (tmp_path / "bundle").exists()
    assert (tmp_path / "report.html").exists()


def test_a_changed_student_keeps_the_teachers(run: tuple[Context, RunResult]):
    context, _ = run
    before = stages(context)
    changed = msgspec.structs.replace(
        context.recipe, export=msgspec.structs.replace(context.recipe.export, golden_faces=1)
    )
    compress(Context(changed, context.data, context.run, progress=False))
    assert stages(context) == before


def test_the_ablation_shares_the_teachers_and_writes_a_page(run: tuple[Context, RunResult], tmp_path: Path):
    context, _ = run
    compress(Context(context.recipe, context.data, context.run, progress=False))
    before = stages(context)
    trials = run_ablation(context)
    assert [(trial.row, trial.seed) for trial in trials] == [("L2", 0), ("KD phi 2.5", 0), ("L2", 1)]
    fresh = {name.rpartition("-")[0] for name in stages(context) - before}
    assert fresh == {f"{kind}row-{row}" for kind in ("", "test-", "validation-") for row in ("l2", "kd_phi_2_5")}
    (context.run / "ablation.json").write_bytes(msgspec.json.encode(trials))
    page = tmp_path / "page.md"
    write_page(collect(context.run), page)
    text = page.read_text()
    nme = [trial.test.nme for trial in trials if trial.row == "L2"]
    assert f"| L2 | 2 | {sum(t.validation.nme for t in trials if t.row == 'L2') / 2:.3f} (" in text
    assert f"{sum(nme) / 2:.3f} ({min(nme):.3f} to {max(nme):.3f})" in text
    write_page(read_results(page.with_suffix(".json")), page)
    assert page.read_text() == text


def test_an_unknown_row_lists_the_known(run: tuple[Context, RunResult]):
    context, _ = run
    with pytest.raises(ConfigError, match="L2, KD"):
        run_ablation(context, ["L9"])


@pytest.mark.parametrize(
    ("change", "data", "message"),
    [
        (("student:", "studnet:"), "drawn", "did you mean 'student'"),
        (("fp32", "fp33"), "drawn", "fp33"),
        (("[train]", "[trian]"), "drawn", "trian"),
        (("", ""), "missing", "missing"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(drawn_folder: Path, tmp_path: Path, change, data, message):
    text = dump_recipe(recipe()).replace("  - train\n", "  - train\n")
    text = text.replace("train:\n  - train", "train: [train]")
    (tmp_path / "r.yaml").write_text(text.replace(*change) if change[0] else text)
    folder = drawn_folder if data == "drawn" else tmp_path / "missing"
    arguments = ["compress", str(tmp_path / "r.yaml"), "--data", str(folder), "--out", str(tmp_path / "out"), "--quiet"]
    found = CliRunner().invoke(cli.app, arguments)
    assert found.exit_code == 2, found.output
    assert message in found.stderr
    assert len(found.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "out" / "bundle").exists()
