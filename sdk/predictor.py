"""From an image and boxes to landmarks, with one variant of a bundle.

image, box --Crop, network_input--> tensor --backend--> raw outputs --decode--> Landmarks
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pocketface.sdk.backends.base import Backend, Tensor, Tensors
from pocketface.sdk.backends.registry import BACKENDS, has_executor
from pocketface.sdk.bundle import Bundle, open_bundle
from pocketface.sdk.errors import BadInputError, BundleError, EnvironmentProblemError
from pocketface.sdk.geometry import Box, Crop
from pocketface.sdk.images import check_array, read_image, to_rgb
from pocketface.sdk.manifest import Manifest
from pocketface.sdk.postprocess import decode, in_contract_shape
from pocketface.sdk.preprocess import network_input
from pocketface.sdk.results import Landmarks, Timings

ImageLike: TypeAlias = NDArray[np.uint8] | Image.Image | str | os.PathLike[str]
BoxLike: TypeAlias = Sequence[float] | NDArray[np.floating]


class Predictor:
    """One variant of a bundle, ready to run.

    Args:
        bundle: an opened bundle; it may be closed afterwards.
        variant: id of the variant (default: the bundle's own choice).
        threads: threads the runtime may use, at least 1.
        executor: what runs the variant, instead of its format's runtime.

    Attributes:
        manifest, stage, variant: the contract it follows.
        backend: the runtime that holds the model.
        timings: of the last call, or None before it.

    Raises:
        BundleError: no such variant, or the runtime refuses its file.
        EnvironmentProblemError: nothing here can run this format.
    """

    def __init__(
        self, bundle: Bundle, *, variant: str | None = None, threads: int = 1, executor: type[Backend] | None = None
    ) -> None:
        if isinstance(threads, bool) or not isinstance(threads, int) or not 1 <= threads <= 1024:
            raise BadInputError(f"threads {threads!r}", expected="a whole number from 1 to 1024")
        self.manifest = bundle.manifest
        self.stage, self.variant = bundle.manifest.variant(variant)
        if self.stage.states or len(self.stage.inputs) != 1:
            raise BundleError(
                f"stage {self.stage.name!r} has states or several inputs",
                expected="one image in",
                next="Update pocketface: pip install -U pocketface",
            )
        if executor is None and not has_executor(self.variant.format):
            raise EnvironmentProblemError(
                f"variant {self.variant.id!r} is {self.variant.format}, which nothing here can run",
                choices=runnable(bundle.manifest),
                next="Choose one of these with --variant, or install its runtime",
            )
        backend = executor or BACKENDS[self.variant.format]
        self.backend: Backend = backend(bundle.variant_path(self.variant), self.variant, threads=threads)
        self.timings: Timings | None = None

    def __call__(
        self, image: ImageLike, boxes: Sequence[BoxLike] | NDArray[np.floating] | None = None
    ) -> list[Landmarks]:
        """Find the landmarks in each box.

        Args:
            image: (H, W, 3) uint8 RGB, the path of an image file, or a Pillow image.
            boxes: x0, y0, x1, y1 in pixels each; None takes the whole image as one box. A box follows the ground-truth
                convention: a square of 1.25 x the longer side of the landmarks' bounding box.

        Returns:
            One `Landmarks` a box, in the boxes' order.

        Raises:
            BadInputError: the image or a box is not usable, or a box lies outside the image.
        """
        pixels = as_array(image)
        height, width = pixels.shape[:2]
        wanted = [Box.of_image(width, height)] if boxes is None else checked_boxes(boxes, (width, height))
        found, spent = [], np.zeros(3)
        for box in wanted:
            clock = [time.perf_counter()]
            crop = Crop.from_box(box, self.stage.preprocess.box_scale)
            tensor = self.preprocess(pixels, crop)
            clock.append(time.perf_counter())
            outputs = self.predict_tensor(tensor)
            clock.append(time.perf_counter())
            points, score = decode(outputs, self.stage, crop)
            found.append(Landmarks(points, score, box, self.stage.scheme.name))
            clock.append(time.perf_counter())
            spent += np.diff(clock)
        self.timings = Timings(*(1000 * float(seconds) for seconds in spent))
        return found

    def preprocess(self, image: NDArray[np.uint8], crop: Crop) -> Tensor:
        """(H, W, 3) uint8 RGB and a crop -> the network's input: (1, 3, S, S) float32, or uint8 if it takes pixels."""
        return network_input(image, crop, self.stage.preprocess)

    def predict_tensor(self, tensor: Tensor) -> Tensors:
        """Run the network alone.

        Args:
            tensor: (1, 3, S, S) float32, normalised; uint8 pixels where the stage's input says so.

        Returns:
            Output name -> raw float32 output, in the contract's shape.

        Raises:
            BadInputError: another shape or type.
        """
        spec = self.stage.inputs[0]
        if tensor.shape != spec.shape or tensor.dtype != spec.dtype:
            raise BadInputError(
                f"tensor of shape {tensor.shape} and type {tensor.dtype}", expected=f"{spec.shape} {spec.dtype}"
            )
        return in_contract_shape(self.backend.run({spec.name: tensor}), self.stage)


def load(path: str | os.PathLike[str], *, variant: str | None = None, threads: int = 1) -> Predictor:
    """Open a bundle, check it, and make one of its variants ready.

    Args:
        path: a bundle folder or ``.pface`` file.
        variant: id of the variant (default: the bundle's own choice).
        threads: threads the runtime may use.

    Example:
        >>> faces = load("runs/face68/bundle")("photo.jpg", boxes=[(40, 30, 200, 190)])
        >>> faces[0].points.shape, faces[0].score
    """
    with open_bundle(path) as bundle:
        return Predictor(bundle, variant=variant, threads=threads)


def runnable(manifest: Manifest) -> list[str]:
    """Ids of the variants that can run here."""
    return [variant.id for stage in manifest.stages for variant in stage.variants if has_executor(variant.format)]


def as_array(image: ImageLike) -> NDArray[np.uint8]:
    """An image file, Pillow image or array as (H, W, 3) uint8 RGB.

    Raises:
        BadInputError: none of these, or an array of another shape or type.
    """
    if isinstance(image, str | os.PathLike):
        return read_image(image)
    if isinstance(image, Image.Image):
        return to_rgb(image)
    check_array(image)
    return image


def checked_boxes(boxes: Sequence[BoxLike] | NDArray[np.floating], image_size: tuple[int, int]) -> list[Box]:
    """Boxes as `Box`, each usable for an image of (width, height).

    Raises:
        BadInputError: not a list of boxes of four numbers, or one without area or outside the image.
    """
    checked = []
    for item in boxes:
        try:
            x0, y0, x1, y1 = (float(value) for value in item)
        except (TypeError, ValueError) as error:
            raise BadInputError(
                f"box {item!r}", expected="four numbers x0, y0, x1, y1", next="Give a list of boxes, even for one"
            ) from error
        checked.append(Box(x0, y0, x1, y1).checked(image_size))
    return checked
