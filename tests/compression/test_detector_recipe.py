"""The detector's recipe: read, checked, and the one that ships."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from pocketface.compression.detector_recipe import load_detector_recipe
from pocketface.sdk.errors import ConfigError

RECIPE = Path(__file__).parents[2] / "compression" / "recipes" / "detectors" / "face-detector.yaml"


def written(path: Path, **changes: object) -> Path:
    raw = yaml.safe_load(RECIPE.read_text())
    path.write_text(yaml.safe_dump(raw | changes))
    return path


def test_the_recipe_that_ships_is_sound() -> None:
    recipe = load_detector_recipe(RECIPE)
    assert recipe.default in recipe.ship
    assert recipe.default.endswith("onnx")
    assert {id.partition(".")[2] for id in recipe.ship} >= {"onnx", "tflite", "coreml", "executorch"}
    assert recipe.gates.max_mb <= 0.6
    assert load_detector_recipe(RECIPE, ("gates.max_mb=0.5",)).gates.max_mb == 0.5


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"ship": ["w4.onnx"]}, "not made"),
        ({"default": "fp32.onnx"}, "not shipped"),
        ({"formats": {"onnx": ["fp32", "pal4"]}}, "no precision"),
        ({"gates": {"max_tensor_error": {"fp32": 1.0}, "max_box_error_increase": {}}}, "none for"),
        ({"golden_cases": 0}, "1 or more"),
        ({"bundel": 1}, "bundel"),
    ],
)
def test_contradictions_are_refused(tmp_path: Path, changes: dict[str, object], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        load_detector_recipe(written(tmp_path / "r.yaml", **changes))
