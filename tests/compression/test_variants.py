"""Which combinations exist, and what makes each of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_export import SIZE, exported, tiny_net

from pocketface.compression.quantize.registry import QUANTIZERS
from pocketface.compression.variants import (
    calibrated,
    check_formats,
    check_settings,
    exported_precisions,
    make,
    precisions,
    quantized_precisions,
    settings_for,
)
from pocketface.converters.formats.registry import EXPORTERS
from pocketface.sdk.errors import ConfigError, UnknownNameError
from pocketface.sdk.manifest import PRECISIONS


@pytest.mark.parametrize("format", list(EXPORTERS))
def test_every_precision_has_one_maker(format: str) -> None:
    found = precisions(format)
    assert found[0] == "fp32"
    assert sorted(found) == sorted({*exported_precisions(format), *quantized_precisions(format)})
    assert set(found) <= set(PRECISIONS)
    assert not set(exported_precisions(format)) & set(quantized_precisions(format))
    for precision in quantized_precisions(format):
        assert calibrated(format, precision) == QUANTIZERS[f"{format}.{precision}"].calibrated
    assert not calibrated(format, "fp32")


def test_combinations_that_do_not_exist_are_refused() -> None:
    check_formats({"onnx": ("fp32", "w8a8"), "coreml": ("fp32", "pal4")})
    with pytest.raises(ConfigError, match=r"export\.formats\.onnx: no precision 'pal4'\. Valid: fp32, fp16, w8, w8a8"):
        check_formats({"onnx": ("fp32", "pal4")})
    with pytest.raises(ConfigError, match="no fp32"):
        check_formats({"onnx": ("fp16",)})
    with pytest.raises(UnknownNameError, match="did you mean 'onnx'"):
        check_formats({"onx": ("fp32",)})


def test_settings_that_do_not_exist_are_refused() -> None:
    check_settings({"coreml": {"target": "iOS16"}}, {"onnx.w8": {"min_elements": 10}})
    with pytest.raises(ConfigError, match=r"export\.options\.coreml: unknown key 'tagret' \(did you mean 'target'\?\)"):
        check_settings({"coreml": {"tagret": "iOS16"}}, {})
    with pytest.raises(ConfigError, match=r"Invalid enum value 'iOS3'.*Valid: iOS15, iOS16, iOS17, iOS18"):
        check_settings({"coreml": {"target": "iOS3"}}, {})
    with pytest.raises(UnknownNameError, match=r"unknown quantizer 'onnx\.w9'"):
        check_settings({}, {"onnx.w9": {}})


def test_settings_reach_their_own_maker_alone() -> None:
    options, quantize = {"onnx": {"opset": 20}}, {"onnx.w8": {"min_elements": 10}}
    assert settings_for("onnx", "fp32", options, quantize) == {"opset": 20}
    assert settings_for("onnx", "w8", options, quantize) == {"min_elements": 10}
    assert settings_for("onnx", "w8a8", options, quantize) is None
    assert settings_for("tflite", "fp32", options, quantize) is None


@pytest.mark.slow
def test_the_settings_are_used(tmp_path: Path) -> None:
    import onnx

    fp32 = make(tiny_net(), "onnx", "fp32", tmp_path, input_size=SIZE, options={"opset": 20})
    assert fp32.path == tmp_path / "fp32.onnx"
    assert [item.version for item in onnx.load(fp32.path).opset_import if item.domain == ""] == [20]
    with pytest.raises(ConfigError, match="no weight is left"):
        make(
            tiny_net(), "onnx", "w8", tmp_path, input_size=SIZE, fp32=exported("onnx"), options={"min_elements": 10**9}
        )
    with pytest.raises(ConfigError, match="w8 of onnx needs its fp32 file"):
        make(tiny_net(), "onnx", "w8", tmp_path, input_size=SIZE)


def test_the_page_lists_what_exists() -> None:
    page = (Path(__file__).parents[2] / "docs" / "converters.md").read_text()
    names = {"ONNX": "onnx", "TFLite": "tflite", "Core ML": "coreml", "ExecuTorch": "executorch"}
    listed = {
        names[cells[0]]: set(cells[1].split(", "))
        for line in page.splitlines()
        if (cells := [cell.strip() for cell in line.strip("|").split("|")])[0] in names
    }
    assert listed == {format: set(precisions(format)) for format in EXPORTERS}
