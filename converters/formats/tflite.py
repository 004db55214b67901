"""TFLite, through litert-torch; channels last, as every mobile runtime wants it.

fp16 casts the weights of the fp32 file: they are stored in half precision, and runtimes compute in whichever precision
their hardware has.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from pocketface.converters.formats.base import INPUT, OUTPUTS, Exported, Exporter

if TYPE_CHECKING:
    from torch import Tensor


class _ChannelsLast(nn.Module):
    """Takes (1, S, S, 3) as ``image`` and names its outputs, so that the file's signature has the contract's names."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        return dict(zip(OUTPUTS, self.net(image.permute(0, 3, 1, 2)), strict=True))


class TfliteExporter(Exporter):
    """fp32; fp16 (weights only, see the module)."""

    format = "tflite"
    suffix = ".tflite"
    precisions = ("fp32", "fp16")
    layout = "NHWC"

    def convert(self, net: nn.Module, precision: str, path: Path, example: torch.Tensor, fp32: Exported | None) -> None:
        if fp32 is None or precision == "fp32":
            import litert_torch

            example = example.permute(0, 2, 3, 1).contiguous()
            litert_torch.convert(_ChannelsLast(net).eval(), sample_kwargs={INPUT: example}).export(str(path))
            source = path
        else:
            source = fp32.path
        if precision == "fp16":
            path.write_bytes(_half(source))


def _half(source: Path) -> bytes:
    """The same graph with float16 weights."""
    from ai_edge_quantizer.qtyping import TFLOperationName
    from ai_edge_quantizer.quantizer import AlgorithmName, Quantizer

    quantizer = Quantizer(source.read_bytes())
    quantizer.add_weight_only_config(
        ".*", TFLOperationName.ALL_SUPPORTED, num_bits=16, algorithm_key=AlgorithmName.FLOAT_CASTING
    )
    result = quantizer.quantize(enable_progress_bar=False, enable_progress_report=False).quantized_model
    if result is None:
        raise RuntimeError("ai-edge-quantizer gave no model")
    return bytes(result)


EXPORTER = TfliteExporter()
