"""How a detector's outputs are compared, and a detector's bundle in the verifier."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from bundle_factory import replace_file
from detector_factory import make_detector_bundle

from pocketface.converters.detector_kind import are_anchors, face_distance, face_error
from pocketface.converters.verify import verify_bundle
from pocketface.sdk.bundle import open_bundle


def test_an_anchor_counts_as_far_as_it_is_a_face() -> None:
    wanted = np.array([[0.0, 0.1, 0.2, 0.3, 0.3], [-30.0, 0.0, 0.0, 0.1, 0.1]])
    found = wanted + np.array([[math.log(3), 0.02, 0, 0, -0.04], [0.0, 5.0, 5.0, 5.0, 5.0]])
    error = face_error(found, wanted)
    assert error[0] == pytest.approx([0.25, 0.01, 0, 0, 0.02])  # 0.75 for 0.5; half of the differences
    assert error[1] == pytest.approx([0, 0, 0, 0, 0], abs=1e-9)
    assert face_distance(found, wanted) == pytest.approx(error[:, 1:])


def test_what_is_a_detectors_output() -> None:
    assert are_anchors((896, 17))
    assert are_anchors((4, 5))
    assert not are_anchors((896, 16))
    assert not are_anchors((17,))
    assert not are_anchors((2, 3))


def test_a_detectors_bundle_reproduces_its_golden_case(tmp_path: Path) -> None:
    with open_bundle(make_detector_bundle(tmp_path / "d", tilt=20)) as bundle:
        report = verify_bundle(bundle)
    assert report.problems == ()
    (check,) = report.variants
    assert check.golden is not None, check.reasons
    assert check.golden.main.max_error < 1e-4


def test_another_network_does_not(tmp_path: Path) -> None:
    path, other = make_detector_bundle(tmp_path / "d"), make_detector_bundle(tmp_path / "o", tilt=60)
    replace_file(path, "models/tiny.fp32.onnx", (other / "models/tiny.fp32.onnx").read_bytes())
    with open_bundle(path) as bundle:
        (check,) = verify_bundle(bundle).variants
    assert check.status == "failed"
