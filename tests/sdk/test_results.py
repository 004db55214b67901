import dataclasses
import json

import msgspec
import numpy as np

from pocketface.sdk.geometry import Box
from pocketface.sdk.results import Landmarks, Timings

FACE = Landmarks(np.array([[1.5, 2], [3, 40.25]], np.float32), 0.875, Box(0, 1, 2, 3), "two")


def test_to_dict_is_plain_json() -> None:
    expected = {"scheme": "two", "score": 0.875, "box": [0, 1, 2, 3], "points": [[1.5, 2], [3, 40.25]]}
    assert json.loads(json.dumps(FACE.to_dict())) == expected
    assert json.loads(msgspec.json.encode(FACE.to_dict())) == expected


def test_prints_what_matters() -> None:
    assert str(FACE) == "2 points (two), score 0.875, x 1.5 to 3.0, y 2.0 to 40.2"
    timings = Timings(pre_ms=1, inference_ms=2.5, post_ms=0.125)
    assert timings.total_ms == 3.625
    assert str(timings) == "3.62 ms (pre 1.00, inference 2.50, post 0.12)"


def test_a_network_without_a_score_says_so() -> None:
    face = dataclasses.replace(FACE, score=None)
    assert face.to_dict()["score"] is None
    assert str(face) == "2 points (two), no score, x 1.5 to 3.0, y 2.0 to 40.2"
