"""BlazeFace: shapes, anchors by hand, padding as TensorFlow's, and, where the wheel is here, MediaPipe's own file."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from pocketface.compression.models.blazeface import VALUES, BlazeBlock, BlazeFace, _padded
from pocketface.compression.models.blazeface_weights import MEMBER, _as_corners, _layers, equalize, read_original
from pocketface.compression.models.registry import ModelSpec, build_network
from pocketface.sdk.errors import ConfigError, WeightsError


def test_896_anchors_of_17_values_and_a_tenth_of_a_million_parameters() -> None:
    net = BlazeFace(input_size=128).eval()
    (faces,) = net(torch.zeros(2, 3, 128, 128))
    assert faces.shape == (2, 896, VALUES) == (2, *net.anchor_shape)
    assert sum(value.numel() for value in net.parameters()) == 101_390  # counted in MediaPipe's file


def test_places_by_hand() -> None:
    net = BlazeFace(input_size=128)
    places = net.anchors.places[0, :, 0].numpy()
    # Two anchors in each of 16 x 16 cells, row by row; then six in each of 8 x 8.
    for index, x, y in ((0, 0.5, 0.5), (1, 0.5, 0.5), (2, 1.5, 0.5), (32, 0.5, 1.5)):
        assert places[index] + 0.5 == pytest.approx((x / 16, y / 16))
    for index, x, y in ((512, 0.5, 0.5), (518, 1.5, 0.5), (895, 7.5, 7.5)):
        assert places[index] + 0.5 == pytest.approx((x / 8, y / 8))
    # A network that sees nothing finds everything in its anchor's place, and no logit is moved.
    for module in (net.fine_score, net.fine_face, net.coarse_score, net.coarse_face):
        torch.nn.init.zeros_(module.weight)
        torch.nn.init.zeros_(module.bias)
    faces = net(torch.zeros(1, 3, 128, 128))[0].detach().numpy()[0]
    assert (faces[:, 0] == 0).all()
    assert (faces[:, 1:].reshape(896, 8, 2) == places[:, None]).all()


def test_corners_by_hand() -> None:
    weights = np.zeros((2 * 16, 3), np.float32)
    weights[0], weights[1], weights[2], weights[3], weights[4] = 64, 32, 16, 8, 128  # centre, width, height, a point
    found = _as_corners(weights, 128)
    assert found[:5, 0] == pytest.approx([0.5 - 1 / 16, 0.25 - 1 / 32, 0.5 + 1 / 16, 0.25 + 1 / 32, 1])
    assert (found[5:] == 0).all()


def test_a_block_agrees_with_slow_loops() -> None:
    torch.manual_seed(0)
    block = BlazeBlock(3, 5, 2).eval()
    x = torch.randn(1, 3, 6, 6)
    found = block(x).detach().numpy()[0]
    image, depth = x.numpy()[0], block.depthwise.weight.detach().numpy()
    bias, point = block.depthwise.bias.detach().numpy(), block.pointwise.weight.detach().numpy()[:, :, 0, 0]
    expected = np.zeros((5, 3, 3))
    for i in range(3):
        for j in range(3):
            # TensorFlow's SAME at stride 2 on an even side: nothing on the left and at the top, one more at the end.
            middle = np.zeros(3)
            for c in range(3):
                for u in range(3):
                    for v in range(3):
                        if 2 * i + u < 6 and 2 * j + v < 6:
                            middle[c] += depth[c, 0, u, v] * image[c, 2 * i + u, 2 * j + v]
            kept = np.append(image[:, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].max(axis=(1, 2)), [0, 0])
            expected[:, i, j] = np.maximum(point @ (middle + bias) + block.pointwise.bias.detach().numpy() + kept, 0)
    assert found == pytest.approx(expected, abs=1e-5)


def test_equalized_columns_differ_by_less_than_two_and_the_network_not_at_all() -> None:
    torch.manual_seed(0)
    net = BlazeFace(input_size=64).eval()
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, BlazeBlock):
                module.depthwise.weight.mul_(torch.exp(2 * torch.randn(len(module.depthwise.weight), 1, 1, 1)))
                module.pointwise.weight.mul_(torch.exp(2 * torch.randn(1, module.pointwise.weight.shape[1], 1, 1)))
        net.fine[2].pointwise.weight[:, 5] = 0  # type: ignore[index,union-attr]
    x = torch.rand(2, 3, 64, 64) * 2 - 1
    with torch.no_grad():
        before = net(x)[0]
        equalize(net)
        after = net(x)[0]
    assert torch.equal(after, before)
    assert torch.isfinite(after).all()
    for number, block in enumerate((*net.fine, *net.coarse)):
        columns = block.pointwise.weight.abs().amax(dim=(0, 2, 3))  # type: ignore[union-attr,operator]
        kept = columns[columns > 0]
        assert len(columns) - len(kept) == (number == 2)
        assert kept.min() >= 2**-0.5 - 1e-6
        assert kept.max() <= 2**0.5 + 1e-6


@pytest.mark.parametrize(("kernel", "before", "after"), [(3, 0, 1), (5, 1, 2)])
def test_padding_is_tensorflows(kernel: int, before: int, after: int) -> None:
    padded = _padded(torch.ones(1, 1, 4, 4), kernel)[0, 0]
    assert padded.shape == (4 + before + after,) * 2
    assert padded[before : before + 4, before : before + 4].sum() == 16 == padded.sum()


def test_every_weight_has_a_layer_of_the_file() -> None:
    net = BlazeFace(input_size=128)
    assert {f"{name}.{kind}" for name in _layers(net) for kind in ("weight", "bias")} == set(net.state_dict())
    assert len(set(_layers(net).values())) == len(_layers(net))


def test_refused_sizes_and_widths() -> None:
    for size in (24, 100):
        with pytest.raises(ConfigError, match="multiple of 16"):
            BlazeFace(input_size=size)
    with pytest.raises(ConfigError, match="width"):
        build_network(ModelSpec(name="blazeface", width=0.5))


def test_other_files_are_refused_with_the_way_to_fetch_it(tmp_path: Path) -> None:
    wheel = tmp_path / "mediapipe.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("something.txt", "else")
    with pytest.raises(WeightsError, match="pip download"):
        read_original(wheel)
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr(MEMBER, b"another version")
    wheel.write_bytes(content.getvalue())
    with pytest.raises(WeightsError, match="SHA-256"):
        read_original(wheel)
    with pytest.raises(WeightsError, match="no BlazeFace"):
        read_original(tmp_path / "missing.whl")
