"""From an image to landmarks, with one variant of a bundle, or one of each stage of a chain.

image --detector, or given boxes--> Crop --[relocalize]--> better Crop --[uniformize]--> picture --landmarks--> decode
--> Landmarks
    each stage: preprocess --> tensor --backend--> raw outputs
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pocketface.sdk.backends.base import Tensor, Tensors
from pocketface.sdk.backends.delegates import AUTO
from pocketface.sdk.bundle import Bundle, open_bundle
from pocketface.sdk.chain import Executors, StageRunner, View, onward
from pocketface.sdk.chain import runnable as runnable
from pocketface.sdk.detection import Detector
from pocketface.sdk.errors import BadInputError, BundleError
from pocketface.sdk.face_detector import DEFAULT, Later
from pocketface.sdk.geometry import Box, Crop
from pocketface.sdk.images import check_array, read_image, to_rgb
from pocketface.sdk.postprocess import decode
from pocketface.sdk.results import Landmarks, Timings

if TYPE_CHECKING:
    from PIL import Image

ImageLike: TypeAlias = "NDArray[np.uint8] | Image.Image | str | os.PathLike[str]"
BoxLike: TypeAlias = Sequence[float] | NDArray[np.floating]

_OTHERS = {"segmentation": ("masks", "load_mask"), "detection": ("boxes of faces", "load_detector")}


class Predictor:
    """One variant of a bundle, or one of each stage of a chain, ready to run.

    All boxes of an image go in one call. A file takes one crop at a time (its batch is 1, as on a phone), so the faces
    are run one after the other: there is nothing to share but the image, which is checked once and never copied.

    Boxes come from the detector, a user, or the landmarks of the previous frame (``Box.around``); a relocalize stage
    corrects them.

    Args:
        bundle: an opened bundle; it may be closed afterwards.
        variant: id of the variant or chain, as ``Manifest.chain`` takes it (default: the bundle's own choice).
        threads: threads the runtime may use, at least 1.
        delegate: what the runtime hands the network to: ``cpu``, ``xnnpack``, ``cuda``, ``coreml``, whichever it has on
            this machine; ``auto`` leaves it to the runtime.
        executor: what runs the variant, instead of its format's runtime; for several formats, format -> executor.
        detector: finds the faces where no boxes are given; without one the whole image is the box.

    Attributes:
        manifest: the contract it follows.
        id: of what runs.
        detector: see above.
        stages: what runs, in order; one for a single network.
        stage, variant, backend: of the last of them, which gives the landmarks.
        timings: of the last call, or None before it.

    Raises:
        BundleError: no such variant, or the runtime refuses its file; or a segmentation, which `load_mask` is for.
        EnvironmentProblemError: nothing here can run a format, or its runtime has no such delegate here.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        variant: str | None = None,
        threads: int = 1,
        delegate: str = AUTO,
        executor: Executors | None = None,
        detector: Detector | None = None,
    ) -> None:
        self.manifest, self.detector = bundle.manifest, detector
        task = bundle.manifest.stages[-1].task
        if task != "landmarks":
            kind, load = _OTHERS.get(task, (task, "load"))
            raise BundleError(
                f"bundle {bundle.manifest.name!r} gives {kind}",
                expected="landmarks",
                next=f"Load it with pocketface.sdk.{load}",
            )
        self.id = variant or bundle.manifest.default
        self.stages = tuple(
            StageRunner(bundle, chosen.id, threads=threads, delegate=delegate, executor=executor)
            for _, chosen in bundle.manifest.chain(self.id)
        )
        last = self.stages[-1]
        self.stage, self.variant, self.backend = last.stage, last.variant, last.backend
        self._scheme = last.stage.marks.name
        self.timings: Timings | None = None

    @property
    def executor(self) -> str:
        """Runtime and version, and the delegate if one was asked for; of a chain that runs in several, each once, in
        the stages' order."""
        return ", ".join(dict.fromkeys(runner.backend.executor for runner in self.stages))

    def __call__(
        self, image: ImageLike, boxes: Sequence[BoxLike] | NDArray[np.floating] | None = None
    ) -> list[Landmarks]:
        """Find the landmarks in each box, or of each face.

        Args:
            image: (H, W, 3) uint8 RGB, the path of an image file, or a Pillow image.
            boxes: x0, y0, x1, y1 in pixels each, in the ground-truth convention: a square of 1.25 x the longer side of
                the landmarks' bounding box. None asks the detector; without one the whole image is the one box.

        Returns:
            One `Landmarks` a box, in the boxes' order; of detected faces the surest first, and none without a face.

        Raises:
            BadInputError: the image or a box is not usable, or a box lies outside the image.
            BundleError: a network gives NaN or infinity.
        """
        pixels = as_array(image)
        height, width = pixels.shape[:2]
        if boxes is not None:
            wanted = checked_boxes(boxes, (width, height))
        elif self.detector is not None:
            wanted = [found.box for found in self.detector(pixels)]
        else:
            wanted = [Box.of_image(width, height)]
        spent = np.zeros((len(self.stages), 3))
        found = [self._face(pixels, box, spent) for box in wanted]
        self.timings = self._timings(spent)
        return found

    def _face(self, pixels: NDArray[np.uint8], box: Box, spent: NDArray[np.float64]) -> Landmarks:
        """One face; adds the seconds of each stage, (stages, 3) pre, inference, post, to ``spent``."""
        view = View(pixels, Crop.from_box(box, self.stages[0].stage.preprocess.box_scale))
        given = view.crop
        for runner, row in zip(self.stages[:-1], spent[:-1], strict=True):
            outputs, clock = _run(runner, view)
            view = onward(outputs, runner.stage, view)
            row += _parts(clock)
        outputs, clock = _run(self.stages[-1], view)
        points, score, pose = decode(outputs, self.stage, view.crop)
        face = Landmarks(
            points,
            score,
            box,
            self._scheme,
            None if pose is None else (float(pose[0]), float(pose[1]), float(pose[2])),
            None if view.crop is given else view.crop.box,
        )
        spent[-1] += _parts(clock)
        return face

    def _timings(self, spent: NDArray[np.float64]) -> Timings:
        names = [runner.stage.name for runner in self.stages]
        each = {name: Timings(*row) for name, row in zip(names, (1000 * spent).tolist(), strict=True)}
        pre, inference, post = (1000 * spent.sum(axis=0)).tolist()
        return Timings(pre, inference, post, each if len(each) > 1 else {})

    def preprocess(self, image: NDArray[np.uint8], crop: Crop) -> Tensor:
        """(H, W, 3) uint8 RGB and a crop -> the landmark network's input: (1, 3, S, S) float32, or uint8 if it takes
        pixels. Of a chain, what it would see without the stages before it."""
        return self.stages[-1].preprocess(image, crop)

    def predict_tensor(self, tensor: Tensor) -> Tensors:
        """Run the landmark network alone: see `StageRunner.predict_tensor`."""
        return self.stages[-1].predict_tensor(tensor)


