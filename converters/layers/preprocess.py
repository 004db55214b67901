"""Before the network: does the manifest's preprocessing make of the golden image what the network was given in torch?

Two witnesses: the recorded network input, from which mean and standard deviation of each channel can be fitted, and the
network's own ``mean`` and ``std``, where it has them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from pocketface.sdk.geometry import Box, Crop
from pocketface.sdk.manifest import Preprocess
from pocketface.sdk.preprocess import network_input, normalise

if TYPE_CHECKING:
    from torch import nn

MAX_INPUT_ERROR = 1e-4
"""Of a normalised input, relative to its largest value; uint8 pixels may be one step off."""
_CONSTANT_ERROR = 1e-4
"""Relative, between a constant of the manifest and the network's own."""
_FIT_ERROR = 1e-2
"""Pixel units: what the fitted constants may leave."""


@dataclass(frozen=True)
class PreprocessCheck:
    """What was found before the network.

    Attributes:
        place: ``"mean[1]"``, ``"std[0]"``, ``"channels"``, ``"crop"``; empty where all is well.
        detail: got and expected.
        error: of the network input made again, relative to its largest value.
    """

    place: str
    detail: str
    error: float

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {"place": self.place, "detail": self.detail, "error": self.error}

    def __str__(self) -> str:
        if not self.place:
            return f"preprocess: agrees (error {self.error:.2g})"
        return f"first diverging place: preprocess, {self.place}  ({self.detail})"


def check_preprocess(
    case: Mapping[str, NDArray[Any]], name: str, settings: Preprocess, net: nn.Module
) -> PreprocessCheck:
    """Compare one golden case's input, made again from its image, with the recorded one, and the constants with the
    network's own.

    Args:
        case: as `Bundle.golden` gives it.
        name: of the image input.
        settings: the stage's.
        net: the network; its ``mean`` and ``std``, if it has them, are of RGB in pixel units.
    """
    crop = Crop.from_box(Box(*(float(value) for value in case["box"])), settings.box_scale)
    recorded = case[f"step0.input.{name}"]
    made = network_input(case["image"], crop, settings)
    largest = float(np.abs(recorded.astype(np.float64)).max()) or 1.0
    error = float(np.abs(made.astype(np.float64) - recorded).max()) / largest
    bound = 1 / 255 if settings.inside else MAX_INPUT_ERROR
    if not error <= bound:
        return PreprocessCheck(*_place(case["image"], crop, settings, recorded), error)
    return PreprocessCheck(*_own_constants(settings, net), error)


def network_inputs(case: Mapping[str, NDArray[Any]], name: str, settings: Preprocess) -> NDArray[np.float32]:
    """The recorded input as the network was trained to take it: pixels that an exported file normalises itself become
    normalised RGB.
    """
    recorded: NDArray[Any] = case[f"step0.input.{name}"]
    if not settings.inside:
        return np.asarray(recorded, np.float32)
    tensor = normalise(recorded[0].transpose(1, 2, 0).astype(np.float32), settings.mean, settings.std)
    return np.ascontiguousarray(tensor[:, ::-1]) if settings.channels == "BGR" else tensor


def _place(image: NDArray[np.uint8], crop: Crop, settings: Preprocess, recorded: NDArray[Any]) -> tuple[str, str]:
    """What explains the recorded input: other channels, another constant, or neither."""
    other = "RGB" if settings.channels == "BGR" else "BGR"
    swapped = network_input(image, crop, msgspec.structs.replace(settings, channels=other))
    if np.abs(swapped.astype(np.float64) - recorded).max() <= MAX_INPUT_ERROR * np.abs(recorded).max():
        return "channels", f"the manifest says {settings.channels}, the golden input was made with {other}"
    plain = msgspec.structs.replace(settings, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    if not settings.inside:
        pixels = network_input(image, crop, plain)
        for channel, (mean, std) in enumerate(zip(settings.mean, settings.std, strict=True)):
            seen, wanted = pixels[0, channel].ravel(), recorded[0, channel].ravel()
            # pixel = std * input + mean, fitted to every pixel of the crop
            (fitted_std, fitted_mean), *_ = np.linalg.lstsq(
                np.stack([wanted, np.ones_like(wanted)], 1).astype(np.float64), seen.astype(np.float64), rcond=None
            )
            if np.abs(fitted_std * wanted + fitted_mean - seen).max() > _FIT_ERROR:
                continue
            for kind, given, fitted in (("mean", mean, fitted_mean), ("std", std, fitted_std)):
                if abs(given - fitted) > _FIT_ERROR:
                    detail = f"the manifest says {given:g}, the golden input was made with {fitted:.5g}"
                    return f"{kind}[{channel}]", detail
    return "crop", "another crop, size or resampling than the golden input was made with"


def _own_constants(settings: Preprocess, net: nn.Module) -> tuple[str, str]:
    """The manifest's constants against the network's own."""
    for kind in ("mean", "std"):
        own = getattr(net, kind, None)
        if not isinstance(own, (tuple, list)) or len(own) != 3:
            continue
        values = tuple(reversed(own)) if settings.inside and settings.channels == "BGR" else tuple(own)
        for channel, (given, wanted) in enumerate(zip(getattr(settings, kind), values, strict=True)):
            if abs(given - wanted) > _CONSTANT_ERROR * max(1.0, abs(wanted)):
                return f"{kind}[{channel}]", f"the manifest says {given:g}, the network was trained with {wanted:g}"
    return "", ""
