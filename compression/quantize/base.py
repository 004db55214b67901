"""What every quantizer shares: its configuration is checked, the fp32 file stays as it is, the new file is written,
checked and renamed.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from pocketface.converters.formats.base import Exported, write_exported
from pocketface.converters.formats.interface import INPUT, interface_of
from pocketface.converters.options import Options, configured
from pocketface.sdk.errors import BadInputError, ConfigError
from pocketface.sdk.manifest import Format, Precision

if TYPE_CHECKING:
    from torch import nn

Calibration = NDArray[np.float32] | NDArray[np.uint8]


class QuantizeConfig(Options, frozen=True, kw_only=True):
    """Base of every quantizer's configuration.

    Attributes:
        keep_float: modules of the network (``"features.3"``, and all below it) that stay in float32, weights and
            arithmetic.
    """

    keep_float: tuple[str, ...] = ()


class WeightsConfig(QuantizeConfig, frozen=True, kw_only=True):
    """Weights in 8 bits, arithmetic in float32.

    Attributes:
        min_elements: weights with fewer values stay in float32. Measured on an EfficientNet-Lite0 at 128 px: the few
            small ones at the start of the network cause nearly all of the error (NME +0.066 with all weights in
            8 bits, +0.004 with this bound) and under 2 % of the size.
        depthwise: quantize depthwise kernels too, some 4 % of the size. onnxruntime, unless told to expand them when
            it loads the file (``session.disable_quant_qdq``), then takes two to three times as long as in float32.
    """

    min_elements: int = 4096
    depthwise: bool = False

    def __post_init__(self) -> None:
        if self.min_elements < 1:
            raise ConfigError(f"min_elements: {self.min_elements}", expected="1 or more")


class StaticConfig(QuantizeConfig, frozen=True, kw_only=True):
    """Weights and activations in 8 bits.

    Attributes:
        weights_only: modules whose weights are int8 while their arithmetic stays float32; None for the network's
            ``heads``: an output in 8 bits would step by half a pixel.
        float_first: leave the first convolution in float32, weights and arithmetic. It halves the error (NME +0.074 to
            +0.038 in ONNX, +0.075 to +0.029 in TFLite, on an EfficientNet-Lite0 at 128 px).
        calibration: how an activation's range follows from the images: their extremes, or an average of each image's
            extremes.
    """

    weights_only: tuple[str, ...] | None = None
    float_first: bool = True
    calibration: Literal["minmax", "moving_average"] = "minmax"


@dataclass(frozen=True)
class Quantizer:
    """One way to quantize the fp32 file of one format.

    Attributes:
        name: as registered, ``FORMAT.PRECISION``.
        format, precision: what it reads, what it gives.
        version: raised whenever the same configuration would give another file.
        config_type: its configuration; all fields have defaults.
        function: writes the quantized model: (source, path, calibration, config), or (net, path, calibration, config)
            where it needs the network.
        calibrated: whether it needs calibration images.
        needs_network: it quantizes the torch network itself, as the fp32 file cannot be changed any more.
    """

    name: str
    format: Format
    precision: Precision
    version: int
    config_type: type[QuantizeConfig]
    function: Callable[[Any, Path, Calibration, Any], None]
    calibrated: bool
    needs_network: bool = False

    def configure(self, values: Mapping[str, Any] | None = None) -> QuantizeConfig:
        """Plain values, as a recipe has them, to this quantizer's configuration.

        Raises:
            ConfigError: an unknown key (the nearest valid one is named), a wrong type or a value out of range.
        """
        return configured(self.config_type, values, self.name)

    def __call__(
        self,
        source: Exported,
        path: Path,
        calibration: Calibration | None = None,
        *,
        net: nn.Module | None = None,
        config: QuantizeConfig | None = None,
        force: bool = False,
    ) -> Exported:
        """Quantize.

        Args:
            source: the fp32 file.
            path: the file to write. Its inputs and outputs are float32, as the source's.
            calibration: (N, 3, S, S), real inputs of the network: float32, normalised, or uint8 where it takes pixels.
                Ignored where weights alone are quantized.
            net: the network that the source was exported from, in evaluation mode; it is copied, not changed. Only for
                a quantizer that needs it; others ignore it.
            config: default: the quantizer's defaults.
            force: replace what is there.

        Raises:
            BadInputError: the source has another format or precision, the calibration images or the network do not fit
                it, or there is no network though one is needed.
            ConfigError: ``keep_float`` names modules that the file does not have.
            ConversionError: the quantization library failed; its output is in ``<path>.log``.
        """
        if (source.format, source.precision) != (self.format, "fp32"):
            raise BadInputError(
                f"{source.path} is {source.format} {source.precision}", expected=f"{self.format} fp32 for {self.name}"
            )
        config = self.config_type() if config is None else config
        if not isinstance(config, self.config_type):
            raise BadInputError(
                f"configuration {type(config).__name__} for {self.name}", expected=self.config_type.__name__
            )
        if isinstance(config, StaticConfig):
            config = for_network(config, net)
        images = self._checked(calibration, source) if self.calibrated else np.zeros((0, 3, 1, 1), np.float32)
        given: Any = self._checked_network(net, source) if self.needs_network else source
        notes = {"method": self.name, "version": str(self.version), "config": msgspec.json.encode(config).decode()}
        if self.calibrated:
            notes["calibration_images"] = str(len(images))
        wanted = replace(source, path=Path(path), precision=self.precision, quantization=notes)
        return write_exported(
            wanted,
            lambda temporary: self.function(given, temporary, images, config),
            doing=f"quantizing {source.path.name} with {self.name}",
            hint="the recipe's keep_float can leave a layer in float",
            force=force,
        )

    def _checked_network(self, net: nn.Module | None, source: Exported) -> nn.Module:
        """A copy of the network, which takes and gives what the source does."""
        if net is None:
            raise BadInputError(
                f"{self.name} without the network",
                expected=f"the torch network that {source.path.name} was exported from, as net=...",
            )
        own, interface = interface_of(net, source.inputs[INPUT].shape[-1])
        shapes = {name: tuple(value.shape) for name, value in interface.inputs.items()}, dict(interface.outputs)
        wanted = tuple({name: item.shape for name, item in kind.items()} for kind in (source.inputs, source.outputs))
        if shapes != wanted:
            raise BadInputError(
                f"{self.name}: the network has inputs {shapes[0]} and outputs {shapes[1]}",
                expected=f"{wanted[0]} and {wanted[1]}, as {source.path.name} has",
            )
        return own

    def _checked(self, calibration: Calibration | None, source: Exported) -> Calibration:
        binding = source.inputs["image"]
        side = binding.shape[1] if binding.layout == "NHWC" else binding.shape[2]
        shape = () if calibration is None else calibration.shape
        expected = f"(N, 3, {side}, {side}) {binding.dtype}, N at least 1"
        if calibration is None or len(shape) != 4 or shape[0] < 1 or shape[1:] != (3, side, side):
            raise BadInputError(f"{self.name}: calibration images of shape {shape}", expected=expected)
        if calibration.dtype != binding.dtype or not np.isfinite(calibration).all():
            raise BadInputError(
                f"{self.name}: calibration images of type {calibration.dtype}", expected=expected + ", all finite"
            )
        return calibration


C = TypeVar("C", bound=StaticConfig)


def for_network(config: C, net: nn.Module | None) -> C:
    """A configuration with what a network says of itself: its ``heads``, by default a landmark network's, and its
    ``exact`` modules, whose arithmetic 8 bits would break (a soft-argmax: each cell's share is below a 256th)."""
    heads = getattr(net, "heads", ("points", "score")) if config.weights_only is None else config.weights_only
    exact = [name for name in getattr(net, "exact", ()) if name not in config.keep_float]
    return msgspec.structs.replace(config, weights_only=tuple(heads), keep_float=(*config.keep_float, *exact))


def under(name: str, modules: tuple[str, ...]) -> bool:
    """Whether a module path (or the name of one of its weights) is one of these modules or lies below one."""
    return any(name == module or name.startswith(module + ".") for module in modules)


def check_modules(wanted: tuple[str, ...], known: list[str], key: str) -> None:
    """Refuse names that no module has.

    Raises:
        ConfigError: naming the first one and the nearest that exists.
    """
    for module in wanted:
        if not any(under(name, (module,)) for name in known):
            close = difflib.get_close_matches(module, known, n=1)
            hint = f" (did you mean {close[0]!r}?)" if close else ""
            raise ConfigError(f"{key}: no module {module!r}{hint} has weights", choices=known)
