import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundle_factory import edit_manifest, make_bundle
from chain_factory import make_chain
from mask_factory import make_mask_bundle

from pocketface.sdk import manifest
from pocketface.sdk.bundle import open_bundle
from pocketface.sdk.chain import onward
from pocketface.sdk.contract import check_manifest
from pocketface.sdk.errors import BundleError
from pocketface.sdk.inspection import print_manifest
from pocketface.sdk.mask_contract import previous_state

Raw = dict[str, Any]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_mask_bundle(tmp_path_factory.mktemp("hair"))


@pytest.fixture(scope="module")
def remembering(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_mask_bundle(tmp_path_factory.mktemp("parsing"), classes="face11", size=16, grid=8, gain=2.0)


def changed(folder: Path, change: Callable[[Raw], Any]) -> manifest.Manifest:
    raw = json.loads((folder / "manifest.json").read_text())
    change(raw["stages"][0])
    return manifest.decode(json.dumps(raw).encode())


def test_both_kinds_are_accepted_and_written_as_they_were_read(plain: Path, remembering: Path) -> None:
    for folder in (plain, remembering):
        data = (folder / "manifest.json").read_bytes()
        contents = manifest.decode(data)
        check_manifest(contents)
        assert manifest.encode(contents) == data
        with open_bundle(folder) as bundle:
            (case,) = bundle.golden()
            assert case["step0.decoded.labels"].shape == case["image"].shape[:2]
    assert contents.stages[0].states == (previous_state((1, 11, 8, 8)),)


@pytest.mark.parametrize("make", [make_bundle, make_chain])
def test_a_manifest_without_masks_names_nothing_of_theirs(make: Callable[..., Path], tmp_path: Path) -> None:
    """Releases of before there were masks refuse keys that they do not know."""
    text = (make(tmp_path / "bundle") / "manifest.json").read_text()
    assert "classes" not in text
    state = {"name": "s", "shape": [1], "input": "image", "output": "points"}
    raw = json.loads(text)
    raw["stages"][0]["states"] = [state]
    assert "handed" not in manifest.encode(manifest.decode(json.dumps(raw).encode())).decode()
    assert manifest.decode(text.encode()).stages[0].classes is None


def logits(stage: Raw) -> Raw:
    return stage["outputs"][0]


CHANGES: list[tuple[Callable[[Raw], Any], str]] = [
    (lambda s: s.pop("classes"), "gives a mask and has no classes"),
    (lambda s: s["classes"].update(names=["hair", "background"]), "class 0 is 'hair'"),
    (lambda s: s["classes"].update(names=["background", "a", "b"], colours=[]), r"expected \(1, 3, M, M\)"),
    (lambda s: s["classes"].update(flip=[1, 0]), "flip is no mirror"),
    (lambda s: logits(s).update(shape=[1, 2, 16, 8]), r"'logits' has shape \(1, 2, 16, 8\)"),
    (lambda s: logits(s).update(shape=[2, 16, 16]), r"'logits' has shape \(2, 16, 16\)"),
    (lambda s: logits(s).update(shape=[1, 2, 0, 0]), r"M from 1 to 4096"),
    (lambda s: logits(s).update(decode="unit_image"), r"gives logits \(unit_image\), expected one output"),
    (lambda s: logits(s).update(name="mask"), r"gives mask \(class_logits\), expected one output, logits"),
    (lambda s: logits(s).update(dtype="uint8"), "'logits' is uint8"),
    (lambda s: s.update(outputs=[]), "gives nothing"),
    (lambda s: s.update(task="uniformize"), "has the task uniformize and classes"),
    (lambda s: s["inputs"].append({"name": "previous", "shape": [1, 2, 16, 16]}), "takes image, previous and has 0"),
    (lambda s: s["variants"][0]["outputs"]["logits"].update(shape=[1, 2, 8, 8]), r"has shape \(1, 2, 8, 8\)"),
]


@pytest.mark.parametrize(("change", "message"), CHANGES, ids=[message for _, message in CHANGES])
def test_contradictions_are_refused(plain: Path, change: Callable[[Raw], Any], message: str) -> None:
    with pytest.raises(BundleError, match=message):
        check_manifest(changed(plain, change))


STATES: list[tuple[Callable[[Raw], Any], str]] = [
    (lambda s: s.update(states=[]), "takes image, previous and has 0 states"),
    (lambda s: s["inputs"].pop(), "takes image and has 1 states"),
    (lambda s: s["states"][0].pop("handed"), "not as a mask is handed on"),
    (lambda s: s["states"][0].update(frame="image"), "not as a mask is handed on"),
    (lambda s: s["states"][0].update(initial=0.5), "not as a mask is handed on"),
    (lambda s: s["states"].append(s["states"][0]), "not as a mask is handed on"),
    (lambda s: s["states"][0].update(reset="never"), "not as a mask is handed on"),
    (lambda s: s["inputs"][1].update(shape=[1, 11, 4, 4]), r"'previous' has shape \(1, 11, 4, 4\)"),
]


@pytest.mark.parametrize(("change", "message"), STATES)
def test_a_state_that_is_no_previous_mask_is_refused(
    remembering: Path, change: Callable[[Raw], Any], message: str
) -> None:
    with pytest.raises(BundleError, match=message):
        check_manifest(changed(remembering, change))


def test_a_word_that_is_no_way_to_hand_on_is_refused(remembering: Path) -> None:
    with pytest.raises(BundleError, match="Invalid enum value 'argmax'"):
        changed(remembering, lambda stage: stage["states"][0].update(handed="argmax"))


def test_a_segmentation_stands_alone(plain: Path, tmp_path: Path) -> None:
    """In a chain before landmarks, and at the end of one."""
    chain = manifest.decode((make_chain(tmp_path / "chain") / "manifest.json").read_bytes())
    hair = json.loads((plain / "manifest.json").read_text())["stages"][0]
    for at in (0, 3):
        raw = json.loads(manifest.encode(chain))
        item = json.loads(json.dumps(hair))
        item["variants"][0]["id"] = "hair.fp32.onnx"
        raw["stages"].insert(at, item)
        with pytest.raises(BundleError, match=r"stage 'hair' of the task segmentation, expected a segmentation alone"):
            check_manifest(manifest.decode(json.dumps(raw).encode()))


def test_golden_labels_have_the_size_of_their_image(plain: Path, tmp_path: Path) -> None:
    folder = make_mask_bundle(tmp_path / "bundle")
    path = folder / "golden" / "000.npz"
    case = dict(np.load(path))
    case["step0.decoded.labels"] = case["step0.decoded.labels"][1:]
    np.savez(path, **case)
    data = path.read_bytes()

    def mend(raw: Raw) -> None:
        raw["golden"][0].update(bytes=len(data), sha256=hashlib.sha256(data).hexdigest())

    edit_manifest(folder, mend)
    with (
        open_bundle(folder) as bundle,
        pytest.raises(BundleError, match=r"labels' has shape \(69, 90\), expected \(70, 90\)"),
    ):
        bundle.golden()


def test_a_stage_of_another_task_has_no_classes_and_a_segmentation_no_scheme(plain: Path, tmp_path: Path) -> None:
    stage = manifest.decode((plain / "manifest.json").read_bytes()).stages[0]
    assert stage.class_set.name == "hair2"
    with pytest.raises(BundleError, match="has the task segmentation, expected landmarks"):
        stage.marks  # noqa: B018
    with pytest.raises(BundleError, match="ends the chain"):
        onward({}, stage, None)  # type: ignore[arg-type]
    marks = manifest.decode((make_bundle(tmp_path / "marks") / "manifest.json").read_bytes()).stages[0]
    with pytest.raises(BundleError, match="has the task landmarks, expected segmentation"):
        marks.class_set  # noqa: B018


def test_inspect_says_what_a_mask_holds(remembering: Path, plain: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for folder, text in (
        (remembering, "segmentation (face11, 11 classes, 8 x 8, after the mask of the frame before), input 16 x 16"),
        (plain, "segmentation (hair2, 2 classes, 16 x 16), input 32 x 32"),
    ):
        with open_bundle(folder) as bundle:
            print_manifest(bundle.manifest)
        out = " ".join(capsys.readouterr().out.split())
        assert text in out
        assert "mask error %" in out
