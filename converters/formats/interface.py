"""What a network takes and gives, by name: every exporter asks for the same thing in the same way.

A network says it through two optional attributes, so that a mask network with a previous mask exports like a landmark
network:

- ``output_names``: one name for each tensor of the tuple that ``forward`` gives; default ``("points", "score")``;
- ``example_inputs(size)``: name -> example tensor of batch 1, in ``forward``'s order; default
  ``{"image": (1, 3, size, size) float32}``.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pocketface.sdk.errors import BadInputError
from pocketface.sdk.manifest import Binding

if TYPE_CHECKING:
    import torch
    from torch import nn

INPUT = "image"
OUTPUTS = ("points", "score")

_DTYPES = {"torch.float32": "float32", "torch.uint8": "uint8"}


@dataclass(frozen=True)
class Interface:
    """Named example inputs of batch 1, and the shapes of the named outputs they give.

    Attributes:
        inputs: name -> example tensor, in the order of ``forward``'s arguments.
        outputs: name -> shape, in the order of ``forward``'s results.
    """

    inputs: Mapping[str, torch.Tensor]
    outputs: Mapping[str, tuple[int, ...]]

    @property
    def args(self) -> tuple[torch.Tensor, ...]:
        """The example inputs as ``forward`` takes them."""
        return tuple(self.inputs.values())

    def bindings(self, layout: str) -> tuple[dict[str, Binding], dict[str, Binding]]:
        """Bindings of a file that calls its tensors as the contract does.

        Args:
            layout: of four-dimensional tensors in the file, ``"NCHW"`` or ``"NHWC"``.
        """
        inputs = {
            name: _binding(name, tuple(value.shape), layout, _DTYPES[str(value.dtype)])
            for name, value in self.inputs.items()
        }
        return inputs, {name: _binding(name, shape, layout, "float32") for name, shape in self.outputs.items()}


def interface_of(net: nn.Module, input_size: int) -> tuple[nn.Module, Interface]:
    """A float32 CPU copy of a network, contiguous in memory, and what it takes and gives.

    Raises:
        BadInputError: it is in training mode, its inputs are not of batch 1, or its outputs are not float32 tensors of
            batch 1, one for each name.
    """
    import torch

    if input_size < 1:
        raise BadInputError(f"input size {input_size}", expected="1 pixel or more")
    if any(module.training for module in net.modules()):
        raise BadInputError(
            f"{type(net).__name__} is in training mode", expected="evaluation mode", next="Call net.eval() first"
        )
    own = copy.deepcopy(net).to("cpu", torch.float32).to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    make = getattr(own, "example_inputs", None)
    inputs = make(input_size) if make else {INPUT: torch.zeros(1, 3, input_size, input_size)}
    for name, value in inputs.items():
        if str(value.dtype) not in _DTYPES or not value.shape or value.shape[0] != 1:
            raise BadInputError(
                f"example input {name!r} is {value.dtype} {tuple(value.shape)}",
                expected=f"batch 1 of {' or '.join(_DTYPES.values())}",
            )
    with torch.no_grad():
        given = own(*inputs.values())
    names = output_names(own)
    found = list(given) if isinstance(given, tuple) else [given]
    fits = len(found) == len(names) and all(
        isinstance(value, torch.Tensor) and value.dtype == torch.float32 and value.shape and value.shape[0] == 1
        for value in found
    )
    if not fits:
        got = ", ".join(f"{getattr(value, 'dtype', type(value).__name__)} {_shape(value)}" for value in found)
        raise BadInputError(
            f"{type(net).__name__} gives {got}",
            expected=f"a tuple of float32 tensors of batch 1: {', '.join(names)}",
            next="Give the network an attribute output_names, and return a tensor for each",
        )
    return own, Interface(inputs, {name: tuple(value.shape) for name, value in zip(names, found, strict=True)})


def output_names(net: nn.Module) -> tuple[str, ...]:
    """Names of a network's outputs, in order."""
    names: tuple[str, ...] = tuple(getattr(net, "output_names", OUTPUTS))
    return names


def _binding(name: str, shape: tuple[int, ...], layout: str, dtype: str) -> Binding:
    if len(shape) != 4:
        return Binding(tensor=name, shape=shape, dtype=dtype)  # type: ignore[arg-type]
    if layout == "NHWC":
        shape = (shape[0], shape[2], shape[3], shape[1])
    return Binding(tensor=name, shape=shape, dtype=dtype, layout=layout)  # type: ignore[arg-type]


def _shape(value: object) -> tuple[int, ...]:
    return tuple(getattr(value, "shape", ()))
