"""AC-DC-s: 13 layers of the printed channels, four geometry transfer networks, exported as the last of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from pocketface.compression.models.acdc_student import Student
from pocketface.compression.models.flops import count_parameters, flops
from pocketface.compression.models.registry import STAGE_MODELS
from pocketface.converters.formats.registry import EXPORTERS
from pocketface.sdk.errors import ConfigError

NAMES = ("acdc_s", "acdc_s_sep")


def tiny(name: str, width: float = 0.125, size: int = 32) -> Student:
    torch.manual_seed(0)
    net: Student = STAGE_MODELS[name](n_points=68, width=width, input_size=size)
    return net


def pictures(count: int = 2, size: int = 32) -> torch.Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(1))


def test_thirteen_layers_of_the_printed_channels():
    """Section IV-B: 64-64-128-128-256-256-512, and the mirror."""
    net = STAGE_MODELS["acdc_s"](n_points=68, width=1.0, input_size=64)
    seen: list[int] = []
    for module in net.modules():
        if isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3):
            module.register_forward_hook(lambda conv, x, y: seen.append(conv.out_channels))
    with torch.no_grad():
        net.eval()(pictures(1, 64))
    assert seen == [64, 64, 128, 128, 256, 256, 512, 256, 256, 128, 128, 64, 64]


@pytest.mark.parametrize("name", NAMES)
def test_the_decoding_layers_come_up_to_half_the_input(name: str):
    found = tiny(name).stages(pictures())
    assert [stage.maps.shape[-1] for stage in found] == [4, 8, 16, 16]
    assert all(stage.points["68"].shape == (2, 68, 2) and stage.pose.shape == (2, 3) for stage in found)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("training", [False, True])
def test_forward_is_the_last_stage(name: str, training: bool):
    net = tiny(name).train(training)
    last = net.stages(pictures())[-1]
    points, pose = net(pictures())
    assert torch.equal(points, last.points["68"])
    assert torch.equal(pose, last.pose)


def test_each_gtn_has_parameters_of_its_own():
    net = tiny("acdc_s")
    assert len({id(parameter) for head in net.gtn for parameter in head.parameters()}) == sum(
        len(list(head.parameters())) for head in net.gtn
    )


def test_sep_has_no_full_3_x_3_convolution_but_the_first_and_needs_far_less():
    net, full = tiny("acdc_s_sep", 0.5, 64), tiny("acdc_s", 0.5, 64)
    convolutions = [m for m in net.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)]
    assert [conv.groups == conv.in_channels for conv in convolutions] == [True] * 13
    assert convolutions[0].in_channels == 1
    assert flops(net) < 0.25 * flops(full)
    assert count_parameters(net) < 0.35 * count_parameters(full)


def test_thin_has_half_the_channels():
    thin, full = tiny("acdc_s", 0.5), tiny("acdc_s", 1.0)
    assert [head.attention.in_channels for head in thin.gtn] == [128, 64, 32, 32]
    assert [head.attention.in_channels for head in full.gtn] == [256, 128, 64, 64]


def test_an_input_that_cannot_be_halved_is_refused():
    with pytest.raises(ConfigError, match=r"72 for 'acdc_s_sep'.*multiple of 16"):
        tiny("acdc_s_sep", size=72)


@pytest.mark.parametrize("name", NAMES)
def test_it_exports_to_onnx_with_torchs_numbers(name: str, tmp_path: Path):
    import onnxruntime

    net = tiny(name)
    net.set_mean_shape(torch.rand(68, 2) * 0.6 - 0.3)
    for _ in range(3):
        net(pictures(8))
    net.eval()
    exported = EXPORTERS["onnx"].export(net, precision="fp32", path=tmp_path / "s.onnx", input_size=32)
    assert set(exported.outputs) == {"points", "pose"}
    session = onnxruntime.InferenceSession(exported.path)
    x = pictures(1)
    found = session.run([exported.outputs[part].tensor for part in ("points", "pose")], {"image": x.numpy()})
    with torch.no_grad():
        for mine, theirs in zip(net(x), found, strict=True):
            np.testing.assert_allclose(theirs, mine.numpy(), atol=1e-5)


def test_it_fits_one_face_far_from_the_mean_shape():
    """Soft-argmax that starts at the prior must leave it: here for points moved by a fifth of the crop."""
    net = tiny("acdc_s", 0.25)
    mean = torch.rand(68, 2, generator=torch.Generator().manual_seed(5)) * 0.4 - 0.2
    net.set_mean_shape(mean)
    x, wanted = pictures(4), mean + torch.tensor([0.2, -0.1])
    optimiser = torch.optim.AdamW(net.parameters(), 3e-3)
    errors = []
    for _ in range(60):
        error = (net(x)[0] - wanted).abs().mean()
        optimiser.zero_grad()
        error.backward()
        optimiser.step()
        errors.append(float(error.detach()))
    assert errors[-1] < 0.2 * errors[0]
