"""Core ML ``.mlpackage``, through coremltools from torch.export. Converts anywhere, runs on Apple's systems only."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from pocketface.converters.formats.base import Exported, Exporter, Interface
from pocketface.converters.module_paths import COREML_KEY, COREML_WEIGHTS_KEY
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

        # Core ML hands an image over as numbers from 0 to 255, so the network's own cast from uint8 falls away.
        args = tuple(value.float() if value.dtype == torch.uint8 else value for value in interface.args)
        program = torch.export.export(net, args).run_decompositions({})
        paths = _number_nodes(program.graph)
        normed = _normed(program.graph)
        model = ct.convert(
            program,
            convert_to="mlprogram",
            inputs=[_input_type(name, value, net) for name, value in interface.inputs.items()],
            outputs=[ct.TensorType(name=name) for name in interface.outputs],
            minimum_deployment_target=getattr(ct.target, options.target),
            compute_precision=ct.precision.FLOAT32 if precision == "fp32" else ct.precision.FLOAT16,
            pass_pipeline=_passes(),
            skip_model_load=True,
        )
        outputs = _module_paths(model, paths)
        model.user_defined_metadata[COREML_KEY] = json.dumps(outputs)
        fused = {name: normed[path] for name, path in outputs.items() if path in normed}
        model.user_defined_metadata[COREML_WEIGHTS_KEY] = json.dumps(fused)
        save_package(model, path)


def _passes() -> Any:
    """coremltools' own, without one that is not exact: it makes a batch norm of a multiply-add and adds that one's
    epsilon, which moves the result by 5e-6 of its value.
    """
    import coremltools as ct

    passes = ct.PassPipeline()
    passes.remove_passes({"common::fuse_elementwise_to_batchnorm"})
    return passes


def _input_type(name: str, value: torch.Tensor, net: nn.Module) -> Any:
    """An image where the network takes pixels, in its channel order; otherwise an array."""
    import coremltools as ct

    if value.dtype != torch.uint8:
        return ct.TensorType(name=name, shape=tuple(value.shape))
    order = ct.colorlayout.BGR if getattr(net, "channels", "RGB") == "BGR" else ct.colorlayout.RGB
    return ct.ImageType(name=name, shape=tuple(value.shape), color_layout=order)


def _number_nodes(graph: torch.fx.Graph) -> list[str]:
    """Give every node the number that coremltools carries through its passes; number -> module path."""
    paths = []
    for number, node in enumerate(graph.nodes):
        node.meta["debug_handle"] = number
        paths.append(_path(node))
    return paths


def _normed(graph: torch.fx.Graph) -> dict[str, str]:
    """Path of a batch norm -> path of what it norms, which has the weights after the two are fused."""
    return {
        _path(node): _path(node.args[0])
        for node in graph.nodes
        if "batch_norm" in str(node.target) and isinstance(node.args[0], torch.fx.Node)
    }


def _path(node: torch.fx.Node) -> str:
    around = list(node.meta.get("nn_module_stack", {}).values())  # from the outside in: path, class
    return str(around[-1][0]) if around else ""


def _module_paths(model: Any, paths: list[str]) -> dict[str, str]:
    """Output name of an operation -> module path. What a pass fused has the number of the last part."""
    from coremltools.converters.mil.mil.scope import ScopeSource

    found: dict[str, str] = {}
    for operation in model._mil_program.functions["main"].operations:
        numbers = [number for number in operation.scopes.get(ScopeSource.EXIR_DEBUG_HANDLE, ()) if number is not None]
        if numbers and operation.op_type != "const" and paths[numbers[-1]]:
            found |= {output.name: paths[numbers[-1]] for output in operation.outputs}
    return found


def save_package(model: Any, path: Path) -> None:
    """Write a coremltools model as an ``.mlpackage`` that others can read and that holds the model only."""
    model.save(str(path))
    # A debugger's table that Core ML itself does not read.
    (path / "executorch_debug_handle_mapping.json").unlink(missing_ok=True)
    _name_entries(path / "Manifest.json")
    for file in path.rglob("*"):
        # The model file comes readable by its owner only.
        file.chmod(0o755 if file.is_dir() else 0o644)


def _name_entries(manifest: Path) -> None:
    """Call a package's entries after what they are, instead of at random: equal models give equal packages."""
    content = json.loads(manifest.read_text())
    names = {
        old: str(uuid.uuid5(uuid.NAMESPACE_URL, entry["path"])) for old, entry in content["itemInfoEntries"].items()
    }
    content["itemInfoEntries"] = {names[old]: entry for old, entry in content["itemInfoEntries"].items()}
    content["rootModelIdentifier"] = names[content["rootModelIdentifier"]]
    manifest.write_text(json.dumps(content, indent=4, sort_keys=True) + "\n")


EXPORTER = CoreMLExporter()
