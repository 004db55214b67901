"""Activations that LiteRT rounds itself, in TFLite: which layers do so, and which must not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_export import exported, inputs, pixel_exported, tiny_net
from tiny_quantize import DEPTHWISE, FIRST, HEADS, LARGE, Layer, errors, modules, quantized, runner, tflite_layers

from pocketface.compression.quantize.base import for_network
from pocketface.compression.quantize.registry import QUANTIZERS
from pocketface.compression.quantize.report import report
from pocketface.compression.quantize.tflite_dynamic import TfliteDynamicConfig
from pocketface.converters.readers.base import DYNAMIC
from pocketface.converters.readers.registry import read_contents
from pocketface.sdk.errors import ConfigError

NAME = "tflite.dynamic"
ROUNDED = Layer("FLOAT32", "INT8", False, "FLOAT32")
STORED = Layer("FLOAT32", "INT8", True, "FLOAT32")
IN_FLOAT = Layer("FLOAT32", "FLOAT32", False, "FLOAT32")


@pytest.mark.slow
def test_large_layers_round_what_they_read_and_heads_do_not() -> None:
    kinds = {name: STORED if name in HEADS else ROUNDED for name in LARGE}
    assert tflite_layers(quantized(NAME)) == {name: kinds.get(name, IN_FLOAT) for name in modules()}
    found = report(quantized(NAME))
    assert (found.quantized_operations, found.weight_only_operations) == (1, 1)


@pytest.mark.slow
def test_the_reader_tells_it_from_weights_alone() -> None:
    def computed(name: str) -> dict[str, str]:
        operations = read_contents("tflite", quantized(name).path).operations
        return {item.module: item.compute for item in operations if item.weights and not item.converts}

    assert computed(NAME) == {name: DYNAMIC if name == "features.4.0" else "float32" for name in modules()}
    assert set(computed("tflite.w8").values()) == {"float32"}


@pytest.mark.slow
def test_rounding_activations_costs_little_and_not_nothing() -> None:
    """The weights are those of w8, to the value."""
    points, weights_alone = (runner(quantized(name))(inputs(4))[0] for name in (NAME, "tflite.w8"))
    assert 1e-6 < np.abs(points - weights_alone).max() < 1e-3
    assert errors(quantized(NAME))[0] < 1.5e-3


EVERY = [name for name in modules() if name not in (FIRST, *DEPTHWISE, *HEADS)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "special"),
    [
        ({}, {FIRST: IN_FLOAT, **dict.fromkeys((*DEPTHWISE, *HEADS), STORED)}),
        ({"depthwise": False}, {FIRST: IN_FLOAT, **dict.fromkeys(DEPTHWISE, IN_FLOAT), **dict.fromkeys(HEADS, STORED)}),
        ({"float_first": False, "weights_only": []}, dict.fromkeys(DEPTHWISE, STORED)),
        (
            {"keep_float": ["points", "features.2"], "weights_only": ["score"]},
            {
                **dict.fromkeys((FIRST, "features.2.0", "points"), IN_FLOAT),
                **dict.fromkeys((*DEPTHWISE, "score"), STORED),
            },
        ),
    ],
)
def test_options(settings: dict[str, Any], special: dict[str, Layer], tmp_path: Path) -> None:
    quantizer = QUANTIZERS[NAME]
    config: Any = quantizer.configure({"min_elements": 1, **settings})
    item = quantizer(exported("tflite"), tmp_path / "a.tflite", config=config)
    assert tflite_layers(item) == {name: special.get(name, ROUNDED) for name in modules()}
    assert errors(item)[0] < 5e-3


@pytest.mark.slow
def test_networks_that_take_pixels(tmp_path: Path) -> None:
    item = QUANTIZERS[NAME](pixel_exported("tflite"), tmp_path / "a.tflite")
    assert item.inputs["image"].dtype == "uint8"
    assert tflite_layers(item) == tflite_layers(quantized(NAME))


@pytest.mark.slow
def test_bad_settings_are_refused(tmp_path: Path) -> None:
    quantizer = QUANTIZERS[NAME]
    with pytest.raises(ConfigError, match="Invalid enum value 'minmax'"):
        quantizer.configure({"calibration": "minmax"})
    for settings, message in (
        ({"keep_float": ["feature.4"]}, r"keep_float: no module 'feature\.4' \(did you mean 'features\.4\.0'\?\)"),
        ({"min_elements": 10**6}, "no weight is left to quantize"),
    ):
        config: Any = quantizer.configure(settings)
        with pytest.raises(ConfigError, match=message):
            quantizer(exported("tflite"), tmp_path / "a.tflite", config=config)


def test_heads_and_exact_modules_of_the_network_count() -> None:
    net = tiny_net()
    assert for_network(TfliteDynamicConfig(), net).weights_only == HEADS

    class Exact:
        heads, exact = ("box",), ("gtn",)

    found = for_network(TfliteDynamicConfig(min_elements=9), Exact())  # type: ignore[arg-type]
    assert found == TfliteDynamicConfig(min_elements=9, weights_only=("box",), keep_float=("gtn",))
