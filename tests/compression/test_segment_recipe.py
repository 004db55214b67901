"""Recipes of masks: read, refused, trained by name from the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from pocketface.benchmarks.data.drawn_labels import write_drawn
from pocketface.compression.pipeline.segment.context import SegmentContext
from pocketface.compression.pipeline.segment.train import check_segment_recipe, segment_networks
from pocketface.compression.recipe_file import dump_recipe, load_any, load_recipe, parse_recipe
from pocketface.compression.segment_recipe import SegmentRecipe
from pocketface.compression.training.labelled import read_labelled_split
from pocketface.sdk.classes import load_classes
from pocketface.sdk.cli import app
from pocketface.sdk.errors import BadInputError, ConfigError, UnknownNameError

TINY: dict[str, Any] = {
    "model": {"name": "hourglass", "input_size": 32, "options": {"features": 4, "expansion": 2, "dense": False}},
    "train": {"epochs": 1, "batch_size": 4},
}


def raw(**changes: Any) -> dict[str, Any]:
    return {
        "name": "masks",
        "data": {
            "name": "drawn", "format": "drawn", "classes": "hair2", "val_share": 0.3,
            "train": ["train"], "test": ["test"],
        },
        "teacher": TINY,
        "student": {**TINY, "hints": {"logits": 1.0}},
        "rows": {"without hints": TINY},
        "repeats": {"without hints": [1]},
        "export": {"formats": {"onnx": ["fp32"]}},
        "weights_licence": "none",
        **changes,
    }  # fmt: skip


def recipe(**changes: Any) -> SegmentRecipe:
    return parse_recipe(raw(**changes), "masks", SegmentRecipe)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("labelled")
    write_drawn(root / "train", count=12, seed=1, size=48)
    write_drawn(root / "test", count=2, seed=2, size=48)
    return root


def test_a_recipe_of_masks_is_told_from_the_others_and_round_trips(tmp_path: Path):
    (tmp_path / "masks.yaml").write_text(yaml.safe_dump(raw()))
    found = load_any(tmp_path / "masks.yaml")
    assert found == recipe()
    assert isinstance(found, SegmentRecipe)
    (tmp_path / "again.yaml").write_text(dump_recipe(found))
    assert load_any(tmp_path / "again.yaml") == found
    with pytest.raises(ConfigError, match="is for masks"):
        load_recipe(tmp_path / "masks.yaml")


def test_networks_are_trained_by_name_and_their_teacher_first(folder: Path, tmp_path: Path):
    context = SegmentContext(recipe(), folder, tmp_path, progress=False)
    assert list(context.recipe.networks()) == ["teacher", "student", "row-without hints", "row-without hints seed 1"]
    done = segment_networks(context, ["student"])
    assert list(done) == ["teacher", "student"]
    again = segment_networks(SegmentContext(recipe(), folder, tmp_path, progress=False))
    assert [name for name, trained in again.items() if not trained.done.fresh] == ["teacher", "student"]
    a, b = (again[name].load().state_dict() for name in ("row-without hints", "row-without hints seed 1"))
    assert any((a[name] != b[name]).any() for name in a), "another seed, other weights"
    assert again["student"].history[0]["logits_hint_loss"] >= 0


def test_the_command_trains_one_network(folder: Path, tmp_path: Path):
    (tmp_path / "masks.yaml").write_text(yaml.safe_dump(raw()))
    given = ["train", str(tmp_path / "masks.yaml"), "--data", str(folder), "--out", str(tmp_path / "run"), "--quiet"]
    found = CliRunner().invoke(app, [*given, "--network", "row-without hints"])
    assert found.exit_code == 0, found.output
    assert "row-without hints: " in found.output
    wrong = CliRunner().invoke(app, [*given, "--network", "row-fog"])
    assert wrong.exit_code == 2
    assert "row-fog" in wrong.output
    ablation = CliRunner().invoke(app, ["ablate", *given[1:]])
    assert ablation.exit_code == 2
    assert "for masks" in ablation.output


def test_a_split_keeps_pictures_apart(folder: Path):
    split = read_labelled_split(recipe().data, folder)
    names = [{entry.name for entry in part} for part in (split.train, split.validation, split.test)]
    assert sum(map(len, names)) == len(set.union(*names)) == 14
    fewer = read_labelled_split(recipe(data={**raw()["data"], "limit": 4}).data, folder)
    assert len(fewer.train) == 4
    both = recipe(data={**raw()["data"], "test": ["train"]}).data
    with pytest.raises(BadInputError, match=r"in both data\.train and data\.test"):
        read_labelled_split(both, folder)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"teacher": None}, "student: hints, and no teacher"),
        ({"repeats": {"fog": [1]}}, "row 'fog'"),
        ({"repeats": {"student": [0]}}, "without 0, the run's own"),
        ({"rows": {"teacher": TINY}, "repeats": {}}, "rows: 'teacher'"),
        ({"data": {**raw()["data"], "train": []}}, "data.train is empty"),
        ({"data": {**raw()["data"], "val_share": 1.0}}, "data.val_share: 1"),
        ({"student": {**TINY, "hnits": {}}}, "did you mean 'hints'"),
    ],
)
def test_what_a_recipe_may_not_say(changes: dict[str, Any], match: str):
    with pytest.raises((ConfigError, UnknownNameError), match=match):
        recipe(**changes)


@pytest.mark.parametrize(
    ("student", "match"),
    [
        ({"model": {"name": "fog"}}, "'fog'"),
        ({"model": {"name": "acdc_s", "input_size": 32}}, "a network of masks"),
        ({"loss": {"class_weights": [1.0, 2.0, 3.0]}}, "student: 3 class_weights"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_trained(student: dict[str, Any], match: str):
    wrong = recipe(student={**TINY, **student})
    with pytest.raises((ConfigError, UnknownNameError), match=match):
        check_segment_recipe(wrong, load_classes("hair2"))
