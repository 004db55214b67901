import math
from pathlib import Path

import numpy as np
import pytest
from bundle_factory import make_bundle

from pocketface.sdk import manifest
from pocketface.sdk.errors import BundleError
from pocketface.sdk.geometry import Crop
from pocketface.sdk.manifest import Stage
from pocketface.sdk.postprocess import decode, sigmoid


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    folder: Path = make_bundle(tmp_path_factory.mktemp("bundle"), points=4)
    return manifest.decode((folder / "manifest.json").read_bytes()).stages[0]


def outputs() -> dict[str, np.ndarray]:
    points = np.array([[[0, 0], [-0.5, -0.5], [0.5, 0.25], [0.75, 0]]], np.float32)
    return {"points": points, "score": np.array([math.log(3)], np.float32)}


def test_decode_by_hand(stage: Stage) -> None:
    points, score = decode(outputs(), stage, Crop(100, 50, 40))
    assert points.dtype == np.float32
    assert points.tolist() == [[100, 50], [80, 30], [120, 60], [130, 50]]
    assert score == pytest.approx(0.75)


def test_decode_turns_with_the_crop(stage: Stage) -> None:
    points = decode(outputs(), stage, Crop(100, 50, 40, angle=90)).points
    np.testing.assert_allclose(points, [[100, 50], [120, 30], [90, 70], [100, 80]], atol=1e-4)


@pytest.mark.parametrize(("logit", "probability"), [(0, 0.5), (1e4, 1), (-1e4, 0), (-40, math.exp(-40)), (2, 0.880797)])
def test_sigmoid_at_its_ends_too(logit: float, probability: float) -> None:
    assert sigmoid(logit) == pytest.approx(probability, rel=1e-6)


def test_refuses_what_the_contract_does_not_say(stage: Stage) -> None:
    crop = Crop(0, 0, 1)
    with pytest.raises(BundleError, match=r"output 'score' is missing. Valid: points"):
        decode({"points": outputs()["points"]}, stage, crop)
    with pytest.raises(BundleError, match=r"'points' has shape \(1, 3, 2\), expected \(1, 4, 2\)"):
        decode(outputs() | {"points": np.zeros((1, 3, 2), np.float32)}, stage, crop)
    for bad in (math.nan, math.inf):
        with pytest.raises(BundleError, match="'score' holds NaN or infinity"):
            decode(outputs() | {"score": np.array([bad], np.float32)}, stage, crop)


def test_refuses_a_stage_that_gives_no_points(stage: Stage) -> None:
    import msgspec

    only_score = msgspec.structs.replace(stage, outputs=stage.outputs[1:])
    with pytest.raises(BundleError, match="decodes to face_logit, expected normalised_points and face_logit"):
        decode(outputs(), only_score, Crop(0, 0, 1))
