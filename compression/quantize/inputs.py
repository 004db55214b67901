"""Calibration data of networks with more than one input: the images, and what is fed beside each of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pocketface.converters.formats.interface import INPUT
from pocketface.sdk.errors import BadInputError
from pocketface.sdk.manifest import Binding


class CalibrationImages(np.ndarray):
    """Images (N, 3, S, S) that carry the network's further inputs with them; see ``with_others``.

    Images still, for everything that takes images alone: only the quantizers that run the network look further.

    Attributes:
        others: input name -> (N, ...) float32.
    """

    others: Mapping[str, NDArray[np.float32]]

    def __array_finalize__(self, source: Any) -> None:
        # A part of the images, or what was computed of them, would no longer belong to these.
        same = isinstance(source, CalibrationImages) and source.shape == self.shape
        self.others = getattr(source, "others", {}) if same else {}


def with_others(images: NDArray[Any], others: Mapping[str, NDArray[Any]]) -> CalibrationImages:
    """Calibration images of a network with further inputs.

    Args:
        images: (N, 3, S, S), as the network takes them.
        others: input name -> (N, ...), what it is fed beside each image: the mask of the frame before.

    Raises:
        BadInputError: not one for each image, or NaN or infinity.
    """
    made = np.array(images).view(CalibrationImages)
    kept = {name: np.array(value, np.float32) for name, value in others.items()}
    for name, value in kept.items():
        if value.ndim < 1 or len(value) != len(made) or not np.isfinite(value).all():
            raise BadInputError(
                f"calibration input {name!r} of shape {value.shape}", expected=f"({len(made)}, ...), all finite"
            )
    made.others = kept
    return made


def shapes_of(bindings: Mapping[str, Binding]) -> dict[str, tuple[int, ...]]:
    """Input name -> shape in NCHW, of a file's inputs."""
    return {
        name: (item.shape[0], item.shape[3], *item.shape[1:3]) if item.layout == "NHWC" else item.shape
        for name, item in bindings.items()
    }


def feeds(calibration: NDArray[Any], shapes: Mapping[str, tuple[int, ...]]) -> Iterator[dict[str, NDArray[Any]]]:
    """The inputs of one run after another.

    Args:
        calibration: images, with the further inputs where there are any.
        shapes: input name -> its shape at batch 1, in NCHW, of every input of the network.

    Yields:
        Input name -> array of batch 1, in NCHW.

    Raises:
        BadInputError: an input is missing, too many or of another shape.
    """
    others = dict(getattr(calibration, "others", {}))
    found = {name: (1, *value.shape[1:]) for name, value in others.items()}
    wanted = {name: tuple(shape) for name, shape in shapes.items() if name != INPUT}
    if found != wanted:
        raise BadInputError(
            f"calibration images with {_text(found)} beside them",
            expected=_text(wanted),
            next="Give them with pocketface.compression.quantize.inputs.with_others",
        )
    images = np.asarray(calibration)
    for index in range(len(images)):
        one = slice(index, index + 1)
        yield {INPUT: np.ascontiguousarray(images[one])} | {
            name: np.ascontiguousarray(value[one]) for name, value in others.items()
        }


def _text(shapes: Mapping[str, tuple[int, ...]]) -> str:
    return ", ".join(f"{name} {shape}" for name, shape in shapes.items()) or "nothing"
