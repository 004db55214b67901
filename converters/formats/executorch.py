"""ExecuTorch ``.pte``, for the XNNPACK delegate.

Tensors of a ``.pte`` have no names: inputs and outputs are found by their place, and a binding's ``tensor`` is that
place, ``"0"``, ``"1"`` and so on, in the order of the network's arguments and results.

In fp16 weights and arithmetic are half precision, and casts stand at the border. Some phones compute it twice as fast;
a CPU without half-precision arithmetic converts back and forth.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import Tensor, nn

from pocketface.converters.formats.base import Exported, Exporter, Interface
from pocketface.converters.options import Options
from pocketface.sdk.errors import MissingExtraError
from pocketface.sdk.manifest import Binding

Bindings = dict[str, Binding]


class ExecutorchExporter(Exporter):
    """fp32; fp16 (weights and arithmetic), with float32 at the border."""

    format = "executorch"
    suffix = ".pte"
    precisions = ("fp32", "fp16")

    def convert(
        self,
        net: nn.Module,
        precision: str,
        path: Path,
        interface: Interface,
        fp32: Exported | None,
        options: Options,
    ) -> None:
        check_installed()
        if precision == "fp16":
            with _half_weights():
                lower(torch.export.export(_Half(net).eval(), interface.args), path)
        else:
            lower(torch.export.export(net, interface.args), path)

    def bindings(self, interface: Interface, options: Any) -> tuple[Bindings, Bindings]:
        inputs, outputs = interface.bindings(self.layout)
        return _numbered(inputs), _numbered(outputs)


def check_installed() -> None:
    """Say what to install.

    Raises:
        MissingExtraError: executorch is not there.
    """
    if find_spec("executorch") is None:
        raise MissingExtraError("exporting to ExecuTorch", "executorch")


def lower(program: torch.export.ExportedProgram, path: Path) -> None:
    """Write a program, float or with PT2E's quantize and dequantize operations, as a ``.pte`` for XNNPACK."""
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    from pocketface.converters.formats.executorch_passes import ShapesByView

    edge = to_edge_transform_and_lower(program, transform_passes=[ShapesByView()], partitioner=[XnnpackPartitioner()])
    path.write_bytes(edge.to_executorch().buffer)


def _numbered(bindings: Bindings) -> Bindings:
    return {
        name: msgspec.structs.replace(binding, tensor=str(place))
        for place, (name, binding) in enumerate(bindings.items())
    }


class _Half(nn.Module):
    """A network in half precision that takes and gives float32. It may compute in float32 in between (the normalisation
    of pixels does): what enters a layer with weights is cast.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net.half()
        for module in net.modules():
            if next(module.parameters(recurse=False), None) is not None:
                module.register_forward_pre_hook(lambda _, args: tuple(_cast(value) for value in args))

    def forward(self, *values: Tensor) -> tuple[Tensor, ...]:
        given = self.net(*(_cast(value) for value in values))
        return tuple(value.float() for value in (given if isinstance(given, tuple) else (given,)))


def _cast(value: Any) -> Any:
    return value.half() if isinstance(value, Tensor) and value.dtype == torch.float32 else value


@contextlib.contextmanager
def _half_weights() -> Iterator[None]:
    """ExecuTorch stores the weights of convolutions in float32 whatever they are, though XNNPACK takes both. For the
    length of the block it stores them as they are.
    """
    from executorch.backends.xnnpack.operators.node_visitor import NodeVisitor

    original = NodeVisitor.define_tensor

    def define_tensor(self: Any, *args: Any, **settings: Any) -> Any:
        return original(self, *args, **{**settings, "force_fp32": False})

    NodeVisitor.define_tensor = define_tensor
    try:
        yield
    finally:
        NodeVisitor.define_tensor = original


EXPORTER = ExecutorchExporter()
