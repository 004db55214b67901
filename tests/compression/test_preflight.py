"""``pocketface preflight``: every network of a recipe, before training."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from test_segment_recipe import TINY as SMALL_MASK
from test_segment_recipe import raw as masks
from tiny import NETWORK, tiny_recipe
from torch import Tensor, nn

from pocketface.compression.models.heads import LandmarkNet
from pocketface.compression.models.mobilenetv2 import build as mobilenetv2
from pocketface.compression.models.registry import MODELS
from pocketface.compression.models.segment_blocks import SegmentNet
from pocketface.compression.preflight import networks, preflight
from pocketface.compression.recipe_file import dump_recipe, parse_recipe
from pocketface.compression.segment_recipe import SegmentRecipe
from pocketface.sdk.cli import main
from pocketface.sdk.errors import BadInputError, ConfigError


class _Bessel(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.special.bessel_j0(x)


def build_odd(**settings: Any) -> LandmarkNet:
    """MobileNetV2 with an operation that no format has."""
    net = mobilenetv2(**settings)
    net.features.append(_Bessel())
    return net


@pytest.fixture
def odd() -> Iterator[str]:
    MODELS.register("odd", f"{__name__}:build_odd")
    sys.modules.setdefault(__name__, sys.modules[build_odd.__module__])
    yield "odd"
    MODELS.unregister("odd")


def test_equal_networks_are_tried_once() -> None:
    # Both teachers and the student are the same network, whatever they are trained on.
    assert list(networks(tiny_recipe())) == ["student, tough, tolerant"]
    small = {**NETWORK, "train": {"epochs": 1}}
    other = {**small, "model": {**NETWORK["model"], "width": 0.5}}
    found = networks(tiny_recipe({"teachers": {"tough": other, "tolerant": small}}))
    assert {name: spec.width for name, spec in found.items()} == {"student, tolerant": 0.25, "tough": 0.5}


def mask_recipe(**changes: Any) -> SegmentRecipe:
    return parse_recipe(masks(**changes), "masks", SegmentRecipe)


def test_the_networks_of_masks_are_the_teacher_the_student_and_the_rows() -> None:
    assert list(networks(mask_recipe())) == ["teacher, student, row-without hints, row-without hints seed 1"]
    wide = {**SMALL_MASK, "model": {**SMALL_MASK["model"], "width": 0.5, "init": "package"}}
    found = networks(mask_recipe(teacher=wide, rows={"wide": wide, "narrow": SMALL_MASK}, repeats={"student": [3]}))
    assert {name: spec.width for name, spec in found.items()} == {
        "teacher, row-wide": 0.5,
        "student, row-narrow, student seed 3": 1.0,
    }


def with_previous() -> SegmentRecipe:
    options = {**SMALL_MASK["model"]["options"], "previous": True}
    export = {"formats": {"onnx": ["fp32", "fp16"]}}
    student = {**SMALL_MASK, "model": {**SMALL_MASK["model"], "options": options}}
    return mask_recipe(student=student, export=export)


def test_a_mask_network_is_built_with_the_classes_of_its_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[nn.Module] = []

    def keep(name: str, net: nn.Module, *_: Any, **__: Any) -> Iterator[Any]:
        built.append(net)
        return iter(())

    monkeypatch.setattr("pocketface.compression.preflight.try_variants", keep)
    recipe = mask_recipe(data={**masks()["data"], "classes": "face11", "frame": "face"})
    assert list(preflight(recipe)) == []
    (net,) = built
    assert isinstance(net, SegmentNet)
    assert net.n_classes == 11


def test_what_compress_would_refuse_of_masks_is_refused_before() -> None:
    for changes, word in (
        ({"export": {"formats": {"onnx": ["fp32"]}, "input": "pixels"}}, "pixels"),
        ({"data": {**masks()["data"], "classes": "face11"}}, "frame"),
    ):
        with pytest.raises(ConfigError, match=word):
            list(preflight(mask_recipe(**changes)))


@pytest.mark.slow
def test_a_mask_network_with_a_previous_mask_is_tried() -> None:
    found = list(preflight(with_previous(), roles=("student",)))
    assert [(trial.network, trial.precision, trial.status, trial.reason) for trial in found] == [
        ("hourglass 32 (student)", "fp32", "verified", ""),
        ("hourglass 32 (student)", "fp16", "verified", ""),
    ]
    with pytest.raises(BadInputError, match=r"no network 'ablation'\. Valid: student, teacher, row-without hints"):
        list(preflight(with_previous(), roles=("ablation",)))


@pytest.mark.slow
def test_a_sound_recipe_passes(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(dump_recipe(tiny_recipe({"export": {"formats": {"onnx": ["fp32", "w8a8"]}}})))
    monkeypatch.setattr(sys, "argv", ["pocketface", "preflight", str(path), "--json", str(tmp_path / "out.json")])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0, capsys.readouterr().err
    out = capsys.readouterr().out
    assert out.count("verified") == 2
    trials = json.loads((tmp_path / "out.json").read_text())["trials"]
    assert [(item["precision"], item["status"]) for item in trials] == [("fp32", "verified"), ("w8a8", "verified")]


@pytest.mark.slow
def test_an_operation_that_a_format_lacks_is_named_in_one_line(
    odd: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    path = tmp_path / "recipe.yaml"
    model = {"name": odd, "width": 0.25, "input_size": 32}
    path.write_text(dump_recipe(tiny_recipe(model=model)))
    monkeypatch.setattr(sys, "argv", ["pocketface", "preflight", str(path), "--network", "student"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    out, err = capsys.readouterr()
    assert "Traceback" not in out + err
    assert "aten.special_bessel_j0 in features.19 cannot be converted" in " ".join(out.split())
    assert "1 of 1 variants do not work: fp32.onnx of odd 32 (student)" in " ".join(err.split())


def test_what_the_recipe_does_not_have_is_refused() -> None:
    with pytest.raises(BadInputError, match=r"no network 'teacher'\. Valid: student, tough, tolerant"):
        list(preflight(tiny_recipe(), roles=("teacher",)))
    with pytest.raises(BadInputError, match=r"no format 'tflite'\. Valid: onnx"):
        list(preflight(tiny_recipe(), formats=("tflite",)))
    with pytest.raises(ConfigError, match="unknown key 'opst'"):
        list(preflight(tiny_recipe({"export": {"formats": {"onnx": ["fp32"]}, "options": {"onnx": {"opst": 1}}}})))
