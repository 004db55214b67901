"""Core ML ``.mlpackage``, through coremltools from torch.export. Converts anywhere, runs on Apple's systems only."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from pocketface.converters.formats.base import Exported, Exporter, Interface
from pocketface.converters.options import Options

if TYPE_CHECKING:
    from torch import nn


class CoreMLOptions(Options, frozen=True, kw_only=True):
    """Core ML settings.

    Attributes:
        target: the oldest system that must run the file. iOS15 is the first with fp16 programs.
    """

    target: Literal["iOS15", "iOS16", "iOS17", "iOS18"] = "iOS15"


class CoreMLExporter(Exporter):
    """fp32; fp16 (arithmetic and weights), with float32 arrays at the border, so that both run from iOS 15 on."""

    format = "coreml"
    suffix = ".mlpackage"
    precisions = ("fp32", "fp16")
    options_type = CoreMLOptions

    def convert(
        self,
        net: nn.Module,
        precision: str,
        path: Path,
        interface: Interface,
        fp32: Exported | None,
        options: CoreMLOptions,
    ) -> None:
        import coremltools as ct

        program = torch.export.export(net, interface.args).run_decompositions({})
        model = ct.convert(
            program,
            convert_to="mlprogram",
            inputs=[ct.TensorType(name=name, shape=tuple(value.shape)) for name, value in interface.inputs.items()],
            outputs=[ct.TensorType(name=name) for name in interface.outputs],
            minimum_deployment_target=getattr(ct.target, options.target),
            compute_precision=ct.precision.FLOAT32 if precision == "fp32" else ct.precision.FLOAT16,
            skip_model_load=True,
        )
        save_package(model, path)


def save_package(model: Any, path: Path) -> None:
    """Write a coremltools model as an ``.mlpackage`` that others can read and that holds the model only."""
    model.save(str(path))
    # A debugger's table that Core ML itself does not read.
    (path / "executorch_debug_handle_mapping.json").unlink(missing_ok=True)
    for file in path.rglob("*"):
        # The model file comes readable by its owner only.
        file.chmod(0o755 if file.is_dir() else 0o644)


EXPORTER = CoreMLExporter()
