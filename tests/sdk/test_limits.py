"""What a stranger's manifest may not ask for; and, by hypothesis, that any manifest is accepted or refused by name."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from bundle_factory import edit_manifest, make_bundle
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mask_factory import make_mask_bundle

from pocketface.sdk import limits, manifest
from pocketface.sdk.bundle import open_bundle
from pocketface.sdk.contract import check_manifest
from pocketface.sdk.errors import BundleError, ConfigError
from pocketface.sdk.limits import check_values
from pocketface.sdk.schemes.registry import check_scheme

Change = Callable[[dict[str, Any]], Any]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = make_bundle(tmp_path_factory.mktemp("l") / "b", size=16, points=4, variants=("fp32.onnx", "fp16.coreml"))
    return dict(json.loads((folder / "manifest.json").read_text()))


def checked(raw: dict[str, Any]) -> manifest.Manifest:
    found = manifest.decode(json.dumps(raw).encode("utf-8", "surrogatepass"))
    check_manifest(found)
    return found


def stage(raw: dict[str, Any]) -> dict[str, Any]:
    return raw["stages"][0]  # type: ignore[no-any-return]


def points(raw: dict[str, Any], count: int) -> None:
    """A scheme, outputs and bindings of so many points that fit each other."""
    stage(raw)["scheme"].update(points=count, parts={}, closed=[], names=[], flip=[1, 0], normaliser=[0, 1])
    stage(raw)["outputs"][0]["shape"] = [1, count, 2]
    for variant in stage(raw)["variants"]:
        variant["outputs"]["points"]["shape"] = [1, count, 2]


def image(raw: dict[str, Any], side: int) -> None:
    stage(raw)["preprocess"]["size"] = side
    stage(raw)["inputs"][0]["shape"] = [1, 3, side, side]


def extra(raw: dict[str, Any], key: str, count: int) -> None:
    items = stage(raw)[key]
    stage(raw)[key] = [{**items[0], "name": f"t{number}"} for number in range(count)]


TOO_MUCH: dict[str, tuple[Change, str]] = {
    "points": (lambda raw: points(raw, 10**12), "1000000000000 points, expected 1 to 65536"),
    "size": (lambda raw: image(raw, 10**6), "input size 1000000, expected 1 to 4096"),
    "negative size": (lambda raw: image(raw, -4), "input size -4"),
    "stages": (lambda raw: raw.update(stages=raw["stages"] * 20), "20 stages, expected at most 16"),
    "variants": (
        lambda raw: stage(raw).update(variants=stage(raw)["variants"][:1] * 300),
        "300 variants of stage 'landmarks', expected at most 256",
    ),
    "outputs": (lambda raw: extra(raw, "outputs", 17), "17 outputs of stage 'landmarks', expected at most 16"),
    "golden": (lambda raw: raw.update(golden=raw["golden"] * 501), "1002 golden cases, expected at most 1000"),
    "runs": (lambda raw: raw.update(runs=[{"id": f"r{n}"} for n in range(1001)]), "1001 runs, expected at most 1000"),
    "bytes": (lambda raw: raw["card"].update(bytes=2**40), "its files have .* bytes, expected at most 4294967296"),
    "sides": (lambda raw: extra_shape(raw, [1] * 99), "has shape"),
}


def extra_shape(raw: dict[str, Any], shape: list[int]) -> None:
    stage(raw)["outputs"][1]["shape"] = shape


@pytest.mark.parametrize("what", TOO_MUCH)
def test_too_much_of_anything_is_refused_before_it_takes_memory(made: dict[str, Any], what: str) -> None:
    change, message = TOO_MUCH[what]
    raw = json.loads(json.dumps(made))
    change(raw)
    data = json.dumps(raw).encode()
    tracemalloc.start()
    try:
        with pytest.raises(BundleError, match=message):
            check_manifest(manifest.decode(data))
        assert tracemalloc.get_traced_memory()[1] < 60 * 2**20
    finally:
        tracemalloc.stop()


def test_a_mask_that_would_fill_the_memory(tmp_path: Path) -> None:
    """Each side is allowed, and so is the number of classes; together they are 17 GB."""
    folder = make_mask_bundle(tmp_path / "b")

    def change(raw: dict[str, Any]) -> None:
        names = ["background", *(f"c{number}" for number in range(254))]
        raw["stages"][0]["classes"] = {"name": "many", "names": names}
        raw["stages"][0]["outputs"][0]["shape"] = [1, 255, 4096, 4096]

    with pytest.raises(BundleError, match=r"\(1, 255, 4096, 4096\).* at most 67108864 values"):
        open_bundle(edit_manifest(folder, change))


def test_a_scheme_of_the_users_own_has_the_same_bound() -> None:
    huge = manifest.Scheme(name="x", points=10**15, parts={}, flip=(0,))
    with pytest.raises(ConfigError, match="points, expected 1 to 65536"):
        check_scheme(huge)


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e999", "-1e400", "1e308", "9" * 30, "9" * 5000])
@pytest.mark.parametrize("where", ["mean", "std", "box_scale", "parameters", "max_tensor_error", "nme", "bytes"])
def test_numbers_that_are_none(made: dict[str, Any], where: str, value: str) -> None:
    raw = json.loads(json.dumps(made))
    mark = 123454321
    change: dict[str, Change] = {
        "mean": lambda raw: stage(raw)["preprocess"]["mean"].__setitem__(1, mark),
        "std": lambda raw: stage(raw)["preprocess"]["std"].__setitem__(2, mark),
        "box_scale": lambda raw: stage(raw)["preprocess"].update(box_scale=mark),
        "parameters": lambda raw: stage(raw).update(parameters=mark),
        "max_tensor_error": lambda raw: stage(raw)["variants"][0]["tolerances"].update(max_tensor_error=mark),
        "nme": lambda raw: raw["metrics"].update(nme=mark),
        "bytes": lambda raw: raw["card"].update(bytes=mark),
    }
    change[where](raw)
    text = json.dumps(raw)
    assert text.count(str(mark)) == 1
    with pytest.raises(BundleError) as caught:
        check_manifest(manifest.decode(text.replace(str(mark), value).encode()))
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("text", ["\x1b[2J\x1b[31m", "a\x00b", "\x9b", "\u202egnp.exe", "\u2066x"])
def test_texts_that_would_drive_a_terminal(made: dict[str, Any], text: str) -> None:
    for change in (
        lambda raw: raw.update(name=text),
        lambda raw: raw["metrics"].update({text: 1.0}),
        lambda raw: raw.update(weights_licence=text),
        lambda raw: stage(raw)["variants"][1].update(reason=text),
    ):
        raw = json.loads(json.dumps(made))
        change(raw)
        with pytest.raises(BundleError, match="is not allowed in a bundle"):
            checked(raw)


def test_texts_in_other_languages_and_line_breaks_are_fine(made: dict[str, Any]) -> None:
    raw = json.loads(json.dumps(made))
    raw.update(name="Gesicht ✓ 顔 وجه", weights_licence="one line\n\tand another\r\n")
    assert checked(raw).name == "Gesicht ✓ 顔 وجه"


def test_the_writers_numbers_are_checked_as_well() -> None:
    """A struct may hold what JSON cannot: NaN is never equal to anything, so it must not slip through a bound."""
    for value in (float("nan"), float("inf"), -float("inf"), 2.0**54):
        with pytest.raises(BundleError, match="a finite number"):
            check_values({"a": [{"b": value}]})
    check_values({"a": [{"b": 2.0**53, "c": None, "d": True, "e": "x"}]})
    deep: Any = []
    for _ in range(limits.MAX_DEPTH + 1):
        deep = [deep]
    with pytest.raises(BundleError, match="nested too deeply"):
        check_values(deep)


# Anything that JSON can hold, with a taste for what a manifest holds.
words = st.sampled_from(["image", "points", "score", "fp32.onnx", "onnx", "w8a8", "NHWC", "softmax", "..", "", "uint8"])
scalars = st.none() | st.booleans() | st.integers(-(2**64), 2**64) | st.floats() | st.text(max_size=8) | words
trees = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(words | st.text(max_size=4), inner, max_size=4),
    max_leaves=8,
)


def places(value: Any) -> list[tuple[Any, Any]]:
    items = list(value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ())
    return [(value, key) for key, _ in items] + [place for _, item in items for place in places(item)]


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_a_manifest_holds_it_is_accepted_or_refused_by_name(made: dict[str, Any], data: st.DataObject) -> None:
    raw = json.loads(json.dumps(made))
    for _ in range(data.draw(st.integers(1, 3))):
        found = places(raw)
        holder, key = found[data.draw(st.integers(0, len(found) - 1))]
        if data.draw(st.booleans()):
            holder[key] = data.draw(trees)
        else:
            del holder[key]
            if not places(raw):
                break
    try:
        accepted = checked(raw)
    except BundleError:
        return
    # What is accepted says the same when it is written and read again.
    again = manifest.decode(manifest.encode(accepted))
    check_manifest(again)
    assert again == accepted


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200) | trees.map(lambda tree: json.dumps(tree).encode("utf-8", "surrogatepass")))
def test_any_bytes_at_all(data: bytes) -> None:
    with pytest.raises(BundleError):
        manifest.decode(data)
