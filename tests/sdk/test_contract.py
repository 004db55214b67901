from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from bundle_factory import make_bundle

from pocketface.sdk import manifest
from pocketface.sdk.contract import check_manifest, check_path, files, path_key
from pocketface.sdk.errors import BundleError

Change = Callable[[dict[str, Any]], Any]


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder: Path = make_bundle(tmp_path_factory.mktemp("bundle"), variants=("fp32.onnx", "fp16.coreml"))
    return (folder / "manifest.json").read_bytes()


def stage(content: dict[str, Any]) -> dict[str, Any]:
    return content["stages"][0]


def variant(content: dict[str, Any], number: int = 0) -> dict[str, Any]:
    return stage(content)["variants"][number]


def point(content: dict[str, Any]) -> dict[str, Any]:
    return variant(content)["outputs"]["points"]


CHANGES: list[tuple[Change, str]] = [
    (lambda c: c.update(stages=[]), "no stages"),
    (lambda c: c.update(golden=[]), "no golden cases"),
    (lambda c: c["golden"][0].update(path="golden/deep/000.npz"), "golden case"),
    (lambda c: c["golden"][0].update(path="models/000.npz"), "golden case"),
    (lambda c: c["card"].update(path="models/card.md"), "card"),
    (lambda c: c["card"].update(path="manifest.json"), "card"),
    (lambda c: c["card"].update(sha256="ABC"), "a SHA-256 in hex"),
    (lambda c: c["card"].update(bytes=-1), "size -1"),
    (lambda c: c["golden"][1].update(path="golden/000.npz"), "listed more than once"),
    (lambda c: c["golden"][1].update(path="Golden/000.npz"), "listed more than once"),
    (lambda c: c.update(default="w4"), "default variant 'w4' does not exist. Valid: fp32.onnx, fp16.coreml"),
    (lambda c: c.update(stages=[stage(c), stage(c)]), "more than once"),
    (lambda c: variant(c, 1).update(id="fp32.onnx"), "variant 'fp32.onnx' is listed more than once"),
    (lambda c: variant(c, 1).update(id="../x"), "variant '../x'"),
    (lambda c: variant(c).update(files=[]), "lists 0 files, expected one file"),
    (lambda c: variant(c)["files"][0].update(path="golden/x.onnx"), "expected models/FILE"),
    (lambda c: variant(c)["files"][0].update(path="models/a/x.onnx"), "expected models/FILE"),
    (lambda c: variant(c, 1)["files"][0].update(path="models/x"), "below one folder"),
    (lambda c: variant(c).update(parity=None), "passed without a comparison"),
    (lambda c: variant(c, 1).update(reason=""), "unverified without a reason"),
    (lambda c: stage(c)["preprocess"].update(size=0), "input size 0"),
    (lambda c: stage(c)["preprocess"].update(std=[1, 0, 1]), "deviations and a scale above 0"),
    (lambda c: stage(c)["preprocess"].update(box_scale=-1), "deviations and a scale above 0"),
    (lambda c: stage(c)["inputs"][0].update(name="picture"), "input 'image' of shape None"),
    (lambda c: stage(c)["inputs"][0].update(shape=[1, 32, 32, 3]), "expected \\(1, 3, 32, 32\\)"),
    (lambda c: stage(c)["outputs"][0].update(shape=[1, 67, 2]), "output 'points' has shape \\(1, 67, 2\\)"),
    (lambda c: stage(c)["outputs"][1].update(shape=[1, 1]), "output 'score' has shape"),
    (lambda c: stage(c)["outputs"][1].update(name="points"), "tensor 'points' is listed more than once"),
    (lambda c: stage(c).update(outputs=stage(c)["outputs"][1:]), "decodes to face_logit"),
    (lambda c: stage(c)["outputs"][1].update(decode="unit_points"), "output 'score' has shape \\(1,\\)"),
    (lambda c: two_scores(c), "decodes to normalised_points, face_logit, face_logit, expected one of"),
    (lambda c: stage(c)["scheme"].update(points=67), "scheme"),
    (lambda c: stage(c)["scheme"]["flip"].__setitem__(0, 3), "flip is no mirror"),
    (lambda c: variant(c)["outputs"].pop("score"), "binds points, expected points, score"),
    (lambda c: variant(c).update(inputs={}), "binds nothing"),
    (lambda c: point(c).update(shape=[1, 2, 68]), "tensor 'points' has shape \\(1, 2, 68\\)"),
    (lambda c: point(c).update(shape=[1, 137]), "tensor 'points' has shape \\(1, 137\\)"),
    (lambda c: variant(c).update(unused=["points"]), "output 'points' is listed more than once"),
    (lambda c: c.update(runs=[{"id": "fp32.onnx"}]), "run 'fp32.onnx' of a chain, and one stage"),
    (lambda c: c["provenance"].update(reference="w4"), "reference variant 'w4' does not exist"),
    (lambda c: variant(c)["inputs"]["image"].update(layout="NHWC"), "expected \\(1, 32, 32, 3\\)"),
    (lambda c: point(c).update(dtype="int8"), "is int8 with scale None"),
    (lambda c: point(c).update(scale=1.0), "is float32 with scale 1.0"),
    (lambda c: point(c).update(dtype="int8", scale=0.0, zero_point=0), "scale 0.0"),
    (lambda c: point(c).update(dtype="uint8", scale=1.0, zero_point=-1), "zero point -1"),
    (lambda c: stage(c)["inputs"][0].update(dtype="uint8"), "'image' is uint8 with preprocess.inside ''"),
    (lambda c: stage(c)["preprocess"].update(inside="folded"), "'image' is float32 with preprocess.inside 'folded'"),
    (lambda c: stage(c)["outputs"][0].update(dtype="uint8"), "'points' is uint8"),
    (lambda c: variant(c)["inputs"]["image"].update(dtype="uint8"), "'image' is uint8 with scale None"),
]


