"""Bundles that come with the package: they open, say what they are, and keep the size that the wheel may have."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from pocketface.sdk.bundle import open_bundle
from pocketface.sdk.cli import app
from pocketface.sdk.errors import BundleError
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
