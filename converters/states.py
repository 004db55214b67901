"""What one frame hands to the next: the mask of the frame before, on this frame's crop, as the runtime hands it on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pocketface.sdk.geometry import Box, Crop
from pocketface.sdk.manifest import Stage
from pocketface.sdk.masks import warped
from pocketface.sdk.postprocess import decode_mask


@dataclass(frozen=True, eq=False)
class Before:
    """A frame that is over.

    Attributes:
        probabilities: (C, M, M) float32, of its mask.
        crop: where in its image the network looked.
        size: (width, height) of its image; an image of another size begins anew.
    """

    probabilities: NDArray[np.float32]
    crop: Crop
    size: tuple[int, int]

    @classmethod
    def of_case(cls, case: Mapping[str, NDArray[Any]], stage: Stage) -> Before:
        """The frame of a golden case, from its recorded outputs.

        Raises:
            BundleError: an output that cannot be decoded.
        """
        outputs = {spec.name: case[f"step0.output.{spec.name}"] for spec in stage.outputs}
        height, width = case["image"].shape[:2]
        box = Box(*(float(value) for value in case["box"]))
        return cls(decode_mask(outputs, stage), Crop.from_box(box, stage.preprocess.box_scale), (width, height))


def handed_on(stage: Stage, before: Before | None, crop: Crop, size: tuple[int, int]) -> dict[str, NDArray[np.float32]]:
    """What a stage is fed beside its image: state input -> (1, C, M, M) float32.

    Args:
        stage: of a segmentation; one without states takes nothing.
        before: the frame before; None at the beginning and after a cut.
        crop: where it looks now.
        size: (width, height) of the image.
    """
    if before is None or before.size != size:
        return {state.input: np.full(state.shape, state.initial, np.float32) for state in stage.states}
    return {state.input: warped(before.probabilities, before.crop, crop)[None] for state in stage.states}


def begins(stage: Stage, case: Mapping[str, NDArray[Any]]) -> bool:
    """Whether a golden case of a stage with a state begins anew: it was fed the state's initial value."""
    return all(bool((case[f"step0.input.{state.input}"] == state.initial).all()) for state in stage.states)
