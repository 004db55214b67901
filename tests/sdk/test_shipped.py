"""Bundles that come with the package: they open, say what they are, and keep the size that the wheel may have."""

from __future__ import annotations

from pathlib import Path

import pytest
from bundle_factory import make_bundle
from typer.testing import CliRunner, Result

from pocketface.sdk.bundle import open_bundle
from pocketface.sdk.cli import app
from pocketface.sdk.errors import BundleError, EnvironmentProblemError
from pocketface.sdk.shipped import bundle_path, shipped_names

MAX_BYTES = {"face-detector": 600_000, "face68": 1_500_000}


@pytest.mark.parametrize("name", shipped_names())
def test_a_shipped_bundle_is_sound_and_small_and_says_its_licence(name: str) -> None:
    path = bundle_path(name)
    with open_bundle(path) as bundle:
        manifest = bundle.manifest
        assert manifest.name == name
        assert manifest.weights_licence
        assert (bundle.root / manifest.card.path).read_text().strip()
        assert bundle.golden()
    assert path.stat().st_size <= MAX_BYTES[name]
    # After a bare install onnxruntime is all there is.
    assert manifest.default.endswith(".onnx")


def test_paths_go_before_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert bundle_path(tmp_path / "somewhere") == tmp_path / "somewhere"
    name = shipped_names()[0]
    assert bundle_path(name).suffix == ".pface"
    monkeypatch.chdir(tmp_path)
    Path(name).mkdir()
    assert bundle_path(name) == Path(name)


def test_an_unknown_name_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(BundleError, match=shipped_names()[0]):
        bundle_path("face67")


def test_models_lists_them_with_their_licence(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["models", "--json", str(tmp_path / "m.json")])
    assert result.exit_code == 0
    for name in shipped_names():
        assert name in result.output
    assert "licence of the weights" in result.output
    assert (tmp_path / "m.json").exists()


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two drawn faces with their landmarks."""
    folder = tmp_path_factory.mktemp("faces") / "drawn"
    assert call("synth", folder, "--count", 2).exit_code == 0
    return folder


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def commands(name: str, faces: Path, out: Path) -> dict[str, tuple[object, ...]]:
    """Every command that takes a bundle, with the least that it has to do."""
    photo = next(iter(sorted(faces.glob("*.png"))))
    variant = "w8a8.onnx"
    return {
        "inspect": (name,),
        "run": (photo, "--bundle", name, "--whole"),
        "against": (photo, "--bundle", name, "--against", name, "--whole", "--out", out / "both.png"),
        "bench": (name, "--threads", 1, "--runs", 1),
        "eval": (name, "--data", faces),
        "verify": (name,),
        "subset": (name, "--variant", variant, "--golden", 1, "--out", out / "less.pface"),
    }


@pytest.mark.parametrize("command", ["inspect", "run", "against", "bench", "eval", "verify", "subset"])
def test_every_command_takes_a_name_and_lists_the_names_there_are(
    command: str, faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # nothing of that name lies here
    word = {"against": "run"}.get(command, command)
    refused = call(word, *commands("face67", faces, tmp_path)[command])
    assert refused.exit_code == 2
    (line,) = refused.stderr.strip().splitlines()
    assert line.startswith("pocketface: face67: no such bundle")
    assert all(name in line for name in shipped_names())
    done = call(word, *commands("face68", faces, tmp_path)[command])
    assert done.exit_code == 0, done.output


def test_python_opens_names_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_bundle("face68") as bundle:
        assert bundle.manifest.name == "face68"
    make_bundle(tmp_path / "face68")
    monkeypatch.chdir(tmp_path)
    with open_bundle("face68") as bundle:  # what lies here goes first
        assert bundle.manifest.name == "tiny"
    with pytest.raises(BundleError, match="no such bundle"):
        open_bundle("face67.pface")
    with pytest.raises(EnvironmentProblemError):
        open_bundle("x" * 5000)
