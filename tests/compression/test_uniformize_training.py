"""Training of the generators: it learns, it resumes exactly, and what is switched off is not there."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from pocketface.benchmarks.data.registry import DATASETS
from pocketface.compression.augment.views import plain_views
from pocketface.compression.cache import FaceCache, build_cache
from pocketface.compression.chain_recipe import UniformizeSpec
from pocketface.compression.models.checkpoint import load_checkpoint
from pocketface.compression.models.features import Features
from pocketface.compression.models.registry import ModelSpec, build_network
from pocketface.compression.recipe import TrainSpec
from pocketface.compression.training import uniformize
from pocketface.compression.training.loop import CHECKPOINT, HISTORY, WEIGHTS
from pocketface.compression.training.uniformize import DegradedPairs, UniformizeTraining, fit_uniformizer
from pocketface.sdk.errors import ConfigError

pytestmark = pytest.mark.slow

MODEL = ModelSpec(name="uniformizer_mobile", width=0.25, input_size=32)
PLAIN: dict[str, Any] = {"adversarial": 0.0, "perceptual": 0.0, "identity": 0.0, "pixel": 1.0}


@pytest.fixture(scope="module")
def caches(drawn_folder: Path) -> tuple[FaceCache, FaceCache]:
    from pocketface.sdk.schemes.registry import load_scheme

    reader, scheme = DATASETS["pts"], load_scheme("ibug68")
    train, test = (build_cache(list(reader(drawn_folder, folders=(f,), scheme=scheme))) for f in ("train", "test"))
    return train, test


@pytest.fixture(autouse=True)
def _tiny_features(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for the pretrained network, which is tested in test_features.py."""

    class Means(torch.nn.Module):
        def forward(self, pictures: torch.Tensor) -> Features:
            maps = torch.nn.functional.avg_pool2d(pictures, 4)
            return Features((maps,), maps.mean((2, 3)))

    monkeypatch.setattr(uniformize, "build_features", lambda name, *, input_size: Means())


def spec(epochs: int = 2, *, model: ModelSpec = MODEL, ema: float = 0.0, lr: float = 2e-3, **changes: Any) -> Any:
    train = TrainSpec(epochs=epochs, batch_size=8, lr=lr, ema=ema)
    return UniformizeSpec(model=model, train=train, **{"discriminator_width": 0.125, **changes})


def fit(caches: tuple[FaceCache, FaceCache], folder: Path, of: UniformizeSpec, **more: Any) -> dict[str, torch.Tensor]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit_uniformizer(of, *caches, folder, seed=3, progress=False, **more)
    return load_file(folder / WEIGHTS)


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_a_killed_training_goes_on_to_identical_weights(caches, tmp_path: Path, monkeypatch):
    """With everything on: both optimisers, the average, the discriminator's statistics."""
    of = spec(3, ema=0.9, pixel=1.0)
    whole = fit(caches, tmp_path / "whole", of)
    step, seen = UniformizeTraining.training_step, 0

    def dies(self: UniformizeTraining, batch: Any, index: int) -> None:
        nonlocal seen
        seen += 1
        if seen == 5:  # three batches an epoch: in the middle of the second
            raise MemoryError("killed")
        step(self, batch, index)

    monkeypatch.setattr(UniformizeTraining, "training_step", dies)
    with pytest.raises(MemoryError):
        fit(caches, tmp_path / "killed", of)
    monkeypatch.setattr(UniformizeTraining, "training_step", step)
    held = torch.load(tmp_path / "killed" / CHECKPOINT, weights_only=False)
    assert any(name.startswith("discriminator.") for name in held["state_dict"])
    resumed = fit(caches, tmp_path / "killed", of)
    assert same(whole, resumed)
    assert not (tmp_path / "killed" / CHECKPOINT).exists()


def test_the_shipped_weights_are_the_generators_alone_and_say_what_they_are(caches, tmp_path: Path):
    tensors = fit(caches, tmp_path, spec(1))
    assert tensors.keys() == build_network(MODEL).state_dict().keys()
    assert load_checkpoint(tmp_path / WEIGHTS).task == "uniformize"
    (row,) = json.loads((tmp_path / HISTORY).read_text())
    for name in ("train_loss", "adversarial_loss", "discriminator_loss", "perceptual_loss", "identity_loss"):
        assert np.isfinite(row[name])


def test_without_the_adversarial_term_there_is_no_discriminator(caches, tmp_path: Path, monkeypatch):
    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("a discriminator was built")

    monkeypatch.setattr(uniformize, "Discriminator", never)
    monkeypatch.setattr(uniformize, "build_features", never)
    fit(caches, tmp_path, spec(1, **PLAIN))
    (row,) = json.loads((tmp_path / HISTORY).read_text())
    assert not {"adversarial_loss", "discriminator_loss", "perceptual_loss"} & row.keys()


def test_a_landmark_teacher_may_compare_the_pictures(caches, tmp_path: Path):
    torch.manual_seed(0)
    teacher = build_network(ModelSpec(name="acdc", width=0.125, input_size=32), n_points=68)
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    of = spec(1, **{**PLAIN, "perceptual": 1.0, "identity": 1.0, "features": "teacher-landmarks"})
    changed = fit(caches, tmp_path / "one", of, landmarks=teacher)
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    assert not same(changed, fit(caches, tmp_path / "other", spec(1, **PLAIN)))
    with pytest.raises(ConfigError, match="teacher-landmarks, and none is there"):
        fit(caches, tmp_path / "none", of)
    small = build_network(ModelSpec(name="acdc", width=0.125, input_size=48), n_points=68)
    with pytest.raises(ConfigError, match="it takes 48 pixels"):
        fit(caches, tmp_path / "small", of, landmarks=small)


