"""A chain's whole run on drawn faces, at the smallest size: networks, files, bundle, tables; what it skips, what it
refuses."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch

from pocketface.benchmarks.data.degrade import DEGRADATIONS
from pocketface.benchmarks.papers import rule, rule_page
from pocketface.benchmarks.papers.common import RESULTS
from pocketface.benchmarks.robustness import ROWS
from pocketface.compression.chain_recipe import ChainRecipe
from pocketface.compression.pipeline.chain import train
from pocketface.compression.pipeline.chain.check import check_chain_recipe
from pocketface.compression.pipeline.chain.inputs import correction, fed
from pocketface.compression.pipeline.chain.measure import part_rows
from pocketface.compression.pipeline.chain.run import ChainResult, compress_chain
from pocketface.compression.pipeline.context import ChainContext
from pocketface.compression.pipeline.measure import tolerances
from pocketface.compression.pipeline.networks import train_networks
from pocketface.compression.recipe_file import dump_recipe, load_any, load_recipe, parse_recipe, recipe_sha256
from pocketface.converters.verify import verify_bundle
from pocketface.sdk import load, load_scheme
from pocketface.sdk.bundle import open_bundle
from pocketface.sdk.cli import app
from pocketface.sdk.errors import ConfigError, GateFailedError, UnknownNameError
from pocketface.sdk.geometry import Box, Crop

SHIPPED = Path(__file__).parents[2] / "compression" / "recipes" / "rule68.yaml"
SHORT: dict[str, Any] = {"epochs": 1, "batch_size": 8, "lr": 1e-3}
ALIGN: dict[str, Any] = {
    "model": {"name": "acdc_s", "width": 0.125, "input_size": 32},
    "train": SHORT,
    "augment": {"rotation": 10, "flip": 0.5, "occlusion": 0.0, "noise": 2, "brightness": 10},
}


def raw(**changes: Any) -> dict[str, Any]:
    return {
        "name": "tiny",
        "data": {"name": "drawn", "format": "pts", "train": ["train"], "test": ["test"], "backgrounds": 0},
        "teachers": {"landmarks": {**ALIGN, "model": {**ALIGN["model"], "name": "acdc"}, "lambda_kd": 0.0}},
        "stages": {
            "relocalize": {
                "model": {"name": "relocalizer", "width": 0.125, "input_size": 64},
                "train": SHORT,
                "degrade": "box",
            },
            "uniformize": {
                "model": {"name": "uniformizer_mobile", "width": 0.25, "input_size": 32},
                "train": SHORT,
                "degrade": "light",
                "adversarial": 0.0,
                "features": "teacher-landmarks",
                "perceptual": 0.1,
                "identity": 0.0,
                "pixel": 1.0,
            },
            # Wide enough that its head, which stays in float32, is a small part of it.
            "landmarks": {**ALIGN, "model": {**ALIGN["model"], "width": 0.5}, "train": {**SHORT, "views": 1}},
        },
        "rows": {
            "without hints": {**ALIGN, "lambda_kd": 0.0},
            "with hints": ALIGN,
            "trained degraded": {**ALIGN, "lambda_kd": 0.0, "degrade": "light"},
        },
        "repeats": {"with hints": [1], "without hints": [1]},
        "export": {
            "formats": {"onnx": ["fp32", "w8a8"]},
            "calibration_faces": 8,
            "golden_faces": 2,
            "parity_faces": 4,
        },
        "bench": {"threads": [1], "runs": 3, "warmup": 1},
        "gates": {"max_nme_increase": {"w8a8": 50.0}},
        "weights_licence": "none",
        **changes,
    }


def recipe(**changes: Any) -> ChainRecipe:
    return parse_recipe(raw(**changes), "tiny", ChainRecipe)


@pytest.fixture(scope="module")
def run(drawn_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[ChainContext, ChainResult]:
    context = ChainContext(recipe(), drawn_folder, tmp_path_factory.mktemp("run"), progress=False)
    return context, compress_chain(context)


@pytest.mark.slow
def test_a_run_gives_a_chain_that_verifies_and_runs(run: tuple[ChainContext, ChainResult], drawn_folder: Path):
    context, result = run
    assert result.bundle == context.run / "bundle"
    with open_bundle(result.bundle) as bundle:
        assert [stage.name for stage in bundle.manifest.stages] == ["relocalize", "uniformize", "landmarks"]
        assert bundle.manifest.chains == ("fp32.onnx", "w8a8.onnx")
        assert verify_bundle(bundle).failures() == []
        for chain in bundle.manifest.runs:
            assert chain.metrics["nme"] > 0
            assert set(chain.latency[0].stages) == {"relocalize", "uniformize", "landmarks"}
    image = next((drawn_folder / "test").glob("*.png"))
    (face,) = load(result.bundle)(image)
    assert face.points.shape == (68, 2)
    assert face.pose is not None
    assert face.crop_box is not None
    for name in ("relocalize", "uniformize", "landmarks"):
        assert (context.run / f"{name}.safetensors").is_file()


@pytest.mark.slow
def test_the_rows_share_the_landmark_weights(run: tuple[ChainContext, ChainResult]):
    context, result = run
    assert list(result.measured.degraded) == ["LE", "R-LE", "U-LE", "R-U-LE", "LE, trained degraded"]
    assert all(list(found) == list(ROWS) for found in result.measured.degraded.values())
    hashes = set()
    for row in ("LE", "R-LE", "U-LE"):
        with open_bundle(context.store.root / f".row-{row}") as bundle:
            variant = bundle.manifest.chain(None)[-1][1]
            hashes.add(variant.files[0].sha256)
    with open_bundle(result.bundle) as bundle:
        hashes.add(bundle.manifest.chain(None)[-1][1].files[0].sha256)
    assert len(hashes) == 1
    # Light changes no box and a box no light, but the stage that is there for the other still runs.
    found = result.measured.degraded
    assert len({found[row]["none"].nme for row in ("LE", "R-LE", "U-LE", "R-U-LE")}) == 4


@pytest.mark.slow
def test_what_is_done_is_not_done_again(run: tuple[ChainContext, ChainResult]):
    context, result = run
    before = {path.name for path in context.store.root.iterdir()}
    again = compress_chain(ChainContext(context.recipe, context.data, context.run, progress=False))
    assert {path.name for path in context.store.root.iterdir()} == before
    assert all(not trained.done.fresh for trained in again.networks.values())
    assert again.measured == result.measured


@pytest.mark.slow
def test_a_failed_gate_of_one_stage_ships_no_such_chain(run: tuple[ChainContext, ChainResult]):
    context, _ = run
    strict = recipe(gates={"max_nme_increase": {"w8a8": 50.0}, "max_size_mb": {"w8a8.onnx": 0.0001}})
    with pytest.raises(GateFailedError, match=r"relocalize\.w8a8\.onnx: size"):
        compress_chain(ChainContext(strict, context.data, context.run, progress=False))
    with open_bundle(context.run / "bundle") as bundle:
        assert bundle.manifest.chains == ("fp32.onnx",)
    compress_chain(ChainContext(context.recipe, context.data, context.run, progress=False))


@pytest.mark.slow
def test_the_page_is_made_of_the_stored_figures(run: tuple[ChainContext, ChainResult], tmp_path: Path, capsys):
    context, result = run
    page = tmp_path / "rule.md"
    app(["results", str(context.run), "--page", str(page)], standalone_mode=False)
    text = page.read_text()
    figures = rule.read(tmp_path / "rule.json")
    assert figures.chains == result.measured.accuracy
    assert f"{result.measured.degraded['R-U-LE']['all'].nme:.2f}" in text
    assert "AC-DC-s" in text
    assert "| without hints |" in text
    assert set(figures.speed.rows) == {
        *("teacher-landmarks", "landmarks", "row-without hints", "row-with hints", "row-trained degraded")
    }
    assert figures.speed.reference == "mobilenetv2 224"
    assert figures.speed.latency["mobilenetv2 224"][0].ratio == 1
    shipped = {row.variant: row for row in figures.speed.rows["landmarks"]}
    assert shipped["fp32.onnx"].accuracy.nme == pytest.approx(result.measured.degraded["LE"]["none"].nme)
    assert f"{shipped['w8a8.onnx'].bytes / 1e6:.2f}" in text
    again = tmp_path / "again.md"
    app(["results", str(tmp_path / "rule.json"), "--page", str(again)], standalone_mode=False)
    assert again.read_text().splitlines()[6:] == text.splitlines()[6:]


@pytest.mark.slow
def test_hints_are_judged_by_the_means_over_the_seeds(run: tuple[ChainContext, ChainResult]):
    context, _ = run
    figures = rule.read(context.run / RESULTS)
    found = {row.name: row.accuracy.nme for row in figures.networks if row.accuracy is not None}
    section = rule_page.hints(figures)
    assert [row["row"] for row in section.rows] == ["without hints", "with hints"]
    assert [row["seeds"] for row in section.rows] == ["0, 1"] * 2
    mean = np.mean([found["row-with hints"], found["row-with hints seed 1"]])
    assert section.rows[1]["NME %"].startswith(f"{mean:.3f} (")
    assert found["row-with hints"] != found["row-with hints seed 1"]
    gaps = [found[f"row-without hints{seed}"] - found[f"row-with hints{seed}"] for seed in ("", " seed 1")]
    (line,) = section.verdict
    assert line.startswith("with hints ")
    assert f"{np.mean(gaps):.3f} points of NME" in line
    assert f"better in {sum(gap > 0 for gap in gaps)} of 2 seeds" in line
    assert "row-with hints seed 1" not in figures.speed.rows, "repeats are for the NME alone"


@pytest.mark.slow
def test_the_pictures_of_stage_u_are_measured_and_shown(run: tuple[ChainContext, ChainResult]):
    context, result = run
    figures = rule.read(context.run / RESULTS)
    assert list(figures.restored) == ["input", "uniformize"]
    assert list(figures.restored["uniformize"]) == ["downsample-x8", "light", "all"]
    # By hand, from what the stage is fed.
    trained = result.networks["uniformize"]
    net = trained.load()
    spec = msgspec.structs.replace(trained.spec, degrade="light")
    shown = fed(context.split.test, spec, net, normaliser=context.split.scheme.normaliser)
    made = net(torch.from_numpy(shown.inputs))[0].detach().numpy()
    error = np.square(made - shown.truth).reshape(len(made), -1).mean(1)
    got = figures.restored["uniformize"]["light"]
    assert got.psnr == pytest.approx((-10 * np.log10(error)).mean(), rel=1e-4)
    assert got.ssim < 1
    assert got.distance > 0
    report = (context.run / "report.html").read_text()
    assert report.count("data:image/png;base64,") == 1
    assert f"{got.psnr:.2f}" in report
    assert "Gates" in report


@pytest.mark.slow
def test_one_network_can_be_trained_by_itself(drawn_folder: Path, tmp_path: Path):
    context = ChainContext(recipe(), drawn_folder, tmp_path, progress=False)
    assert list(train_networks(context, ["row-without hints"])) == ["row-without hints"]
    assert {path.name.rpartition("-")[0] for path in context.store.root.iterdir() if path.is_dir()} == {
        "row-without_hints",
        "pose",
    }
    with pytest.raises(UnknownNameError, match="row-nothing"):
        train_networks(context, ["row-nothing"])


def test_pixels_are_refused_before_anything_is_trained(drawn_folder: Path, tmp_path: Path):
    pixels = recipe(export={"formats": {"onnx": ["fp32"]}, "input": "pixels"})
    with pytest.raises(ConfigError, match="pixels"):
        compress_chain(ChainContext(pixels, drawn_folder, tmp_path, progress=False))
    assert list((tmp_path / "stages").iterdir()) == []


def test_the_shipped_recipe_round_trips(tmp_path: Path):
    shipped = load_any(SHIPPED)
    assert isinstance(shipped, ChainRecipe)
    (tmp_path / "again.yaml").write_text(dump_recipe(shipped))
    assert load_any(tmp_path / "again.yaml") == shipped
    assert list(shipped.networks())[:5] == [
        "relocalize",
        "teacher-landmarks",
        "teacher-uniformize",
        "uniformize",
        "landmarks",
    ]
    with pytest.raises(ConfigError, match="is a chain's"):
        load_recipe(SHIPPED)


@pytest.mark.parametrize(
    ("part", "change", "match"),
    [
        ("landmarks", {"lambda_kd": 1.5}, r"lambda_kd: 1\.5"),
        ("landmarks", {"markups": ["5"]}, "68 among them"),
        ("landmarks", {"degrade": "fog"}, "degradation 'fog'"),
        ("landmarks", {"stage_weights": [0.1, 0.2, -1, 1]}, "stage_weights"),
        ("uniformize", {"perceptual": -1.0}, "perceptual"),
        ("relocalize", {"degrade": "fog"}, "degradation 'fog'"),
        ("relocalize", {"degarde": "all"}, "did you mean 'degrade'"),
    ],
)
def test_what_a_recipe_may_not_say(part: str, change: dict[str, Any], match: str):
    stages = raw()["stages"]
    with pytest.raises((ConfigError, UnknownNameError), match=match):
        recipe(stages={**stages, part: {**stages[part], **change}})


@pytest.mark.parametrize(
    ("repeats", "match"),
    [
        ({"fog": [1]}, "row 'fog'"),
        ({"without hints": [1, 1]}, r"repeats\.without hints: seeds 1, 1"),
        ({"without hints": [0]}, "without 0, the run's own"),
    ],
)
def test_repeats_are_of_rows_with_seeds_of_their_own(repeats: dict[str, Any], match: str):
    with pytest.raises((ConfigError, UnknownNameError), match=match):
        recipe(repeats=repeats)


def test_a_stage_may_have_bounds_of_its_own():
    own = recipe(stage_gates={"uniformize": {"max_nme_increase": {"w8a8": 2.0}}})
    assert own.gates_of("uniformize").max_nme_increase == {"w8a8": 2.0}
    assert own.gates_of("landmarks") == own.gates_of("row-without hints") == own.gates
    with pytest.raises(ConfigError, match="hair"):
        recipe(stage_gates={"hair": {}})


def test_rows_are_named_as_in_the_paper():
    assert list(part_rows(["relocalize", "uniformize", "landmarks"])) == ["LE", "R-LE", "U-LE", "R-U-LE"]
    assert list(part_rows(["relocalize", "landmarks"])) == ["LE", "R-LE"]
    assert list(part_rows(["landmarks"])) == ["LE"]


def test_the_correction_gives_the_true_box():
    """Eq 1 by hand: a crop of side 40 about (50, 50), a true box of side 20 about (60, 45)."""
    found = correction(Crop(50, 50, 40), Box(50, 35, 70, 55))
    np.testing.assert_allclose(found, [10 / 40, -5 / 40, 0.5, 0.5])


def test_a_recipe_s_hash_changes_with_its_rows():
    assert recipe_sha256(recipe()) == recipe_sha256(recipe())
    assert recipe_sha256(recipe()) != recipe_sha256(recipe(rows={}, repeats={}))


def test_presets_are_what_the_versions_of_the_trainings_stand_for():
    """Keys of trainings hold a preset's name: whoever changes a range raises the three versions, and then this hash."""
    content = json.dumps({name: spec.to_dict() for name, spec in DEGRADATIONS.items()}, sort_keys=True)
    versions = (train.RELOCALIZE_VERSION, train.UNIFORMIZE_VERSION, train.ALIGN_VERSION)
    assert (versions, hashlib.sha256(content.encode()).hexdigest()[:12]) == ((1, 1, 1), "46b1e738ed2b")


