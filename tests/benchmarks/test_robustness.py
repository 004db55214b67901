"""The protocol 300w-degraded: what the network gets to see, what comes out, and the command, on drawn faces."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
from bundle_factory import make_bundle

from pocketface.benchmarks.accuracy import evaluate
from pocketface.benchmarks.data.degrade import DEGRADATIONS, SINGLE, DegradeSpec, degrade
from pocketface.benchmarks.data.registry import DATASETS
from pocketface.benchmarks.data.synthetic import write_dataset
from pocketface.benchmarks.robustness import PROTOCOL, ROWS, box_error_spec, evaluate_box_error, evaluate_degraded
from pocketface.sdk import load, load_scheme, read_image
from pocketface.sdk.cli import app
from pocketface.sdk.errors import AnnotationError, BadInputError, UnknownNameError
from pocketface.sdk.results import Landmarks

IBUG = load_scheme("ibug68")
COUNT = 3


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drawn") / "data"
    write_dataset(folder, count=COUNT, seed=5, size=96)
    return folder


@pytest.fixture(scope="module")
def faces(data):
    return DATASETS["pts"](data, scheme=IBUG)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return make_bundle(tmp_path_factory.mktemp("b") / "bundle", variants=("fp32.onnx", "w8.onnx"))


class Witness:
    """Remembers what it is shown; its landmarks are the truth, moved as its box was moved."""

    def __init__(self, faces):
        self.stage = SimpleNamespace(marks=IBUG)
        self.id, self.executor = "witness", "by hand 1"
        self.faces, self.seen = faces, []

    def __call__(self, image, boxes):
        (box,) = boxes
        face = self.faces[len(self.seen) % len(self.faces)]
        self.seen.append((image, box))
        shift = np.subtract(box, face.box).reshape(2, 2).mean(axis=0)
        return [Landmarks((face.points + shift).astype(np.float32), 1.0, box, "ibug68")]


def iod(face):
    return float(np.hypot(*(face.points[36].astype(float) - face.points[45])))


def test_the_protocol_holds_every_single_degradation_and_all():
    assert set(SINGLE) < set(ROWS) <= set(DEGRADATIONS)
    assert ROWS[0] == "none"
    assert ROWS[-1] == "all"
    assert PROTOCOL == "300w-degraded"


def test_a_network_sees_the_degraded_image_and_box_of_that_face(faces):
    witness = Witness(faces)
    result = evaluate_degraded(witness, faces, names=("none", "noise", "all"), seed=4)
    assert list(result.results) == ["none", "noise", "all"]
    seen = iter(witness.seen)
    for name in ("none", "noise", "all"):
        for face in faces:
            want = degrade(read_image(face.image), face.box, DEGRADATIONS[name], iod=iod(face), name=face.name, seed=4)
            image, box = next(seen)
            np.testing.assert_array_equal(image, want.image)
            np.testing.assert_allclose(box, want.box)
    # Nothing is left over of one degradation in the next: without any, the photo and the ground-truth box.
    for (image, box), face in zip(witness.seen, faces, strict=False):
        np.testing.assert_array_equal(image, read_image(face.image))
        assert box == face.box


def test_errors_are_against_the_landmarks_of_the_original(faces):
    """The witness is off by exactly the translation: its error is the length of the drawn vector, in iod."""
    result = evaluate_degraded(Witness(faces), faces, names=("none", "scale", "translation"), seed=1)
    assert result["none"].nme == pytest.approx(0, abs=1e-4)
    assert result["scale"].nme == pytest.approx(0, abs=1e-3)  # about the centre: no shift
    for face, error in zip(faces, result.results["translation"].errors, strict=True):
        done = degrade(
            read_image(face.image), face.box, DEGRADATIONS["translation"], iod=iod(face), name=face.name, seed=1
        )
        drawn = np.hypot(done.amounts["translation_x"], done.amounts["translation_y"])
        assert error == pytest.approx(drawn, abs=1e-5)


def test_every_network_and_order_gets_the_same_set(faces):
    first, second = Witness(faces), Witness(faces[::-1])
    evaluate_degraded(first, faces, names=("all",), seed=2)
    evaluate_degraded(second, faces[::-1], names=("box", "all"), seed=2)
    for (one, box), (other, other_box) in zip(first.seen, second.seen[COUNT:][::-1], strict=True):
        np.testing.assert_array_equal(one, other)
        assert box == other_box
    third = Witness(faces)
    evaluate_degraded(third, faces, names=("all",), seed=3)
    assert all((one != other).any() for (one, _), (other, _) in zip(first.seen, third.seen, strict=True))


def test_faces_that_share_a_photo_are_degraded_apart(faces):
    from dataclasses import replace

    pair = [faces[0], replace(faces[0], name="another")]
    witness = Witness(pair)
    evaluate_degraded(witness, pair, names=("noise",))
    assert (witness.seen[0][0] != witness.seen[1][0]).any()


def test_the_undegraded_row_is_the_usual_evaluation(faces, bundle):
    predictor = load(bundle)
    result = evaluate_degraded(predictor, faces, names=("downsample-x8", "none"))
    usual = evaluate(predictor, faces)
    assert result["none"] == usual.accuracy
    assert result["downsample-x8"] != usual.accuracy
    np.testing.assert_array_equal(result.results["none"].predictions, usual.predictions)


def test_it_prints_and_saves(faces, tmp_path):
    steps = []
    result = evaluate_degraded(
        Witness(faces), faces, names=("none", "box"), seed=6, progress=lambda *step: steps.append(step)
    )
    assert steps == [(name, done, COUNT) for name in ("none", "box") for done in (1, 2, 3)]
    result.save(tmp_path / "r.json")
    read = json.loads((tmp_path / "r.json").read_text())
    assert (read["protocol"], read["seed"], read["variant"]) == ("300w-degraded", 6, "witness")
    assert [row["degradation"] for row in read["rows"]] == ["none", "box"]
    assert read["rows"][1]["ranges"] == {"scale": [2 / 3, 4 / 3], "translation": [-0.4, 0.4]}
    assert read["rows"][1]["accuracy"] == result["box"].to_dict()
    assert list(read["rows"][1]["faces"]) == [face.name for face in faces]
    assert np.mean(list(read["rows"][1]["faces"].values())) * 100 == pytest.approx(result["box"].nme)
    text = str(result)
    for piece in ("witness by by hand 1", "seed 6", "box", f"{result['box'].nme:.3f}", f"{result['box'].auc:.4f}"):
        assert piece in text
    with pytest.raises(BadInputError, match="--force"):
        result.save(tmp_path / "r.json")


def test_names_are_known_before_anything_runs(faces):
    witness = Witness(faces)
    with pytest.raises(UnknownNameError, match="did you mean 'noise'"):
        evaluate_degraded(witness, faces, names=("none", "nose"))
    for names in ((), ("all", "all")):
        with pytest.raises(BadInputError, match="each once"):
            evaluate_degraded(witness, faces, names=names)
    assert witness.seen == []


def test_a_box_moved_out_of_the_image_is_named_or_left_out(faces):
    """Landmarks far out on the left: their box reaches a hundredth of a pixel into the image."""
    from dataclasses import replace

    far = replace(faces[0], name="far", points=faces[0].points - np.float32([faces[0].box.x1 + 0.49, 0]))
    seed = next(s for s in range(99) if moved_left(far, s))
    with pytest.raises(AnnotationError, match=r"far: box .* lies outside"):
        evaluate_degraded(Witness([far]), [far], names=("translation",), seed=seed)
    skipped = []
    others = [far, *faces[1:]]
    result = evaluate_degraded(Witness(others[1:]), others, names=("translation",), seed=seed, on_skip=skipped.append)
    assert result["translation"].faces == COUNT - 1
    assert len(skipped) == 1


def moved_left(face, seed):
    image = np.zeros((4, 4, 3), np.uint8)
    done = degrade(image, face.box, DEGRADATIONS["translation"], iod=iod(face), name=face.name, seed=seed)
    return done.box.x1 < face.box.x1


# The command


@pytest.fixture
def run(capsys, monkeypatch):
    monkeypatch.delenv("POCKETFACE_DATA", raising=False)

    def call(*words: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            app([str(word) for word in words], prog_name="pocketface")
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    return call


def test_eval_adds_the_degraded_figures(run, bundle, data, faces, tmp_path):
    words = ("eval", bundle, "--data", data, "--variant", "all")
    code, out, _ = run(
        *words,
        "--degrade",
        "noise",
        "--degrade",
        "all",
        "--degrade",
        "noise",
        "--seed",
        3,
        "--json",
        tmp_path / "f.json",
    )
    assert code == 0
    report = json.loads((tmp_path / "f.json").read_text())
    want = [
        evaluate_degraded(load(bundle, variant=id), faces, names=("noise", "all"), seed=3)
        for id in ("fp32.onnx", "w8.onnx")
    ]
    assert report["degraded"] == [result.to_dict() for result in want]
    assert f"{want[1]['all'].nme:.3f}" in out
    # What is printed and written without the option is printed and written with it, unchanged.
    code, plain, _ = run(*words, "--json", tmp_path / "plain.json")
    assert out.startswith(plain)
    before = json.loads((tmp_path / "plain.json").read_text())
    assert {key: report[key] for key in before} == before
    assert "degraded" not in before


def test_eval_runs_the_whole_protocol(run, bundle, data):
    code, out, _ = run("eval", bundle, "--data", data, "--degrade", "protocol", "--json", "-")
    assert code == 0
    (result,) = json.loads(out)["degraded"]
    assert [row["degradation"] for row in result["rows"]] == list(ROWS)


def test_eval_refuses_an_unknown_degradation_before_it_runs(run, bundle):
    code, out, err = run("eval", bundle, "--data", "/nowhere", "--degrade", "blurr")
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert "did you mean 'blur'?" in err
    assert "protocol" in err


def test_box_error_grows_from_the_true_box_to_the_paper_s_ranges(faces):
    assert box_error_spec(0) == DegradeSpec(scale=(1, 1), translation=(0, 0))
    assert box_error_spec(1) == DEGRADATIONS["box"]
    half = box_error_spec(0.5)
    assert half.scale == pytest.approx((5 / 6, 7 / 6))
    assert half.translation == pytest.approx((-0.2, 0.2))
    witness = Witness(faces)
    found = evaluate_box_error(witness, faces, shares=(0, 0.5, 1))
    # Its landmarks move as its box does, so that its error is the box's: none, and about in proportion to the share.
    assert found[0].nme == pytest.approx(0, abs=1e-3)
    assert 1.5 < found[1].nme / found[0.5].nme < 2.5
