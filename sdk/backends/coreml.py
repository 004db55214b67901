"""Core ML through coremltools, on macOS only: elsewhere coremltools reads packages but cannot run them."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pocketface.sdk.backends.base import Tensor, Tensors, checked_names, feed, from_file
from pocketface.sdk.backends.delegates import AUTO, checked_delegate
from pocketface.sdk.errors import BundleError, EnvironmentProblemError, MissingExtraError
from pocketface.sdk.manifest import Variant

_UNITS = {"cpu": "CPU_ONLY", "gpu": "CPU_AND_GPU", "ane": "CPU_AND_NE"}
_GRAYSCALE, _BGR = 10, 30  # ColorSpace of FeatureTypes.proto


class CoreMLBackend:
    """One variant on whichever of CPU, GPU and neural engine Core ML chooses, as in an app.

    ``delegate`` is ``cpu``, ``gpu`` or ``ane``: the unit that Core ML may use besides the CPU. It decides on its
    threads by itself: ``threads`` changes nothing.
    """

    def __init__(self, path: Path, variant: Variant, *, threads: int = 1, delegate: str = AUTO) -> None:
        if not _on_mac():
            raise EnvironmentProblemError(
                f"{path.name}: Core ML runs on macOS, this is {sys.platform}", next="Use a variant of another format"
            )
        if find_spec("coremltools") is None:
            raise MissingExtraError("running Core ML", "coreml")
        import coremltools

        self.executor = "Core ML"
        with contextlib.suppress(PackageNotFoundError):
            self.executor = f"Core ML (coremltools {version('coremltools')})"
        chosen, units = checked_delegate(delegate, _UNITS, "Core ML"), {}
        if chosen != AUTO:
            self.executor += f" ({chosen})"
            units["compute_units"] = coremltools.ComputeUnit[_UNITS[chosen]]
        self._path, self._variant = path, variant
        try:
            # It compiles a copy of its own: the package is not needed any more afterwards.
            self._model = coremltools.models.MLModel(str(path), **units)
            description = self._model.get_spec().description
        except Exception as error:  # coremltools' exceptions have no common base
            raise _refused(path, error) from error
        features = {feature.name: feature.type for feature in description.input}
        checked_names(variant.inputs, set(features), "input", path)
        checked_names(variant.outputs, {feature.name for feature in description.output}, "output", path)
        self._pictures = {
            name: int(kind.imageType.colorSpace)
            for name, kind in features.items()
            if kind.WhichOneof("Type") == "imageType"
        }

    @classmethod
    def available(cls) -> bool:
        return _on_mac() and find_spec("coremltools") is not None

    def run(self, inputs: Mapping[str, Tensor]) -> Tensors:
        fed: dict[str, Any] = feed(inputs, self._variant)
        for binding in self._variant.inputs.values():
            if binding.tensor in self._pictures:
                fed[binding.tensor] = _picture(fed[binding.tensor], binding.layout, self._pictures[binding.tensor])
        bindings = self._variant.outputs
        try:
            found = self._model.predict(fed)
        except Exception as error:
            raise _refused(self._path, error) from error
        return {name: from_file(np.asarray(found[binding.tensor]), name, binding) for name, binding in bindings.items()}


def _on_mac() -> bool:
    return sys.platform == "darwin"


def _picture(value: NDArray[Any], layout: str, space: int) -> Image.Image:
    """(1, C, H, W) or (1, H, W, C) pixels, channels in the file's order, as the RGB picture that Core ML asks for."""
    pixels = value[0] if layout == "NHWC" else value[0].transpose(1, 2, 0)
    pixels = np.ascontiguousarray(pixels, np.uint8)
    if space == _GRAYSCALE:
        return Image.fromarray(pixels[..., 0])
    # Core ML itself brings a picture into the order that the file declares.
    return Image.fromarray(np.ascontiguousarray(pixels[..., ::-1]) if space == _BGR else pixels)


def _refused(path: Path, error: Exception) -> BundleError:
    first = (str(error).strip() or type(error).__name__).splitlines()[0]
    return BundleError(
        f"{path.name}: Core ML refuses it ({first})", next="Use another variant, or build the bundle again"
    )
