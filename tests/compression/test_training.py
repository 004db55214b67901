"""Training: it learns, it resumes exactly, Ctrl-C leaves nothing half-done."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny import SHORT, tiny_recipe

from pocketface.compression.pipeline.context import Context
from pocketface.compression.pipeline.train import train_stage
from pocketface.compression.recipe import Recipe
from pocketface.compression.recipe_file import dump_recipe
from pocketface.compression.training.datamodule import EpochOrder
from pocketface.compression.training.loop import WEIGHTS
from pocketface.compression.training.module import LandmarkTraining
from pocketface.sdk.errors import EnvironmentProblemError

pytestmark = pytest.mark.slow


def train(recipe: Recipe, data: Path, run: Path) -> Path:
    context = Context(recipe, data, run, progress=False)
    return train_stage(context, "student", recipe.student).done.path


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / WEIGHTS)


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_order_depends_on_seed_and_epoch_alone():
    order = EpochOrder(20, seed=1)
    order.set_epoch(3)
    again = EpochOrder(20, seed=1)
    again.set_epoch(3)
    assert list(order) == list(again)
    again.set_epoch(4)
    assert list(order) != list(again)
    assert sorted(order) == list(range(20))


def test_a_killed_training_goes_on_to_identical_weights(drawn_folder: Path, tmp_path: Path, monkeypatch):
    """Killed in the middle of the second epoch, then run again: bit for bit what an uninterrupted run gives,
    averages included."""
    recipe = tiny_recipe(loss={"name": "kd"}, train={**SHORT, "views": 2})
    whole = weights(train(recipe, drawn_folder, tmp_path / "whole"))

    step, seen = LandmarkTraining.training_step, 0

    def dies(self: LandmarkTraining, batch, index: int):
        nonlocal seen
        if "student" in str(self.trainer.default_root_dir):
            seen += 1
        if seen == 4:  # two batches an epoch
            raise MemoryError("killed")
        return step(self, batch, index)

    monkeypatch.setattr(LandmarkTraining, "training_step", dies)
    with pytest.raises(MemoryError):
        train(recipe, drawn_folder, tmp_path / "killed")
    monkeypatch.undo()
    assert list((tmp_path / "killed/stages").glob("student-*.partial/last.ckpt"))
    resumed = weights(train(recipe, drawn_folder, tmp_path / "killed"))
    assert same(whole, resumed)


def test_another_seed_gives_other_weights_and_the_same_seed_the_same(drawn_folder: Path, tmp_path: Path):
    recipe = tiny_recipe(train={**SHORT, "epochs": 1})
    one = weights(train(recipe, drawn_folder, tmp_path / "one"))
    two = weights(train(recipe, drawn_folder, tmp_path / "two"))
    assert same(one, two)
    context = Context(recipe, drawn_folder, tmp_path / "one", progress=False)
    other = weights(train_stage(context, "student", recipe.student, seed=1).done.path)
    assert not same(one, other)


def test_a_detached_score_leaves_the_landmark_network_alone(drawn_folder: Path, tmp_path: Path):
    """Without the score's gradient, its weight cannot change what the landmarks learn."""
    base = {**SHORT, "epochs": 1, "score_detached": True}
    light = weights(train(tiny_recipe(train={**base, "score_weight": 0.01}), drawn_folder, tmp_path / "a"))
    heavy = weights(train(tiny_recipe(train={**base, "score_weight": 10.0}), drawn_folder, tmp_path / "b"))
    features = [name for name in light if not name.startswith("score.")]
    # Adam divides by the gradient's size, so even the score head moves alike; the others must not move differently
    # at all.
    assert all(torch.equal(light[name], heavy[name]) for name in features)


def test_it_learns_drawn_faces(drawn_folder: Path, tmp_path: Path):
    recipe = tiny_recipe(train={"epochs": 60, "batch_size": 8, "lr": 3e-3, "negatives": 0.5, "score_weight": 0.1})
    context = Context(recipe, drawn_folder, tmp_path, progress=False)
    history = train_stage(context, "student", recipe.student).history
    assert len(history) == 60
    # The first epoch's loss is the mean shape's.
    assert history[-1]["landmark_loss"] < 0.6 * history[0]["landmark_loss"]
    assert history[-1]["score_loss"] < 0.7 * history[0]["score_loss"]


CHILD = """
import signal
import sys
# A shell starts background jobs with SIGINT ignored, and children inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
from pocketface.compression import recipe
from pocketface.sdk.cli import main
sys.argv = ["pocketface", "compress", sys.argv[1], "--data", sys.argv[2], "--out", sys.argv[3], "--quiet",
"--threads", "1"]
main()
"""


def test_one_that_stopped_after_its_last_epoch_has_the_averaged_weights(
    drawn_folder: Path, tmp_path: Path, monkeypatch
):
    """The disk is full when the weights are written; the same command goes on, and gives what it would have given."""
    recipe = tiny_recipe(train={**SHORT, "ema": 0.9})
    whole = load_file(train(recipe, drawn_folder, tmp_path / "whole") / WEIGHTS)
    with monkeypatch.context() as patch:

        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        patch.setattr("pocketface.compression.training.fit.save_network", full)
        with pytest.raises(EnvironmentProblemError, match="the disk is full"):
            train(recipe, drawn_folder, tmp_path / "again")
    again = load_file(train(recipe, drawn_folder, tmp_path / "again") / WEIGHTS)
    assert all(torch.equal(whole[name], again[name]) for name in whole)


def test_ctrl_c_ends_with_130_and_one_line(drawn_folder: Path, tmp_path: Path):
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(dump_recipe(tiny_recipe(train={**SHORT, "epochs": 500})))
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(recipe), str(drawn_folder), str(tmp_path / "run")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    try:
        while not list((tmp_path / "run").glob("stages/student-*.partial/last.ckpt")):
            assert child.poll() is None, child.communicate()
            time.sleep(0.1)
        child.send_signal(signal.SIGINT)
        _, errors = child.communicate(timeout=600)
    finally:
        child.kill()
    assert child.returncode == 130, errors
    said = [line for line in errors.splitlines() if line.startswith("pocketface:")]
    assert said == ["pocketface: interrupted"]
    assert "Traceback" not in errors
    assert not [p for p in (tmp_path / "run/stages").glob("student-*") if p.suffix != ".partial"]
    assert not (tmp_path / "run/bundle").exists()
