"""A bundle with some of another's variants."""

from __future__ import annotations

from pathlib import Path

import pytest
from bundle_factory import make_bundle, picture
from chain_factory import make_chain

from pocketface.converters.subset import subset_bundle
from pocketface.sdk import load
from pocketface.sdk.bundle import open_bundle
from pocketface.sdk.errors import BadInputError
from pocketface.sdk.manifest import Latency

LATENCY = Latency(
    executor="x",
    cpu="here",
    cpu_features=(),
    threads=1,
    runs=3,
    p50_ms=1.0,
    p90_ms=1.0,
    p99_ms=1.0,
    pre_ms=0.1,
    inference_ms=0.8,
    post_ms=0.1,
    peak_rss_mb=0.0,
    ratio=1.0,
)


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    return make_bundle(tmp_path / "whole", variants=("fp32.onnx", "fp16.onnx", "w8.onnx"))


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_what_is_kept_is_the_same(whole: Path, tmp_path: Path):
    with open_bundle(whole) as bundle:
        out = subset_bundle(bundle, tmp_path / "some", ["w8.onnx", "fp32.onnx"], default="w8.onnx")
        before = {variant.id: variant for variant in bundle.manifest.stages[0].variants}
    with open_bundle(out) as bundle:
        assert bundle.manifest.default == "w8.onnx"
        assert list(bundle.manifest.stages[0].variants) == [before["fp32.onnx"], before["w8.onnx"]]
    gone = {entry.path for entry in before["fp16.onnx"].files}
    assert files(out) == files(whole) - gone
    for path in files(out) - {"manifest.json"}:
        assert (out / path).read_bytes() == (whole / path).read_bytes()
    (a,), (b,) = (
        predictor(picture()) for predictor in (load(whole, variant="w8.onnx", detector=None), load(out, detector=None))
    )
    assert (a.points == b.points).all()


def test_latency_is_replaced(whole: Path, tmp_path: Path):
    with open_bundle(whole) as bundle:
        out = subset_bundle(
            bundle, tmp_path / "x", ["fp32.onnx", "w8.onnx"], default="fp32.onnx", latency={"w8.onnx": [LATENCY]}
        )
    with open_bundle(out) as bundle:
        assert {v.id: v.latency for v in bundle.manifest.stages[0].variants} == {
            "fp32.onnx": (),
            "w8.onnx": (LATENCY,),
        }


@pytest.mark.parametrize(
    ("ids", "default", "message"),
    [(["fp32.onnx"], "w8.onnx", "not kept"), (["int4.onnx"], "int4.onnx", "no variant"), ([], "fp32.onnx", "not kept")],
)
def test_what_is_not_there_is_refused(whole: Path, tmp_path: Path, ids: list[str], default: str, message: str):
    with open_bundle(whole) as bundle, pytest.raises(BadInputError, match=message):
        subset_bundle(bundle, tmp_path / "x", ids, default=default)
    assert not (tmp_path / "x").exists()


def test_a_chain_is_refused(tmp_path: Path):
    with open_bundle(make_chain(tmp_path / "chain")) as bundle, pytest.raises(BadInputError, match="chain"):
        subset_bundle(bundle, tmp_path / "x", ["fp32.onnx"], default="fp32.onnx")


def test_a_folder_that_is_there_is_replaced_only_by_force(whole: Path, tmp_path: Path):
    with open_bundle(whole) as bundle:
        subset_bundle(bundle, tmp_path / "x", ["w8.onnx"], default="w8.onnx")
        with pytest.raises(BadInputError):
            subset_bundle(bundle, tmp_path / "x", ["fp32.onnx"], default="fp32.onnx")
        subset_bundle(bundle, tmp_path / "x", ["fp32.onnx"], default="fp32.onnx", force=True)
    with open_bundle(tmp_path / "x") as bundle:
        assert bundle.manifest.default == "fp32.onnx"
