from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
import yaml
from tiny import tiny_recipe

import pocketface.compression.recipes as recipes_package
from pocketface.compression.recipe_file import dump_recipe, load_any, load_recipe, parse_recipe, recipe_sha256
from pocketface.sdk.errors import ConfigError

SHIPPED = sorted(Path(recipes_package.__path__[0]).glob("*.yaml"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_recipes_round_trip(path: Path, tmp_path: Path):
    recipe = load_any(path)
    (tmp_path / "again.yaml").write_text(dump_recipe(recipe))
    again = load_any(tmp_path / "again.yaml")
    assert again == recipe
    assert recipe_sha256(again) == recipe_sha256(recipe)
    assert msgspec.json.decode(msgspec.json.encode(recipe), type=type(recipe)) == recipe


def raw() -> dict:
    return yaml.safe_load(SHIPPED[0].read_text())


@pytest.mark.parametrize(
    ("where", "wrong", "right"),
    [((), "studnet", "student"), (("student", "train"), "epoch", "epochs"), (("augment",), "rotaton", "rotation")],
)
def test_a_misspelt_key_is_refused_with_the_nearest(where, wrong, right):
    data = raw()
    node = data
    for key in where:
        node = node[key]
    node[wrong] = node.pop(right) if right in node else 1
    with pytest.raises(ConfigError, match=rf"{wrong}.*did you mean '{right}'"):
        parse_recipe(data)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("student.train.epochs", "'many'", "epochs"),
        ("student.target", "medium", "medium"),
        ("student.loss.name", "l3", "l3"),
        ("student.loss.phi", "-1", "phi"),
        ("schema", "9", "9"),
    ],
)
def test_wrong_values_are_named(key: str, value: str, message: str):
    with pytest.raises(ConfigError if message != "l3" else Exception, match=message) as caught:
        load_recipe(SHIPPED[0], (f"{key}={value}",))
    assert getattr(caught.value, "exit_code", None) == 2


def test_overrides_change_one_value():
    plain, changed = load_recipe(SHIPPED[0]), load_recipe(SHIPPED[0], ("student.train.epochs=3",))
    assert changed.student.train.epochs == 3
    assert msgspec.structs.replace(changed, student=plain.student) == plain


@pytest.mark.parametrize("override", ["student.train", "=3", "nowhere.epochs=3", "name.x=1"])
def test_overrides_that_name_nothing_are_refused(override: str):
    with pytest.raises(ConfigError):
        load_recipe(SHIPPED[0], (override,))


def test_a_missing_recipe_lists_its_neighbours():
    with pytest.raises(ConfigError, match=SHIPPED[0].name):
        load_recipe(SHIPPED[0].with_name("missing.yaml"))


def test_broken_yaml_is_one_line(tmp_path: Path):
    (tmp_path / "broken.yaml").write_text("a: [1, 2\nb: }")
    with pytest.raises(ConfigError) as caught:
        load_recipe(tmp_path / "broken.yaml")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("gates", "words"),
    [
        ({"max_size_mb": {"fp23": 16}}, r"gates\.max_size_mb: 'fp23', expected a precision, or one variant"),
        ({"max_size_mb": {"w8a8.tflit": 1}}, r"gates\.max_size_mb: 'w8a8\.tflit'"),
        ({"max_size_mb": {"fp16": -8}}, r"gates\.max_size_mb\.fp16: -8, expected a finite number, 0 or more"),
        (
            {"max_nme_increase": {"w8a8.tflite": 1}},
            r"'w8a8\.tflite', expected a precision\. Valid",
        ),
        ({"max_latency_ratio": {"w8a8": float("nan")}}, r"gates\.max_latency_ratio\.w8a8: nan"),
    ],
)
def test_gates_that_would_never_be_checked_are_refused(gates, words):
    with pytest.raises(ConfigError, match=words):
        tiny_recipe({"gates": gates})


def test_size_budgets_name_precisions_or_variants():
    assert tiny_recipe({"gates": {"max_size_mb": {"w8a8": 5, "fp32.coreml": 16}}}).gates.max_size_mb["w8a8"] == 5
