import math
from pathlib import Path

import numpy as np
import pytest
from bundle_factory import make_bundle

from pocketface.sdk import manifest
from pocketface.sdk.errors import BundleError
from pocketface.sdk.geometry import Crop
from pocketface.sdk.manifest import Stage
from pocketface.sdk.postprocess import decode, in_contract_shape, sigmoid


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    folder: Path = make_bundle(tmp_path_factory.mktemp("bundle"), points=4)
    return manifest.decode((folder / "manifest.json").read_bytes()).stages[0]


def outputs() -> dict[str, np.ndarray]:
    points = np.array([[[0, 0], [-0.5, -0.5], [0.5, 0.25], [0.75, 0]]], np.float32)
    return {"points": points, "score": np.array([math.log(3)], np.float32)}


def test_decode_by_hand(stage: Stage) -> None:
    points, score, _ = decode(outputs(), stage, Crop(100, 50, 40))
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
    with pytest.raises(BundleError, match="decodes to face_logit, expected landmarks"):
        decode(outputs(), only_score, Crop(0, 0, 1))


@pytest.mark.parametrize(
    ("decode_as", "values"),
    [
        # u = (0, 0) is the crop's centre, (-0.5, 0.25) lies on its left edge, three quarters down; S is 32.
        ("normalised_points", [[0.0, 0.0], [-0.5, 0.25]]),
        ("unit_points", [[0.5, 0.5], [0.0, 0.75]]),
        ("pixel_points", [[15.5, 15.5], [-0.5, 23.5]]),
    ],
)
def test_landmarks_mean_the_same_in_every_unit(stage: Stage, decode_as: str, values: list[list[float]]) -> None:
    import msgspec

    scheme = msgspec.structs.replace(stage.scheme, points=2)
    spec = msgspec.structs.replace(stage.outputs[0], decode=decode_as, shape=(1, 2, 2))
    preprocess = msgspec.structs.replace(stage.preprocess, size=32)
    changed = msgspec.structs.replace(stage, scheme=scheme, outputs=(spec,), preprocess=preprocess)
    found = decode({"points": np.array([values], np.float32)}, changed, Crop(10, 20, 8))
    np.testing.assert_allclose(found.points, [[10, 20], [6, 22]], atol=1e-5)
    assert found.score is None


def test_shapes_of_a_file_become_those_of_the_contract(stage: Stage) -> None:
    raw = {"points": np.arange(8, dtype=np.float32).reshape(1, 8), "score": np.zeros((1, 1), np.float32)}
    shaped = in_contract_shape(raw, stage)
    assert shaped["score"].shape == (1,)
    np.testing.assert_array_equal(shaped["points"], [[[0, 1], [2, 3], [4, 5], [6, 7]]])
    wrong = np.zeros((1, 9), np.float32)
    assert in_contract_shape({"points": wrong}, stage)["points"] is wrong
