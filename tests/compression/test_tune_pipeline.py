"""A run whose quantizer's settings are tried, and whose calibration faces are spread over light."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny import SHORT, tiny_recipe

from pocketface.benchmarks.data.fingerprint import dataset_hash
from pocketface.compression.pipeline import export
from pocketface.compression.pipeline.calibration import calibration_faces, calibration_set
from pocketface.compression.pipeline.check import check_recipe, refuse_searches
from pocketface.compression.pipeline.context import Context
from pocketface.compression.pipeline.inputs import reference_pixels
from pocketface.compression.pipeline.run import RunResult, run_recipe
from pocketface.compression.pipeline.tune import Tried, Tuning, combinations, tune, tuning_of
from pocketface.compression.recipe import Recipe
from pocketface.converters.formats.base import ConversionError
from pocketface.converters.parity import measure
from pocketface.sdk.bundle import open_bundle
from pocketface.sdk.errors import ConfigError, UnknownNameError

VALUES: dict[str, Any] = {"calibration": ("minmax", "percentile", "entropy"), "float_first": (True, False)}


def recipe(**changes: Any) -> Recipe:
    plain: dict[str, Any] = {
        "formats": {"onnx": ["fp32", "w8a8"]},
        "tune": {"onnx.w8a8": VALUES},
        "calibration_faces": 8,
        "calibration_by": ["light"],
        "golden_faces": 1,
        "parity_faces": 4,
    }
    return tiny_recipe(
        {
            "export": {**plain, **changes},
            "bench": {"threads": [1], "runs": 3, "warmup": 1},
            "gates": {"max_nme_increase": {"w8a8": 50.0}},
        },
        loss={"name": "l1"},
        train=SHORT,
    )


@pytest.fixture(scope="module")
def run(drawn_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Context, RunResult]:
    context = Context(recipe(), drawn_folder, tmp_path_factory.mktemp("run"), progress=False)
    return context, run_recipe(context)


@pytest.mark.slow
def test_the_settings_that_cost_least_are_taken(run: tuple[Context, RunResult]):
    context, result = run
    item = next(item for item in result.candidates if item.id == "w8a8.onnx")
    found = tuning_of(item.exported)
    assert found is not None
    assert [one.settings for one in found.tried] == combinations(VALUES)
    made = [one for one in found.tried if one.increase is not None]
    assert len({one.increase for one in made}) > 1, "they make a difference"
    assert all(("failed" in one.problem) == (one.increase is None) for one in found.tried)
    best = min(made, key=lambda one: one.increase or 0)
    assert best.increase is not None
    config = json.loads(item.exported.quantization["config"])
    assert {key: config[key] for key in VALUES} == best.settings
    subject = export.student_subject(context, result.lineage[-1])
    assert subject.faces is not None
    again = measure(item.exported, faces=subject.faces(0), normaliser=subject.normaliser)
    assert again is not None
    assert again.nme_increase == pytest.approx(best.increase, abs=1e-4)
    assert not list(item.exported.path.parent.glob("trial*")), "nothing of the search is left"
    plain = next(item for item in result.candidates if item.id == "fp32.onnx")
    assert tuning_of(plain.exported) is None


@pytest.mark.slow
def test_the_file_says_on_which_faces_it_was_calibrated(run: tuple[Context, RunResult]):
    context, result = run
    chosen = calibration_faces(context)
    found = calibration_set(context)
    assert [face.name for face in chosen] == list(found.faces)
    assert len(chosen) == 8
    assert result.bundle is not None
    with open_bundle(result.bundle) as bundle:
        notes = {variant.id: variant.quantization for variant in bundle.manifest.stages[0].variants}
    assert notes["w8a8.onnx"]["calibration"] == found.name
    assert "light" in found.name
    assert notes["w8a8.onnx"]["calibration_sha256"] == dataset_hash(chosen)
    assert "calibration" not in notes["fp32.onnx"]


@pytest.mark.slow
def test_they_are_spread_more_evenly_than_by_default(run: tuple[Context, RunResult]):
    context, _ = run
    faces = context.split.train
    light = {face.name: float(reference_pixels([face], 32).mean()) for face in faces}
    edges = np.linspace(min(light.values()), max(light.values()), 5)
    counts = np.histogram([light[face.name] for face in calibration_faces(context)], edges)[0]
    every = np.histogram(list(light.values()), edges)[0]
    assert counts.min() >= min(1, every.min())
    assert counts.max() - counts.min() <= every.max() - every.min()


def test_a_search_that_was_killed_goes_on(tmp_path: Path):
    asked: list[Any] = []

    def trial(settings: Any) -> float:
        asked.append(settings)
        if len(asked) == 2:
            raise KeyboardInterrupt
        return float(settings["a"])

    with pytest.raises(KeyboardInterrupt):
        tune("onnx.w8a8", {"a": (3, 1, 2)}, tmp_path, trial, progress=False)
    found = tune("onnx.w8a8", {"a": (3, 1, 2)}, tmp_path, trial, progress=False)
    assert asked == [{"a": 3}, {"a": 1}, {"a": 1}, {"a": 2}]
    assert found.best == Tried(settings={"a": 1}, increase=1.0)


def test_a_combination_that_gives_no_file_is_told_and_left_out(tmp_path: Path):
    def trial(settings: Any) -> float:
        if settings["a"] < bad:
            raise ConversionError(f"{settings['a']} failed", next="Take another")
        return float(settings["a"])

    bad = 2
    found = tune("onnx.w8a8", {"a": (1, 3, 2)}, tmp_path, trial, progress=False)
    assert [(one.increase, one.problem) for one in found.tried] == [(None, "1 failed"), (3.0, ""), (2.0, "")]
    assert found.best.settings == {"a": 2}
    bad = 9
    (tmp_path / "onnx.w8a8.trials.json").unlink()
    with pytest.raises(ConversionError, match="2 failed"):
        tune("onnx.w8a8", {"a": (1, 3, 2)}, tmp_path, trial, progress=False)


def test_of_equal_ones_the_first_is_taken():
    tried = tuple(Tried(settings={"a": value}, increase=0.5) for value in (1, 2))
    assert Tuning(tried=tried).best.settings == {"a": 1}


def test_what_cannot_be_tried_is_refused_before_anything_is_trained():
    for changes, error, words in (
        ({"tune": {"onnx.w8a8": {"calibration": ["best"]}}}, ConfigError, "calibration"),
        ({"tune": {"onnx.w8a8": {"calibratoin": ["minmax"]}}}, ConfigError, "calibration"),
        ({"tune": {"onnx.w9": {"a": [1]}}}, UnknownNameError, "w9"),
        ({"tune": {"tflite.w8a8": {"float_first": [True]}}}, ConfigError, "tflite"),
        ({"calibration_by": ["mood"]}, ConfigError, "pose, light"),
    ):
        with pytest.raises(error, match=words):
            check_recipe(recipe(**changes))
    with pytest.raises(ConfigError, match="empty"):
        recipe(tune={"onnx.w8a8": {"calibration": []}})
    for changes in ({"tune": {}}, {"calibration_by": []}):
        with pytest.raises(ConfigError, match="one landmark network"):
            refuse_searches(recipe(**changes).export)
    refuse_searches(recipe(tune={}, calibration_by=[]).export)
