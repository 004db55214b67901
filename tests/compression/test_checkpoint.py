"""Checkpoints say themselves which network they hold."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from pocketface.compression.models.checkpoint import KEY, load_checkpoint, load_network, save_network
from pocketface.compression.models.heads import LandmarkNet
from pocketface.compression.models.registry import ModelSpec, build_model
from pocketface.converters import networks
from pocketface.sdk.errors import UnknownNameError, WeightsError

SPEC = ModelSpec(name="mobilenetv2", width=0.25, input_size=32, head="spatial")


@pytest.fixture(scope="module")
def net() -> LandmarkNet:
    torch.manual_seed(0)
    return build_model(SPEC, n_points=5).eval()


@pytest.fixture
def path(net: LandmarkNet, tmp_path: Path) -> Path:
    save_network(net, tmp_path / "w.safetensors", SPEC)
    return tmp_path / "w.safetensors"


def _same(a: LandmarkNet, b: LandmarkNet) -> bool:
    x = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        return all(torch.allclose(left, right, atol=1e-6) for left, right in zip(a(x), b(x), strict=True))


def test_networks_round_trip(net: LandmarkNet, path: Path) -> None:
    again = load_network(SPEC, path, n_points=5)
    assert _same(net, again)
    assert not again.training


def test_the_file_alone_is_enough(net: LandmarkNet, path: Path) -> None:
    again = networks.load_network(path)
    assert isinstance(again, LandmarkNet)
    assert (again.n_points, again.input_size) == (5, 32)
    assert _same(net, again)


def test_what_is_no_checkpoint_is_refused(path: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no such checkpoint"):
        networks.load_network(tmp_path / "none.safetensors")
    (tmp_path / "a.pth").write_bytes(b"")
    with pytest.raises(UnknownNameError, match=r"unknown checkpoint 'pth'.*safetensors"):
        networks.load_network(tmp_path / "a.pth")
    (tmp_path / "a.safetensors").write_bytes(b"no")
    with pytest.raises(WeightsError, match="no readable safetensors"):
        load_checkpoint(tmp_path / "a.safetensors")
    save_file(load_file(path), tmp_path / "bare.safetensors")
    with pytest.raises(WeightsError, match="does not say which network"):
        load_checkpoint(tmp_path / "bare.safetensors")
    save_file(load_file(path), tmp_path / "odd.safetensors", metadata={KEY: '{"schema": 1}'})
    with pytest.raises(WeightsError, match="header is damaged"):
        load_checkpoint(tmp_path / "odd.safetensors")


def test_tensors_of_another_network_are_refused(path: Path, tmp_path: Path) -> None:
    other = ModelSpec(name="mobilenetv2", width=0.5, input_size=32)
    save_network(build_model(SPEC, n_points=5), tmp_path / "wrong.safetensors", other)
    with pytest.raises(WeightsError, match="does not fit mobilenetv2"):
        load_checkpoint(tmp_path / "wrong.safetensors")
