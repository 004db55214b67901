"""Random networks in formats and precisions: the figures by hand, and faults that must not pass."""

from __future__ import annotations

import copy
import functools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_mask
import torch
from tiny_export import SIZE, TinyNet, exported, tiny_net
from torch import Tensor, nn

from pocketface.compression import trial
from pocketface.compression.models.registry import ModelSpec
from pocketface.compression.trial import pictures, random_network, relative_error, sqnr_db, try_variants
from pocketface.converters.executors.errors import CannotRunError
from pocketface.converters.pixels import PixelInput
from pocketface.sdk.errors import BadInputError, BundleError, EnvironmentProblemError

TINY = ModelSpec(name="mobilenetv2", width=0.25, input_size=32)


def test_figures_by_hand() -> None:
    truth = {"a": np.array([3.0, -4.0]), "b": np.array([[100.0]])}
    outputs = {"a": np.array([3.0, -4.4]), "b": np.array([[101.0]])}
    assert relative_error(outputs, truth) == pytest.approx(0.1)  # 0.4 of 4; b is off by 0.01
    # Mean squares: a: 12.5 and 0.08; b: 10000 and 1. Each output in units of its own signal.
    assert sqnr_db(outputs, truth) == pytest.approx(10 * math.log10(2 / (0.08 / 12.5 + 1e-4)))
    assert sqnr_db(truth, truth) == math.inf
    outputs["b"] = np.array([[np.nan]])
    assert math.isnan(relative_error(outputs, truth))


def test_the_same_seed_gives_the_same_network() -> None:
    one, same, other = random_network(TINY), random_network(TINY), random_network(TINY, seed=1)
    weights = [dict(net.state_dict()) for net in (one, same, other)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert not torch.equal(weights[0]["points.weight"], weights[2]["points.weight"])
    assert not any(module.training for module in one.modules())
    assert all(module.momentum is not None for module in one.modules() if isinstance(module, nn.BatchNorm2d))


def test_a_random_network_is_no_chaos() -> None:
    """A millionth of noise on its input comes out as a few millionths, as in trained networks."""
    net = random_network(TINY)
    images = trial.inputs_of(net, pictures(4, 32))
    noise = np.random.default_rng(0).normal(size=images.shape).astype(np.float32)
    with torch.no_grad():
        before = net(torch.from_numpy(images))[0].double()
        after = net(torch.from_numpy(images + 1e-3 * noise))[0].double()
    assert float((after - before).abs().max() / before.abs().max()) < 2e-2
    assert float(before.std(0).mean() / before.abs().max()) > 1e-3  # and it answers differently to different pictures


def test_pictures_are_pixels_and_seeded() -> None:
    first = pictures(3, 40, seed=5)
    assert (first.shape, first.dtype) == ((3, 3, 40, 40), np.uint8)
    assert np.array_equal(first, pictures(3, 40, seed=5))
    assert not np.array_equal(first, pictures(3, 40, seed=6))
    assert first.std() > 30


def test_pixel_networks_are_fed_pixels() -> None:
    net = random_network(TINY, pixels=True)
    assert isinstance(net, PixelInput)
    assert trial.inputs_of(net, pictures(2, 32)).dtype == np.uint8


class _WithNormalisation(TinyNet):
    """The tiny network as landmark networks are: they know their normalisation."""

    mean, std = (127.0, 127.0, 127.0), (64.0, 64.0, 64.0)


def tiny() -> TinyNet:
    net = copy.deepcopy(tiny_net())
    net.__class__ = _WithNormalisation
    return net


def tried(folder: Path, net: nn.Module, formats: dict[str, tuple[str, ...]], **settings: Any) -> list[trial.Trial]:
    return list(try_variants("tiny", net, SIZE, formats, folder, **settings))


@functools.cache
def hourglass() -> nn.Module:
    return random_network(tiny_mask.SPECS["hourglass_previous"], n_classes=11)


def test_a_previous_mask_is_of_sharp_probabilities_in_large_pieces() -> None:
    found = trial.others_of(hourglass(), 3, 32, seed=4)
    assert list(found) == ["previous"]
    previous = found["previous"]
    assert (previous.shape, previous.dtype) == ((3, 11, 32, 32), np.float32)
    assert np.array_equal(previous.sum(axis=1), np.ones((3, 32, 32)))
    assert set(np.unique(previous)) == {0.0, 1.0}
    pieces = previous.reshape(3, 11, 4, 8, 4, 8)
    assert np.array_equal(pieces.min(axis=(3, 5)), pieces.max(axis=(3, 5)))
    assert np.array_equal(previous, trial.others_of(hourglass(), 3, 32, seed=4)["previous"])
    assert not np.array_equal(previous, trial.others_of(hourglass(), 3, 32, seed=5)["previous"])
    assert trial.others_of(random_network(TINY), 3, 32) == {}


def test_a_previous_mask_changes_what_a_random_network_says() -> None:
    """Trained ones start with a memory at zero; nothing of it would be compared."""
    net = hourglass()
    images = torch.from_numpy(trial.inputs_of(net, pictures(4, 32, seed=1)))
    masks = torch.from_numpy(trial.others_of(net, 4, 32, seed=1)["previous"])
    with torch.no_grad():
        said, without = net(images, masks)[0], net(images, torch.zeros_like(masks))[0]
    assert float((said - without).abs().max() / said.abs().max()) > 0.2


def test_batch_norm_knows_pictures_with_a_previous_mask() -> None:
    """Its first statistics are those of the two convolutions' sum, by numpy over the same sixteen pictures."""
    net: Any = hourglass()
    sums = []
    for seed in (1000, 1001):
        images = torch.from_numpy(trial.inputs_of(net, pictures(8, 32, seed=seed)))
        masks = torch.from_numpy(trial.others_of(net, 8, 32, seed=seed)["previous"])
        with torch.no_grad():
            sums.append((net.first(images) + net.remember(masks)).double().numpy())
    means = np.mean([value.mean(axis=(0, 2, 3)) for value in sums], axis=0)
    assert net.stem[0].running_mean.numpy() == pytest.approx(means, abs=1e-5)


@pytest.mark.parametrize("name", ["hair_two_stage", "unet", "mobile_segment", "hourglass"])
def test_random_mask_networks_are_no_chaos(name: str) -> None:
    net = random_network(ModelSpec(name=name, width=0.25, input_size=64), n_classes=3)
    images = trial.inputs_of(net, pictures(2, 64))
    noise = np.random.default_rng(0).normal(size=images.shape).astype(np.float32)
    with torch.no_grad():
        before, after = (net(torch.from_numpy(value))[0].double() for value in (images, images + 1e-3 * noise))
    assert float((after - before).square().mean().sqrt() / before.square().mean().sqrt()) < 2e-2
    assert float(before.std(1).mean()) > 0


@pytest.mark.slow
def test_a_network_with_a_previous_mask_is_verified_with_it(tmp_path: Path) -> None:
    formats = {"onnx": ("fp32", "w8a8")}
    found = list(try_variants("hourglass", hourglass(), 32, formats, tmp_path))
    assert [(item.precision, item.status, item.reason) for item in found] == [
        (name, "verified", "") for name in ("fp32", "w8a8")
    ]


@pytest.mark.slow
def test_a_file_that_forgets_the_previous_mask_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forgetful: Any = copy.deepcopy(hourglass())
    nn.init.zeros_(forgetful.remember.conv.weight)
    original = trial.make
    monkeypatch.setattr(trial, "make", lambda net, *args, **settings: original(forgetful, *args, **settings))
    (found,) = try_variants("hourglass", hourglass(), 32, {"onnx": ("fp32",)}, tmp_path)
    assert found.status == "failed"
    assert "relative error" in found.reason


@pytest.mark.slow
def test_good_variants_are_verified(tmp_path: Path) -> None:
    said: list[str] = []
    found = tried(tmp_path, tiny(), {"onnx": ("fp32", "fp16", "w8", "w8a8")}, say=said.append)
    assert [(item.precision, item.status, item.reason) for item in found] == [
        (name, "verified", "") for name in ("fp32", "fp16", "w8", "w8a8")
    ]
    assert said == [f"tiny: onnx {name}" for name in ("fp32", "fp16", "w8", "w8a8")]
    assert found[0].executor.startswith("onnxruntime")
    assert found[0].error is not None
    assert found[0].error <= 1e-5
    assert found[2].bytes < 0.5 * found[0].bytes


@pytest.mark.slow
def test_a_file_of_another_network_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "make", lambda net, format, precision, *_, **__: exported(format, precision))
    net = tiny()
    with torch.no_grad():
        net.points.weight[5] += 1e-3
    (found,) = tried(tmp_path, net, {"onnx": ("fp32",)})
    assert found.status == "failed"
    assert "relative error" in found.reason
    assert "> 1e-05" in found.reason


