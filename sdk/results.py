"""What the runtime returns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from pocketface.sdk.errors import BadInputError, UnknownNameError
from pocketface.sdk.geometry import Box, Crop
from pocketface.sdk.manifest import ClassSet
from pocketface.sdk.masks import Window, labels_on_image, mask_in_window, mask_on_image


@dataclass(frozen=True, eq=False)
class Landmarks:
    """One face.

    Attributes:
        points: (n, 2) float32, x and y in pixels of the original image.
        score: probability that the box holds a face, in [0, 1]; None from a network that gives none.
        box: the box it was looked for in.
        scheme: name of the landmark scheme, e.g. ``"ibug68"``.
        pose: yaw (> 0: the face looks to the image's right), pitch (> 0: up), roll (> 0: clockwise as seen) in degrees;
            None from a network that gives none.
        crop_box: the square that the landmark network was shown, where a relocalize stage corrected the box.
    """

    points: NDArray[np.float32]
    score: float | None
    box: Box
    scheme: str
    pose: tuple[float, float, float] | None = None
    crop_box: Box | None = None

    def to_dict(self) -> dict[str, Any]:
        """As plain lists and numbers, for JSON; ``pose`` and ``crop_box`` only where there are any."""
        values: dict[str, Any] = {
            "scheme": self.scheme,
            "score": None if self.score is None else float(self.score),
            "box": [float(value) for value in self.box],
            "points": self.points.astype(float).tolist(),
        }
        if self.pose is not None:
            values["pose"] = dict(zip(("yaw", "pitch", "roll"), map(float, self.pose), strict=True))
        if self.crop_box is not None:
            values["crop_box"] = [float(value) for value in self.crop_box]
        return values

    def __str__(self) -> str:
        (x0, y0), (x1, y1) = self.points.min(axis=0), self.points.max(axis=0)
        score = "no score" if self.score is None else f"score {self.score:.3f}"
        text = f"{len(self.points)} points ({self.scheme}), {score}, x {x0:.1f} to {x1:.1f}, y {y0:.1f} to {y1:.1f}"
        if self.pose is not None:
            text += ", yaw {:.1f}, pitch {:.1f}, roll {:.1f} degrees".format(*self.pose)
        return text


class SoftMasks(Mapping[str, NDArray[np.float32]]):
    """Class name -> (H, W) float32 probability of that class, in [0, 1]; made when it is asked for, and not kept.

    Attributes:
        probabilities: (C, M, M) float32, on the network's grid.
        crop: where in the image the network looked.
        image_size: (width, height).
        classes: the C classes.
    """

    def __init__(
        self, probabilities: NDArray[np.float32], crop: Crop, image_size: tuple[int, int], classes: ClassSet
    ) -> None:
        self.probabilities, self.crop, self.image_size, self.classes = probabilities, crop, image_size, classes

    def __getitem__(self, name: str) -> NDArray[np.float32]:
        # A mapping is asked with `in` too, and says no by a KeyError.
        if name not in self.classes.names:
            raise KeyError(name)
        number = self.classes.names.index(name)
        return np.asarray(mask_on_image(self.probabilities, self.crop, self.image_size, [number])[0])

    def __iter__(self) -> Iterator[str]:
        return iter(self.classes.names)

    def __len__(self) -> int:
        return len(self.classes.names)

    def window(self, names: Sequence[str]) -> tuple[Window, NDArray[np.float32]]:
        """Where the network looked, and the (h, w) float32 probability of any of these classes there; elsewhere 0.

        Raises:
            UnknownNameError: there is no such class.
        """
        for name in names:
            if name not in self.classes.names:
                raise UnknownNameError(f"class of {self.classes.name}", name, self.classes.names)
        indices = [self.classes.names.index(name) for name in dict.fromkeys(names)]
        return mask_in_window(self.probabilities, self.crop, self.image_size, indices)


@dataclass(frozen=True, eq=False)
class Mask:
    """The classes of one image's pixels, or of one face's.

    Attributes:
        labels: (H, W) uint8, the most probable class of every pixel of the original image; 0, the background, outside
            of the crop that the network was shown.
        soft: class name -> (H, W) float32, its probability: 1 well inside, falling to 0 across the border.
        box: the box it was looked for in.
        classes: what the values of ``labels`` mean.
    """

    labels: NDArray[np.uint8]
    soft: SoftMasks
    box: Box
    classes: ClassSet

    @classmethod
    def of(
        cls, probabilities: NDArray[np.float32], crop: Crop, image_size: tuple[int, int], box: Box, classes: ClassSet
    ) -> Mask:
        """The mask of an image.

        Args:
            probabilities: (C, M, M) float32, on the network's grid.
            crop: where in the image the network looked.
            image_size: (width, height).
            box: the box it was looked for in.
            classes: the C classes.
        """
        soft = SoftMasks(probabilities, crop, image_size, classes)
        return cls(labels_on_image(probabilities, crop, image_size), soft, box, classes)

    def soft_window(self, names: Sequence[str], image: NDArray[np.uint8]) -> tuple[Window, NDArray[np.float32]]:
        """`SoftMasks.window`, for drawing on an image.

        Raises:
            BadInputError: the image has another size than the one the mask was found in.
            UnknownNameError: there is no such class.
        """
        if image.shape[:2] != self.labels.shape:
            (height, width), (h, w) = self.labels.shape, image.shape[:2]
            raise BadInputError(
                f"a mask of {width} x {height} pixels for an image of {w} x {h}",
                expected="the image that it was found in",
            )
        return self.soft.window(names)

    def shares(self) -> dict[str, float]:
        """Class name -> its share of the image's pixels, in [0, 1]."""
        counts = np.bincount(self.labels.ravel(), minlength=len(self.classes.names))
        return dict(zip(self.classes.names, (counts / self.labels.size).tolist(), strict=True))

    def to_dict(self) -> dict[str, Any]:
        """As plain lists and numbers, for JSON. ``runs`` are the labels row by row, left to right: class, length,
        class, length and so on."""
        flat = self.labels.ravel().astype(np.int64)
        starts = np.flatnonzero(np.diff(flat, prepend=-1, append=-1))
        height, width = self.labels.shape
        return {
            "classes": self.classes.name,
            "names": list(self.classes.names),
            "box": [float(value) for value in self.box],
            "width": width,
            "height": height,
            "shares": self.shares(),
            "runs": np.stack([flat[starts[:-1]], np.diff(starts)], axis=1).ravel().tolist(),
        }

    def __str__(self) -> str:
        height, width = self.labels.shape
        found = [f"{name} {100 * share:.1f} %" for name, share in self.shares().items() if share]
        return f"mask ({self.classes.name}), {width} x {height} pixels: {', '.join(found)}"


class Timings(msgspec.Struct, frozen=True, omit_defaults=True):
    """How long one call took, in milliseconds, all boxes together.

    Attributes:
        stages: of a chain, the same for each of its stages, by name; empty, and not written, for a single network.
    """

    pre_ms: float
    inference_ms: float
    post_ms: float
    stages: dict[str, Timings] = {}

    @property
    def total_ms(self) -> float:
        return self.pre_ms + self.inference_ms + self.post_ms

    def __str__(self) -> str:
        parts = f"pre {self.pre_ms:.2f}, inference {self.inference_ms:.2f}, post {self.post_ms:.2f}"
        each = "".join(f"; {name} {part.total_ms:.2f}" for name, part in self.stages.items())
        return f"{self.total_ms:.2f} ms ({parts}{each})"
