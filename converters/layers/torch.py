"""The reference: the output of every module of the torch network, in execution order, through forward hooks."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pocketface.converters.formats.interface import output_names

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, eq=False)
class Reference:
    """What torch fp32 gives for one input.

    Attributes:
        modules: path -> output, in the order in which modules finish. Modules that give no single float tensor are
            left out, and so are those used more than once: nothing would say which use an exported tensor is.
        passed_on: those whose output is a submodule's, unchanged: no operation of their own makes it.
        outputs: contract name -> output.
    """

    modules: Mapping[str, NDArray[np.float32]]
    passed_on: frozenset[str]
    outputs: Mapping[str, NDArray[np.float32]]


def reference_trace(net: nn.Module, inputs: Mapping[str, NDArray[Any]]) -> Reference:
    """Run a copy of a network in evaluation mode, in float32 on the CPU.

    Args:
        net: its outputs are named as in `pocketface.converters.formats.interface`.
        inputs: in the order of ``forward``'s arguments, batch 1.
    """
    import torch

    own = copy.deepcopy(net).to("cpu", torch.float32).eval()
    modules: dict[str, NDArray[np.float32]] = {}
    uses: dict[str, int] = {}
    passed_on: set[str] = set()
    # (tensor, its version): a tensor that was changed in place since is another one.
    finished: dict[int, tuple[torch.Tensor, int]] = {}

    def keep(path: str, output: object) -> None:
        uses[path] = uses.get(path, 0) + 1
        if not isinstance(output, torch.Tensor) or not output.is_floating_point():
            return
        if id(output) in finished and finished[id(output)][1] == output._version:
            passed_on.add(path)
        finished[id(output)] = (output, output._version)
        # A copy: a later module may work in place.
        modules[path] = np.array(output.detach().numpy(), np.float32)

    for path, module in own.named_modules():
        if path:
            module.register_forward_hook(lambda _module, _args, output, path=path: keep(path, output))
    with torch.no_grad():
        given = own(*(torch.tensor(value) for value in inputs.values()))
    values = given if isinstance(given, tuple) else (given,)
    return Reference(
        {path: value for path, value in modules.items() if uses[path] == 1},
        frozenset(passed_on),
        {name: np.array(value.numpy(), np.float32) for name, value in zip(output_names(own), values, strict=True)},
    )