class _Bessel(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.special.bessel_j0(x)


@pytest.mark.slow
def test_what_cannot_be_converted_says_where_and_fails_what_is_made_of_it(tmp_path: Path) -> None:
    net = tiny()
    net.features[2].append(_Bessel().eval())
    found = tried(tmp_path, net, {"onnx": ("fp16", "w8", "w8a8")})
    assert [item.status for item in found] == ["failed"] * 3
    for item in found:
        assert (item.operation, item.modules) == ("aten.special_bessel_j0", ("features.2.3",))
        assert "features.2.3" in item.reason
        assert str(tmp_path) not in item.reason  # the log is gone with the folder


@pytest.mark.slow
def test_a_file_that_its_runtime_refuses_has_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for error, status in (
        (BundleError("not implemented: ConvInteger"), "failed"),
        (CannotRunError("no kernel for scan"), "unverified"),
        (EnvironmentProblemError("nothing here can run onnx"), "unverified"),
    ):

        def refuse(made: Any, error: Exception = error) -> Any:
            raise error

        monkeypatch.setattr(trial, "backend_of", refuse)
        (found,) = tried(tmp_path, tiny(), {"onnx": ("fp32",)})
        assert (found.status, found.reason) == (status, str(error))


@pytest.mark.slow
def test_one_failure_does_not_stop_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = trial.make

    def make(net: nn.Module, format: str, precision: str, *args: Any, **settings: Any) -> Any:
        if precision == "fp16":
            raise BadInputError("no half today")
        return original(net, format, precision, *args, **settings)

    monkeypatch.setattr(trial, "make", make)
    found = tried(tmp_path, tiny(), {"onnx": ("fp32", "fp16", "w8")})
    assert [item.status for item in found] == ["verified", "failed", "verified"]
    assert "no half today" in found[1].reason
