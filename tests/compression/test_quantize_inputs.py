"""Calibration images that carry further inputs: what belongs together stays so, and what does not is refused."""

from __future__ import annotations

import numpy as np
import pytest

from pocketface.compression.quantize.inputs import feeds, shapes_of, with_others
from pocketface.sdk.errors import BadInputError
from pocketface.sdk.manifest import Binding

IMAGES = np.arange(2 * 3 * 4 * 4, dtype=np.float32).reshape(2, 3, 4, 4)
MASKS = np.arange(2 * 2 * 4 * 4, dtype=np.float32).reshape(2, 2, 4, 4)
SHAPES = {"image": (1, 3, 4, 4), "previous": (1, 2, 4, 4)}


def test_images_stay_images() -> None:
    images = with_others(IMAGES, {"previous": MASKS})
    assert (images.shape, images.dtype, len(images)) == (IMAGES.shape, np.float32, 2)
    assert np.array_equal(images, IMAGES)
    images[0] = 0
    assert IMAGES[0].any()  # a copy


def test_each_image_is_fed_with_its_own_mask() -> None:
    found = list(feeds(with_others(IMAGES, {"previous": MASKS}), SHAPES))
    assert [list(feed) for feed in found] == [["image", "previous"]] * 2
    for number, feed in enumerate(found):
        assert np.array_equal(feed["image"][0], IMAGES[number])
        assert np.array_equal(feed["previous"][0], MASKS[number])


def test_images_alone_are_fed_alone() -> None:
    found = list(feeds(IMAGES.astype(np.uint8), {"image": (1, 3, 4, 4)}))
    assert [list(feed) for feed in found] == [["image"]] * 2
    assert found[1]["image"].dtype == np.uint8


def test_what_is_computed_of_the_images_has_lost_the_masks() -> None:
    """Half of the images with the masks of all would feed some with another's."""
    with pytest.raises(BadInputError, match="images with nothing beside them, expected previous"):
        list(feeds(with_others(IMAGES, {"previous": MASKS})[1:], SHAPES))


@pytest.mark.parametrize("masks", [MASKS[:1], np.full_like(MASKS, np.inf), np.float32(1)])
def test_masks_that_do_not_belong_to_the_images_are_refused(masks: np.ndarray) -> None:
    with pytest.raises(BadInputError, match="calibration input 'previous'"):
        with_others(IMAGES, {"previous": masks})


def test_inputs_that_the_network_does_not_have_are_refused() -> None:
    with pytest.raises(BadInputError, match=r"previous \(1, 2, 4, 4\) beside them, expected nothing"):
        list(feeds(with_others(IMAGES, {"previous": MASKS}), {"image": (1, 3, 4, 4)}))


def test_shapes_of_a_file_are_as_the_contract_has_them() -> None:
    bindings = {
        "image": Binding(tensor="image", shape=(1, 5, 6, 3), layout="NHWC"),
        "previous": Binding(tensor="previous", shape=(1, 2, 5, 6), layout="NCHW"),
    }
    assert shapes_of(bindings) == {"image": (1, 3, 5, 6), "previous": (1, 2, 5, 6)}