def _run(runner: StageRunner, view: View) -> tuple[Tensors, list[float]]:
    """Raw outputs, and when preprocessing began, when inference did, and when it ended, in seconds."""
    clock = [time.perf_counter()]
    tensor = runner.preprocess(*view)
    clock.append(time.perf_counter())
    outputs = runner.predict_tensor(tensor)
    clock.append(time.perf_counter())
    return outputs, clock


def _parts(clock: list[float]) -> NDArray[np.float64]:
    """(3,) seconds of preprocessing, of inference, and of what came after it until now."""
    return np.diff([*clock, time.perf_counter()])


def load(
    path: str | os.PathLike[str] = "face68",
    *,
    variant: str | None = None,
    threads: int = 1,
    delegate: str = AUTO,
    detector: Detector | str | os.PathLike[str] | None = DEFAULT,
) -> Predictor:
    """Open a bundle, check it, and make one of its variants, or chains, ready.

    Args:
        path: a bundle folder, a ``.pface`` file, or the name of a bundle that comes with the package
            (``pocketface models``).
        variant: id of the variant or chain (default: the bundle's own choice).
        threads: threads the runtime may use.
        delegate: what the runtime hands the network to; one that it has not here is refused.
        detector: finds the faces where no boxes are given: the path or name of a detector's bundle, which is opened
            when it is needed first, or your own; None takes the whole image as the box.

    Example:
        >>> faces = load("face68")("photo.jpg")
        >>> faces[0].points.shape, faces[0].score
    """
    finder = Later(detector, threads=threads) if isinstance(detector, str | os.PathLike) else detector
    with open_bundle(path) as bundle:
        return Predictor(bundle, variant=variant, threads=threads, delegate=delegate, detector=finder)


def as_array(image: ImageLike) -> NDArray[np.uint8]:
    """An image file, Pillow image or array as (H, W, 3) uint8 RGB.

    Raises:
        BadInputError: none of these, or an array of another shape or type.
    """
    if isinstance(image, str | os.PathLike):
        return read_image(image)
    if not isinstance(image, np.ndarray):
        from PIL import Image  # not for arrays: importing it takes as long as all of ours

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
