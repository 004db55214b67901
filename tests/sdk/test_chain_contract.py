"""The manifest of a chain: what its ids name, and every way in which stages do not fit together."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from bundle_factory import edit_manifest, make_bundle
from chain_factory import Nets, make_chain

from pocketface.sdk import manifest
from pocketface.sdk.bundle import open_bundle
from pocketface.sdk.chain_ids import variant_id
from pocketface.sdk.contract import check_manifest
from pocketface.sdk.errors import BundleError
from pocketface.sdk.inspection import print_manifest

Change = Callable[[dict[str, Any]], Any]
LATENCY: dict[str, Any] = {"executor": "ort 1", "cpu": "a CPU", "cpu_features": [], "threads": 2, "runs": 100}
LATENCY |= {"p50_ms": 9.87, "p90_ms": 10.5, "p99_ms": 11.5, "pre_ms": 1, "inference_ms": 8, "post_ms": 1}
LATENCY |= {"peak_rss_mb": 70, "ratio": 1.2}


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Sizes 16 -> 16 -> 8, in fp32 and w8a8 ONNX and in fp32 Core ML."""
    nets = {"fp32": Nets(), "w8a8": Nets()}
    folder = make_chain(
        tmp_path_factory.mktemp("chain") / "b", nets=nets, sizes=(16, 16, 8), formats=("onnx", "coreml")
    )
    return (folder / "manifest.json").read_bytes()


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = make_bundle(tmp_path_factory.mktemp("single"), variants=("fp32.onnx", "fp16.coreml"))
    return (folder / "manifest.json").read_bytes()


def changed(raw: bytes, change: Change) -> manifest.Manifest:
    content = msgspec.json.decode(raw)
    change(content)
    return manifest.decode(msgspec.json.encode(content))


def stage(content: dict[str, Any], number: int) -> dict[str, Any]:
    return content["stages"][number]


def order(*numbers: int) -> Change:
    return lambda c: c.update(stages=[c["stages"][number] for number in numbers])


def twin(number: int, after: int) -> Change:
    """A stage once more, under another name."""

    def change(content: dict[str, Any]) -> None:
        text = msgspec.json.encode(stage(content, number)).decode()
        name = stage(content, number)["name"]
        again = msgspec.json.decode(text.replace(f'"{name}', '"again').replace(f"models/{name}", "models/again"))
        again["task"] = stage(content, number)["task"]
        content["stages"].insert(after, again)

    return change


def resize(number: int, size: int) -> Change:
    """Another input size, sound in itself."""

    def change(content: dict[str, Any]) -> None:
        before = stage(content, number)["preprocess"]["size"]
        text = msgspec.json.encode(stage(content, number)).decode()
        content["stages"][number] = msgspec.json.decode(
            text.replace(f"[1,3,{before},{before}]", f"[1,3,{size},{size}]").replace(
                f'"size":{before}', f'"size":{size}'
            )
        )

    return change


def preprocess(number: int, **values: Any) -> Change:
    return lambda c: stage(c, number)["preprocess"].update(values)


def output(number: int, **values: Any) -> Change:
    return lambda c: stage(c, number)["outputs"][0].update(values)


MIX = "relocalize.fp32.onnx+uniformize.w8a8.onnx+landmarks.fp32.onnx"

