"""Why a conversion failed, in the network's own terms: which operation, in which modules, and what to do about it.

Every converter starts from the same exported graph, whose nodes know their module. So the operation is taken from the
converter's message, and its modules from the graph.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import nn

# How converters spell an operation: aten.roll.default, aten::roll, op='aten.roll', op 'roll', node roll,
_SPELLINGS = (
    re.compile(r"(?:aten|prims)(?:\.|::)(\w+)"),
    re.compile(r"\bop '(\w+)'"),
    re.compile(r"[Uu]nsupported (?:fx )?node (\w+?)(?:_\d+)?\b"),
)

# torch.export's words for code that looks at the values of tensors.
_DATA_DEPENDENT = ("data-dependent", "DataDependent", "Dynamic control flow", "GuardOnDataDependentSymNode")

REMEDIES = {
    "_adaptive_avg_pool2d": "pool to one cell with x.mean((2, 3)), or by a kernel that divides the map",
    "adaptive_max_pool2d": "use max pooling with a kernel that divides the map",
    "affine_grid_generator": "warp before the network, in the preprocessing",
    "bitwise_and": "use torch.logical_and",
    "cumsum": "multiply by a triangular matrix",
    "einsum": "write it as permute and matmul",
    "fft_fft2": "use convolutions; mobile runtimes have no Fourier transform",
    "grid_sampler": "warp before the network, in the preprocessing",
    "grid_sampler_2d": "warp before the network, in the preprocessing",
    "linalg_inv": "invert outside the network, in the decoding",
    "nonzero": "keep shapes independent of the data: use torch.where with three arguments",
    "roll": "cut with slices and join them with torch.cat",
    "special_bessel_j0": "use a function that mobile runtimes have, or a table",
    "unique": "keep shapes independent of the data",
    "upsample_bicubic2d": "use bilinear interpolation",
    "_upsample_bilinear2d_aa": "use bilinear interpolation without antialias",
}
"""Base name of an operation -> what to write instead."""


@dataclass(frozen=True)
class Failure:
    """What a converter could not do.

    Attributes:
        operation: e.g. ``"aten.roll"``; empty where the graph itself could not be made.
        modules: paths of the modules that use it; empty for the network itself.
        remedy: what to do.
    """

    operation: str
    modules: tuple[str, ...]
    remedy: str

    @property
    def where(self) -> str:
        """``"features.3, features.5 and 7 others"``."""
        named = [path or "the network itself" for path in self.modules[:3]]
        rest = len(self.modules) - len(named)
        return ", ".join(named) + (f" and {rest} others" if rest else "")


def explain(error: BaseException, net: nn.Module, args: tuple[torch.Tensor, ...], format: str) -> Failure | None:
    """Find the operation that a converter stumbled over.

    Args:
        error: what it raised; causes and contexts are searched too.
        net: the network, in evaluation mode.
        args: example inputs.
        format: what it was to become.

    Returns:
        None where the messages name no operation of the network.
    """
    import torch

    text = "\n".join(str(link) for link in _chain(error))
    if any(word in text for word in _DATA_DEPENDENT):
        return Failure("", (), f"let no Python branch depend on tensor values{_place(text)}; use torch.where")
    try:
        graph = torch.export.export(net, args).run_decompositions({}).graph
    except Exception:  # whatever it is, it is what the converter met too, and its message is shown
        return None
    used: dict[str, dict[str, None]] = {}
    for node in graph.nodes:
        if node.op == "call_function":
            name = getattr(node.target, "__name__", "").split(".")[0]
            used.setdefault(name, {})[_module(node)] = None
    named = [name for spelling in _SPELLINGS for name in spelling.findall(text)]
    # A converter may have taken it apart already: prims.bessel_j0 for aten.special_bessel_j0.
    parts = [name for part in named if len(part) > 3 for name in used if part in name]
    for name in [*named, *parts]:
        if name in used:
            remedy = REMEDIES.get(name, f"use operations that {format} has, or leave {format} out")
            return Failure(f"aten.{name}", tuple(used[name]), remedy)
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error and what led to it."""
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ or link.__context__


def _module(node: torch.fx.Node) -> str:
    around = list(node.meta.get("nn_module_stack", {}).values())  # from the outside in: path, class
    return str(around[-1][0]) if around else ""


def _place(text: str) -> str:
    """The last line of the user's code that torch.export quotes, as `` (file.py:12)``."""
    found = re.findall(r'File "([^"]+)", line (\d+)', text)
    return f" ({found[-1][0].rsplit('/', 1)[-1]}:{found[-1][1]})" if found else ""
