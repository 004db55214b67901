"""Training of mask networks: resumed runs, what each loss and hint reaches, the previous mask, what is refused."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from pocketface.benchmarks.data.drawn_labels import write_drawn
from pocketface.benchmarks.data.registry import LABELLED
from pocketface.compression.augment.label_spec import LabelAugment
from pocketface.compression.distill.segment import SegmentHintSpec
from pocketface.compression.label_cache import LabelCache, build_label_cache
from pocketface.compression.losses.segmentation import SegmentationLossSpec
from pocketface.compression.models.checkpoint import load_checkpoint
from pocketface.compression.models.registry import ModelSpec
from pocketface.compression.recipe import TrainSpec
from pocketface.compression.segment_recipe import SegmentSpec
from pocketface.compression.shape.distance_map import prior_target
from pocketface.compression.training.loop import HISTORY, WEIGHTS
from pocketface.compression.training.segment import SegmentTraining, build_segmenter, fit_segmenter, has_prior
from pocketface.compression.training.segment_views import SegmentViews
from pocketface.sdk.classes import load_classes
from pocketface.sdk.errors import ConfigError

HAIR, FACE = load_classes("hair2"), load_classes("face11")
MOBILE = ModelSpec(name="hourglass", input_size=32, options={"features": 8, "expansion": 2, "dense": False})
TEACHER = ModelSpec(name="hair_two_stage", width=0.125, input_size=32, options={"aspp": 8})
MILD = LabelAugment(shift_x=0.05, shift_y=0.05, crop_pad=0.0, resize=0.05)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("labelled")
    write_drawn(root / "train", count=16, seed=1, size=64)
    write_drawn(root / "test", count=4, seed=2, size=64)
    return root


def caches(folder: Path, classes: Any) -> tuple[LabelCache, LabelCache]:
    reader = LABELLED["drawn"]
    train, test = (
        build_label_cache(reader(folder, folders=(part,), classes=classes), classes=classes)
        for part in ("train", "test")
    )
    return train, test


@pytest.fixture(scope="module")
def hair(folder: Path) -> tuple[LabelCache, LabelCache]:
    return caches(folder, HAIR)


def spec(
    epochs: int = 2, *, model: ModelSpec = MOBILE, ema: float = 0.0, lr: float = 2e-3, **changes: Any
) -> SegmentSpec:
    return SegmentSpec(
        model=model, train=TrainSpec(epochs=epochs, batch_size=8, lr=lr, ema=ema), **{"augment": MILD, **changes}
    )


def fit(pictures: tuple[LabelCache, LabelCache], to: Path, of: SegmentSpec, **more: Any) -> dict[str, torch.Tensor]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit_segmenter(of, *pictures, to, **{"classes": HAIR, "seed": 3, "progress": False, **more})
    return load_file(to / WEIGHTS)


def teacher() -> Any:
    torch.manual_seed(0)
    return build_segmenter(spec(model=TEACHER), HAIR).eval()


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_a_killed_training_goes_on_to_identical_weights(hair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    of = spec(3, ema=0.9, hints=SegmentHintSpec(feature=0.5, border=1.0))
    whole = fit(hair, tmp_path / "whole", of, teacher=teacher())
    step, seen = SegmentTraining.training_step, 0

    def dies(self: SegmentTraining, batch: Any, index: int) -> torch.Tensor:
        nonlocal seen
        seen += 1
        if seen == 4:  # two batches an epoch: in the middle of the second
            raise MemoryError("killed")
        return step(self, batch, index)

    monkeypatch.setattr(SegmentTraining, "training_step", dies)
    with pytest.raises(MemoryError):
        fit(hair, tmp_path / "killed", of, teacher=teacher())
    monkeypatch.setattr(SegmentTraining, "training_step", step)
    assert same(whole, fit(hair, tmp_path / "killed", of, teacher=teacher()))
    assert load_checkpoint(tmp_path / "whole" / WEIGHTS).task == "segmentation"


def test_it_learns_where_the_hair_is(hair, tmp_path: Path):
    fit(hair, tmp_path, spec(20, lr=2e-2, loss=SegmentationLossSpec(dice=1.0)))
    history = json.loads((tmp_path / HISTORY).read_text())
    assert history[-1]["cross_entropy_loss"] < 0.6 * history[0]["cross_entropy_loss"]
    nothing = 50 * float((hair[1].labels != 1).float().mean())
    assert history[-1]["val_miou"] > nothing + 3, "better than to see no hair at all"


def test_a_prior_is_trained_where_there_is_one(hair, tmp_path: Path):
    fit(hair, tmp_path, spec(1, model=TEACHER))
    (row,) = json.loads((tmp_path / HISTORY).read_text())
    assert 0 < row["prior_loss"] < 2
    without = ModelSpec(name="hair_two_stage", width=0.125, input_size=32, options={"aspp": 8, "prior": False})
    assert has_prior(build_segmenter(spec(model=TEACHER), HAIR))
    assert not has_prior(build_segmenter(spec(model=without), HAIR))


def test_the_prior_s_target_is_made_after_the_warp(hair):
    of = spec(model=TEACHER)
    views = SegmentViews(of, build_segmenter(of, HAIR), *hair, classes=HAIR, seed=0, prior=True)
    batch = views.draw(np.array([0, 3]), np.array([5, 6]))
    assert batch.prior is not None
    for target, labels in zip(batch.prior, batch.labels, strict=True):
        np.testing.assert_allclose(target[0], prior_target(labels.numpy() == 1, of.prior), atol=1e-6)


def test_hints_change_what_is_learnt_and_leave_the_teacher_alone(hair, tmp_path: Path):
    told = teacher()
    before = {name: value.clone() for name, value in told.state_dict().items()}
    hinted = fit(hair, tmp_path / "a", spec(1, hints=SegmentHintSpec(logits=1, feature=1, border=1)), teacher=told)
    assert all(torch.equal(value, before[name]) for name, value in told.state_dict().items())
    assert not same(hinted, fit(hair, tmp_path / "b", spec(1)))
    (row,) = json.loads((tmp_path / "a" / HISTORY).read_text())
    assert {"logits_hint_loss", "feature_hint_loss", "border_hint_loss"} <= row.keys()
    assert not any("regressor" in name for name in hinted), "the regressor does not ship"


def test_the_regressor_of_the_features_is_trained_with_the_student():
    module = SegmentTraining(
        build_segmenter(spec(), HAIR), spec(hints=SegmentHintSpec(feature=1)), classes=HAIR, seed=0, teacher=teacher()
    )
    assert module.regressor is not None
    learnt = {id(parameter) for parameter in module.learner.parameters()}
    assert {id(parameter) for parameter in module.regressor.parameters()} <= learnt


def test_a_teacher_of_another_size_sees_the_same_view(hair):
    of = spec(hints=SegmentHintSpec())
    net = build_segmenter(of, HAIR)
    views = SegmentViews(of, net, *hair, classes=HAIR, seed=0, teacher_size=64)
    batch = views.draw(np.array([1]), np.array([2]))
    assert batch.shown is not None
    assert batch.shown.shape == (1, 3, 64, 64)
    halved = torch.nn.functional.avg_pool2d(batch.shown, 2)
    assert (halved - batch.pixels).abs().mean() < 6, "the same view, twice as fine"
    module = SegmentTraining(net, of, classes=HAIR, seed=0, teacher=teacher())
    assert module._told(batch.pixels, 16)["logits"].shape == (1, 2, 16, 16)


def test_a_previous_mask_is_drawn_for_the_networks_that_take_one(folder: Path, tmp_path: Path):
    model = ModelSpec(name="hourglass", input_size=32, options={**MOBILE.options, "previous": True})
    pictures, of = caches(folder, FACE), spec(1, model=model)
    views = SegmentViews(of, build_segmenter(of, FACE), *pictures, classes=FACE, seed=0)
    batch = views.draw(np.arange(8), np.zeros(8, np.int64))
    assert batch.previous is not None
    assert batch.previous.shape == (8, 11, 32, 32)
    weights = fit(pictures, tmp_path, of, classes=FACE)
    plain = fit(pictures, tmp_path / "plain", spec(1), classes=FACE)
    assert set(plain) < set(weights)


def test_what_does_not_fit_is_refused(hair, tmp_path: Path):
    with pytest.raises(ConfigError, match="hints without a teacher"):
        fit(hair, tmp_path, spec(hints=SegmentHintSpec()))
    with pytest.raises(ConfigError, match="a network of masks"):
        fit(hair, tmp_path, spec(model=ModelSpec(name="relocalizer", input_size=64)))
    with pytest.raises(ConfigError, match="dice"):
        SegmentationLossSpec(dice=-1)
