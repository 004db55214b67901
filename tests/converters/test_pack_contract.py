"""The contract's YAML: what is refused, what the page says, and what a template leaves open."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import yaml
from foreign_model import CONTRACT, SIZE, write_contract, write_model

from pocketface.converters import pack_contract
from pocketface.converters.pack import pack_files
from pocketface.converters.pack_contract import PackContract, load_contract, parse_contract
from pocketface.converters.pack_template import HOLES, template
from pocketface.converters.verdict import GATES
from pocketface.sdk.errors import ConfigError, UnknownNameError
from pocketface.sdk.schemes import load_scheme

PAGE = Path(__file__).parents[2] / "docs/contract.md"


def parsed(**changes: Any) -> pack_contract.Loaded:
    content = {**CONTRACT, "scheme": "ibug68", **changes}
    kept = {key: value for key, value in content.items() if value is not None}
    return parse_contract(yaml.safe_dump(kept).encode(), "c.yaml")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"refernce": "m.onnx"},
            "c.yaml: unknown key 'refernce' (did you mean 'reference'?). Valid: schema, name, task",
        ),
        ({"preprocess": {"size": 32, "means": [0, 0, 0]}}, "unknown key 'preprocess.means' (did you mean 'mean'?)"),
        ({"outputs": {"point": {}}}, "unknown key 'outputs.point' (did you mean 'points'?). Valid: points, score"),
        (
            {"files": {"m.onnx": {"precison": "fp32"}}},
            "unknown key 'files.m.onnx.precison' (did you mean 'precision'?)",
        ),
        ({"data": [{"name": "x", "license": "y"}]}, "unknown key 'data[0].license' (did you mean 'licence'?)"),
        ({"tolerances": {"fp32": {"max_error": 1}}}, "unknown key 'tolerances.fp32.max_error'"),
        ({"inputs": {"picture": {}}}, "unknown key 'inputs.picture'. Valid: image"),
        ({"outputs": {"points": {}}}, "missing required field `decode` - at `$.outputs.points`"),
        ({"outputs": {"points": {"decode": "pixels"}}}, "Invalid enum value 'pixels' - at `$.outputs.points.decode`"),
        ({"precision": "int8"}, "Invalid enum value 'int8' - at `$.precision`. Valid: dynamic, fp16, fp32"),
        (
            {"outputs": {"points": {"decode": "normalized_points"}}},
            "at `$.outputs.points.decode`. Valid: normalised_points, pixel_points, unit_points",
        ),
        (
            {"tolerances": {"fp23": {"max_tensor_error": 1}}},
            "'fp23' - at `key` in `$.tolerances`. Valid: dynamic, fp16, fp32",
        ),
        ({"tolerances": {"fp32": {"max_tensor_error": -1}}}, "tolerances: max_tensor_error: -1, expected 0 or more"),
        ({"preprocess": {"size": -3, "mean": [0, 0, 0], "std": [1, 1, 1]}}, "preprocess.size: -3, expected 1 to 4096"),
        ({"preprocess": {"size": 32, "mean": [0, 0, 0], "std": [0, 0, 0]}}, "expected three numbers above 0"),
        ({"preprocess": {"size": 32, "mean": [0, float("nan"), 0], "std": [1, 1, 1]}}, "expected finite numbers"),
        (
            {"preprocess": {"size": 32, "mean": [0, 0, 0], "std": [1, 1, 1], "box_scale": -1}},
            "preprocess.box_scale: -1, expected a finite number above 0",
        ),
        ({"preprocess": {"size": "32", "mean": [0, 0, 0], "std": [1, 1, 1]}}, "Expected `int`, got `str`"),
        ({"preprocess": {"size": 32, "mean": [0, 0, 0]}}, "c.yaml: preprocess.std is missing, expected three numbers"),
        ({"weights_licence": None}, "missing required field `weights_licence`"),
        ({"weights_licence": " "}, "c.yaml: weights_licence is empty"),
        ({"name": "../up"}, "c.yaml: name '../up', expected letters, digits"),
        ({"golden_faces": 0}, "c.yaml: golden_faces: 0, expected 1 to 64"),
        ({"schema": 2}, "schema"),
        ({"task": "hair"}, "task"),
    ],
)
def test_what_a_contract_may_not_say(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parsed(**changes)
    assert words in str(caught.value)
    assert "c.yaml" in str(caught.value)


def test_what_is_no_contract_at_all(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no such file\. Get one to fill in: pocketface pack MODEL --template"):
        load_contract(tmp_path / "c.yaml")
    for text in (b"[1, 2]", b"", b"name"):
        with pytest.raises(ConfigError, match="expected keys with values"):
            parse_contract(text)
    for text in (b"a: [", b"\xff\xfe\x00", b"a: !!python/object:os.system {}"):
        with pytest.raises(ConfigError, match="Mend the YAML"):
            parse_contract(text)
    with pytest.raises(UnknownNameError, match="unknown scheme 'ibug86'"):
        parsed(scheme="ibug86")
    with pytest.raises(ConfigError, match="no such file"):
        parsed(scheme="mine.json")


def test_a_schemes_path_is_relative_to_the_contract(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    assert load_contract(write_contract(tmp_path / "inner")).scheme.name == "corners4"


def test_bounds_left_out_stay_as_they_are() -> None:
    loaded = parsed(tolerances={"fp32": {"max_relative_error": 1e-3}, "fp16": {"max_score_error": None}})
    assert loaded.tolerances("fp32") == msgspec.structs.replace(GATES["fp32"], max_relative_error=1e-3)
    assert loaded.tolerances("fp16") == msgspec.structs.replace(GATES["fp16"], max_score_error=None)
    assert loaded.tolerances("w8") == GATES["w8"]


def test_the_example_of_the_page_is_a_contract() -> None:
    (example,) = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    loaded = parse_contract(example.encode())
    assert loaded.stage().outputs[0].decode == loaded.contract.outputs.points.decode


def test_the_page_explains_every_key() -> None:
    text = PAGE.read_text()
    structs = [value for value in vars(pack_contract).values() if _is_part(value)]
    assert PackContract in structs
    for part in structs:
        for name in part.__struct_fields__:
            assert re.search(rf"`(\w+\.)*{name}(\.\w+)*`", text), f"{part.__name__}.{name} is not on the page"


def _is_part(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, pack_contract.Config)


def test_a_template_is_refused_until_it_is_filled_in(tmp_path: Path) -> None:
    content = yaml.safe_load(template([write_model(tmp_path / "m.onnx")]))
    write_contract(tmp_path)  # for its scheme
    answers = {"scheme": "corners4.json", **dict(zip(HOLES, ([0] * 3, [255] * 3, "pixel_points", "CC0"), strict=True))}
    for left_out in answers:
        filled = _filled(content, {key: value for key, value in answers.items() if key != left_out})
        with pytest.raises((ConfigError, UnknownNameError)) as caught:
            parse_contract(yaml.safe_dump(filled).encode(), "c.yaml", tmp_path)
        assert left_out.rpartition(".")[2] in str(caught.value)
    parse_contract(yaml.safe_dump(_filled(content, answers)).encode(), "c.yaml", tmp_path)


def test_a_filled_template_packs(tmp_path: Path) -> None:
    files = [write_model(tmp_path / "m.onnx"), write_model(tmp_path / "n.v2.onnx", score=True, layout="NHWC")]
    content = yaml.safe_load(template(files))
    assert (content["name"], content["preprocess"]["size"], content["precision"]) == ("m", SIZE, "fp32")
    assert content["outputs"]["points"]["tensor"] == "landmarks"
    assert "score" not in content["outputs"]
    assert content["files"]["n.v2.onnx"]["outputs"]["score"] == {"tensor": "face"}
    write_contract(tmp_path)
    answers = {"scheme": "corners4.json", **dict(zip(HOLES, ([0] * 3, [255] * 3, "pixel_points", "CC0"), strict=True))}
    filled = _filled(content, answers)
    filled["files"]["n.v2.onnx"]["precision"] = "mixed"  # as two of fp32.onnx do not go together
    filled |= {"golden_faces": 1, "tolerances": {"mixed": {"max_tensor_error": 1e-4}}}
    loaded = parse_contract(yaml.safe_dump(filled).encode(), "c.yaml", tmp_path)
    packed = pack_files(files, loaded, tmp_path / "b")
    assert packed.failures == ()


def test_a_template_finds_the_scheme_by_the_number_of_points(tmp_path: Path) -> None:
    count = load_scheme("ibug68").points
    model = write_model(tmp_path / "m.onnx", outputs=count, shape=(1, 2 * count), uint8=True, twice=True)
    content = yaml.safe_load(template([model]))
    assert (content["preprocess"]["input"], content["scheme"]) == ("pixels", None)  # which of two outputs?
    content = yaml.safe_load(template([write_model(model, outputs=count, shape=(1, 2 * count), score=True)]))
    assert (content["preprocess"]["input"], content["scheme"]) == ("normalised", "ibug68")
    assert content["outputs"]["score"] == {"tensor": "face"}


def test_a_template_quotes_what_yaml_would_misread(tmp_path: Path) -> None:
    from pocketface.converters.pack_template import _quoted

    for name in ("0", "no", "Identity:0", "a b", "x: y", "# n", "\u00e4", "'", '"', "null", "serving_default", "1e3"):
        assert yaml.safe_load(f"tensor: {_quoted(name)}")["tensor"] == name
        assert yaml.safe_load(f"{{tensor: {_quoted(name)}}}")["tensor"] == name


def _filled(content: dict[str, Any], answers: dict[str, Any]) -> dict[str, Any]:
    filled: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(content))
    for key, value in answers.items():
        *parents, last = key.split(".")
        node = filled
        for parent in parents:
            node = node[parent]
        node[last] = value
    return filled


def test_a_stage_is_what_the_contract_says() -> None:
    stage = parsed(preprocess={"size": 48, "input": "pixels", "channels": "BGR", "box_scale": 1.2}).stage()
    assert (stage.preprocess.size, stage.preprocess.channels, stage.preprocess.box_scale) == (48, "BGR", 1.2)
    assert (stage.inputs[0].shape, stage.inputs[0].dtype) == ((1, 3, 48, 48), "uint8")
    assert [spec.name for spec in stage.outputs] == ["points"]
    np.testing.assert_array_equal(stage.preprocess.std, 1)
