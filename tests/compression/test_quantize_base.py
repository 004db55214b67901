"""What every quantizer refuses before it looks into a file, and its configuration."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from tiny_export import SIZE, TinyNet, inputs, tiny_net
from torch import nn

from pocketface.compression.quantize.base import (
    QuantizeConfig,
    Quantizer,
    StaticConfig,
    check_modules,
    for_network,
    under,
)
from pocketface.compression.quantize.registry import QUANTIZERS
from pocketface.converters.formats.base import Exported
from pocketface.converters.formats.interface import interface_of
from pocketface.converters.formats.registry import EXPORTERS
from pocketface.sdk.errors import BadInputError, ConfigError, UnknownNameError

INTERFACE = interface_of(tiny_net(), SIZE)[1]
CALIBRATED = [name for name in QUANTIZERS if QUANTIZERS[name].calibrated]


def source(folder: Path, format: str) -> Exported:
    """What an fp32 export looks like; there is no file, so whoever reads it fails otherwise than expected here."""
    exporter = EXPORTERS[format]
    return Exported(
        folder / f"a{exporter.suffix}", exporter.format, "fp32", *exporter.bindings(INTERFACE, exporter.options_type())
    )


@pytest.fixture(params=list(QUANTIZERS))
def quantizer(request: pytest.FixtureRequest) -> Quantizer:
    return QUANTIZERS[request.param]


def test_names_say_format_and_precision() -> None:
    for name in QUANTIZERS:
        assert QUANTIZERS[name].name == name
        assert name == f"{QUANTIZERS[name].format}.{QUANTIZERS[name].precision}"
        assert (QUANTIZERS[name].precision in ("w8a8", "w8a16", "w4")) == QUANTIZERS[name].calibrated
    with pytest.raises(UnknownNameError, match=r"unknown quantizer 'onnx\.w8a9' \(did you mean 'onnx\.w8a8'\?\)"):
        QUANTIZERS["onnx.w8a9"]


def test_configurations_survive_json(quantizer: Quantizer) -> None:
    default = quantizer.configure()
    assert default == quantizer.config_type() == quantizer.configure({})
    other = quantizer.configure({"keep_float": ["features.2", "points"]})
    assert other.keep_float == ("features.2", "points")
    assert other != default
    for config in (default, other):
        text = msgspec.json.encode(config)
        assert msgspec.json.decode(text, type=quantizer.config_type) == config
        assert quantizer.configure(msgspec.json.decode(text)) == config


def test_bad_configurations_are_refused(quantizer: Quantizer) -> None:
    with pytest.raises(
        ConfigError, match=rf"{re.escape(quantizer.name)}: unknown key 'keep_flaot' \(did you mean 'keep_float'\?\)"
    ) as caught:
        quantizer.configure({"keep_flaot": []})
    assert caught.value.choices == quantizer.config_type.__struct_fields__
    assert "keep_float" in caught.value.choices
    with pytest.raises(ConfigError, match=r"Expected `array`, got `int` - at `\$\.keep_float`"):
        quantizer.configure({"keep_float": 3})


@pytest.mark.parametrize("name", list(QUANTIZERS))
def test_values_out_of_range_are_refused(name: str) -> None:
    if "calibration" in QUANTIZERS[name].config_type.__struct_fields__:
        with pytest.raises(ConfigError, match="Invalid enum value 'best'"):
            QUANTIZERS[name].configure({"calibration": "best"})
    if "min_elements" in QUANTIZERS[name].config_type.__struct_fields__:
        with pytest.raises(ConfigError, match=r"min_elements: 0, expected 1 or more"):
            QUANTIZERS[name].configure({"min_elements": 0})


def test_only_fp32_files_of_its_format_are_taken(quantizer: Quantizer, tmp_path: Path) -> None:
    right = source(tmp_path, quantizer.format)
    other = source(tmp_path, next(name for name in EXPORTERS if name != quantizer.format))
    for wrong in (replace(right, precision="fp16"), replace(right, precision="w8"), other):
        expected = rf"is {wrong.format} {wrong.precision}, expected {quantizer.format} fp32 for {quantizer.name}"
        with pytest.raises(BadInputError, match=expected):
            quantizer(wrong, tmp_path / "b", inputs(2))
    assert list(tmp_path.iterdir()) == []


NETWORKED = [name for name in QUANTIZERS if QUANTIZERS[name].needs_network]


@pytest.mark.parametrize("name", NETWORKED)
def test_a_quantizer_of_networks_asks_for_the_network(name: str, tmp_path: Path) -> None:
    right = source(tmp_path, QUANTIZERS[name].format)
    with pytest.raises(BadInputError, match=rf"{name} without the network, expected the torch network.*net="):
        QUANTIZERS[name](right, tmp_path / "b", inputs(2))
    larger = Exported(right.path, right.format, "fp32", right.inputs, {"points": right.outputs["points"]})
    with pytest.raises(BadInputError, match=r"the network has .*'score': \(1,\).* as a\.\w+ has"):
        QUANTIZERS[name](larger, tmp_path / "b", inputs(2), net=tiny_net())
    with pytest.raises(BadInputError, match=r"training mode"):
        QUANTIZERS[name](right, tmp_path / "b", inputs(2), net=TinyNet())
    assert list(tmp_path.iterdir()) == []


def test_another_quantizers_configuration_is_refused(quantizer: Quantizer, tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=rf"QuantizeConfig for {quantizer.name}, expected"):
        quantizer(source(tmp_path, quantizer.format), tmp_path / "b", inputs(2), config=QuantizeConfig())
    assert list(tmp_path.iterdir()) == []


WRONG_IMAGES: dict[str, Any] = {
    "none": None,
    "no image": np.zeros((0, 3, SIZE, SIZE), np.float32),
    "another size": np.zeros((2, 3, SIZE, SIZE // 2), np.float32),
    "channels last": np.zeros((2, SIZE, SIZE, 3), np.float32),
    "no batch": np.zeros((3, SIZE, SIZE), np.float32),
    "bytes": np.zeros((2, 3, SIZE, SIZE), np.uint8),
    "double": np.zeros((2, 3, SIZE, SIZE)),
    "NaN": np.full((2, 3, SIZE, SIZE), np.nan, np.float32),
    "infinite": np.full((2, 3, SIZE, SIZE), np.inf, np.float32),
}


@pytest.mark.parametrize("images", WRONG_IMAGES.values(), ids=WRONG_IMAGES)
@pytest.mark.parametrize("name", CALIBRATED)
def test_calibration_images_that_do_not_fit_are_refused(name: str, images: Any, tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=rf"{name}: calibration images of .*\(N, 3, {SIZE}, {SIZE}\) float32"):
        QUANTIZERS[name](source(tmp_path, QUANTIZERS[name].format), tmp_path / "b", images)
    assert list(tmp_path.iterdir()) == []


def test_a_module_covers_what_lies_below_it_and_nothing_else() -> None:
    assert under("features.1", ("features.1",))
    assert under("features.1.0.weight", ("points", "features.1"))
    assert not under("features.10.0", ("features.1",))
    assert not under("features", ("features.1",))
    assert not under("features.1", ())


def test_modules_that_do_not_exist_are_named_with_the_nearest() -> None:
    known = ["features.1.0", "features.10.0", "points"]
    check_modules(("features", "features.1", "points"), known, "keep_float")
    with pytest.raises(ConfigError, match=r"keep_float: no module 'ponits' \(did you mean 'points'\?\)") as caught:
        check_modules(("features.1", "ponits"), known, "keep_float")
    assert caught.value.choices == tuple(known)
    with pytest.raises(ConfigError, match=r"weights_only: no module 'features\.2'"):
        check_modules(("features.2",), known, "weights_only")


def test_heads_are_spared_unless_told_otherwise() -> None:
    assert StaticConfig().float_first
    assert for_network(StaticConfig(), None).weights_only == ("points", "score")
    net = nn.Identity()
    net.heads, net.exact = ("box",), ("gtn",)  # type: ignore[assignment]
    assert for_network(StaticConfig(), net) == StaticConfig(weights_only=("box",), keep_float=("gtn",))
    told = StaticConfig(weights_only=(), keep_float=("gtn", "stem"))
    assert for_network(told, net) == told
