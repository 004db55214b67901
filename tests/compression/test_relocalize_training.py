"""Stage R in training: eqs 1 and 2, the crops it sees, and that a killed run goes on to the same weights."""

from __future__ import annotations

import json
import math
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from pocketface.benchmarks.data.degrade import DEGRADATIONS
from pocketface.benchmarks.data.registry import DATASETS
from pocketface.compression.augment.crop import resample_batch
from pocketface.compression.cache import FaceCache, build_cache
from pocketface.compression.chain_recipe import RelocalizeSpec
from pocketface.compression.models.registry import ModelSpec
from pocketface.compression.recipe import TrainSpec
from pocketface.compression.training.loop import CHECKPOINT, HISTORY, WEIGHTS
from pocketface.compression.training.relocalize import (
    MovedFaces,
    RelocalizerTraining,
    corner_error,
    correction,
    fit_relocalizer,
    relocalization_loss,
)
from pocketface.sdk.errors import ConfigError
from pocketface.sdk.geometry import Box
from pocketface.sdk.schemes.registry import load_scheme

SIZE, NORMALISER = 64, (36, 45)
MODEL = ModelSpec(name="relocalizer", width=0.125, input_size=SIZE)
SHORT = TrainSpec(epochs=3, batch_size=8, ema=0.9, lr=2e-3)
SPEC = RelocalizeSpec(model=MODEL, train=SHORT)


@pytest.fixture(scope="module")
def caches(drawn_folder: Path) -> tuple[FaceCache, FaceCache]:
    scheme = load_scheme("ibug68")
    train, validation = (
        build_cache(DATASETS["pts"](drawn_folder, folders=(name,), scheme=scheme)) for name in ("train", "test")
    )
    return train, validation


def moved(cache: FaceCache, *, degrade: str = "box", flip: float = 0.0, seed: int = 0) -> MovedFaces:
    spec = RelocalizeSpec(model=MODEL, train=SHORT, degrade=degrade, flip=flip)
    return MovedFaces(cache, spec, normaliser=NORMALISER, size=SIZE, seed=seed)


def fit(
    caches: tuple[FaceCache, FaceCache], folder: Path, spec: RelocalizeSpec = SPEC, seed: int = 0
) -> torch.nn.Module:
    flip = load_scheme("ibug68").flip
    return fit_relocalizer(spec, *caches, folder, flip=flip, normaliser=NORMALISER, seed=seed, progress=False)


