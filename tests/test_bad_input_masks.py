"""Labelled pictures that cannot be used, through the command line: one clear line that names the file, and no half-made
run.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from pocketface.benchmarks.data.drawn_labels import write_drawn
from pocketface.sdk import cli

RECIPE = """
name: tiny
data: {{name: drawn, format: drawn, classes: face11, frame: face, train: [train], test: [test], val_share: 0.25{more}}}
student:
  model: {{name: hourglass, input_size: 32, options: {{features: 8, expansion: 2, stem: 2, dense: false}}}}
  train: {{epochs: 1, batch_size: 4}}
export: {{formats: {{onnx: [fp32]}}, calibration_faces: 4, golden_faces: 2, parity_faces: 2}}
bench: {{threads: [1], runs: 2, warmup: 1}}
weights_licence: none
"""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_drawn(tmp_path / "data" / "train", count=12, seed=1, size=48)
    write_drawn(tmp_path / "data" / "test", count=2, seed=2, size=48)
    return tmp_path / "data"


def train(folder: Path, *arguments: str, more: str = "") -> Result:
    recipe = folder.parent / "tiny.yaml"
    recipe.write_text(RECIPE.format(more=more))
    given = ["train", str(recipe), "--data", str(folder), "--out", str(folder.parent / "run"), "--quiet", *arguments]
    return CliRunner().invoke(cli.app, given)


def another_size(folder: Path) -> None:
    path = folder / "train" / "labels" / "00003.png"
    Image.fromarray(np.zeros((40, 48), np.uint8)).save(path)


def another_class(folder: Path) -> None:
    path = folder / "train" / "labels" / "00003.png"
    values = np.array(Image.open(path))
    values[10, 20] = 77
    Image.fromarray(values).save(path)


def missing_label(folder: Path) -> None:
    (folder / "train" / "labels" / "00003.png").unlink()


def no_face(folder: Path) -> None:
    path = folder / "train" / "labels" / "00003.png"
    Image.fromarray(np.zeros((48, 48), np.uint8)).save(path)


FAULTS: list[tuple[Callable[[Path], None], str]] = [
    (another_size, "a mask of 48 x 40 pixels"),
    (another_class, "value 77 at pixel x 20, y 10"),
    (missing_label, "its label is missing"),
    (no_face, "no pixel of a face"),
]


@pytest.mark.parametrize(("spoil", "said"), FAULTS, ids=[spoil.__name__ for spoil, _ in FAULTS])
def test_a_picture_that_cannot_be_used_is_named_in_one_line(
    spoil: Callable[[Path], None], said: str, data: Path, tmp_path: Path
):
    spoil(data)
    result = train(data)
    assert result.exit_code not in (0, 1), result.output
    (line,) = result.stderr.strip().splitlines()
    assert line.startswith("pocketface: ")
    assert "train/" in line
    assert "00003" in line
    assert said in line
    assert "--skip-bad" in line
    made = (tmp_path / "run" / "stages").glob("student-*/")
    assert not [path for path in made if path.suffix != ".partial"]


@pytest.mark.slow
@pytest.mark.parametrize("spoil", [spoil for spoil, _ in FAULTS], ids=[spoil.__name__ for spoil, _ in FAULTS])
def test_it_can_be_left_out(spoil: Callable[[Path], None], data: Path):
    spoil(data)
    result = train(data, "--skip-bad")
    assert result.exit_code == 0, result.output
    assert "student: " in result.stdout


def test_classes_that_the_data_does_not_have_are_refused(data: Path):
    recipe = data.parent / "tiny.yaml"
    recipe.write_text(RECIPE.format(more="").replace("face11", "hair2"))
    result = CliRunner().invoke(
        cli.app, ["compress", str(recipe), "--data", str(data), "--out", str(data.parent / "run"), "--quiet"]
    )
    assert result.exit_code == 2
    assert "data.frame 'face'" in result.stderr
