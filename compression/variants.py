"""One network, one format, one precision -> one file: by the format's exporter, or by a quantizer out of its fp32 file.

The pipeline, ``pocketface export``, ``preflight`` and the support table all make their files here.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pocketface.compression.quantize.base import Calibration, Quantizer
from pocketface.compression.quantize.registry import QUANTIZERS
from pocketface.converters.formats.base import Exported, Exporter
from pocketface.converters.formats.registry import EXPORTERS
from pocketface.sdk.errors import ConfigError
from pocketface.sdk.manifest import PRECISIONS

if TYPE_CHECKING:
    from torch import nn


def exported_precisions(format: str) -> tuple[str, ...]:
    """Precisions that the format's exporter makes."""
    return tuple(EXPORTERS[format].precisions)


def quantized_precisions(format: str) -> tuple[str, ...]:
    """Precisions that a quantizer makes out of the format's fp32 file."""
    return tuple(entry.partition(".")[2] for entry in QUANTIZERS if entry.startswith(f"{format}."))


def precisions(format: str) -> tuple[str, ...]:
    """Every precision that exists in a format, from the largest file to the smallest."""
    known = (*exported_precisions(format), *quantized_precisions(format))
    order = {name: number for number, name in enumerate(("fp32", "fp16", "w8", "w8a8"))}
    return tuple(sorted(known, key=lambda name: (order.get(name, len(order)), PRECISIONS.index(name))))


def check_formats(formats: Mapping[str, tuple[str, ...]]) -> None:
    """Refuse a combination that does not exist, before anything is trained.

    Raises:
        UnknownNameError: an unknown format.
        ConfigError: a precision that the format does not have.
    """
    for name, wanted in formats.items():
        valid = precisions(name)
        for precision in wanted:
            if precision not in valid:
                raise ConfigError(f"export.formats.{name}: no precision {precision!r}", choices=valid)
        if "fp32" not in wanted:
            raise ConfigError(
                f"export.formats.{name}: no fp32", next="Add fp32: the others are made and judged from it"
            )


def check_settings(options: Mapping[str, Mapping[str, Any]], quantize: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse settings that no exporter or quantizer has, before anything is trained.

    Raises:
        UnknownNameError: an unknown format or quantizer.
        ConfigError: an unknown key, a wrong type or a value out of range.
    """
    for name, values in options.items():
        EXPORTERS[name].configure(values)
    for name, values in quantize.items():
        QUANTIZERS[name].configure(values)


def settings_for(
    format: str, precision: str, options: Mapping[str, Mapping[str, Any]], quantize: Mapping[str, Mapping[str, Any]]
) -> Mapping[str, Any] | None:
    """The settings of whatever makes this variant: its quantizer's, or its exporter's.

    Args:
        options: by format.
        quantize: by FORMAT.PRECISION.
    """
    if precision in quantized_precisions(format):
        return quantize.get(f"{format}.{precision}")
    return options.get(format)


def calibrated(format: str, precision: str) -> bool:
    """Whether this variant is made by looking at faces."""
    name = f"{format}.{precision}"
    return name in QUANTIZERS and bool(QUANTIZERS[name].calibrated)


def make(
    net: nn.Module,
    format: str,
    precision: str,
    folder: Path,
    *,
    input_size: int,
    fp32: Exported | None = None,
    calibration: Calibration | None = None,
    options: Mapping[str, Any] | None = None,
) -> Exported:
    """Make one variant.

    Args:
        net: in evaluation mode.
        format, precision: as in ``precisions``.
        folder: the file becomes ``folder/PRECISION.SUFFIX``; one that is there is replaced.
        input_size: side of the crop, pixels.
        fp32: the format's fp32 file; quantizers need it.
        calibration: inputs of the network, for quantizers that look at them.
        options: of the exporter or the quantizer, as a recipe has them.

    Raises:
        ConversionError: the converter or quantizer failed.
        ConfigError: options that do not exist.
    """
    exporter: Exporter = EXPORTERS[format]
    path = folder / f"{precision}{exporter.suffix}"
    if precision not in quantized_precisions(format):
        return exporter.export(
            net,
            precision=precision,
            path=path,
            input_size=input_size,
            fp32=fp32 if precision != "fp32" else None,
            options=exporter.configure(options),
            force=True,
        )
    if fp32 is None:
        raise ConfigError(f"{precision} of {format} needs its fp32 file", next="Make fp32 first")
    quantizer: Quantizer = QUANTIZERS[f"{format}.{precision}"]
    return quantizer(fp32, path, calibration, net=net, config=quantizer.configure(options), force=True)