REFUSED: list[tuple[Change, str]] = [
    (order(0, 1), "relocalize -> uniformize ends in stage 'uniformize' of the task uniformize, expected a landmarks"),
    (twin(2, 0), "stage 'again' of the task landmarks has stages after it, expected landmarks at the end only"),
    (twin(0, 1), "stages 'relocalize' and 'again' both have the task relocalize"),
    (twin(1, 1), "stages 'again' and 'uniformize' both have the task uniformize"),
    (order(0, 2, 1), "ends in stage 'uniformize'"),
    (order(1, 0, 2), "stage 'relocalize' moves the box after stage 'uniformize' made its picture"),
    (preprocess(2, box_scale=1.2), "stages 'relocalize' and 'landmarks' have box_scale 1.0 and 1.2"),
    (preprocess(1, box_scale=0.5), "stages 'relocalize' and 'uniformize' have box_scale 1.0 and 0.5"),
    (
        lambda c: [preprocess(number, box_scale=1.3)(c) for number in range(3)],
        "stage 'relocalize' corrects the box and has box_scale 1.3, expected 1 in a chain that relocalizes",
    ),
    (preprocess(1, channels="BGR"), "stages 'relocalize' and 'uniformize' have channels RGB and BGR"),
    (
        resize(2, 32),
        "stage 'landmarks' takes 32 x 32 pixels, and the picture that stage 'uniformize' gives has 16 x 16",
    ),
    (resize(2, 12), "stage 'landmarks' takes 12 x 12 pixels, .*that size, or a whole part of it"),
    (
        output(1, shape=[1, 3, 32, 32]),
        r"output 'picture' has shape \(1, 3, 32, 32\), expected \(1, 3, 16, 16\), the size",
    ),
    (output(0, shape=[1, 3]), r"output 'box' has shape \(1, 3\), expected \(1, 4\)"),
    (
        output(0, decode="face_logit", shape=[1]),
        "'relocalize' decodes to face_logit, expected one output, box_correction",
    ),
    (
        output(1, decode="box_correction", shape=[1, 4]),
        "'uniformize' decodes to box_correction, expected one output, unit",
    ),
    (lambda c: stage(c, 2)["outputs"][1].update(shape=[1, 2]), r"output 'pose' has shape \(1, 2\), expected \(1, 3\)"),
    (
        lambda c: stage(c, 2)["outputs"].append({**stage(c, 2)["outputs"][1], "name": "again"}),
        "at most one .* head_pose",
    ),
    (lambda c: stage(c, 2).update(scheme=None), "stage 'landmarks' finds landmarks and has no scheme"),
    (lambda c: stage(c, 0).update(scheme=stage(c, 2)["scheme"]), "'relocalize' has the task relocalize and a scheme"),
    (lambda c: stage(c, 0).update(name="re.lo"), "stage 're.lo' of a chain"),
    (lambda c: stage(c, 0).update(name="fp32"), "stage 'fp32' of a chain"),
    (lambda c: stage(c, 0)["variants"][0].update(id="fp32.onnx"), "variant 'fp32.onnx' .*'relocalize.fp32.onnx'"),
    (lambda c: stage(c, 0)["variants"][0].update(precision="w8"), "expected 'relocalize.w8.onnx'"),
    (
        lambda c: c.update(default="landmarks.fp32.onnx"),
        "default chain 'landmarks.fp32.onnx' does not exist. Valid: fp32",
    ),
    (
        lambda c: stage(c, 1)["variants"].pop(0),
        "default chain 'fp32.onnx' does not exist. Valid: w8a8.onnx, fp32.coreml",
    ),
    (lambda c: c.update(runs=[{"id": "w4.onnx"}]), "stage 'relocalize' of bundle 'chain' has no variant 'w4.onnx'"),
    (
        lambda c: c["provenance"].update(reference="fp32.onnx"),
        "reference variant 'fp32.onnx' does not exist. Valid: relocalize.fp32.onnx",
    ),
    (lambda c: c.update(default=MIX), "default chain 'relocalize.fp32.onnx.*' does not exist. Valid: fp32.onnx"),
    (lambda c: c.update(runs=[{"id": "fp32.onnx"}] * 2), "run 'fp32.onnx' is listed more than once"),
]


