"""The subcommands as typed: what they print, write and refuse, and with which exit code."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from bundle_factory import make_bundle, picture
from PIL import Image

from pocketface.benchmarks.accuracy import evaluate
from pocketface.benchmarks.data.fingerprint import dataset_hash
from pocketface.benchmarks.data.pts import format_points
from pocketface.benchmarks.data.registry import DATASETS
from pocketface.sdk import load, load_scheme
from pocketface.sdk.cli import app

IBUG = load_scheme("ibug68")


@pytest.fixture
def run(capsys, monkeypatch):
    """Run a command line: (exit code, standard output, standard error)."""
    monkeypatch.delenv("POCKETFACE_DATA", raising=False)

    def call(*words: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            app([str(word) for word in words], prog_name="pocketface")
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    return call


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return make_bundle(tmp_path_factory.mktemp("b") / "bundle", variants=("fp32.onnx", "w8.onnx", "fp16.coreml"))


@pytest.fixture
def data(tmp_path):
    rng = np.random.default_rng(1)
    for name in ("helen/a_1", "helen/b_1", "afw/c_1"):
        path = tmp_path / "data" / f"{name}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(seed=len(name))).save(path)
        path.with_suffix(".pts").write_text(format_points(rng.uniform(5, 60, (68, 2))))
    return tmp_path / "data"


def test_eval_prints_and_writes_the_figures_of_evaluate(run, bundle, data, tmp_path):
    code, out, _ = run("eval", bundle, "--data", data, "--json", tmp_path / "f.json")
    assert code == 0
    faces = DATASETS["pts"](data, scheme=IBUG)
    want = evaluate(load(bundle), faces)
    report = json.loads((tmp_path / "f.json").read_text())
    assert report["variants"] == [want.to_dict()]
    assert report["data"]["sha256"] == dataset_hash(faces)
    assert (report["data"]["faces"], report["skipped"]) == (3, [])
    assert str(data) not in (tmp_path / "f.json").read_text()
    for text in (f"{want.accuracy.nme:.3f}", f"{want.by_folder()['afw'].nme:.3f}", "fp32.onnx", "helen", "3 faces"):
        assert text in out


def test_eval_of_all_variants_says_what_it_could_not_run(run, bundle, data):
    code, out, _ = run("eval", bundle, "--data", data, "--variant", "all", "--folder", "helen", "--json", "-")
    assert code == 0
    report = json.loads(out)  # nothing but JSON on standard output
    assert [result["variant"] for result in report["variants"]] == ["fp32.onnx", "w8.onnx"]
    assert [result["accuracy"]["faces"] for result in report["variants"]] == [2, 2]
    assert list(report["not_run"]) == ["fp16.coreml"]
    code, out, _ = run("eval", bundle, "--data", data, "--variant", "all")
    assert "fp16.coreml not measured" in out


def test_eval_takes_the_data_from_the_environment(run, bundle, data, monkeypatch):
    code, _, err = run("eval", bundle)
    assert code == 2
    assert "--data" in err
    assert "POCKETFACE_DATA" in err
    monkeypatch.setenv("POCKETFACE_DATA", str(data))
    assert run("eval", bundle)[0] == 0


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--format", "300W"), 2, "did you mean '300w'?"),
        (("--folder", "lfpw"), 2, "Valid: afw, helen"),
        (("--variant", "w4.onnx"), 2, "fp32.onnx"),
        (("--variant", "fp16.coreml"), 3, "coreml"),
        (("--threads", "0"), 2, "threads"),
        (("--ced", "ced.gif"), 2, ".png"),
        (("--data", "/nowhere"), 2, "/nowhere does not exist"),
        (("--format", "wflw"), 2, "WFLW_annotations"),
        (("--skipbad",), 2, "Try pocketface eval --help"),
    ],
)
def test_eval_refuses_in_one_line(run, bundle, data, words, code, said):
    got, out, err = run("eval", bundle, "--data", data, *words)
    assert got == code
    assert out == ""
    assert err.startswith("pocketface: ")
    assert err.count("\n") == 1
    assert said in err


def test_eval_stops_at_bad_files_or_leaves_them_out(run, bundle, data, tmp_path):
    (data / "helen" / "a_1.pts").write_text("1 2\n")
    (data / "afw" / "c_1.jpg").write_bytes(b"no image")
    code, _, err = run("eval", bundle, "--data", data)
    assert code == 2
    assert "helen/a_1.pts: 1 points, expected 68" in err
    assert "--skip-bad" in err
    code, out, err = run(
        "eval", bundle, "--data", data, "--skip-bad", "--variant", "all", "--json", tmp_path / "f.json"
    )
    assert code == 0
    assert err.count("left out") == 2  # once each, not once a variant
    assert "2 left out" in out
    report = json.loads((tmp_path / "f.json").read_text())
    assert len(report["skipped"]) == 2
    assert report["data"]["faces"] == 1
    assert report["data"]["sha256"] == dataset_hash(DATASETS["pts"](data, scheme=IBUG, skip_bad=True)[1:])


def test_eval_overwrites_nothing_without_force(run, bundle, data, tmp_path):
    target = tmp_path / "f.json"
    target.write_text("mine")
    code, _, err = run("eval", bundle, "--data", data, "--json", target)
    assert (code, target.read_text()) == (2, "mine")
    assert "--force" in err
    assert run("eval", bundle, "--data", data, "--json", target, "--force")[0] == 0
    assert json.loads(target.read_text())["bundle"] == "tiny"


@pytest.mark.parametrize(("suffix", "magic"), [(".png", b"\x89PNG"), (".svg", b"<?xml"), (".PDF", b"%PDF")])
def test_eval_draws_the_ced_the_same_each_time(run, bundle, data, tmp_path, suffix, magic):
    pytest.importorskip("matplotlib")
    files = [tmp_path / f"{k}{suffix}" for k in range(2)]
    for file in files:
        assert run("eval", bundle, "--data", data, "--variant", "all", "--ced", file)[0] == 0
    first, second = (file.read_bytes() for file in files)
    assert first.startswith(magic)
    assert first == second


def test_eval_without_matplotlib_names_the_extra(run, bundle, data, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    code, _, err = run("eval", bundle, "--data", data, "--ced", tmp_path / "c.png")
    assert code == 3
    assert "pocketface[bench]" in err


def test_bench_hands_the_network_to_a_delegate(run, bundle, tmp_path):
    target = tmp_path / "latency.json"
    words = ("bench", bundle, "--threads", "1", "--runs", "1", "--delegate", "cpu", "--json", target)
    code, _, err = run(*words)
    assert code == 0, err
    assert {row["executor"].rpartition(" ")[2] for row in json.loads(target.read_text())["rows"]} == {"(cpu)"}


def test_bench_measures_what_can_run(run, bundle, tmp_path):
    target = tmp_path / "l.json"
    code, out, _ = run("bench", bundle, "--threads", "1", "--runs", "3", "--json", target)
    assert code == 0
    for text in ("fp32.onnx", "w8.onnx", "fp16.coreml", "3 runs each"):
        assert text in out
    report = json.loads(target.read_text())
    assert {(row["variant"], row["threads"], row["runs"]) for row in report["rows"]} == {
        ("fp32.onnx", 1, 3),
        ("w8.onnx", 1, 3),
    }
    assert list(report["skipped"]) == ["fp16.coreml"]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--threads", "one"), 2, "1,2"),
        (("--threads", "0"), 2, "threads"),
        (("--threads", "1,1"), 2, "once"),
        (("--runs", "0"), 2, "runs"),
        (("--variant", "fp64.onnx"), 2, "Valid: fp32.onnx"),
        (("--variant", "fp16.coreml"), 3, "coreml"),
        (("--delegate", "npu"), 3, "no delegate 'npu'"),
    ],
)
def test_bench_refuses_in_one_line(run, bundle, words, code, said):
    got, _, err = run("bench", bundle, "--runs", "2", *words)
    assert got == code
    assert said in err
    assert err.count("\n") == 1


def test_schemes_lists_every_scheme(run, tmp_path):
    code, out, _ = run("schemes", "--json", tmp_path / "s.json")
    assert code == 0
    listed = {scheme["name"]: scheme for scheme in json.loads((tmp_path / "s.json").read_text())}
    assert listed["ibug68"]["points"] == 68
    assert listed["ibug68"]["normaliser"] == [36, 45]
    assert listed["wflw98"]["points"] == 98
    assert all(name in out for name in listed)


def test_synth_draws_faces_that_eval_reads(run, bundle, tmp_path):
    code, out, _ = run("synth", tmp_path / "s", "--count", "3", "--seed", "5", "--size", "64", "--sheet")
    assert code == 0
    assert "3 faces of 64 x 64" in out
    faces = DATASETS["pts"](tmp_path / "s", scheme=IBUG)
    assert len(faces) == 3
    sheet, first = (np.asarray(Image.open(path).convert("RGB")) for path in (tmp_path / "s/sheet.png", faces[0].image))
    assert sheet.shape == (64, 192, 3)
    # The first tile is the first face but for the dots: those are on its landmarks.
    differs = np.argwhere((sheet[:, :64] != first).any(axis=2))[:, ::-1]
    assert len(differs) >= 30
    distance = np.linalg.norm(differs[:, None] - faces[0].points[None], axis=2).min(axis=1)
    assert distance.max() < 3
    assert run("eval", bundle, "--data", tmp_path / "s")[0] == 0
    assert run("synth", tmp_path / "t", "--count", "3", "--seed", "5", "--size", "64")[0] == 0
    again = DATASETS["pts"](tmp_path / "t", scheme=IBUG)
    assert dataset_hash(faces) == dataset_hash(again)


@pytest.mark.parametrize(
    ("words", "said"),
    [(("--count", "0"), "1 or more"), (("--size", "4"), "16"), (("--seed", "-1"), "seed -1")],
)
def test_synth_refuses_and_leaves_nothing(run, tmp_path, words, said):
    code, _, err = run("synth", tmp_path / "s", "--size", "64", *words)
    assert code == 2
    assert said in err
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "mine.txt").write_text("x")
    code, _, err = run("synth", tmp_path / "s", "--count", "2", "--size", "64")
    assert (code, (tmp_path / "s" / "mine.txt").read_text()) == (2, "x")


@pytest.mark.parametrize("command", ["eval", "bench", "schemes", "synth"])
def test_help_has_an_example(run, command):
    code, out, _ = run(command, "--help")
    assert code == 0
    assert f"Example: pocketface {command}" in out


def test_listing_the_commands_imports_nothing_heavy():
    script = "import sys, pocketface.benchmarks.commands; print([m for m in %r if m in sys.modules])"
    heavy = ["torch", "matplotlib", "onnxruntime", "plotly", "jinja2", "scipy"]
    done = subprocess.run([sys.executable, "-c", script % heavy], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
