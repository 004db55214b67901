"""``pocketface verify --layers``: the command, and what comes before the network."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
from bundle_factory import edit_manifest, replace_file
from onnx import numpy_helper
from tiny_export import SIZE, TinyNet, tiny_net
from torch import nn
from verify_command import Run

from pocketface.converters.layers.preprocess import check_preprocess, network_inputs
from pocketface.sdk.manifest import Preprocess, Stage


@pytest.fixture
def checkpoint(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the command looks by itself."""
    monkeypatch.setattr("pocketface.converters.networks.load_network", lambda path: tiny_net())
    path = bundle.parent / "student.safetensors"
    path.write_bytes(b"the tiny network")
    return path


@pytest.mark.slow
def test_a_sound_bundle_agrees_and_lists_its_largest_errors(bundle: Path, checkpoint: Path, run: Run) -> None:
    code, out, err = run(bundle, "--layers")
    assert (code, err) == (0, "")
    assert "preprocess: agrees" in out
    assert out.count("AGREES") == 3
    assert out.count("largest errors") == 3
    assert "first diverging" not in out
    code, out, _ = run(bundle, "--layers", "--checkpoint", checkpoint, "--variant", "fp32.tflite", "--json", "-")
    found = json.loads(out)["layers"]
    assert code == 0
    assert [(item["variant"], item["status"]) for item in found["variants"]] == [("fp32.tflite", "agrees")]
    assert len(found["variants"][0]["compared"]) == 10
    assert "layers" not in json.loads(run(bundle, "--json", "-")[1])


@pytest.mark.slow
def test_the_command_names_the_layer(bundle: Path, checkpoint: Path, run: Run) -> None:
    path = "models/tiny.fp16.onnx"
    model = onnx.load(bundle / path)
    tensor = next(item for item in model.graph.initializer if item.name == "features.3.0.weight")
    tensor.CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(tensor), tensor.name))
    replace_file(bundle, path, model.SerializeToString())
    code, out, err = run(bundle, "--layers")
    assert code == 1
    assert "fp16.onnx: first diverging tensor: features.3.1 (relative error " in err
    assert "fp32.onnx: first" not in err
    assert out.count("DIVERGES") == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "place"),
    [
        (
            {"mean": [127.0, 100.0, 127.0]},
            "preprocess, mean[1] (the manifest says 100, the golden input was made with 127",
        ),
        ({"std": [64.0, 64.0, 60.0]}, "preprocess, std[2] (the manifest says 60, the golden input was made with 64"),
        ({"channels": "BGR"}, "preprocess, channels (the manifest says BGR, the golden input was made with RGB"),
        ({"box_scale": 1.3}, "preprocess, crop"),
    ],
)
def test_the_command_names_a_wrong_constant(
    bundle: Path, checkpoint: Path, run: Run, change: dict[str, Any], place: str
) -> None:
    edit_manifest(bundle, lambda raw: raw["stages"][0]["preprocess"].update(change))
    code, out, err = run(bundle, "--layers", "--variant", "fp32.onnx")
    assert code == 1
    assert "first diverging place: " + place in err
    assert "first diverging place: preprocess" in out
    assert "AGREES" in out  # the file itself is sound


@pytest.mark.slow
def test_another_checkpoint_is_refused(
    bundle: Path, checkpoint: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = copy.deepcopy(tiny_net())
    nn.init.constant_(other.points.bias, 0.1)
    monkeypatch.setattr("pocketface.converters.networks.load_network", lambda path: other)
    code, _, err = run(bundle, "--layers")
    assert code == 2
    assert "is not the bundle's: points differs from the recorded golden output" in " ".join(err.split())
    wide = TinyNet().eval()
    wide.features[0][0] = nn.Conv2d(4, 16, 3)
    monkeypatch.setattr("pocketface.converters.networks.load_network", lambda path: wide)
    code, _, err = run(bundle, "--layers")
    assert code == 2
    assert "does not take the golden input" in err


@pytest.mark.slow
def test_a_missing_checkpoint_is_refused(bundle: Path, run: Run) -> None:
    code, _, err = run(bundle, "--layers")
    assert code == 2
    assert "student.safetensors: no such checkpoint" in " ".join(err.split())
    assert "--checkpoint PATH" in " ".join(err.split())
    code, _, err = run(bundle, "--checkpoint", "a.safetensors")
    assert code == 2
    assert "--checkpoint without --layers" in err


def test_constants_that_agree_with_the_golden_case_are_held_against_the_network_s_own(
    stage: Stage, golden: list[dict[str, Any]]
) -> None:
    net = copy.deepcopy(tiny_net())
    settings = stage.preprocess
    assert check_preprocess(golden[0], "image", settings, net).place == ""
    net.mean, net.std = (127.0, 127.0, 127.0), (64.0, 64.0, 64.0)
    assert check_preprocess(golden[0], "image", settings, net).place == ""
    net.mean = (127.0, 116.28, 127.0)
    found = check_preprocess(golden[0], "image", settings, net)
    assert found.place == "mean[1]"
    assert "the manifest says 127, the network was trained with 116.28" in str(found)
    net.mean, net.std = (127.0, 127.0, 127.0), (64.0, 64.0, 57.0)
    assert check_preprocess(golden[0], "image", settings, net).place == "std[2]"


def test_pixels_that_the_file_normalises_reach_torch_normalised() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (1, 3, SIZE, SIZE), dtype=np.uint8)
    settings = Preprocess(size=SIZE, mean=(1.0, 2.0, 3.0), std=(4.0, 5.0, 6.0), channels="BGR", inside="folded")
    found = network_inputs({"step0.input.image": pixels}, "image", settings)
    for channel in range(3):
        wanted = (pixels[0, 2 - channel].astype(np.float64) - (3, 2, 1)[channel]) / (6, 5, 4)[channel]
        assert np.allclose(found[0, channel], wanted, atol=1e-5)
    plain = msgspec.structs.replace(settings, inside="")
    tensor = pixels.astype(np.float32)
    assert np.array_equal(network_inputs({"step0.input.image": tensor}, "image", plain), tensor)
