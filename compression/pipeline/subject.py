"""A network that is to be exported, and what its files are made from and held against."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import nn

from pocketface.compression.quantize.base import Calibration
from pocketface.converters.parity import References


@dataclass(frozen=True)
class Subject:
    """A network that is to be exported.

    Attributes:
        name: of the stage of a chain; empty for the only network of a bundle.
        key: of its training.
        network: gives what is shipped, in evaluation mode.
        calibration: gives the inputs that static quantization looks at, (N, 3, S, S) as the network takes them.
        notes: gives what every file that was calibrated says of these inputs.
        faces: gives validation faces with what torch makes of them, at most so many (0: all), for what is
            searched for (``export.tune``, ``export.mixed``); None where the recipe has none.
        normaliser: the two landmarks whose distance normalises errors on these faces.
    """

    name: str
    key: str
    network: Callable[[], nn.Module]
    calibration: Callable[[], Calibration]
    notes: Callable[[], Mapping[str, str]] = dict
    faces: Callable[[int], References] | None = None
    normaliser: tuple[int, int] = (36, 45)