def corrected(box: Box, delta: list[float]) -> Box:
    """Eq. 1 as printed, with the box's centre and sides; dx and dy are in its sides."""
    x0, y0, w0, h0 = (box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2, box.width, box.height
    dx, dy, dw, dh = delta
    x1, y1, w1, h1 = x0 + dx * w0, y0 + dy * h0, w0 * dw, h0 * dh
    return Box(x1 - w1 / 2, y1 - h1 / 2, x1 + w1 / 2, y1 + h1 / 2)


def square(centre: torch.Tensor, side: torch.Tensor) -> Box:
    x, y, half = float(centre[0]), float(centre[1]), float(side) / 2
    return Box(x - half, y - half, x + half, y + half)


def degraded_boxes(faces: MovedFaces, index: np.ndarray, views: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """Where the crops of ``draw`` are cut."""
    boxes, points = faces.cache.boxes[index], faces.cache.points[index]
    iod = torch.linalg.vector_norm(points[:, 36] - points[:, 45], dim=1)
    return faces.degrader.boxes(boxes[:, :2], boxes[:, 2], iod, faces.degrader.amounts(index, views))


def test_a_correction_by_hand():
    """A box of side 10 about (50, 40); the face's is of side 5 about (52, 39)."""
    got = correction(
        torch.tensor([[50.0, 40.0]]), torch.tensor([10.0]), torch.tensor([[52.0, 39.0]]), torch.tensor([5.0])
    )
    torch.testing.assert_close(got, torch.tensor([[0.2, -0.1, 0.5, 0.5]]))


def test_the_target_takes_the_degraded_box_back_to_the_ground_truth_box(caches):
    """Eq. 1, round trip, and the ground truth is Box.around of the landmarks."""
    faces = moved(caches[0])
    index, views = np.arange(24), np.arange(24) % 5
    _, target = faces.draw(index, views)
    centres, sides = degraded_boxes(faces, index, views)
    for row in range(24):
        found = corrected(square(centres[row], sides[row]), target[row].tolist())
        np.testing.assert_allclose(found, Box.around(caches[0].points[row].numpy()), atol=1e-3)
    assert (target - torch.tensor([0.0, 0.0, 1.0, 1.0])).abs().mean() > 0.05


def test_a_mirrored_target_takes_the_mirrored_box_back(caches):
    """The whole canvas mirrored, face and box with it."""
    cache, index, views = caches[0], np.arange(8), np.zeros(8, np.int64)
    faces = moved(cache, flip=1.0)
    _, target = faces.draw(index, views)
    centres, sides = degraded_boxes(faces, index, views)
    edge = cache.images.shape[-1] - 1  # pixel centres 0 .. edge become edge .. 0
    for row in range(8):
        mirrored = torch.stack([edge - centres[row, 0], centres[row, 1]])
        points = cache.points[row].numpy().copy()
        points[:, 0] = edge - points[:, 0]
        found = corrected(square(mirrored, sides[row]), target[row].tolist())
        np.testing.assert_allclose(found, Box.around(points), atol=1e-3)


def test_a_mirrored_crop_is_the_mirrored_crop(caches):
    index, views = np.arange(6), np.full(6, 3)
    plain, target = moved(caches[0], degrade="all").draw(index, views)
    pixels, mirrored = moved(caches[0], degrade="all", flip=1.0).draw(index, views)
    assert torch.equal(pixels, plain.flip(3))
    assert torch.equal(mirrored, target * torch.tensor([-1.0, 1.0, 1.0, 1.0]))
    half, _ = moved(caches[0], degrade="all", flip=0.5).draw(np.arange(24), np.zeros(24, np.int64))
    plain, _ = moved(caches[0], degrade="all").draw(np.arange(24), np.zeros(24, np.int64))
    assert 4 < sum(bool((a != b).any()) for a, b in zip(half, plain, strict=True)) < 20


def test_the_crop_is_cut_where_the_target_says(caches):
    """The corrected crop, cut from the canvas, is the ground-truth crop; the degraded one is not."""
    cache, faces = caches[0], moved(caches[0])
    index, views = np.arange(4), np.zeros(4, np.int64)
    pixels, target = faces.draw(index, views)
    centres, sides = degraded_boxes(faces, index, views)
    rows, level = torch.arange(4), torch.zeros(4)
    again = resample_batch(cache, rows, centres, sides, level, SIZE)
    torch.testing.assert_close(pixels, again)
    back = resample_batch(cache, rows, centres + target[:, :2] * sides[:, None], sides * target[:, 2], level, SIZE)
    truth = resample_batch(cache, rows, cache.boxes[:4, :2], cache.boxes[:4, 2], level, SIZE)
    torch.testing.assert_close(back, truth, atol=0.5, rtol=0)
    assert (pixels - truth).abs().mean() > 5


def test_targets_stay_within_what_the_paper_prints(caches):
    """Scale 2/3 .. 4/3 and translation +-0.4 iod (IV-D) bound the corrections; both ends are nearly reached."""
    cache, faces = caches[0], moved(caches[0])
    index = np.repeat(np.arange(24), 30)
    _, target = faces.draw(index, np.tile(np.arange(30), 24))
    factor = target[:, 2]
    assert torch.equal(factor, target[:, 3])
    assert 3 / 4 - 1e-5 <= factor.min() < 0.76
    assert 1.48 < factor.max() <= 3 / 2 + 1e-5
    iod = (cache.points[:, 36] - cache.points[:, 45]).norm(dim=1)[index] / cache.boxes[index, 2]
    shift = (target[:, :2] / factor[:, None] / iod[:, None]).abs()  # in inter-ocular distances again
    assert 0.39 < shift.max() <= 0.4 + 1e-4


def test_a_view_is_the_same_in_any_batch(caches):
    faces = moved(caches[0], degrade="all", flip=0.5)
    index, views = np.array([3, 17, 8]), np.array([0, 2, 1])
    pixels, target = faces.draw(index, views)
    for row in range(3):
        one, same = faces.draw(index[row : row + 1], views[row : row + 1])
        torch.testing.assert_close(one[0], pixels[row], atol=1e-2, rtol=0)
        assert torch.equal(same[0], target[row])
    assert not torch.equal(faces.draw(index, views + 1)[1], target)
    assert not torch.equal(moved(caches[0], degrade="all", flip=0.5, seed=1).draw(index, views)[1], target)


def test_the_loss_by_hand():
    """Eq. 2: |0.1| + |-0.2| + |0.05| + 0 and |0.3| + 0 + 0 + |-0.15|, over eight values."""
    predicted = torch.tensor([[0.1, -0.2, 1.05, 1.0], [0.3, 0.0, 1.0, 0.85]])
    target = torch.tensor([[0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 1.0, 1.0]])
    assert float(relocalization_loss(predicted, target)) == pytest.approx(0.8 / 8)


def test_the_corner_error_agrees_with_boxes():
    rng = np.random.default_rng(0)
    predicted, target = (
        np.concatenate([rng.uniform(-0.3, 0.3, (5, 2)), rng.uniform(0.7, 1.4, (5, 2))], 1) for _ in range(2)
    )
    target[:, 3] = target[:, 2]
    got = corner_error(torch.tensor(predicted), torch.tensor(target))
    for row in range(5):
        one, true = (corrected(Box(100, 200, 180, 280), list(delta[row])) for delta in (predicted, target))
        far = [math.dist((getattr(one, x), getattr(one, y)), (getattr(true, x), getattr(true, y)))
               for x in ("x0", "x1") for y in ("y0", "y1")]  # fmt: skip
        assert float(got[row]) == pytest.approx(100 * sum(far) / 4 / true.width)


def discs(count: int, seed: int) -> FaceCache:
    """Bright discs on dark noise, the simplest faces there are, with landmarks on their rims."""
    rng, turn = np.random.default_rng(seed), np.arange(68) * (2 * np.pi / 68)
    images, points, boxes = [], [], []
    y, x = np.mgrid[:96, :96]
    for _ in range(count):
        (cx, cy), radius = rng.uniform(42, 54, 2), rng.uniform(14, 18)
        image = rng.uniform(20, 60, (3, 96, 96)) + 150 * (np.hypot(x - cx, y - cy) < radius)
        images.append(image.astype(np.uint8))
        points.append(np.stack([cx + radius * np.cos(turn), cy + radius * np.sin(turn)], 1).astype(np.float32))
        box = Box.around(points[-1])
        boxes.append([(box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2, box.width])
    tensors = torch.from_numpy(np.stack(images)), torch.from_numpy(np.stack(points)), torch.tensor(boxes)
    return FaceCache([f"disc/{number}" for number in range(count)], tensors[0], tensors[1], tensors[2].float())


def test_it_learns_to_find_discs_it_has_not_seen(tmp_path: Path):
    spec = msgspec.structs.replace(
        SPEC, degrade="box", train=TrainSpec(epochs=20, batch_size=16, lr=2e-3, weight_decay=0.0, schedule="poly")
    )
    net = fit((discs(96, seed=0), discs(24, seed=1)), tmp_path, spec)
    assert not net.training
    assert (tmp_path / WEIGHTS).exists()
    assert not (tmp_path / CHECKPOINT).exists()
    history = json.loads((tmp_path / HISTORY).read_text())
    assert len(history) == 20
    assert {"train_loss", "val_box", "val_corner", "val_corner_before"} <= history[0].keys()
    assert history[-1]["val_corner_before"] == history[0]["val_corner_before"]  # always the same draws
    assert history[-1]["train_loss"] < 0.5 * history[0]["train_loss"]
    assert history[-1]["val_corner"] < 0.5 * history[-1]["val_corner_before"]


def test_a_killed_training_goes_on_to_identical_weights(caches, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    fit(caches, tmp_path / "whole")
    step, seen = RelocalizerTraining.training_step, 0

    def dies(self: RelocalizerTraining, batch: tuple[torch.Tensor, torch.Tensor], number: int) -> torch.Tensor:
        nonlocal seen
        seen += 1
        if seen == 5:  # three batches an epoch: in the middle of the second
            raise MemoryError("killed")
        return step(self, batch, number)

    monkeypatch.setattr(RelocalizerTraining, "training_step", dies)
    with pytest.raises(MemoryError):
        fit(caches, tmp_path / "killed")
    monkeypatch.undo()
    assert (tmp_path / "killed" / CHECKPOINT).exists()
    fit(caches, tmp_path / "killed")
    whole, resumed = (load_file(tmp_path / name / WEIGHTS) for name in ("whole", "killed"))
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    fit(caches, tmp_path / "other", seed=1)
    other = load_file(tmp_path / "other" / WEIGHTS)
    assert not all(torch.equal(whole[name], other[name]) for name in whole)


@pytest.mark.parametrize("name", [name for name, spec in DEGRADATIONS.items() if not (spec.scale or spec.translation)])
def test_degradations_that_move_no_box_are_refused(caches, tmp_path: Path, name: str):
    with pytest.raises(ConfigError, match=f"'{name}' moves no box"):
        fit(caches, tmp_path, msgspec.structs.replace(SPEC, degrade=name))


def test_a_network_of_another_task_is_refused(caches, tmp_path: Path):
    model = ModelSpec(name="mobilenetv2", width=0.25, input_size=32)
    with pytest.raises(ConfigError, match="'mobilenetv2' is for landmarks"):
        fit(caches, tmp_path, msgspec.structs.replace(SPEC, model=model))
