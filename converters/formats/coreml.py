"""Core ML ``.mlpackage``, through coremltools from torch.export. Converts anywhere, runs on Apple's systems only."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from pocketface.converters.formats.base import INPUT, OUTPUTS, Exported, Exporter

if TYPE_CHECKING:
    from torch import nn


class CoreMLExporter(Exporter):
    """fp32; fp16 (arithmetic and weights), with float32 arrays at the border, so that both run from iOS 15 on."""

    format = "coreml"
    suffix = ".mlpackage"
    precisions = ("fp32", "fp16")

    def convert(self, net: nn.Module, precision: str, path: Path, example: torch.Tensor, fp32: Exported | None) -> None:
        import coremltools as ct

        program = torch.export.export(net, (example,)).run_decompositions({})
        model = ct.convert(
            program,
            convert_to="mlprogram",
            inputs=[ct.TensorType(name=INPUT, shape=tuple(example.shape))],
            outputs=[ct.TensorType(name=name) for name in OUTPUTS],
            minimum_deployment_target=ct.target.iOS15,
            compute_precision=ct.precision.FLOAT32 if precision == "fp32" else ct.precision.FLOAT16,
            skip_model_load=True,
        )
        model.save(str(path))
        # A debugger's table that Core ML itself does not read.
        (path / "executorch_debug_handle_mapping.json").unlink(missing_ok=True)
        for file in path.rglob("*"):
            # The model file comes readable by its owner only.
            file.chmod(0o755 if file.is_dir() else 0o644)


EXPORTER = CoreMLExporter()