def two_scores(content: dict[str, Any]) -> None:
    stage(content)["outputs"].append({**stage(content)["outputs"][1], "name": "again"})


def without_score(content: dict[str, Any]) -> None:
    stage(content)["outputs"].pop()
    for number in (0, 1):
        variant(content, number)["outputs"].pop("score")


def changed(raw: bytes, change: Change) -> manifest.Manifest:
    content = msgspec.json.decode(raw)
    change(content)
    return manifest.decode(msgspec.json.encode(content))


@pytest.mark.parametrize(("change", "message"), CHANGES, ids=[message for _, message in CHANGES])
def test_contradictions_are_refused(raw: bytes, change: Change, message: str) -> None:
    with pytest.raises(BundleError, match=message):
        check_manifest(changed(raw, change))


@pytest.mark.parametrize(
    "change",
    [
        lambda c: None,
        lambda c: variant(c)["inputs"]["image"].update(layout="NHWC", shape=[1, 32, 32, 3]),
        lambda c: point(c).update(dtype="int8", scale=0.01, zero_point=-128),
        lambda c: variant(c, 1).update(status="failed", reason="NME + 3"),
        lambda c: point(c).update(shape=[1, 136]),
        lambda c: point(c).update(shape=[68, 2, 1]),
        lambda c: variant(c)["outputs"]["score"].update(shape=[1, 1]),
        lambda c: variant(c).update(unused=["pose"]),
        lambda c: stage(c)["outputs"][0].update(decode="pixel_points"),
        lambda c: c["provenance"].update(reference="fp32.onnx"),
        lambda c: without_score(c),
    ],
)
def test_what_is_allowed(raw: bytes, change: Change) -> None:
    check_manifest(changed(raw, change))


def test_files_lists_every_file_once(raw: bytes) -> None:
    assert [entry.path for entry in files(manifest.decode(raw))] == [
        "models/tiny.fp32.onnx",
        "models/tiny.fp16.coreml/Data/weights.bin",
        "models/tiny.fp16.coreml/Manifest.json",
        "golden/000.npz",
        "golden/001.npz",
        "card.md",
    ]


UNSAFE = [
    *(
        "",
        "/etc/passwd",
        "//x",
        "..",
        "../x",
        "models/../../x",
        "models/..",
        "./x",
        "models//x",
        "models/",
        "a\\b",
        "..\\x",
    ),
    *(
        "C:/x",
        "C:x",
        "a\0b",
        "a\nb",
        "a\u202eb",
        "a/b ",
        "a/b.",
        "nul\x7f",
        "a:stream",
        "x" * 241,
        "a?",
        "a*b",
        'a"b',
        "a|b",
    ),
]


@pytest.mark.parametrize("path", UNSAFE)
def test_unsafe_paths(path: str) -> None:
    with pytest.raises(BundleError, match="is not allowed in a bundle"):
        check_path(path)


@pytest.mark.parametrize("path", UNSAFE)
def test_unsafe_paths_are_refused_wherever_the_manifest_lists_them(raw: bytes, path: str) -> None:
    for change in (
        lambda c: c["card"].update(path=path),
        lambda c: c["golden"][0].update(path=path),
        lambda c: variant(c)["files"][0].update(path=path),
    ):
        with pytest.raises(BundleError, match="is not allowed in a bundle"):
            check_manifest(changed(raw, change))


@pytest.mark.parametrize(
    "path", ["card.md", "models/a b.onnx", "models/x.mlpackage/Data/w.bin", ".hidden", "models/Grüße-1_2+3"]
)
def test_plain_paths(path: str) -> None:
    check_path(path)


def test_names_that_are_one_file_somewhere_have_one_key() -> None:
    assert path_key("Models/A.onnx") == path_key("models/a.ONNX")
    assert path_key("e\u0301") == path_key("\u00e9")
    assert path_key("a") != path_key("b")


@pytest.fixture(scope="module")
def raw_pixels(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder: Path = make_bundle(tmp_path_factory.mktemp("pixels"), pixels=True)
    return (folder / "manifest.json").read_bytes()


PIXEL_CHANGES: list[tuple[Change, str]] = [
    (lambda c: c["inputs"]["image"].update(dtype="float32"), "'image' is float32 with scale None"),
    (lambda c: c["inputs"]["image"].update(scale=1.0, zero_point=0), "uint8 without a scale"),
    (lambda c: c["inputs"]["image"].update(zero_point=0), "uint8 without a scale"),
    (lambda c: c["inputs"]["image"].update(dtype="int8", scale=1.0, zero_point=-128), "'image' is int8"),
    (lambda c: c["inputs"]["image"].update(layout="NHWC"), "expected \\(1, 32, 32, 3\\)"),
]


def test_a_manifest_of_pixel_inputs_is_sound(raw_pixels: bytes) -> None:
    contents = manifest.decode(raw_pixels)
    check_manifest(contents)
    assert contents.stages[0].inputs[0].dtype == "uint8"
    assert contents.stages[0].preprocess.inside == "multiply-add"


@pytest.mark.parametrize(("change", "message"), PIXEL_CHANGES)
def test_bindings_that_do_not_feed_pixels_are_refused(raw_pixels: bytes, change: Change, message: str) -> None:
    with pytest.raises(BundleError, match=message):
        check_manifest(changed(raw_pixels, lambda c: change(variant(c))))


def test_a_manifest_from_before_pixel_inputs_reads_as_normalised_outside(raw: bytes) -> None:
    def drop(content: dict[str, Any]) -> None:
        del stage(content)["preprocess"]["inside"]

    assert changed(raw, drop).stages[0].preprocess.inside == ""
