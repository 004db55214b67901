"""Pruning whole channels: what is left is what the network would be with those channels silent."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from pocketface.compression.models.checkpoint import load_checkpoint, load_network, save_network
from pocketface.compression.models.flops import count_parameters, flops
from pocketface.compression.models.registry import ModelSpec, build_model, build_network
from pocketface.compression.models.reshape import fit_to_tensors, is_pruned
from pocketface.compression.prune.base import PruneConfig, channels_of
from pocketface.compression.prune.registry import PRUNERS
from pocketface.converters.formats.registry import EXPORTERS
from pocketface.sdk.errors import BadInputError, ConfigError, WeightsError

SPEC = ModelSpec(name="mobilenetv2", width=0.35, input_size=64)
OTHERS = [
    ModelSpec(name="mobilenetv2", width=0.35, input_size=64, head="spatial"),
    ModelSpec(name="efficientnet_lite0", input_size=64, head="spatial"),
]


@pytest.fixture(scope="module")
def net() -> nn.Module:
    torch.manual_seed(0)
    found = build_model(SPEC, n_points=5)
    for module in found.modules():  # batch norm under which few units are dead
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, 0.5, 1.5)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    nn.init.normal_(found.points.weight, std=0.1)
    return found.eval()


def losses(net: nn.Module, number: int) -> Tensor:
    x = torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(number))
    return net(x)[0].square().mean()


def silence(net: nn.Module, share: float) -> None:
    """Let channels between the expansion and the projection of every block, and nothing else, be exactly silent."""
    for block in net.features:
        if hasattr(block, "conv") and len(block.conv) == 4:
            (expand, expand_norm, _), (depthwise, depthwise_norm, _), project, _ = block.conv
            few = round(share * expand.out_channels / 8) * 8
            with torch.no_grad():
                for layer in (expand, depthwise):
                    layer.weight[:few] = 0
                project.weight[:, :few] = 0
                for norm in (expand_norm, depthwise_norm):
                    norm.weight[:few] = 0
                    norm.bias[:few] = 0


@pytest.mark.parametrize("importance", ["magnitude", "taylor"])
def test_silent_channels_go_first_and_nobody_misses_them(net: nn.Module, importance: str):
    quiet = copy.deepcopy(net)
    silence(quiet, 0.5)
    pruner = PRUNERS["channels"]
    # What is silent is more than a third of the network. Units of the last layer can be dead on the batches alone.
    settings = {"keep_flops": 0.75, "importance": importance, "keep": ["features.18"]}
    pruned, report = pruner(quiet, losses, pruner.configure(settings))
    x = torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(9))
    with torch.no_grad():
        for a, b in zip(quiet(x), pruned(x), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    assert report.flops[1] <= 0.75 * report.flops[0]
    assert all(path.endswith(("conv.0.0", "conv.1.0")) for path in report.channels), "inside of blocks only"


@pytest.mark.parametrize("importance", ["magnitude", "taylor"])
@pytest.mark.parametrize("keep", [0.3, 0.6])
def test_the_bound_is_kept_and_not_by_much(net: nn.Module, importance: str, keep: float):
    pruner = PRUNERS["channels"]
    pruned, report = pruner(net, losses, pruner.configure({"keep_flops": keep, "importance": importance, "batches": 1}))
    assert report.flops == (flops(net), flops(pruned))
    assert report.parameters == (count_parameters(net), count_parameters(pruned))
    assert 0.8 * keep < report.flops[1] / report.flops[0] <= keep
    assert not is_pruned(net)
    assert is_pruned(pruned)
    before, after = channels_of(net), channels_of(pruned)
    assert after["points"] == 10
    assert after["score"] == 1
    for path, count in after.items():
        if path not in ("points", "score"):
            assert count % 8 == 0 or count == before[path]
            assert count >= min(8, 0.2 * before[path])
    assert f"FLOPs {report.flops[1] / report.flops[0]:.0%}" in str(report)


def test_taylor_follows_the_loss(net: nn.Module):
    # Large weights that the loss does not depend on: the norm keeps them, the gradient does not.
    loud = copy.deepcopy(net)
    block = loud.features[5].conv
    with torch.no_grad():
        block[0][0].weight[:16] *= 100
        block[1][0].weight[:16] *= 100
        block[2].weight[:, :16] = 0
    pruner = PRUNERS["channels"]
    kept = {}
    for importance in ("magnitude", "taylor"):
        pruned, _ = pruner(loud, losses, pruner.configure({"keep_flops": 0.9, "importance": importance}))
        kept[importance] = float(pruned.features[5].conv[0][0].weight.detach().abs().max())
    assert kept["taylor"] < 0.1 * kept["magnitude"]


def test_modules_can_be_kept(net: nn.Module):
    pruner = PRUNERS["channels"]
    pruned, report = pruner(
        net, losses, pruner.configure({"keep_flops": 0.7, "keep": ["features.18"], "importance": "magnitude"})
    )
    assert pruned.features[18][0].out_channels == net.features[18][0].out_channels
    assert report.channels


def test_a_pruned_checkpoint_says_so_and_comes_back(net: nn.Module, tmp_path: Path):
    pruner = PRUNERS["channels"]
    pruned, _ = pruner(net, losses, pruner.configure({"importance": "magnitude"}))
    path = tmp_path / "x.safetensors"
    save_network(pruned, path, SPEC)
    x = torch.randn(2, 3, 64, 64)
    for again in (load_checkpoint(path), load_network(SPEC, path, n_points=5)):
        assert is_pruned(again)
        assert channels_of(again) == channels_of(pruned)
        with torch.no_grad():
            for a, b in zip(pruned(x), again(x), strict=True):
                torch.testing.assert_close(a, b)
    # Pruned twice, and written again.
    twice, _ = pruner(load_checkpoint(path), losses, pruner.configure({"importance": "magnitude"}))
    save_network(twice, path, SPEC)
    assert channels_of(load_checkpoint(path)) == channels_of(twice)


@pytest.mark.parametrize("name", sorted(PRUNERS))
@pytest.mark.parametrize("spec", OTHERS, ids=lambda spec: f"{spec.name} {spec.head}")
def test_every_pruner_on_other_networks(name: str, spec: ModelSpec, tmp_path: Path):
    torch.manual_seed(0)
    whole = build_model(spec, n_points=5).eval()
    before = {key: value.clone() for key, value in whole.state_dict().items()}
    pruned, report = PRUNERS[name](whole, losses)
    assert all(torch.equal(value, before[key]) for key, value in whole.state_dict().items()), "a copy is pruned"
    assert report.flops[1] <= 0.5 * report.flops[0]
    save_network(pruned, tmp_path / "x.safetensors", spec)
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        for a, b in zip(pruned(x), load_checkpoint(tmp_path / "x.safetensors")(x), strict=True):
            torch.testing.assert_close(a, b)


def test_whole_networks_are_read_as_before(net: nn.Module, tmp_path: Path):
    save_network(net, tmp_path / "x.safetensors", SPEC)
    assert not is_pruned(load_checkpoint(tmp_path / "x.safetensors"))
    assert b"pruned" not in (tmp_path / "x.safetensors").read_bytes()[:2000]


def test_a_pruned_network_is_exported_like_any_other(net: nn.Module, tmp_path: Path):
    pruner = PRUNERS["channels"]
    pruned, _ = pruner(net, losses, pruner.configure({"importance": "magnitude"}))
    exported = EXPORTERS["onnx"].export(pruned, precision="fp32", path=tmp_path / "x.onnx", input_size=64)
    x = torch.randn(1, 3, 64, 64)
    session = onnxruntime.InferenceSession(exported.path, providers=["CPUExecutionProvider"])
    (found,) = session.run(["points"], {"image": x.numpy()})
    with torch.no_grad():
        np.testing.assert_allclose(found, pruned(x)[0].numpy(), atol=1e-5)
    whole = EXPORTERS["onnx"].export(net, precision="fp32", path=tmp_path / "whole.onnx", input_size=64)
    assert exported.total_bytes < 0.8 * whole.total_bytes


def test_shapes_that_cannot_be_are_refused(net: nn.Module):
    tensors = dict(net.state_dict())
    for change, message in [
        ({"features.0.0.weight": torch.zeros(64, 3, 3, 3)}, "at most"),
        ({"features.0.0.weight": torch.zeros(8, 3, 3)}, "at most"),
        ({"features.0.0.weight": None}, "missing"),
    ]:
        changed = {name: value for name, value in (tensors | change).items() if value is not None}
        with pytest.raises(WeightsError, match=message):
            fit_to_tensors(build_network(SPEC, n_points=5), changed)


@pytest.mark.parametrize(
    "values", [{"keep_flops": 0.0}, {"keep_flops": 1.0}, {"batches": 0}, {"at_least": 1.0}, {"importence": "taylor"}]
)
def test_settings_out_of_range_are_refused(values: dict[str, object]):
    with pytest.raises(ConfigError):
        PRUNERS["channels"].configure(values)


def test_what_cannot_be_done_is_said(net: nn.Module):
    pruner = PRUNERS["channels"]
    with pytest.raises(ConfigError, match="are left"):
        pruner(net, losses, pruner.configure({"keep_flops": 0.1, "at_least": 0.9, "importance": "magnitude"}))
    with pytest.raises(ConfigError, match=r"features\.99"):
        pruner(net, losses, pruner.configure({"keep": ["features.99"]}))
    with pytest.raises(ConfigError, match=r"features\.99"):
        pruner.check(net, {"keep": ["features.99"]})
    with pytest.raises(ConfigError, match="keep_flop"):
        pruner.check(net, {"keep_flop": 0.5})
    with pytest.raises(BadInputError, match="ChannelsConfig"):
        pruner(net, losses, PruneConfig())
