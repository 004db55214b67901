"""AC-DC, the cascade: four stages, each conditioned on the one before, exported as its last stage."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from pocketface.compression.models.acdc import Cascade, Fusion, build
from pocketface.compression.models.registry import STAGE_MODELS
from pocketface.converters.formats.registry import EXPORTERS
from pocketface.sdk.errors import ConfigError


def tiny(seed: int = 0) -> Cascade:
    torch.manual_seed(seed)
    return build(n_points=68, width=0.125, input_size=32)


def pictures(count: int = 2, size: int = 32) -> torch.Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(1))


def test_four_stages_on_maps_of_half_the_input():
    found = tiny().stages(pictures())
    assert len(found) == 4
    for stage in found:
        assert {name: tuple(points.shape) for name, points in stage.points.items()} == {
            "68": (2, 68, 2),
            "19": (2, 19, 2),
            "5": (2, 5, 2),
        }
        assert stage.pose.shape == (2, 3)
        assert stage.maps.shape == (2, 68, 16, 16)


@pytest.mark.parametrize("training", [False, True])
def test_forward_is_the_last_stage(training: bool):
    net = tiny().train(training)
    last = net.stages(pictures())[-1]
    points, pose = net(pictures())
    assert torch.equal(points, last.points["68"])
    assert torch.equal(pose, last.pose)


def test_colour_does_not_matter_beyond_its_luma():
    net, x = tiny().eval(), pictures()
    grey = (x * torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1, keepdim=True).expand(-1, 3, -1, -1)
    torch.testing.assert_close(net(x)[0], net(grey)[0])


def test_fusion_changes_nothing_at_neutral_conditions_and_depends_on_both():
    fusion = Fusion(8, 68).eval()
    stem = torch.randn(2, 8, 4, 4, generator=torch.Generator().manual_seed(3))
    maps, pose = torch.rand(2, 68, 4, 4, generator=torch.Generator().manual_seed(4)), torch.zeros(2, 3)
    with torch.no_grad():
        torch.testing.assert_close(fusion(stem, torch.zeros_like(maps), pose), stem)
        base = fusion(stem, maps, pose)
        assert not torch.equal(base, fusion(stem, maps.flip(3), pose))
        assert not torch.equal(base, fusion(stem, maps, pose + 0.5))


def test_the_last_stage_alone_teaches_the_first_one_too():
    net = tiny()
    net(pictures())[0].square().sum().backward()
    assert net.gtn[0].attention.weight.grad.abs().sum() > 0
    assert net.gtn[0].pose[0].weight.grad.abs().sum() > 0


def test_width_multiplies_channels_and_any_multiple_of_16_is_an_input():
    net = build(n_points=68, width=0.5, input_size=48)
    assert net.gtn[0].attention.in_channels == 32
    assert net.eval()(pictures(1, 48))[0].shape == (1, 68, 2)


def test_an_input_that_cannot_be_halved_is_refused():
    with pytest.raises(ConfigError, match=r"40 for 'acdc'.*multiple of 16"):
        STAGE_MODELS["acdc"](n_points=68, width=0.125, input_size=40)


def test_it_exports_to_onnx_with_torchs_numbers(tmp_path: Path):
    import onnxruntime

    net = tiny()
    net.set_mean_shape(torch.rand(68, 2) * 0.6 - 0.3)
    for _ in range(3):
        net(pictures(8))  # batch norm gets statistics of its own
    net.eval()
    exported = EXPORTERS["onnx"].export(net, precision="fp32", path=tmp_path / "acdc.onnx", input_size=32)
    assert set(exported.outputs) == {"points", "pose"}
    session = onnxruntime.InferenceSession(exported.path)
    x = pictures(1)
    found = session.run([exported.outputs[name].tensor for name in ("points", "pose")], {"image": x.numpy()})
    with torch.no_grad():
        for mine, theirs in zip(net(x), found, strict=True):
            np.testing.assert_allclose(theirs, mine.numpy(), atol=1e-5)