def test_it_mends_drawn_faces(caches, tmp_path: Path):
    fit(caches, tmp_path, spec(18, ema=0.8, degrade="light", lr=1e-2, **PLAIN))
    history = json.loads((tmp_path / HISTORY).read_text())
    assert history[-1]["val_psnr"] > history[-1]["val_psnr_before"] + 1.5
    assert history[-1]["pixel_loss"] < 0.8 * history[0]["pixel_loss"]
    assert len({row["val_psnr_before"] for row in history}) == 1  # the same draws every epoch


def test_each_step_moves_the_discriminator_up_and_then_the_generator(caches, monkeypatch):
    """One step by hand: eq 3's gradients reach the discriminator alone, the rest of eq 7's the generator alone."""
    of = spec(1, pixel=0.5, perceptual=2.0, identity=0.25, adversarial=0.1)
    module = UniformizeTraining(build_network(MODEL), of, seed=0)
    logged: dict[str, torch.Tensor] = {}
    owners = []

    class Optimizer:
        def __init__(self, net: torch.nn.Module) -> None:
            self.net = net

        def zero_grad(self) -> None:
            for parameter in module.parameters():
                parameter.grad = None

        def step(self) -> None:
            touched = {name.split(".")[0] for name, p in module.named_parameters() if p.grad is not None}
            owners.append(touched)

    pair = [Optimizer(module.net), Optimizer(module.discriminator)]
    monkeypatch.setattr(module, "optimizers", lambda: pair)
    monkeypatch.setattr(module, "lr_schedulers", list)
    monkeypatch.setattr(module, "manual_backward", lambda loss: loss.backward())
    monkeypatch.setattr(module, "log_dict", lambda figures, **_: logged.update(figures))
    module.training_step(DegradedPairs(of, *caches, seed=0).draw(np.arange(8), 0), 0)
    assert owners == [{"discriminator"}, {"net"}]
    expected = (
        0.5 * logged["pixel_loss"]
        + 0.1 * logged["adversarial_loss"]
        + 2.0 * logged["perceptual_loss"]
        + 0.25 * logged["identity_loss"]
    )
    torch.testing.assert_close(logged["train_loss"], expected)


def test_pairs_depend_on_seed_epoch_and_face_alone(caches):
    pairs = DegradedPairs(spec(), *caches, seed=1)
    batch = pairs.draw(np.array([4, 7, 2]), 5)
    alone = pairs.draw(np.array([7]), 5)
    for one, many in zip(alone, batch, strict=True):
        torch.testing.assert_close(one[0], many[1], rtol=0, atol=1e-3)
    assert not torch.equal(pairs.draw(np.array([7]), 6)[1], alone[1])
    assert not torch.equal(DegradedPairs(spec(), *caches, seed=2).draw(np.array([7]), 5)[1], alone[1])


def test_undegraded_and_unmoved_crops_are_the_evaluations(caches):
    still = spec(degrade="none", jitter=0.0, rotation=0.0, flip=0.0)
    degraded, clean = DegradedPairs(still, *caches, seed=1).draw(np.arange(5), 0)
    expected = plain_views(caches[0], 32).pixels[:5]
    torch.testing.assert_close(clean, expected)
    torch.testing.assert_close(degraded, expected)
    mirrored = DegradedPairs(spec(degrade="none", jitter=0.0, rotation=0.0, flip=1.0), *caches, seed=1)
    torch.testing.assert_close(mirrored.draw(np.arange(5), 0)[1], expected.flip(3))


def test_a_student_follows_its_teacher(caches, tmp_path: Path):
    """A teacher that paints everything one grey: with its term alone the student comes to that."""

    class Grey(torch.nn.Module):
        input_size = 32

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor]:
            return (torch.full_like(x, 0.25),)

    of = spec(10, lr=1e-2, **{**PLAIN, "pixel": 0.0, "teacher_weight": 1.0})
    fit(caches, tmp_path, of, teacher=Grey())
    history = json.loads((tmp_path / HISTORY).read_text())
    assert history[-1]["teacher_loss"] < 0.5 * history[0]["teacher_loss"]
    assert history[-1]["train_loss"] == pytest.approx(history[-1]["teacher_loss"])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"teacher_weight": 1.0}, "without a teacher"),
        ({**PLAIN, "pixel": 0.0}, "every weight is 0"),
        ({"model": ModelSpec(name="mobilenetv2", width=0.25, input_size=32)}, "mobilenetv2"),
    ],
)
def test_what_cannot_be_trained_is_refused(caches, tmp_path: Path, changes, said):
    with pytest.raises(ConfigError, match=said):
        fit_uniformizer(spec(1, **changes), *caches, tmp_path, seed=0, progress=False)
    assert not list(tmp_path.iterdir())


def test_a_teacher_of_another_size_is_refused(caches, tmp_path: Path):
    teacher = build_network(ModelSpec(name="uniformizer_mobile", width=0.25, input_size=64))
    with pytest.raises(ConfigError, match="64 pixels"):
        fit_uniformizer(spec(1, teacher_weight=1.0), *caches, tmp_path, seed=0, progress=False, teacher=teacher)
