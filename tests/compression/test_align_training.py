"""Training of the landmark stage: it learns, resumes exactly, takes hints, lets sets take turns."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from pocketface.benchmarks.data.registry import DATASETS
from pocketface.compression.augment.spec import AugmentSpec
from pocketface.compression.cache import FaceCache, build_cache
from pocketface.compression.chain_recipe import AlignSpec
from pocketface.compression.distill.hint import Truth
from pocketface.compression.models.checkpoint import load_checkpoint
from pocketface.compression.models.gtn import StagedNet
from pocketface.compression.models.registry import ModelSpec, build_network
from pocketface.compression.recipe import TrainSpec
from pocketface.compression.shape.pose import HeadPose
from pocketface.compression.training import hints as hints_file
from pocketface.compression.training.align import AlignTraining, fit_aligner
from pocketface.compression.training.align_views import AlignBatch, AlignViews, FaceDrawer
from pocketface.compression.training.hints import HINTS, LiveHints, PooledHints, look_at_pool
from pocketface.compression.training.loop import WEIGHTS
from pocketface.sdk.errors import AnnotationError, BadInputError, ConfigError
from pocketface.sdk.schemes.registry import load_scheme

pytestmark = pytest.mark.slow

SCHEME = load_scheme("ibug68")
LAYOUT: dict[str, Any] = {"flip": SCHEME.flip, "normaliser": SCHEME.normaliser, "seed": 3}
MILD = AugmentSpec(rotation=20, noise=2, occlusion=0)
TINY = ModelSpec(name="acdc_s", width=0.125, input_size=32)
TEACHER = ModelSpec(name="acdc", width=0.125, input_size=48)


@pytest.fixture(scope="module")
def faces(drawn_folder: Path) -> tuple[FaceCache, FaceCache]:
    train, test = (DATASETS["pts"](drawn_folder, folders=(folder,), scheme=SCHEME) for folder in ("train", "test"))
    return build_cache(train), build_cache(test)


@pytest.fixture(scope="module")
def pose(faces: tuple[FaceCache, FaceCache]) -> HeadPose:
    return HeadPose.fit(faces[0].points.numpy())


def spec(train: dict[str, Any] | None = None, **changes: Any) -> AlignSpec:
    short = TrainSpec(**{"epochs": 2, "batch_size": 8, "lr": 3e-3, "ema": 0.9, **(train or {})})
    return AlignSpec(**{"model": TINY, "train": short, "augment": MILD, **changes})


def teacher() -> StagedNet:
    torch.manual_seed(9)
    net = build_network(TEACHER)
    assert isinstance(net, StagedNet)
    return net.eval()


def fit(faces, folder: Path, wanted: AlignSpec, **more: Any) -> list[dict[str, float]]:
    fit_aligner(wanted, *faces, folder, progress=False, **LAYOUT, **more)
    history: list[dict[str, float]] = json.loads((folder / "history.json").read_text())
    return history


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def views(faces, wanted: AlignSpec, **more: Any) -> AlignViews:
    drawer = FaceDrawer(faces[0], wanted, **LAYOUT)
    return AlignViews(drawer, faces[1], wanted, size=32, seed=3, **more)


def test_it_learns_drawn_faces(faces, pose: HeadPose, tmp_path: Path):
    """One view of each face, which a network that stays at the mean shape could not fit."""
    model = ModelSpec(name="acdc_s", width=0.25, input_size=32)
    wanted = spec({"epochs": 25, "ema": 0.0, "lr": 1e-2, "views": 1}, model=model, lambda_kd=0.0)
    history = fit(faces, tmp_path, wanted, pose=pose)
    # The first epoch is near the mean shape.
    assert history[-1]["points_loss"] < 0.5 * history[0]["points_loss"]
    assert history[-1]["pose_loss"] < 0.7 * history[0]["pose_loss"]
    assert {"val_pose", "train_loss"} <= set(history[0])
    assert isinstance(load_checkpoint(tmp_path / WEIGHTS), StagedNet)
    assert {path.name for path in tmp_path.iterdir()} == {WEIGHTS, "history.json"}


def test_a_killed_training_goes_on_to_identical_weights(faces, pose: HeadPose, tmp_path: Path, monkeypatch):
    """With hints from a pool, which the second run reads instead of asking the teacher again."""
    wanted = spec({"epochs": 3, "views": 2}, degrade="all")
    fit(faces, tmp_path / "whole", wanted, pose=pose, teacher=teacher())
    step, seen = AlignTraining.training_step, 0

    def dies(self: AlignTraining, batch: AlignBatch, index: int):
        nonlocal seen
        seen += 1
        if seen == 5:  # three batches an epoch
            raise MemoryError("killed")
        return step(self, batch, index)

    monkeypatch.setattr(AlignTraining, "training_step", dies)
    with pytest.raises(MemoryError):
        fit(faces, tmp_path / "killed", wanted, pose=pose, teacher=teacher())
    monkeypatch.undo()
    assert (tmp_path / "killed" / HINTS).exists()
    monkeypatch.setattr(hints_file, "look_at_pool", lambda *_, **__: pytest.fail("asked the teacher again"))
    fit(faces, tmp_path / "killed", wanted, pose=pose, teacher=teacher())
    assert same(load_file(tmp_path / "whole" / WEIGHTS), load_file(tmp_path / "killed" / WEIGHTS))
    assert not (tmp_path / "killed" / HINTS).exists()


def test_another_teachers_hints_are_not_reused(faces, tmp_path: Path):
    drawer = FaceDrawer(faces[0], spec(), **LAYOUT)
    path = tmp_path / HINTS
    ask = {"faces": 3, "views": 2, "recipe": "x", "progress": False}
    first = hints_file.pooled_hints(LiveHints(teacher(), drawer.clean), path, **ask)
    torch.manual_seed(1)
    other = hints_file.pooled_hints(LiveHints(build_network(TEACHER), drawer.clean), path, **ask)
    assert not torch.equal(first.values["68"], other.values["68"])
    path.write_bytes(b"half a file")
    again = hints_file.pooled_hints(LiveHints(teacher(), drawer.clean), path, **ask)
    assert torch.equal(first.values["68"], again.values["68"])


@pytest.mark.parametrize("degrade", ["none", "all"])
def test_a_pool_holds_what_the_teacher_says_live(faces, degrade: str):
    drawer = FaceDrawer(faces[0], spec(degrade=degrade), **LAYOUT)
    live = LiveHints(teacher(), drawer.clean)
    pool = PooledHints(look_at_pool(live, 5, 3, batch=2))
    assert pool.values["19"].shape == (5, 3, 4, 19, 2)
    index, chosen = np.array([4, 0, 2]), np.array([1, 1, 1])
    for mine, theirs in zip(pool.stages(index, chosen), live.stages(index, chosen), strict=True):
        torch.testing.assert_close(mine.pose, theirs.pose, atol=1e-5, rtol=0)
        for markup in ("68", "19", "5"):
            torch.testing.assert_close(mine.points[markup], theirs.points[markup], atol=1e-5, rtol=0)


def test_hints_change_what_is_learned_and_a_share_of_0_ignores_the_teacher(faces, pose: HeadPose, tmp_path: Path):
    one = {"epochs": 1}
    runs = {
        "alone": (spec(one), None),
        "none": (spec(one, lambda_kd=0.0), teacher()),
        "hints": (spec(one), teacher()),
    }
    weights = {}
    for name, (wanted, told) in runs.items():
        fit(faces, tmp_path / name, wanted, pose=pose, teacher=told)
        weights[name] = load_file(tmp_path / name / WEIGHTS)
    assert same(weights["alone"], weights["none"])
    assert not same(weights["alone"], weights["hints"])


def test_degradations_move_boxes_and_change_pixels_but_the_teacher_sees_the_clean_crop(faces):
    index, view = np.arange(6), np.zeros(6, np.int64)
    plain = FaceDrawer(faces[0], spec(), **LAYOUT).draw(index, view, 32)
    drawer = FaceDrawer(faces[0], spec(degrade="all"), **LAYOUT)
    degraded, clean = drawer.draw(index, view, 32), drawer.clean(index, view, 32)
    assert torch.equal(degraded.points, clean.points)
    assert (degraded.pixels - clean.pixels).abs().mean() > 5
    spread = [p.points.amax(1) - p.points.amin(1) for p in (degraded, plain)]
    ratio = spread[1] / spread[0]  # the box's factor, 2/3 to 4/3
    assert (ratio > 0.66).all()
    assert (ratio < 1.34).all()
    assert (ratio - 1).abs().max() > 0.05
    # Every call places the boxes anew: an earlier view leaves nothing behind.
    drawer.draw(index, view + 1, 32)
    assert torch.equal(drawer.draw(index, view, 32).pixels, degraded.pixels)


def test_pose_truth_turns_with_the_view(faces, pose: HeadPose):
    """Yaw and pitch stay, but for their sign in a mirrored view; roll is the head's less the crop's."""
    upright = spec(augment=AugmentSpec(rotation=0, flip=0.0, noise=0, occlusion=0))
    mirrored = spec(augment=AugmentSpec(rotation=0, flip=1.0, noise=0, occlusion=0))
    index = np.arange(8)
    straight = views(faces, upright, pose=pose).draw(index, 0).truth.pose
    turned = views(faces, mirrored, pose=pose).draw(index, 0).truth.pose
    torch.testing.assert_close(turned, straight * torch.tensor([-1.0, 1.0, -1.0]), atol=1e-3, rtol=0)
    torch.testing.assert_close(
        90 * straight, torch.from_numpy(pose.angles(faces[0].points[:8].numpy())), atol=0.05, rtol=0
    )


def test_heterogeneous_batches_show_one_mark_up_each_in_turns(faces, pose: HeadPose, tmp_path: Path):
    wanted = spec({"batch_size": 2, "epochs": 1}, heterogeneous=True, lambda_kd=0.0)
    data = views(faces, wanted, pose=pose)
    shown = []
    for (index,) in data.train_dataloader():
        truth: Truth = data.draw(index.numpy(), 0).truth
        shown.append([*truth.points, *(["pose"] if truth.pose is not None else [])])
    assert shown == [["68"], ["19"], ["5"], ["pose"]] * (len(shown) // 4)
    assert shown
    (row,) = fit(faces, tmp_path, wanted, pose=pose)
    assert row["points_loss"] > 0
    assert row["pose_loss"] > 0


def test_homogeneous_batches_show_everything_that_the_recipe_names(faces, pose: HeadPose):
    truth = views(faces, spec(markups=("68", "5"))).draw(np.arange(4), 0).truth
    assert (list(truth.points), truth.pose) == (["68", "5"], None)
    truth = views(faces, spec(), pose=pose).draw(np.arange(4), 0).truth
    assert list(truth.points) == ["68", "19", "5"]
    assert truth.pose is not None


def test_what_the_data_or_the_networks_lack_is_refused_before_training(faces, pose: HeadPose, tmp_path: Path):
    with pytest.raises(AnnotationError, match="mark-up pose is wanted"):
        fit(faces, tmp_path, spec())
    few = FaceCache(faces[0].names, faces[0].images, faces[0].points[:, :5], faces[0].boxes)
    with pytest.raises(AnnotationError, match=r"validation faces have 5 points"):
        fit((faces[0], few), tmp_path, spec(), pose=pose)
    with pytest.raises(BadInputError, match=r"has \d+ faces.*at least one batch of 20"):
        fit(faces, tmp_path, spec({"batch_size": 20}, heterogeneous=True), pose=pose)
    mobilenet = ModelSpec(name="mobilenetv2", width=0.25, input_size=32)
    with pytest.raises(ConfigError, match="no stages"):
        fit(faces, tmp_path, spec(model=mobilenet), pose=pose)
    with pytest.raises(ConfigError, match="LandmarkNet has no stages"):
        fit(faces, tmp_path, spec(), pose=pose, teacher=build_network(mobilenet))
    with pytest.raises(ConfigError, match="each once"):
        fit(faces, tmp_path, spec(markups=("68", "68")), pose=pose)
    assert not (tmp_path / WEIGHTS).exists()
