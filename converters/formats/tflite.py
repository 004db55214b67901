"""TFLite, through litert-torch; channels last, as every mobile runtime wants it.

fp16 casts the weights of the fp32 file: they are stored in half precision, and runtimes compute in whichever precision
their hardware has.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

from pocketface.converters.formats.base import Exported, Exporter, Interface
from pocketface.converters.module_paths import spelled_classes
from pocketface.converters.options import Options
from pocketface.converters.tflite_metadata import add_metadata, describe

if TYPE_CHECKING:
    from torch import Tensor


class _ChannelsLast(nn.Module):
    """Takes its inputs by name, channels last, and names its outputs: the file's signature has the contract's names."""

    def __init__(self, net: nn.Module, outputs: tuple[str, ...]) -> None:
        super().__init__()
        self.net = net
        self.outputs = outputs

    def forward(self, **inputs: Tensor) -> dict[str, Tensor]:
        given = self.net(*(value.permute(0, 3, 1, 2) if value.ndim == 4 else value for value in inputs.values()))
        values = given if isinstance(given, tuple) else (given,)
        last = [value.permute(0, 2, 3, 1) if value.ndim == 4 else value for value in values]
        return dict(zip(self.outputs, last, strict=True))


class TfliteExporter(Exporter):
    """fp32; fp16 (weights only, see the module)."""

    format = "tflite"
    suffix = ".tflite"
    precisions = ("fp32", "fp16")
    layout = "NHWC"

    def convert(
        self,
        net: nn.Module,
        precision: str,
        path: Path,
        interface: Interface,
        fp32: Exported | None,
        options: Options,
    ) -> None:
        if fp32 is None or precision == "fp32":
            import litert_torch

            examples = {
                name: value.permute(0, 2, 3, 1).contiguous() if value.ndim == 4 else value
                for name, value in interface.inputs.items()
            }
            wrapped = _ChannelsLast(net, tuple(interface.outputs)).eval()
            with spelled_classes(net):
                litert_torch.convert(wrapped, sample_kwargs=examples).export(str(path))
            path.write_bytes(add_metadata(path.read_bytes(), describe(net, interface)))
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
