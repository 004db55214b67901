"""From an image and boxes to masks, with one variant of a segmentation bundle.

image, box --Crop--> preprocess --> tensor --backend--> logits --softmax--> probabilities --Crop--> Mask
                  previous probabilities, warped to this crop --^              |
                         ^-----------------------------------------------------'  one face, frame after frame
"""

from __future__ import annotations

import copy
import os
import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pocketface.sdk.backends.base import Tensor, Tensors
from pocketface.sdk.backends.delegates import AUTO
from pocketface.sdk.bundle import Bundle, open_bundle
from pocketface.sdk.chain import Executors, StageRunner
from pocketface.sdk.errors import BadInputError, BundleError
from pocketface.sdk.geometry import Box, Crop
from pocketface.sdk.masks import warped
from pocketface.sdk.postprocess import decode_mask
from pocketface.sdk.predictor import BoxLike, ImageLike, as_array, checked_boxes
from pocketface.sdk.results import Mask, Timings


class MaskPredictor:
    """One variant of a segmentation bundle, ready to run.

    A network with a previous mask (``remembers``) follows one face: each call is the next frame. Give each face a
    predictor of its own (``another``), or pass ``cut=True`` where a call has nothing to do with the one before.

    Args:
        bundle: an opened bundle; it may be closed afterwards.
        variant: id of the variant (default: the bundle's own choice).
        threads: threads the runtime may use, at least 1.
        delegate: what the runtime hands the network to: ``cpu``, ``xnnpack``, ``cuda``, ``coreml``, whichever it has on
            this machine; ``auto`` leaves it to the runtime.
        executor: what runs the variant, instead of its format's runtime; or format -> executor.

    Attributes:
        manifest: the contract it follows.
        id: of what runs.
        stages: the one stage that runs; see `Predictor`.
        stage, variant, backend: what runs.
        classes: what a mask's values mean.
        remembers: whether the network is shown the mask of the frame before.
        timings: of the last call, or None before it.

    Raises:
        BundleError: a bundle that gives no masks, no such variant, or the runtime refuses its file.
        EnvironmentProblemError: nothing here can run the format, or its runtime has no such delegate here.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        variant: str | None = None,
        threads: int = 1,
        delegate: str = AUTO,
        executor: Executors | None = None,
    ) -> None:
        self.manifest = bundle.manifest
        last = bundle.manifest.stages[-1]
        if last.task != "segmentation":
            raise BundleError(
                f"bundle {self.manifest.name!r} gives {last.task}",
                expected="masks",
                next="Load it with pocketface.sdk.load",
            )
        self.id = variant or bundle.manifest.default
        self.runner = StageRunner(bundle, self.id, threads=threads, delegate=delegate, executor=executor)
        self.stages = (self.runner,)
        self.stage, self.variant, self.backend = self.runner.stage, self.runner.variant, self.runner.backend
        self.classes = self.stage.class_set
        self.remembers = bool(self.stage.states)
        self.timings: Timings | None = None
        self._previous: tuple[NDArray[np.float32], Crop, tuple[int, int]] | None = None

    @property
    def executor(self) -> str:
        """Runtime and version."""
        return self.backend.executor

    def reset(self) -> None:
        """Forget the frame before: what comes next begins anew."""
        self._previous = None

    def another(self) -> MaskPredictor:
        """The same network for one face more: the model in memory is shared, what is remembered is not."""
        twin = copy.copy(self)
        twin.reset()
        twin.timings = None
        return twin

    def __call__(
        self,
        image: ImageLike,
        boxes: Sequence[BoxLike] | NDArray[np.floating] | None = None,
        *,
        cut: bool = False,
    ) -> list[Mask]:
        """Find the mask in each box.

        Args:
            image: (H, W, 3) uint8 RGB, the path of an image file, or a Pillow image.
            boxes: x0, y0, x1, y1 in pixels each; None takes the whole image as one box. Nothing is found outside of the
                square around a box.
            cut: this image does not follow the one before: forget that one. An image of another size, too, begins
                anew. Of several boxes each begins anew, and none is remembered. Without a previous mask it changes
                nothing.

        Returns:
            One `Mask` a box, in the boxes' order, each of the whole image's size.

        Raises:
            BadInputError: the image or a box is not usable; or a network that remembers is given several boxes that
                are no cut.
            BundleError: the network gives NaN or infinity.
        """
        pixels = as_array(image)
        height, width = pixels.shape[:2]
        wanted = [Box.of_image(width, height)] if boxes is None else checked_boxes(boxes, (width, height))
        if self.remembers and len(wanted) > 1 and not cut:
            raise BadInputError(
                f"{len(wanted)} boxes for a network that is shown the mask of the frame before",
                expected="one face, frame after frame",
                next="Give each face a MaskPredictor of its own, or pass cut=True",
            )
        if cut:
            self.reset()
        spent = np.zeros(3)
        found = []
        for box in wanted:
            found.append(self._mask(pixels, box, spent))
            if len(wanted) > 1:
                self.reset()
        pre, inference, post = (1000 * spent).tolist()
        self.timings = Timings(pre, inference, post)
        return found

    def _mask(self, pixels: NDArray[np.uint8], box: Box, spent: NDArray[np.float64]) -> Mask:
        """One mask; adds the seconds of preprocessing, inference and decoding to ``spent``."""
        clock = [time.perf_counter()]
        size = (pixels.shape[1], pixels.shape[0])
        crop = Crop.from_box(box, self.stage.preprocess.box_scale)
        tensor, others = self.preprocess(pixels, crop), self._states(crop, size)
        clock.append(time.perf_counter())
        outputs = self.predict_tensor(tensor, others)
        clock.append(time.perf_counter())
        probabilities = decode_mask(outputs, self.stage)
        mask = Mask.of(probabilities, crop, size, box, self.classes)
        if self.remembers:
            self._previous = probabilities, crop, size
        clock.append(time.perf_counter())
        spent += np.diff(clock)
        return mask

    def _states(self, crop: Crop, size: tuple[int, int]) -> dict[str, Tensor]:
        """The previous mask on this crop's grid, where the network takes one."""
        if not self.remembers:
            return {}
        (state,) = self.stage.states
        if self._previous is None or self._previous[2] != size:
            return {state.input: np.full(state.shape, state.initial, np.float32)}
        probabilities, old, _ = self._previous
        return {state.input: warped(probabilities, old, crop)[None]}

    def preprocess(self, image: NDArray[np.uint8], crop: Crop) -> Tensor:
        """(H, W, 3) uint8 RGB and a crop -> the network's input ``image``: see `StageRunner.preprocess`."""
        return self.runner.preprocess(image, crop)

    def predict_tensor(self, tensor: Tensor, others: dict[str, Tensor] | None = None) -> Tensors:
        """Run the network alone: see `StageRunner.predict_tensor`."""
        return self.runner.predict_tensor(tensor, others)


def load_mask(
    path: str | os.PathLike[str], *, variant: str | None = None, threads: int = 1, delegate: str = AUTO
) -> MaskPredictor:
    """Open a segmentation bundle, check it, and make one of its variants ready.

    Args:
        path: a bundle folder, a ``.pface`` file, or the name of a bundle that comes with the package.
        variant: id of the variant (default: the bundle's own choice).
        threads: threads the runtime may use.
        delegate: what the runtime hands the network to; one that it has not here is refused.

    Example:
        >>> image = read_image("photo.jpg")
        >>> masks = load_mask("runs/hair/bundle")(image)
        >>> dyed = HairDye((120, 30, 40), strength=0.8)(image, masks)
    """
    with open_bundle(path) as bundle:
        return MaskPredictor(bundle, variant=variant, threads=threads, delegate=delegate)
