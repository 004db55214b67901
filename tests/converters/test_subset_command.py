"""A bundle of some of another's variants, from the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer
from bundle_factory import make_bundle, picture
from typer.testing import CliRunner

from pocketface.converters.subset_command import subset
from pocketface.sdk.bundle import open_bundle
from pocketface.sdk.errors import BadInputError
from pocketface.sdk.predictor import load

app = typer.Typer()
app.command()(subset)


def run(*words: object):  # type: ignore[no-untyped-def]
    return CliRunner().invoke(app, [str(word) for word in words], standalone_mode=True)


@pytest.mark.parametrize("target", ["small.pface", "small"])
def test_what_is_kept_runs_as_before(tmp_path: Path, target: str) -> None:
    whole, out = make_bundle(tmp_path / "b", variants=("fp32.onnx", "fp16.onnx", "w8.onnx")), tmp_path / target
    result = run(whole, "--variant", "w8.onnx", "--variant", "fp32.onnx", "--out", out, "--name", "small")
    assert result.exit_code == 0, result.output
    with open_bundle(out) as bundle:
        assert bundle.manifest.name == "small"
        assert bundle.manifest.default == "w8.onnx"
        assert sorted(bundle.manifest.chains) == ["fp32.onnx", "w8.onnx"]
        assert bundle.golden()
    box = [(5, 5, 60, 60)]
    expected = load(whole, variant="w8.onnx")(picture(), box)[0].points
    assert (load(out)(picture(), box)[0].points == expected).all()


def test_fewer_golden_cases(tmp_path: Path) -> None:
    whole, out = make_bundle(tmp_path / "b", golden=3), tmp_path / "small"
    assert run(whole, "--variant", "fp32.onnx", "--golden", 1, "--out", out).exit_code == 0
    with open_bundle(whole) as before, open_bundle(out) as after:
        (kept,) = after.golden()
        assert all((kept[name] == value).all() for name, value in before.golden()[0].items())
    assert [path.name for path in (out / "golden").iterdir()] == ["000.npz"]


def test_refused(tmp_path: Path) -> None:
    whole, out = make_bundle(tmp_path / "b"), tmp_path / "small.pface"
    assert isinstance(run(whole, "--variant", "w4.onnx", "--out", out).exception, BadInputError)
    assert not out.exists()
    out.write_bytes(b"mine")
    assert isinstance(run(whole, "--variant", "fp32.onnx", "--out", out).exception, BadInputError)
    assert out.read_bytes() == b"mine"
