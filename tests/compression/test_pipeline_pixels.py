"""The whole run with ``export.input: pixels``: the files take uint8, and every later step feeds it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tiny import tiny_recipe

from pocketface.compression.pipeline.context import Context
from pocketface.compression.pipeline.run import compress
from pocketface.converters.verify import verify_bundle
from pocketface.sdk import load
from pocketface.sdk.bundle import open_bundle

pytestmark = pytest.mark.slow

EXPORT = {"calibration_faces": 8, "golden_faces": 2, "parity_faces": 8, "formats": {"onnx": ["fp32", "w8a8"]}}


def test_a_recipe_that_feeds_pixels_ships_a_bundle_that_takes_them(drawn_folder: Path, tmp_path: Path):
    changes = {
        "bench": {"threads": [1], "runs": 2, "warmup": 1},
        "gates": {"max_nme_increase": {"w8a8": 50.0}},
    }
    plain, pixels = (tiny_recipe({**changes, "export": {**EXPORT, **more}}) for more in ({}, {"input": "pixels"}))
    run = Context(pixels, drawn_folder, tmp_path, progress=False)
    result = compress(run)
    assert result.bundle is not None
    with open_bundle(result.bundle) as bundle:
        stage = bundle.manifest.stages[0]
        assert (stage.inputs[0].dtype, stage.preprocess.inside) == ("uint8", "multiply-add")
        assert [variant.id for variant in stage.variants] == ["fp32.onnx", "w8a8.onnx"]
        assert all(variant.inputs["image"].dtype == "uint8" for variant in stage.variants)
        assert verify_bundle(bundle).failures() == []
    # Rounding the pixels costs the landmarks next to nothing: the test accuracy is that of the float student.
    torch = result.accuracy["student"].accuracy.nme
    assert result.variants["fp32.onnx"].accuracy.nme == pytest.approx(torch, abs=0.05)
    image = next((drawn_folder / "test").glob("*.png"))
    pixel_points = load(result.bundle)(image)[0].points

    # The same student with the normalisation outside: trained once, exported apart.
    trained = sorted(path.name for path in run.store.root.iterdir() if path.name.startswith("student"))
    outside = compress(Context(plain, drawn_folder, tmp_path, progress=False))
    assert sorted(path.name for path in run.store.root.iterdir() if path.name.startswith("student")) == trained
    assert outside.bundle is not None
    np.testing.assert_allclose(pixel_points, load(outside.bundle)(image)[0].points, atol=1.0)
