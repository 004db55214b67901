"""Bad input through the command line: one clear line, the right exit code, and nothing half-written under its final
name."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from bundle_factory import make_bundle
from PIL import Image
from typer.testing import CliRunner, Result

from pocketface.sdk import cli


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("b") / "bundle")


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)).save(path)
    return path


def pts(points: np.ndarray) -> str:
    rows = "\n".join(f"{x} {y}" for x, y in points)
    return f"version: 1\nn_points: {len(points)}\n{{\n{rows}\n}}\n"


def call(*arguments: object) -> Result:
    return CliRunner().invoke(cli.app, [str(argument) for argument in arguments])


def refused(result: Result, code: int, *said: str) -> None:
    assert result.exit_code == code, result.output
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("pocketface: ")
    for text in said:
        assert text in lines[0]


def missing(folder: Path) -> Path:
    return folder / "nowhere.jpg"


def empty(folder: Path) -> Path:
    (folder / "empty.jpg").touch()
    return folder / "empty.jpg"


def no_image(folder: Path) -> Path:
    (folder / "letter.jpg").write_text("dear reader, this is a letter")
    return folder / "letter.jpg"


def cut_short(folder: Path) -> Path:
    Image.effect_noise((300, 300), 60).convert("RGB").save(folder / "whole.jpg")
    (folder / "half.jpg").write_bytes((folder / "whole.jpg").read_bytes()[:4000])
    return folder / "half.jpg"


@pytest.mark.parametrize("make", [missing, empty, no_image, cut_short])
def test_an_unusable_image(bundle: Path, tmp_path: Path, make: Callable[[Path], Path]):
    image, out = make(tmp_path), tmp_path / "out.png"
    refused(call("run", image, "--bundle", bundle, "--out", out), 2, image.name)
    assert not out.exists()


@pytest.mark.parametrize("box", ["500,500,600,600", "-90,0,-10,40", "10,10,10,50", "30,10,20,50", "0,0,nan,9", "1,2,3"])
def test_an_unusable_box(bundle: Path, photo: Path, tmp_path: Path, box: str):
    out = tmp_path / "out.png"
    refused(call("run", photo, "--bundle", bundle, "--box", box, "--out", out), 2, "box")
    assert not out.exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda p: p[:67], "67 points, expected 68"),
        (lambda p: np.concatenate([p[:-1], [[np.nan, 3.0]]]), "point 68"),
        (lambda p: np.concatenate([p[:-1], [[np.inf, 3.0]]]), "point 68"),
    ],
)
def test_an_unusable_annotation(bundle: Path, photo: Path, tmp_path: Path, change, said: str):
    points = np.random.default_rng(1).uniform(10, 50, (68, 2))
    photo.with_suffix(".pts").write_text(pts(change(points)))
    out = tmp_path / "figures.json"
    refused(call("eval", bundle, "--data", tmp_path, "--json", out), 2, "photo.pts", said)
    assert not out.exists()


def test_a_data_folder_that_is_not_there(bundle: Path, tmp_path: Path):
    refused(call("eval", bundle, "--data", tmp_path / "nowhere"), 2, "nowhere")


@pytest.mark.parametrize("command", ["run", "eval", "verify", "bench", "inspect"])
@pytest.mark.parametrize("hurt", ["truncated", "flipped", "missing", "no manifest"])
def test_a_damaged_bundle(tmp_path: Path, photo: Path, command: str, hurt: str):
    bundle = make_bundle(tmp_path / "bundle")
    model = next((bundle / "models").glob("*.onnx"))
    data = bytearray(model.read_bytes())
    if hurt == "truncated":
        model.write_bytes(data[: len(data) // 2])
    elif hurt == "flipped":
        data[len(data) // 2] ^= 1
        model.write_bytes(data)
    elif hurt == "missing":
        model.unlink()
    else:
        (bundle / "manifest.json").unlink()
    arguments = {"run": [photo, "--bundle", bundle], "eval": [bundle, "--data", tmp_path]}.get(command, [bundle])
    refused(call(command, *arguments), 2, "manifest.json" if hurt == "no manifest" else model.name)


def test_an_existing_file_is_not_overwritten(bundle: Path, photo: Path, tmp_path: Path):
    out = tmp_path / "precious.png"
    out.write_bytes(b"mine")
    refused(call("run", photo, "--bundle", bundle, "--out", out), 2, "precious.png", "--force")
    assert out.read_bytes() == b"mine"


def test_a_full_disk(bundle: Path, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    out = tmp_path / "figures.json"
    monkeypatch.setattr(os, "fsync", full)
    refused(call("run", photo, "--bundle", bundle, "--json", out), 3, "figures.json")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["photo.png"]


def test_an_unknown_command_lists_the_known():
    refused(call("comprss"), 2, "compress", "verify")


def test_an_unknown_variant_lists_the_known(bundle: Path, photo: Path):
    refused(call("run", photo, "--bundle", bundle, "--variant", "w4.onnx"), 2, "w4.onnx", "fp32.onnx")
