"""Module paths in the names of each format."""

from __future__ import annotations

import re

import pytest
from tiny_export import TinyNet
from torch import nn

from pocketface.converters.module_paths import (
    coreml_paths,
    coreml_weight_paths,
    onnx_name,
    onnx_path,
    spelled_classes,
    tflite_path,
    tflite_pattern,
    tflite_weight_path,
)

NAME = (
    "wrapper/models.EfficientNet.<>_net/Sequential.<features>_features/Inverted_Residual.<features.{0}>_{0}/"
    "ReLU6.<features.{0}.act>_act;;wrapper/models.EfficientNet.<>_net/ReLU6.<other>_other;;wrapper/"
    "models.EfficientNet.<>_net/Sequential.<features>_features/Inverted_Residual.<features.{0}>_{0}/"
    "Conv2d.<features.{0}.conv_dw>_conv_dw;2"
)
"""As litert-torch names a convolution with its activation, and whatever shares a constant with it."""


def test_onnx_names_hold_a_path_and_an_operation() -> None:
    assert onnx_path(onnx_name("features.0.1", "Conv")) == "features.0.1"
    assert onnx_path(onnx_name("", "Add")) == ""


def test_the_output_is_the_last_module_s_and_the_weight_the_first_one_s() -> None:
    assert tflite_path(NAME.format(12)) == "features.12.act"
    assert tflite_weight_path(NAME.format(12)) == "features.12.conv_dw"
    assert tflite_path("serving_default_points_output") == tflite_weight_path("serving_default_points_output") == ""
    assert tflite_path("wrapper/models.EfficientNet.<>_net;3") == ""
    assert tflite_path("models.Sequential_features/Conv2d_0;1") == ""  # a foreign file's


@pytest.mark.parametrize("end", ["", ";", "_dequant"])
def test_modules_are_found_in_tensor_names(end: str) -> None:
    """Names of modules end where a path's do; attribute names may hold underscores."""
    one, twelve = NAME.format(1) + end, NAME.format(12) + end
    for path, found in (
        ("features", (True, True)),
        ("features.1", (True, False)),
        ("features.2", (False, False)),
        ("features.12", (False, True)),
        ("features.12.conv_dw", (False, True)),
        ("features.12.conv", (False, False)),
        ("features.1.act", (False, False)),  # fused into the convolution: no weights of its own
        ("other", (False, False)),
        ("conv_dw", (False, False)),
        ("features.1.", (False, False)),
        ("f.atures", (False, False)),
    ):
        assert tuple(bool(re.search(tflite_pattern(path), name)) for name in (one, twelve)) == found, path


def test_classes_spell_paths_and_are_put_back() -> None:
    net = TinyNet()
    before = {path: type(module) for path, module in net.named_modules()}
    with spelled_classes(net):
        for path, module in net.named_modules():
            assert isinstance(module, before[path])
            assert f"<{path}>" in f"{type(module).__module__}.{type(module).__qualname__}"
        assert isinstance(net.points, nn.Linear)
    assert {path: type(module) for path, module in net.named_modules()} == before


def test_metadata_that_is_not_ours_holds_no_paths() -> None:
    assert coreml_paths({}) == {}
    assert coreml_paths({"com.pocketface.modules": "no json"}) == {}
    assert coreml_paths({"com.pocketface.modules": "[1]"}) == {}
    assert coreml_paths({"com.pocketface.modules": '{"relu_1": "features.3.2"}'}) == {"relu_1": "features.3.2"}
    both = {"com.pocketface.modules": '{"a": "x.1", "b": "y"}', "com.pocketface.weights": '{"a": "x.0"}'}
    assert coreml_weight_paths(both) == {"a": "x.0", "b": "y"}
