"""``pocketface eval`` of masks: what it prints, writes and refuses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from mask_factory import make_mask_bundle
from typer.testing import CliRunner, Result

from pocketface.benchmarks.data.drawn_labels import write_drawn
from pocketface.benchmarks.data.registry import LABELLED
from pocketface.benchmarks.mask_accuracy import evaluate_masks
from pocketface.sdk.classes import load_classes
from pocketface.sdk.cli import app
from pocketface.sdk.mask_predictor import load_mask


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("drawn")
    write_drawn(root / "test", count=3, seed=5, size=64)
    return root


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("b") / "bundle"
    return make_mask_bundle(folder, classes="face11", variants=("fp32.onnx", "fp16.coreml"))


def call(bundle: Path, data: Path, *words: str) -> Result:
    return CliRunner().invoke(app, ["eval", str(bundle), "--data", str(data), "--format", "drawn", *words])


def test_it_prints_and_writes_the_figures_of_evaluate_masks(bundle: Path, data: Path, tmp_path: Path):
    done = call(bundle, data, "--json", str(tmp_path / "out.json"))
    assert done.exit_code == 0, done.output
    pictures = LABELLED["drawn"](data, classes=load_classes("face11"))
    wanted = evaluate_masks(load_mask(bundle), pictures)
    assert f"{wanted.whole.miou:.2f}" in done.stdout
    assert "upper lip" in done.stdout
    written = json.loads((tmp_path / "out.json").read_text())
    (row,) = written["variants"]
    assert row["variant"] == "fp32.onnx"
    assert row["whole"]["miou"] == pytest.approx(wanted.whole.miou)
    np.testing.assert_allclose(row["each"], wanted.each)
    assert written["data"]["faces"] == 3


def test_all_variants_say_what_could_not_run(bundle: Path, data: Path):
    done = call(bundle, data, "--variant", "all", "--folder", "test")
    assert done.exit_code == 0, done.output
    assert "fp16.coreml not measured" in done.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--degrade", "all"], "--degrade with a bundle of masks"),
        (["--ced", "x.png"], "--ced with a bundle of masks"),
        (["--format", "300w"], "figaro1k"),
        (["--folder", "nowhere"], "nowhere"),
    ],
)
def test_it_refuses_in_one_line(words: list[str], said: str, bundle: Path, data: Path):
    done = call(bundle, data, *words)
    assert done.exit_code == 2
    (line,) = done.stderr.strip().splitlines()
    assert said in line