LARGE = {"name": "uniformizer_mobile", "width": 0.25, "input_size": 64}


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"teachers": {}}, r"landmarks: lambda_kd 0\.75 without a teacher"),
        ({"uniformize": {"teacher_weight": 1.0}}, "uniformize: teacher_weight 1 and no teacher"),
        (
            {"teachers": {}, "rows": {}, "repeats": {}, "landmarks": {"lambda_kd": 0.0}},
            "features 'teacher-landmarks' and no teachers.landmarks",
        ),
        ({"uniformize": {"layer_weights": [1.0]}}, "1 layer_weights.*2, one for each layer of teacher-landmarks"),
        ({"uniformize": {"model": {**LARGE, "input_size": 48}}}, "landmarks takes 32 px, stage uniformize gives 48"),
        ({"uniformize": {"model": LARGE}}, "features 'teacher-landmarks' and a teacher 'acdc' at 32 px"),
        ({"landmarks": {"model": {"name": "relocalizer", "input_size": 64}}}, "landmarks: model 'relocalizer'"),
        ({"landmarks": {"model": {"name": "mobilenetv2", "input_size": 32}}}, "landmarks: model 'mobilenetv2'"),
        ({"landmarks": {"model": {"name": "acdc_x", "input_size": 32}}}, "model 'acdc_x'"),
        ({"landmarks": {"model": {"name": "acdc_s", "input_size": 40}}}, "input_size: 40"),
        ({"relocalize": {"degrade": "light"}}, "relocalize: degrade 'light' moves no box"),
        ({"uniformize": {"features": "vgg"}}, "feature network 'vgg'"),
        (
            {"uniformize": {"features": "efficientnet_lite0", "layer_weights": [1.0, 0.5]}},
            "2 layer_weights.*5, one for each",
        ),
        ({"data": {**raw()["data"], "scheme": "wflw98"}}, "98 points"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_trained(changes: dict[str, Any], match: str):
    stages = raw()["stages"]
    stages = {name: {**spec, **changes.get(name, {})} for name, spec in stages.items()}
    wrong = recipe(stages=stages, **{name: value for name, value in changes.items() if name not in stages})
    with pytest.raises((ConfigError, UnknownNameError), match=match):
        check_chain_recipe(wrong, load_scheme(wrong.data.scheme))


@pytest.mark.parametrize("path", sorted(SHIPPED.parent.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_precision_of_a_shipped_recipe_has_a_bound(path: Path):
    """A variant without any bound never passes, which would show after the training."""
    shipped = load_any(path)
    for precisions in shipped.export.formats.values():
        for precision in precisions:
            kept = {"": shipped.gates, **getattr(shipped, "stage_gates", {})}
            for stage, gates in kept.items():
                bounds = tolerances(gates, precision)
                assert bounds.max_tensor_error is not None or bounds.max_nme_increase is not None, (stage, precision)
