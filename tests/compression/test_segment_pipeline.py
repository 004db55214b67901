"""A run of masks from drawn pictures to a bundle, at the smallest size: what it ships, measures, skips and refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from pocketface.benchmarks.data.drawn_labels import write_drawn
from pocketface.benchmarks.data.labelled import labelled_box
from pocketface.benchmarks.papers import masks, masks_page
from pocketface.benchmarks.papers.common import RESULTS
from pocketface.benchmarks.segmentation import Confusion, figures
from pocketface.compression.models.registry import ModelSpec
from pocketface.compression.pipeline.segment.check import check_mask_export, check_segment_recipe
from pocketface.compression.pipeline.segment.context import SegmentContext
from pocketface.compression.pipeline.segment.files import box_scale, calibration_inputs, contract
from pocketface.compression.pipeline.segment.run import MaskResult, compress_masks
from pocketface.compression.pipeline.segment.sheet import labels_mask
from pocketface.compression.pipeline.segment.table import PHOTO, on_screen
from pocketface.compression.pipeline.store import init_key
from pocketface.compression.recipe_file import dump_recipe, load_any, parse_recipe
from pocketface.compression.segment_recipe import SegmentRecipe
from pocketface.converters.reference import torch_run
from pocketface.converters.verify import verify_bundle
from pocketface.sdk.bundle import open_bundle
from pocketface.sdk.classes import load_classes
from pocketface.sdk.cli import app
from pocketface.sdk.errors import ConfigError, GateFailedError, UnknownNameError
from pocketface.sdk.geometry import Box, Crop
from pocketface.sdk.mask_predictor import load_mask
from pocketface.sdk.preprocess import resample

SHIPPED = sorted((Path(__file__).parents[2] / "compression" / "recipes").glob("*.yaml"))
SMALL: dict[str, Any] = {"features": 8, "expansion": 2, "stem": 2, "dense": False}
SHORT: dict[str, Any] = {"epochs": 12, "batch_size": 6, "lr": 1e-2}
VIEWS: dict[str, Any] = {"margin": [0.3, 0.7], "shift_x": 0.05, "shift_y": 0.05, "crop_pad": 0.0, "resize": 0.05}


def net(**changes: Any) -> dict[str, Any]:
    options = {**SMALL, **changes}
    return {
        "model": {"name": "hourglass", "input_size": 64, "options": options},
        "train": SHORT,
        "loss": {"dice": 1.0},
        "augment": VIEWS,
    }


def raw(**changes: Any) -> dict[str, Any]:
    return {
        "name": "tiny",
        "data": {
            "name": "drawn",
            "format": "drawn",
            "classes": "face11",
            "frame": "face",
            "train": ["train"],
            "test": ["test"],
            "val_share": 0.25,
        },
        "teacher": net(features=16),
        "student": {**net(previous=True), "hints": {"logits": 1.0}},
        "rows": {"without previous": {**net(), "hints": {"logits": 1.0}}},
        "repeats": {"without previous": [1]},
        "timed": {
            "wide": {"name": "hourglass", "input_size": 64, "options": {**SMALL, "features": 24, "previous": True}}
        },
        "export": {
            "formats": {"onnx": ["fp32", "w8a8"], "coreml": ["fp32"]},
            "calibration_faces": 4,
            "golden_faces": 3,
            "parity_faces": 4,
        },
        # A network of a few steps is hardly surer of one class than of another.
        "gates": {"max_nme_increase": {"w8a8": 50.0}, "max_relative_error": {"fp32": 1e-4}},
        "bench": {"threads": [1], "runs": 3, "warmup": 1},
        "weights_licence": "none",
        **changes,
    }


def recipe(**changes: Any) -> SegmentRecipe:
    return parse_recipe(raw(**changes), "tiny", SegmentRecipe)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("labelled")
    write_drawn(root / "train", count=24, seed=1, size=96)
    write_drawn(root / "test", count=4, seed=2, size=96)
    return root


@pytest.fixture(scope="module")
def run(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[SegmentContext, MaskResult]:
    context = SegmentContext(recipe(), pictures, tmp_path_factory.mktemp("run"), progress=False)
    return context, compress_masks(context)


@pytest.mark.slow
def test_a_run_gives_a_bundle_that_verifies_and_runs(run: tuple[SegmentContext, MaskResult], pictures: Path):
    context, result = run
    assert result.bundle == context.run / "bundle"
    with open_bundle(result.bundle) as bundle:
        stage = bundle.manifest.stages[0]
        assert [variant.id for variant in stage.variants] == ["fp32.onnx", "w8a8.onnx", "fp32.coreml"]
        assert verify_bundle(bundle, faces=context.split.test).failures() == []
        assert stage.preprocess.box_scale == pytest.approx(1.6)  # 1 + 0.3 + 0.7 of the tight box, 1.25 times it given
        assert stage.states[0].handed == "softmax"
        for variant in stage.variants:
            assert 0 < variant.metrics["miou"] < 100
            assert {item.threads for item in variant.latency} == ({1} if variant.format == "onnx" else set())
    picture = context.split.test[0]
    image, labels = picture.read()
    masks_found = load_mask(result.bundle)(image, [labelled_box(labels, context.split.classes)])
    assert masks_found[0].labels.shape == labels.shape
    assert (context.run / "student.safetensors").is_file()
    assert b"Test pictures" in (context.run / "report.html").read_bytes()


@pytest.mark.slow
def test_the_figures_are_those_of_the_runtime(run: tuple[SegmentContext, MaskResult]):
    context, result = run
    found = masks.read(context.run / RESULTS)
    assert [row.name for row in found.networks] == [
        "teacher", "student", "row-without previous", "row-without previous seed 1",
    ]  # fmt: skip
    predictor, counts = load_mask(result.bundle), Confusion(context.split.classes.names)
    for picture in context.split.test:
        image, labels = picture.read()
        (mask,) = predictor(image, [labelled_box(labels, context.split.classes)], cut=True)
        counts.add(mask.labels, labels)
    own = figures(counts)
    assert found.networks[1].accuracy.whole.miou == pytest.approx(own.miou)
    assert found.variants[0].accuracy.whole.miou == pytest.approx(own.miou)
    assert np.mean(found.networks[1].accuracy.each) == pytest.approx(own.miou_per_image)


@pytest.mark.slow
def test_a_previous_mask_is_held_against_the_network_without(run: tuple[SegmentContext, MaskResult]):
    context, _ = run
    found = masks.read(context.run / RESULTS)
    assert set(found.video) == {"student", "row-without previous", "student w8a8.onnx"}
    assert set(found.settled) == {"student", "student w8a8.onnx"}
    for rows in found.video.values():
        assert rows["noisy"].flicker != rows["clean"].flicker
        assert rows["clean"].floor == rows["noisy"].floor
    floors = {rows["clean"].floor.overall for rows in found.video.values()}
    assert len(floors) == 1  # the same movement of the same pictures


@pytest.mark.slow
def test_everything_is_timed_beside_a_network_that_everyone_knows(run: tuple[SegmentContext, MaskResult]):
    context, _ = run
    found = masks.read(context.run / RESULTS)
    assert list(found.speed.latency) == [
        "mobilenetv2 224", "teacher", "student", "row-without previous", "student w8a8.onnx", "wide (untrained)",
    ]  # fmt: skip
    assert found.speed.latency["mobilenetv2 224"][0].ratio == 1
    assert set(found.speed.peak_mb) == set(found.speed.latency)
    assert {(row.name, row.effect) for row in found.steps} == {
        (name, effect) for name in ("student", "student w8a8.onnx") for effect in ("hair dye", "lipstick")
    }
    assert all(row.inference > 0 and row.colour > 0 for row in found.steps)


@pytest.mark.slow
def test_what_is_done_is_not_done_again(run: tuple[SegmentContext, MaskResult]):
    context, _ = run
    before = {path.name for path in context.store.root.iterdir()}
    again = compress_masks(SegmentContext(context.recipe, context.data, context.run, progress=False))
    assert {path.name for path in context.store.root.iterdir()} == before
    assert not any(item.done.fresh for item in again.networks.values())


@pytest.mark.slow
def test_the_page_comes_from_the_stored_figures(
    run: tuple[SegmentContext, MaskResult], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    context, _ = run
    page = tmp_path / "parsing.md"
    assert app(["results", str(context.run), "--page", str(page)], standalone_mode=False) in (0, None)
    text = page.read_text()
    page.unlink()
    masks_page.write(masks.read(page.with_suffix(".json")), page)
    assert page.read_text() == text
    assert "previous mask" in text.lower()


@pytest.mark.slow
def test_a_bound_that_is_not_kept_ships_nothing_of_that_variant(run: tuple[SegmentContext, MaskResult]):
    context, _ = run
    gates = {"max_tensor_error": {"fp32": 1e-4, "w8a8": 0.0}, "max_relative_error": {"fp32": 1e-4}, "max_nme": 99.9}
    strict = recipe(gates=gates)
    with pytest.raises(GateFailedError, match=r"w8a8\.onnx"):
        compress_masks(SegmentContext(strict, context.data, context.run, progress=False))
    found = masks.read(context.run / RESULTS)
    assert list(found.left_out) == ["w8a8.onnx"]
    assert [row.id for row in found.variants] == ["fp32.onnx", "fp32.coreml"]
    with open_bundle(context.run / "bundle") as bundle:
        assert [variant.id for variant in bundle.manifest.stages[0].variants] == ["fp32.onnx", "fp32.coreml"]
    impossible = msgspec.structs.replace(strict, gates=msgspec.structs.replace(strict.gates, max_nme=1e-6))
    (context.run / "bundle" / "manifest.json").unlink()
    with pytest.raises(GateFailedError, match=r"mIoU on the test pictures.*of an earlier run"):
        compress_masks(SegmentContext(impossible, context.data, context.run, progress=False))
    assert not (context.run / "bundle" / "manifest.json").exists()


@pytest.mark.slow
def test_a_student_that_is_not_what_torch_says_ends_the_run_by_name(run: tuple[SegmentContext, MaskResult]):
    context, _ = run
    gates = {"max_tensor_error": {"fp32": 0.0}, "max_relative_error": {"fp32": 0.0}}
    with pytest.raises(GateFailedError, match=r"student fp32\.onnx: .*Nothing was measured"):
        compress_masks(SegmentContext(recipe(gates=gates), context.data, context.run, progress=False))


@pytest.mark.slow
def test_half_of_the_calibration_begins_a_video(run: tuple[SegmentContext, MaskResult]):
    context, result = run
    own = result.networks["student"]
    stage = contract(own.load(), context.split.classes, box_scale=box_scale(context, own))
    shown: Any = calibration_inputs(torch_run(own.load()), stage, context.split.train[:4])
    before = shown.others["previous"]
    assert before.shape == (4, 11, 64, 64)
    assert not before[::2].any()
    np.testing.assert_allclose(before[1::2].sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"export": {"formats": {"onnx": ["fp32"]}, "input": "pixels"}}, "pixels"),
        ({"export": {"formats": {"onnx": ["w8a8"]}}}, "fp32"),
        ({"export": {"formats": {"onyx": ["fp32"]}}}, "onyx"),
        ({"export": {"formats": {"coreml": ["fp32"]}}}, "nothing here can run them"),
        ({"gates": {"allow_unverified": ["fp32.onx"]}}, r"fp32\.onx"),
        ({"export": {"formats": {"onnx": ["fp32"]}, "golden_faces": 1}}, "shown the frame before"),
    ],
)
def test_what_cannot_be_exported_is_refused_before_anything_is_trained(
    changes: dict[str, Any], word: str, pictures: Path, tmp_path: Path
):
    with pytest.raises((ConfigError, UnknownNameError), match=word):
        compress_masks(SegmentContext(recipe(**changes), pictures, tmp_path / "run", progress=False))
    assert not list((tmp_path / "run" / "stages").iterdir())


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_the_shipped_recipes_fit_together(path: Path):
    shipped = load_any(path)
    if isinstance(shipped, SegmentRecipe):
        check_mask_export(shipped)
        check_segment_recipe(shipped, load_classes(shipped.data.classes))


@pytest.mark.parametrize("rows", [["a/b"], ["a", "A"], ["teacher"], ["a seed 1"], ["a_b"], ["../x"]])
def test_rows_have_names_that_can_be_folders(rows: list[str]):
    with pytest.raises(ConfigError, match="rows"):
        recipe(rows={name: net() for name in rows}, repeats={})


@pytest.mark.parametrize(
    ("part", "changes", "word"),
    [
        ("bench", {"threads": []}, r"bench\.threads"),
        ("bench", {"threads": [2, 2]}, r"bench\.threads"),
        ("bench", {"runs": 0}, r"bench\.runs"),
        ("bench", {"warmup": -1}, r"bench\.warmup"),
        ("export", {"parity_faces": 0}, r"export\.parity_faces"),
        ("export", {"calibration_faces": 0}, r"export\.calibration_faces"),
    ],
)
def test_what_could_only_fail_at_the_end_is_refused_at_once(part: str, changes: dict[str, Any], word: str):
    with pytest.raises(ConfigError, match=word):
        recipe(**{part: {**raw()[part], **changes}})


def test_a_file_that_training_begins_with_is_part_of_its_key(tmp_path: Path):
    path = tmp_path / "w.pth"
    path.write_bytes(b"one")
    spec = ModelSpec(name="mobilenetv2", init=str(path))
    first = init_key(spec)
    path.write_bytes(b"two")
    assert first != init_key(spec) != {}
    assert init_key(ModelSpec(name="mobilenetv2", init="package")) == {}


def test_a_recipe_of_faces_is_not_looked_at_as_whole_pictures(pictures: Path, tmp_path: Path):
    data = {**raw()["data"], "frame": "image"}
    with pytest.raises(ConfigError, match="frame"):
        compress_masks(SegmentContext(recipe(data=data), pictures, tmp_path / "run", progress=False))


def test_a_frame_of_the_steps_shows_the_picture_where_the_box_says(pictures: Path, tmp_path: Path):
    context = SegmentContext(recipe(), pictures, tmp_path / "run", progress=False)
    image, labels = context.split.test[0].read()
    frame, box = on_screen(image, labels, context.split.classes)
    assert frame.shape == (PHOTO[1], PHOTO[0], 3)
    given = labelled_box(labels, context.split.classes)
    seen = resample(frame, Crop.from_box(box), 48)
    wanted = resample(image, Crop.from_box(given), 48)
    assert np.abs(seen - wanted).mean() < 4  # the same view, but for bicubic enlarging


def test_labels_are_drawn_as_masks_are(pictures: Path, tmp_path: Path):
    context = SegmentContext(recipe(), pictures, tmp_path / "run", progress=False)
    labels = np.full((6, 9), 255, np.uint8)
    labels[1:5, 2:8] = 2
    mask = labels_mask(labels, Box.of_image(9, 6), context.split.classes)
    np.testing.assert_allclose(mask.soft["hair"], labels == 2, atol=1e-6)
    assert mask.labels.shape == labels.shape


def test_the_recipe_goes_through_yaml_and_the_command_line_tells_where_everything_is(
    run: tuple[SegmentContext, MaskResult], pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    context, _ = run
    path = tmp_path / "tiny.yaml"
    path.write_text(dump_recipe(recipe()))
    app(
        ["compress", str(path), "--data", str(pictures), "--out", str(context.run), "--json", "-", "--quiet"],
        standalone_mode=False,
    )
    shown = json.loads(capsys.readouterr().out)
    assert shown["kind"] == "masks"
    assert shown["default"] == "fp32.onnx"
