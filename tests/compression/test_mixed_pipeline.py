"""A run with a variant ``mixed``: as few layers in float as keep its bound."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tiny import SHORT, tiny_recipe

from pocketface.compression.pipeline import trials
from pocketface.compression.pipeline.check import refuse_searches
from pocketface.compression.pipeline.context import Context
from pocketface.compression.pipeline.measure import tolerances
from pocketface.compression.pipeline.mixed import FOUND, check_mixed, sensitivity_of
from pocketface.compression.pipeline.run import RunResult, compress, run_recipe
from pocketface.compression.quantize.registry import QUANTIZERS
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
        "parity_faces": 2,
    }
    return tiny_recipe(
        {
            "export": {**export, **changes},
            "bench": {"threads": [1], "runs": 3, "warmup": 1},
            "gates": {"max_nme_increase": {"w8a8": 50.0}},
        },
        loss={"name": "l1"},
        train=SHORT,
    )


@pytest.fixture(scope="module")
def run(drawn_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Context, RunResult]:
    context = Context(recipe(1e-6), drawn_folder, tmp_path_factory.mktemp("run"), progress=False)
    return context, run_recipe(context)  # the bound is not to be kept


def test_layers_stay_in_float_and_the_error_is_smaller(run: tuple[Context, RunResult]):
    _, result = run
    by_id = {item.id: item for item in result.candidates}
    assert list(by_id) == ["fp32.onnx", "w8a8.onnx", "mixed.onnx"]
    small, eight = by_id["mixed.onnx"].exported, by_id["w8a8.onnx"].exported
    found = json.loads(small.path.with_name(FOUND).read_text())
    keep = [step["module"] for step in found["steps"]]
    assert {effect["module"] for effect in found["effects"]} == set(MODULES)
    assert len(keep) <= 4
    assert keep == [effect["module"] for effect in found["effects"][: len(keep)]]
    assert json.loads(small.quantization["config"])["keep_float"] == keep
    # A network of a few steps may happen to be no worse in 8 bits; then nothing has to stay in float.
    if keep:
        assert found["steps"][-1]["increase"] < found["whole"]
        assert report(small).quantized_operations < report(eight).quantized_operations
    else:
        assert small.path.read_bytes() == eight.path.read_bytes()
    assert not list(small.path.parent.glob("trial.*"))


def test_it_is_judged_on_the_faces_it_was_searched_for_on(run: tuple[Context, RunResult]):
    context, result = run
    item = next(item for item in result.candidates if item.id == "mixed.onnx")
    found = sensitivity_of(item.exported)
    assert len(context.split.validation) > context.recipe.export.parity_faces
    assert item.parity is not None
    assert item.parity.faces == len(context.split.validation) + context.recipe.export.golden_faces
    assert item.parity.nme_increase == pytest.approx(found.increase, abs=1e-9)
    (gate,) = [gate for gate in result.gates if gate.variant == "mixed.onnx" and gate.gate == "NME increase"]
    assert gate.bound == 1e-6
    assert gate.passed == found.reached


def test_a_killed_search_makes_no_file_twice(run: tuple[Context, RunResult], tmp_path: Path, monkeypatch):
    context, first = run
    (tmp_path / "stages").mkdir()
    for path in context.store.root.iterdir():
        if path.is_dir() and not path.name.startswith("mixed"):
            (tmp_path / "stages" / path.name).symlink_to(path)
    other = Context(context.recipe, context.data, tmp_path, progress=False)
    asked: list[str] = []
    measure = trials.measure

    def counted(item: Any, **settings: Any) -> Any:
        if len(asked) == 3:
            raise KeyboardInterrupt
        asked.append(json.loads(item.quantization["config"])["keep_float"])
        return measure(item, **settings)

    monkeypatch.setattr(trials, "measure", counted)
    with pytest.raises(KeyboardInterrupt):
        run_recipe(other)
    killed, asked = asked[:], []
    monkeypatch.setattr(trials, "measure", lambda item, **settings: (asked.append(item), measure(item, **settings))[1])
    again = run_recipe(other)
    one, two = (sensitivity_of(result.candidates[-1].exported) for result in (first, again))
    assert one == two
    assert len(asked) + len(killed) == 1 + len(one.effects) + max(0, len(one.steps) - 1)


def test_a_loose_bound_keeps_all_in_8_bits(run: tuple[Context, RunResult]):
    context, first = run
    result = compress(Context(recipe(40.0), context.data, context.run, progress=False))
    by_id = {item.id: item.exported for item in result.candidates}
    assert by_id["mixed.onnx"].path.read_bytes() == by_id["w8a8.onnx"].path.read_bytes()
    assert json.loads(by_id["mixed.onnx"].path.with_name(FOUND).read_text())["steps"] == []
    assert result.bundle is not None
    with open_bundle(result.bundle) as bundle:
        assert [variant.id for variant in bundle.manifest.stages[0].variants] == list(by_id)
        assert verify_bundle(bundle).failures() == []
    assert result.networks[0].done.key == first.networks[0].done.key


def test_its_bound_is_the_one_it_was_searched_for():
    spec = MixedSpec(max_increase=0.07)
    assert tolerances(GateSpec(), "mixed", spec).max_nme_increase == 0.07
    assert tolerances(GateSpec(max_nme_increase={"mixed": 0.2}), "mixed", spec).max_nme_increase == 0.2
    assert tolerances(GateSpec(max_nme_increase={"w8a8": 0.3}), "w8a8", spec).max_nme_increase == 0.3


def test_what_cannot_be_mixed_is_refused_before_anything_is_trained(monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(ConfigError, match=r"export\.mixed"):
        recipe(0.1, mixed={"tflite": {}})
    without = [name for name in QUANTIZERS if name != "coreml.w8a8"]  # every format has one by now
    with monkeypatch.context() as patch:
        patch.setattr("pocketface.compression.pipeline.mixed.QUANTIZERS", without)
        with pytest.raises(ConfigError, match="'coreml' has no w8a8"):
            check_mixed(recipe(0.1, formats={"coreml": ["fp32"]}, mixed={"coreml": {}}).export)
    with pytest.raises(ConfigError, match=r"export\.mixed"):
        refuse_searches(recipe(0.1).export)
    for wrong in ({"max_increase": 0.0}, {"depth": 0}, {"most": -1}, {"faces": -1}):
        with pytest.raises(ConfigError, match="mixed"):
            recipe(0.1, mixed={"onnx": wrong})
