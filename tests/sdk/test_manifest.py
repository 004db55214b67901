import json
from collections.abc import Callable
from typing import Any

import pytest
from bundle_factory import make_bundle

from pocketface.sdk import manifest
from pocketface.sdk.errors import BundleError

Change = Callable[[dict[str, Any]], Any]


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = make_bundle(tmp_path_factory.mktemp("bundle"), variants=("fp32.onnx", "fp16.coreml"))
    return (folder / "manifest.json").read_text()


def changed(text: str, change: Change) -> bytes:
    raw = json.loads(text)
    change(raw)
    return json.dumps(raw).encode()


def test_encode_undoes_decode(text: str) -> None:
    contents = manifest.decode(text.encode())
    assert manifest.decode(manifest.encode(contents)) == contents
    assert json.loads(manifest.encode(contents)) == json.loads(text)
    assert contents.stages[0].scheme.parts["jaw"] == tuple(range(17))


def test_keys_with_x_are_ignored_at_every_depth(text: str) -> None:
    def add(raw: dict[str, Any]) -> None:
        raw["x-note"] = {"anything": [1]}
        raw["stages"][0]["x-note"] = 1
        raw["stages"][0]["variants"][0]["files"][0]["x-note"] = None

    assert manifest.decode(changed(text, add)) == manifest.decode(text.encode())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda raw: raw.update(extra=1), "unknown field `extra`"),
        (lambda raw: raw["stages"][0]["variants"][0].update(colour=1), "unknown field `colour`.*variants"),
        (lambda raw: raw.pop("card"), "missing required field `card`"),
        (lambda raw: raw["stages"][0].update(parameters="many"), "Expected `int`, got `str`.*parameters"),
        (lambda raw: raw["stages"][0]["variants"][0].update(format="flash"), "Invalid enum value 'flash'"),
        (lambda raw: raw["stages"][0]["variants"][0].update(precision="int8"), "Invalid enum value 'int8'"),
        (lambda raw: raw["stages"][0]["variants"][0].update(status="fine"), "Invalid enum value 'fine'"),
    ],
)
def test_refuses_what_the_schema_does_not_say(text: str, change: Change, message: str) -> None:
    with pytest.raises(BundleError, match=message):
        manifest.decode(changed(text, change))


@pytest.mark.parametrize("schema", [0, 2, "1", None, 1.5, [1]])
def test_unknown_schema_says_what_to_update(text: str, schema: Any) -> None:
    with pytest.raises(BundleError, match=r"schema .*expected 1 or older.*pip install -U pocketface"):
        manifest.decode(changed(text, lambda raw: raw.update(schema=schema)))


@pytest.mark.parametrize("data", [b"", b"{", b"\xff\xfe", b"[1]", b"null", b'{"schema": 1', b"[" * 100_000, b'"\xff"'])
def test_refuses_what_is_no_json_object(data: bytes) -> None:
    with pytest.raises(BundleError, match=r"manifest\.json"):
        manifest.decode(data)


def test_variant_by_id_and_default(text: str) -> None:
    contents = manifest.decode(text.encode())
    assert contents.variant()[1].id == contents.default == "fp32.onnx"
    assert contents.variant("fp16.coreml")[1].format == "coreml"
    with pytest.raises(BundleError, match=r"no variant 'w4'. Valid: fp32.onnx, fp16.coreml"):
        contents.variant("w4")


def test_total_bytes_adds_every_file(text: str) -> None:
    variant = manifest.decode(text.encode()).variant("fp16.coreml")[1]
    assert len(variant.files) == 2
    assert variant.total_bytes == 2 + 64


def test_the_whole_of_the_names_is_in_the_types() -> None:
    assert manifest.Format.__args__ == manifest.FORMATS
    assert manifest.Precision.__args__ == manifest.PRECISIONS


def test_a_bound_on_the_head_pose_is_written_only_where_there_is_one(text: str) -> None:
    """Releases of before it existed refuse keys that they do not know."""
    assert "max_pose_error" not in manifest.encode(manifest.decode(text.encode())).decode()

    def bound(raw: dict[str, Any]) -> None:
        raw["stages"][0]["variants"][0]["tolerances"]["max_pose_error"] = 0.05

    contents = manifest.decode(changed(text, bound))
    assert contents.variant()[1].tolerances.max_pose_error == 0.05
    assert manifest.decode(manifest.encode(contents)) == contents
