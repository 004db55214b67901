"""Sweeps: every student's recipe is the base's with its own settings, and mistakes are named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from tiny import tiny_recipe

from pocketface.compression.recipe_file import dump_recipe, parse_recipe
from pocketface.compression.sweep_recipe import SweepRecipe, load_sweep
from pocketface.sdk.errors import ConfigError


@pytest.fixture
def base(tmp_path: Path) -> Path:
    path = tmp_path / "base.yaml"
    path.write_text(dump_recipe(tiny_recipe()))
    return path


def write(folder: Path, **changes: Any) -> Path:
    path = folder / "sweep.yaml"
    path.write_text(yaml.safe_dump({"name": "sweep", "base": "base.yaml", **changes}, sort_keys=False))
    return path


def test_students_by_name(base: Path):
    path = write(
        base.parent,
        students={
            "as it is": {},
            "wider": {"student": {"model": {"width": 0.5}}},
            "pruned": {"prune": {"options": {"keep_flops": 0.5}, "train": {"epochs": 1}}},
            "other formats": {"export": {"formats": {"tflite": ["fp32"]}}},
        },
    )
    sweep, base_recipe, found = load_sweep(path)
    plain = tiny_recipe()
    assert base_recipe == plain
    assert list(found) == list(sweep.students)
    assert found["as it is"] == msgspec.structs.replace(plain, name="sweep, as it is")
    wider = found["wider"].student
    assert wider == msgspec.structs.replace(
        plain.student, model=msgspec.structs.replace(plain.student.model, width=0.5)
    )
    assert found["pruned"].prune is not None
    assert found["other formats"].export.formats == {"onnx": ("fp32",), "tflite": ("fp32",)}, "merged, not replaced"
    assert found["as it is"].export == plain.export, "one student's settings are not another's"


def test_a_grid_gives_every_combination(base: Path):
    path = write(
        base.parent, grid={"student.model.width": [0.25, 0.5], "student.model.input_size": [32, 64]}, students={"x": {}}
    )
    found = load_sweep(path).students
    sizes = {name: (r.student.model.width, r.student.model.input_size) for name, r in found.items() if name != "x"}
    assert sizes == {
        "width 0.25 input-size 32": (0.25, 32),
        "width 0.25 input-size 64": (0.25, 64),
        "width 0.5 input-size 32": (0.5, 32),
        "width 0.5 input-size 64": (0.5, 64),
    }


def test_a_grid_over_seeds(base: Path):
    found = load_sweep(write(base.parent, grid={"student.model.width": [0.25], "seed": [0, 1]})).students
    assert {name: recipe.seed for name, recipe in found.items()} == {"width 0.25 seed 0": 0, "width 0.25 seed 1": 1}


def test_the_shipped_sweeps_can_be_read():
    folder = Path(__file__).parents[2] / "compression" / "recipes" / "sweeps"
    shipped = sorted(folder.glob("*.yaml"))
    assert shipped
    for path in shipped:
        found = load_sweep(path).students
        assert found


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "no students"),
        ({"students": {"x": {"student": {"modle": {}}}}}, r"student x.*modle.*did you mean 'model'"),
        ({"students": {"x": {}}, "grit": {}}, r"grit.*did you mean 'grid'"),
        ({"students": {"x": {}}, "base": "nothing.yaml"}, "no such file"),
        ({"students": {"x/y": {}}}, "students: 'x/y'"),
        ({"students": {"x": {}, "X": {}}}, "differ in letters"),
        ({"students": {"x": {"data": {"test": ["train"]}}}}, "student x: data"),
        ({"grid": {"student.model.width": []}}, "width"),
        ({"grid": {"student.model.width": [0.5, 0.5]}}, "each once"),
        ({"students": {"x": {}}, "choose": {"threads": 4}}, "threads"),
        ({"students": {"x": {}}, "choose": {"max_mb": -1.0}}, "max_mb"),
        ({"students": {"x": {}}, "schema": 2}, "schema"),
    ],
)
def test_mistakes_are_named(base: Path, changes: dict[str, Any], message: str):
    with pytest.raises(ConfigError, match=message):
        load_sweep(write(base.parent, **changes))


def test_a_base_of_another_kind_is_refused(base: Path):
    base.write_text((Path(__file__).parents[2] / "compression" / "recipes" / "rule68.yaml").read_text())
    with pytest.raises(ConfigError, match="chain"):
        load_sweep(write(base.parent, students={"x": {}}))


def test_its_text_holds_both_files(base: Path):
    sweep = load_sweep(write(base.parent, students={"x": {"student": {"model": {"width": 0.5}}}}))
    own, other = yaml.safe_load_all(sweep.text)
    assert msgspec.convert(own, SweepRecipe) == sweep.spec
    assert parse_recipe(other) == sweep.base
