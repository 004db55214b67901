from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy.special import softmax

from pocketface.sdk.errors import BundleError
from pocketface.sdk.postprocess import class_probabilities, decode_mask


def test_agrees_with_scipy_at_every_number_of_sides() -> None:
    logits = np.random.default_rng(0).normal(0, 5, (2, 4, 7, 7)).astype(np.float32)
    before = logits.copy()
    np.testing.assert_allclose(class_probabilities(logits), softmax(logits.astype(float), axis=1), atol=1e-6)
    np.testing.assert_allclose(class_probabilities(logits[0]), softmax(logits[0].astype(float), axis=0), atol=1e-6)
    assert class_probabilities(logits).dtype == np.float32
    assert np.array_equal(logits, before)


def test_large_logits_neither_overflow_nor_vanish() -> None:
    logits = np.array([3e38, -3e38, 0], np.float32).reshape(3, 1, 1)
    with np.errstate(over="ignore"):  # 3e38 - -3e38 is beyond float32, and rightly ends as a probability of 0
        assert class_probabilities(logits).ravel().tolist() == [1, 0, 0]
    assert class_probabilities(np.full((4, 1, 1), 1e4, np.float32)).ravel().tolist() == [0.25] * 4


def test_decoding_refuses_what_the_contract_does_not_say() -> None:
    spec = SimpleNamespace(name="logits", shape=(1, 2, 3, 3), decode="class_logits")
    stage: Any = SimpleNamespace(name="hair", outputs=(spec,))
    logits = np.zeros((1, 2, 3, 3), np.float32)
    assert (decode_mask({"logits": logits}, stage) == 0.5).all()
    with pytest.raises(BundleError, match=r"shape \(1, 2, 9\), expected \(1, 2, 3, 3\)"):
        decode_mask({"logits": logits.reshape(1, 2, 9)}, stage)
    with pytest.raises(BundleError, match="NaN or infinity"):
        decode_mask({"logits": logits + np.inf}, stage)
    with pytest.raises(BundleError, match="is missing"):
        decode_mask({}, stage)
    points: Any = SimpleNamespace(name="marks", outputs=(SimpleNamespace(name="p", decode="unit_points"),))
    with pytest.raises(BundleError, match="decodes to unit_points, expected class_logits"):
        decode_mask({}, points)
