"""What runs a bundle, whatever it is for."""

from __future__ import annotations

from pathlib import Path

from bundle_factory import make_bundle
from mask_factory import make_mask_bundle

from pocketface.benchmarks.latency import measure
from pocketface.sdk.any_predictor import predictor_of
from pocketface.sdk.bundle import open_bundle
from pocketface.sdk.mask_predictor import MaskPredictor
from pocketface.sdk.predictor import Predictor


def test_a_bundle_of_masks_gets_what_finds_masks_and_one_of_landmarks_what_finds_those(tmp_path: Path):
    with open_bundle(make_mask_bundle(tmp_path / "masks")) as masks, open_bundle(make_bundle(tmp_path / "b")) as points:
        assert isinstance(predictor_of(masks), MaskPredictor)
        assert isinstance(predictor_of(points), Predictor)


def test_masks_are_timed_as_landmarks_are_also_with_the_mask_of_the_frame_before(tmp_path: Path):
    for name, gain in (("plain", None), ("remembers", 0.5)):
        with open_bundle(make_mask_bundle(tmp_path / name, gain=gain)) as bundle:
            found = measure(bundle, threads=(1,), runs=3, warmup=1)
        ((id, latency),) = found
        assert id == "fp32.onnx"
        assert min(latency.pre_ms, latency.inference_ms, latency.post_ms) > 0
        assert latency.peak_rss_mb > 20
