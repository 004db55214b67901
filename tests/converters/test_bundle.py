"""What goes into a bundle, what stays out, and that it is there whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny_export import exported, inputs, tiny_net, torch_outputs

from pocketface.converters.bundle import Candidate, add_measurements, npz_bytes, pack
from pocketface.sdk import load
from pocketface.sdk.bundle import open_bundle
from pocketface.sdk.errors import BadInputError, BundleError, GateFailedError
from pocketface.sdk.manifest import Latency, Tolerances
from pocketface.sdk.measured import ChainRun

Make = Callable[[str, str], Candidate]
Write = Callable[..., Path]

pytestmark = pytest.mark.slow


@pytest.fixture
def onnx(candidate: Make) -> Candidate:
    return candidate("onnx", "fp32")


def failed(item: Candidate) -> Candidate:
    """The same file with a bound it cannot keep."""
    return replace(item, tolerances=Tolerances(max_tensor_error=1e-30))


def test_the_runtime_gives_what_torch_gives(bundle: Path) -> None:
    for variant, bound in (("fp32.onnx", 1e-5), ("fp16.onnx", 2e-3), ("fp32.tflite", 1e-5)):
        predictor = load(bundle, variant=variant)
        found = predictor.predict_tensor(inputs(1))
        assert np.abs(found["points"] - torch_outputs(inputs(1))[0]).max() < bound


def test_the_manifest_tells_what_was_compared(bundle: Path) -> None:
    with open_bundle(bundle) as opened:
        stage, variant = opened.manifest.variant("fp16.onnx")
        assert variant.status == "passed"
        assert variant.files[0].path == "models/tiny.fp16.onnx"
        assert variant.tolerances.max_tensor_error == 2e-3
        assert variant.parity is not None
        assert variant.parity.faces == 9  # 3 golden, 6 annotated
        assert variant.parity.executor.startswith("onnxruntime ")
        assert variant.parity.golden_error is not None
        assert 1e-7 < variant.parity.golden_error < variant.parity.outputs["points"].max_error * 2**0.5
        assert stage.parameters == sum(parameter.numel() for parameter in tiny_net().parameters())
        assert len(opened.golden()) == 3


def test_failed_variants_stay_out(
    tmp_path: Path, onnx: Candidate, candidate: Make, write: Write, caplog: object
) -> None:
    out = write(tmp_path / "b", [onnx, failed(candidate("onnx", "fp16"))])
    with open_bundle(out) as opened:
        assert [variant.id for variant in opened.manifest.stages[0].variants] == ["fp32.onnx"]
    assert [file.name for file in (out / "models").iterdir()] == ["tiny.fp32.onnx"]
    assert "left out: fp16.onnx, failed: max error of points" in caplog.text  # type: ignore[attr-defined]


def test_unverified_variants_need_leave(tmp_path: Path, onnx: Candidate, write: Write) -> None:
    coreml = Candidate(exported("coreml"), None)
    for number, allowed in enumerate([(), ("fp32.coreml",)]):
        out = write(tmp_path / str(number), [onnx, coreml], allow_unverified=allowed)
        with open_bundle(out) as opened:
            found = {item.id: item for item in opened.manifest.stages[0].variants}
            assert ("fp32.coreml" in found) == bool(allowed)
            assert opened.manifest.allow_unverified == allowed
    assert found["fp32.coreml"].status == "unverified"
    assert "can run coreml" in found["fp32.coreml"].reason
    assert len(found["fp32.coreml"].files) == 3


def test_the_default_must_have_passed(tmp_path: Path, onnx: Candidate, candidate: Make, write: Write) -> None:
    with pytest.raises(
        GateFailedError, match=r"'fp32.onnx' is failed: max error of points .* > 1e-30.*Valid: fp16.onnx"
    ):
        write(tmp_path / "b", [failed(onnx), candidate("onnx", "fp16")])
    with pytest.raises(GateFailedError, match=r"'fp32.coreml' is unverified"):
        write(
            tmp_path / "b",
            [onnx, Candidate(exported("coreml"), None)],
            default="fp32.coreml",
            allow_unverified=("fp32.coreml",),
        )
    with pytest.raises(BadInputError, match=r"no candidate is called 'w8.onnx'. Valid: fp32.onnx"):
        write(tmp_path / "b", [onnx], default="w8.onnx")
    with pytest.raises(BadInputError, match="given 2 times"):
        write(tmp_path / "b", [onnx, onnx])
    with pytest.raises(BadInputError, match="no golden cases"):
        write(tmp_path / "b", [onnx], golden=[])
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_left_of_a_bundle_that_its_reader_refuses(tmp_path: Path, onnx: Candidate, write: Write) -> None:
    golden = {"image": np.zeros((4, 4, 3), np.uint8)}
    with pytest.raises(BundleError, match=r"golden/000.npz: array 'box' is missing"):
        write(tmp_path / "b", [onnx], golden=[golden])
    assert list(tmp_path.iterdir()) == []


def test_an_older_bundle_is_replaced_only_by_force(tmp_path: Path, onnx: Candidate, write: Write) -> None:
    out = write(tmp_path / "b", [onnx], card="old")
    with pytest.raises(BadInputError, match="--force"):
        write(out, [onnx], card="new")
    assert (out / "card.md").read_text() == "old"
    write(out, [onnx], card="new", force=True)
    assert (out / "card.md").read_text() == "new"


def test_packing_is_deterministic_and_complete(bundle: Path, tmp_path: Path) -> None:
    one = pack(bundle, tmp_path / "a.pface")
    for file in bundle.rglob("*"):
        os.utime(file, (1e9, 1e9))
    (bundle / "notes.txt").write_text("not listed")
    two = pack(bundle, tmp_path / "b.pface")
    assert one.read_bytes() == two.read_bytes()
    for id in ("fp32.onnx", "fp32.tflite"):
        folder, zipped = (load(path, variant=id).predict_tensor(inputs(1)) for path in (bundle, one))
        assert np.array_equal(folder["points"], zipped["points"])
    with pytest.raises(BadInputError, match=r"suffix '.zip', expected .pface"):
        pack(bundle, tmp_path / "a.zip")
    with pytest.raises(BadInputError, match="exists already"):
        pack(bundle, one)
    (bundle / "card.md").write_text("altered")
    with pytest.raises(BundleError, match=r"card.md"):
        pack(bundle, tmp_path / "c.pface")
    assert not (tmp_path / "c.pface").exists()


def test_npz_is_deterministic_and_readable(tmp_path: Path) -> None:
    arrays = {"a": np.arange(6.0).reshape(2, 3).T, "b.c": np.float32(0.5), "d": np.zeros((0, 2), np.uint8)}
    (tmp_path / "x.npz").write_bytes(npz_bytes(arrays))  # type: ignore[arg-type]
    assert npz_bytes(dict(reversed(arrays.items()))) == (tmp_path / "x.npz").read_bytes()  # type: ignore[arg-type]
    with np.load(tmp_path / "x.npz", allow_pickle=False) as found:
        assert set(found.files) == set(arrays)
        for name, value in arrays.items():
            assert found[name].dtype == np.asarray(value).dtype
            assert np.array_equal(found[name], value)
            assert found[name].shape == np.shape(value)


def test_measurements_are_added_to_a_finished_bundle(bundle: Path) -> None:
    latency = Latency(
        executor="onnxruntime 1",
        cpu="test",
        cpu_features=(),
        threads=1,
        runs=100,
        p50_ms=1,
        p90_ms=2,
        p99_ms=3,
        pre_ms=0.1,
        inference_ms=1,
        post_ms=0.1,
        peak_rss_mb=10,
        ratio=1,
    )
    add_measurements(bundle, latency={"fp32.onnx": [latency]}, metrics={"fp16.onnx": {"nme": 4.5}})
    add_measurements(bundle, metrics={"fp16.onnx": {"fr": 0.5}})
    with open_bundle(bundle) as opened:
        assert opened.manifest.variant("fp32.onnx")[1].latency == (latency,)
        assert opened.manifest.variant("fp16.onnx")[1].metrics == {"nme": 4.5, "fr": 0.5}
        assert opened.manifest.variant("fp16.onnx")[1].parity is not None
    with pytest.raises(BadInputError, match=r"no variant 'w4.onnx'"):
        add_measurements(bundle, metrics={"w4.onnx": {}})
    before = (bundle / "manifest.json").read_bytes()
    with pytest.raises(BundleError, match=r"run 'fp32.onnx' of a chain, and one stage"):
        add_measurements(bundle, runs=[ChainRun(id="fp32.onnx", metrics={"nme": 3.0})])
    assert (bundle / "manifest.json").read_bytes() == before
