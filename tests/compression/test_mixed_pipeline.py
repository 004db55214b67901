"""A run with a variant ``mixed``: as few layers in float as keep its bound."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tiny import SHORT, tiny_recipe

from pocketface.compression.pipeline.context import Context
from pocketface.compression.pipeline.measure import tolerances
from pocketface.compression.pipeline.mixed import FOUND, check_mixed, refuse_mixed
from pocketface.compression.pipeline.run import RunResult, compress
from pocketface.compression.quantize.report import report
from pocketface.compression.recipe import GateSpec, MixedSpec
from pocketface.converters.verify import verify_bundle
from pocketface.sdk.bundle import open_bundle
from pocketface.sdk.errors import ConfigError

pytestmark = pytest.mark.slow

MODULES = [f"features.{index}" for index in range(19)]


def recipe(bound: float, **changes: Any):
    export: dict[str, Any] = {
        "formats": {"onnx": ["fp32", "w8a8"]},
        "mixed": {"onnx": {"max_increase": bound, "most": 4}},
        "calibration_faces": 8,
        "golden_faces": 1,
        "parity_faces": 8,
    }
    return tiny_recipe(
        {
            "export": {**export, **changes},
            "bench": {"threads": [1], "runs": 3, "warmup": 1},
            "gates": {"max_nme_increase": {"w8a8": 50.0, "mixed": 50.0}},
        },
        loss={"name": "l1"},
        train=SHORT,
    )


@pytest.fixture(scope="module")
def run(drawn_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Context, RunResult]:
    context = Context(recipe(1e-6), drawn_folder, tmp_path_factory.mktemp("run"), progress=False)
    return context, compress(context)


def test_layers_stay_in_float_and_the_error_is_smaller(run: tuple[Context, RunResult]):
    _, result = run
    by_id = {item.id: item for item in result.candidates}
    assert list(by_id) == ["fp32.onnx", "w8a8.onnx", "mixed.onnx"]
    mixed, eight = by_id["mixed.onnx"].exported, by_id["w8a8.onnx"].exported
    found = json.loads(mixed.path.with_name(FOUND).read_text())
    keep = [step["module"] for step in found["steps"]]
    assert {effect["module"] for effect in found["effects"]} == set(MODULES)
    assert 1 <= len(keep) <= 4
    assert keep == [effect["module"] for effect in found["effects"][: len(keep)]]
    assert found["steps"][-1]["increase"] < found["whole"]
    assert json.loads(mixed.quantization["config"])["keep_float"] == keep
    assert report(mixed).quantized_operations < report(eight).quantized_operations
    assert result.bundle is not None
    with open_bundle(result.bundle) as bundle:
        assert [variant.id for variant in bundle.manifest.stages[0].variants] == list(by_id)
        assert verify_bundle(bundle).failures() == []
    assert not list(mixed.path.parent.glob("trial*"))


def test_the_figures_are_those_of_the_files(run: tuple[Context, RunResult]):
    # The search looks at all validation faces; so few are here that parity looks at the same.
    context, result = run
    by_id = {item.id: item for item in result.candidates}
    found = json.loads(by_id["mixed.onnx"].exported.path.with_name(FOUND).read_text())
    assert len(context.split.validation) <= context.recipe.export.parity_faces
    for id, expected in (("w8a8.onnx", found["whole"]), ("mixed.onnx", found["steps"][-1]["increase"])):
        parity = by_id[id].parity
        assert parity is not None
        assert parity.nme_increase == pytest.approx(expected, abs=1e-9)


def test_a_loose_bound_keeps_all_in_8_bits(run: tuple[Context, RunResult]):
    context, first = run
    result = compress(Context(recipe(40.0), context.data, context.run, progress=False))
    by_id = {item.id: item.exported for item in result.candidates}
    assert by_id["mixed.onnx"].path.read_bytes() == by_id["w8a8.onnx"].path.read_bytes()
    assert json.loads(by_id["mixed.onnx"].path.with_name(FOUND).read_text())["steps"] == []
    assert result.networks[0].done.key == first.networks[0].done.key


def test_its_bound_is_the_one_it_was_searched_for():
    spec = MixedSpec(max_increase=0.07)
    assert tolerances(GateSpec(), "mixed", spec).max_nme_increase == 0.07
    assert tolerances(GateSpec(max_nme_increase={"mixed": 0.2}), "mixed", spec).max_nme_increase == 0.2
    assert tolerances(GateSpec(max_nme_increase={"w8a8": 0.3}), "w8a8", spec).max_nme_increase == 0.3


def test_what_cannot_be_mixed_is_refused_before_anything_is_trained():
    with pytest.raises(ConfigError, match=r"export\.mixed"):
        recipe(0.1, mixed={"tflite": {}})
    with pytest.raises(ConfigError, match="coreml"):
        check_mixed(recipe(0.1, formats={"coreml": ["fp32"]}, mixed={"coreml": {}}).export)
    with pytest.raises(ConfigError, match="one landmark network"):
        refuse_mixed(recipe(0.1).export)
    for wrong in ({"max_increase": 0.0}, {"depth": 0}, {"most": -1}, {"faces": -1}):
        with pytest.raises(ConfigError, match="mixed"):
            recipe(0.1, mixed={"onnx": wrong})
