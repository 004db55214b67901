"""ONNX, through torch.onnx's graph exporter. One file, no external data, nothing in it that tells of this machine."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx
import torch

from pocketface.converters.formats.base import Exported, Exporter, Interface
from pocketface.converters.module_paths import onnx_name
from pocketface.converters.options import Options
from pocketface.sdk.errors import ConfigError

if TYPE_CHECKING:
    from torch import nn

_SCOPES = "pkg.torch.onnx.name_scopes"


LAST_OPSET = 23
"""The newest that torch's exporter translates to."""


class OnnxOptions(Options, frozen=True, kw_only=True):
    """ONNX settings.

    Attributes:
        opset: version of the operator set. torch's exporter writes 18 natively; onnxruntime 1.14 and later run it.
    """

    opset: int = 18

    def __post_init__(self) -> None:
        if not 18 <= self.opset <= LAST_OPSET:
            raise ConfigError(f"opset: {self.opset}", expected=f"18 to {LAST_OPSET}")


class OnnxExporter(Exporter):
    """fp32; fp16, where weights and arithmetic are half precision and a cast stands at each border."""

    format = "onnx"
    suffix = ".onnx"
    precisions = ("fp32", "fp16")
    options_type = OnnxOptions

    def convert(
        self,
        net: nn.Module,
        precision: str,
        path: Path,
        interface: Interface,
        fp32: Exported | None,
        options: OnnxOptions,
    ) -> None:
        model = _exported(net, interface, options) if fp32 is None else onnx.load(fp32.path)
        written = next(item.version for item in model.opset_import if item.domain == "")
        if written != options.opset:
            raise RuntimeError(f"opset {written} came out, {options.opset} was asked for")
        if precision == "fp16":
            model = _half(model)
        strip(model)
        onnx.checker.check_model(model, full_check=True)
        # The model is in memory and below protobuf's 2 GB, so this writes no external data.
        onnx.save_model(model, path, save_as_external_data=False)


def _exported(net: nn.Module, interface: Interface, options: OnnxOptions) -> onnx.ModelProto:
    program = torch.onnx.export(
        net,
        interface.args,
        dynamo=True,
        opset_version=options.opset,
        input_names=list(interface.inputs),
        output_names=list(interface.outputs),
        external_data=False,
        optimize=True,
        verbose=False,
    )
    if program is None:
        raise RuntimeError("torch.onnx.export gave no program")
    model = program.model_proto
    _name_nodes(model.graph)
    return model


def _name_nodes(graph: onnx.GraphProto) -> None:
    """Call every node after its module and operation, from the exporter's notes, which the file does not keep."""
    used: Counter[str] = Counter()
    for node in graph.node:
        scopes = next((note.value for note in node.metadata_props if note.key == _SCOPES), "[]")
        modules = ast.literal_eval(scopes)[:-1]  # the network itself, then from the outside in; last the operation
        name = onnx_name(modules[-1] if modules else "", node.op_type)
        used[name] += 1
        node.name = name if used[name] == 1 else f"{name}_{used[name]}"


def _half(model: onnx.ModelProto) -> onnx.ModelProto:
    """Half precision inside, float32 at the border."""
    from onnxruntime.transformers.float16 import convert_float_to_float16

    half = convert_float_to_float16(model, keep_io_types=True)
    sort_nodes(half.graph)  # the casts at the border were appended at the end
    return half


def sort_nodes(graph: onnx.GraphProto) -> None:
    """Put nodes behind those they read from, as ONNX asks; otherwise keep their order."""
    produced = {name for node in graph.node for name in node.output}
    ready, waiting, ordered = {""}, list(graph.node), []
    while waiting:
        later = []
        for node in waiting:
            if all(name in ready or name not in produced for name in node.input):
                ordered.append(node)
                ready.update(node.output)
            else:
                later.append(node)
        if len(later) == len(waiting):
            raise ValueError(f"the graph has a cycle through {later[0].name}")
        waiting = later
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in ordered]
    del graph.node[:]
    graph.node.extend(copies)


def strip(model: onnx.ModelProto) -> None:
    """Drop what only debuggers read: shapes of intermediate tensors, and notes that quote the exporting machine's
    source paths.
    """
    del model.metadata_props[:]
    model.doc_string = ""
    del model.graph.value_info[:]
    _without_notes(model.graph)


def _without_notes(graph: onnx.GraphProto) -> None:
    parts: list[Any] = [graph, *graph.node, *graph.initializer, *graph.input, *graph.output]
    for part in parts:
        part.doc_string = ""
        del part.metadata_props[:]
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                _without_notes(attribute.g)


EXPORTER = OnnxExporter()