@pytest.mark.parametrize(("change", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_stages_that_do_not_fit_are_refused_by_name(raw: bytes, change: Change, message: str) -> None:
    with pytest.raises(BundleError, match=message):
        check_manifest(changed(raw, change))


@pytest.mark.parametrize(
    "change",
    [
        lambda c: None,
        order(0, 2),
        order(1, 2),
        resize(0, 64),
        resize(2, 4),
        resize(2, 16),
        lambda c: [change(c) for change in (order(1, 2), preprocess(0, box_scale=1.3), preprocess(1, box_scale=1.3))],
        lambda c: [preprocess(number, channels="BGR")(c) for number in range(3)],
        lambda c: c.update(runs=[{"id": "fp32.onnx"}, {"id": "w8a8.onnx", "metrics": {"nme": 4}}]),
        lambda c: c["provenance"].update(reference="landmarks.fp32.onnx"),
    ],
)
def test_chains_that_fit(raw: bytes, change: Change) -> None:
    check_manifest(changed(raw, change))


def test_an_incoherent_chain_is_refused_before_any_file_is_read(tmp_path: Path) -> None:
    folder = make_chain(tmp_path / "chain")
    edit_manifest(folder, lambda c: stage(c, 2)["preprocess"].update(channels="BGR"))
    for file in (folder / "models").iterdir():
        file.unlink()
    with pytest.raises(BundleError, match="have channels RGB and BGR"):
        open_bundle(folder)


def test_ids_of_chains_are_those_that_every_stage_has(raw: bytes) -> None:
    contents = manifest.decode(raw)
    assert contents.chains == ("fp32.onnx", "w8a8.onnx", "fp32.coreml", "w8a8.coreml")
    fewer = changed(raw, lambda c: stage(c, 1)["variants"].pop(1))
    assert fewer.chains == ("fp32.onnx", "fp32.coreml", "w8a8.coreml")
    assert contents.landmarks.name == "landmarks"
    assert contents.landmarks.marks.name == "kite4"
    with pytest.raises(BundleError, match="'relocalize' has the task relocalize, expected landmarks"):
        _ = contents.stages[0].marks
    with pytest.raises(BundleError, match="does not end in a landmarks stage"):
        _ = changed(raw, order(0, 1)).landmarks


def test_a_chain_takes_one_variant_of_each_stage(raw: bytes) -> None:
    contents = manifest.decode(raw)

    def chosen(id: str | None) -> list[str]:
        pairs = contents.chain(id)
        assert all(variant in stage.variants for stage, variant in pairs)
        return [variant.id for _, variant in pairs]

    names = ["relocalize", "uniformize", "landmarks"]
    assert chosen(None) == [f"{name}.fp32.onnx" for name in names]
    assert chosen("w8a8.onnx") == [f"{name}.w8a8.onnx" for name in names]
    mix = "landmarks.fp32.coreml+relocalize.w8a8.onnx+uniformize.fp32.onnx"
    assert chosen(mix) == ["relocalize.w8a8.onnx", "uniformize.fp32.onnx", "landmarks.fp32.coreml"]
    assert variant_id("uniformize", "fp32", "onnx") == "uniformize.fp32.onnx"
    found, variant = contents.variant("uniformize.w8a8.onnx")  # one variant of one stage
    assert (found.name, variant.precision) == ("uniformize", "w8a8")


@pytest.mark.parametrize(
    ("id", "message"),
    [
        ("w4.onnx", "stage 'relocalize' of bundle 'chain' has no variant 'w4.onnx'. Valid: fp32.onnx, w8a8.onnx"),
        ("rubbish", "has no variant 'rubbish'"),
        (
            "relocalize.fp32.onnx",
            "'relocalize.fp32.onnx' names no variant of stage 'uniformize'. Valid: uniformize.fp32",
        ),
        ("relocalize.fp32.onnx+relocalize.w8a8.onnx", "names stage 'relocalize' twice"),
        ("re.fp32.onnx", "has no stage 're' .*Valid: relocalize, uniformize, landmarks"),
        (
            "relocalize.w4.onnx",
            "stage 'relocalize' of bundle 'chain' has no variant 'relocalize.w4.onnx'. Valid: reloc",
        ),
        (
            "relocalize.fp32.onnx+uniformize.fp32.onnx+landmarks.fp32",
            "stage 'landmarks' of bundle 'chain' has no variant 'landmarks.fp32'. Valid: landmarks.fp32.onnx",
        ),
        ("relocalize.fp32.onnx+", r"has no stage '' \(in 'relocalize.fp32.onnx\+'\)"),
        ("fp32.onnx+w8a8.onnx", r"or a mix: relocalize.PRECISION.FORMAT\+uniformize.PRECISION.FORMAT\+landmarks"),
    ],
)
def test_an_id_that_names_no_chain_says_which_stage_lacks_what(raw: bytes, id: str, message: str) -> None:
    with pytest.raises(BundleError, match=message):
        manifest.decode(raw).chain(id)


def test_a_single_network_is_a_chain_of_one(single: bytes) -> None:
    contents = manifest.decode(single)
    assert contents.chains == ("fp32.onnx", "fp16.coreml")
    assert contents.chain("fp16.coreml") == (contents.variant("fp16.coreml"),)
    assert contents.chain() == (contents.variant(),)
    assert contents.landmarks is contents.stages[0]
    with pytest.raises(BundleError, match=r"bundle 'tiny' has no variant 'w4'. Valid: fp32.onnx, fp16.coreml"):
        contents.chain("w4")
    check_manifest(
        changed(single, lambda c: c["stages"][0]["variants"][0].update(id="a+b.c.d") or c.update(default="a+b.c.d"))
    )


def test_a_network_that_finds_no_landmarks_is_no_bundle_by_itself(raw: bytes) -> None:
    def alone(content: dict[str, Any]) -> None:
        content.update(stages=[stage(content, 1)], default="uniformize.fp32.onnx")

    with pytest.raises(BundleError, match="uniformize ends in stage 'uniformize' of the task uniformize"):
        check_manifest(changed(raw, alone))


def test_a_single_networks_manifest_holds_nothing_that_older_releases_refuse(single: bytes) -> None:
    def measured(content: dict[str, Any]) -> None:
        content["stages"][0]["variants"][0]["latency"] = [LATENCY]

    written = msgspec.json.decode(manifest.encode(changed(single, measured)))
    assert "runs" not in written
    assert written["stages"][0]["variants"][0]["latency"] == [LATENCY]


def test_runs_of_whole_chains_are_kept_and_shown(raw: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    stages = {"relocalize": 1.25, "uniformize": 5.5, "landmarks": 3.125}
    run = {"id": "w8a8.onnx", "metrics": {"nme": 7.654}, "latency": [{**LATENCY, "stages": stages}]}
    contents = changed(raw, lambda c: c.update(runs=[run]))
    assert manifest.decode(manifest.encode(contents)) == contents
    assert contents.runs[0].latency[0].stages == stages
    print_manifest(contents)
    shown = " ".join(capsys.readouterr().out.split())
    for text in (
        "chain relocalize -> uniformize -> landmarks: fp32.onnx, w8a8.onnx, fp32.coreml, w8a8.coreml",
        "(default fp32.onnx)",
        *("landmarks off, px", "NME %", "corners off, px", "box error %", "grey levels off", "image error %"),
        "stage relocalize: relocalize, input 16 x 16",
        "stage landmarks: landmarks (kite4, 4 points) and head pose, input 8 x 8",
        "7.654",
        "9.87",
        "1.25",
        "5.50",
        "3.12",
    ):
        assert text in shown, text
