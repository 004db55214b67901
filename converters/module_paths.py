"""How each file format carries the paths of the network's modules (``features.3.conv.0``): exporters write them,
quantizers, readers and layer localisation read them.

- ONNX: nodes are called ``PATH/Operation``. What the optimizer fused is called after the last of its modules.
- TFLite: litert-torch names an operation's output after the classes of the modules around it, and of their paths it
  keeps the last part alone. So while it converts, each module has a subclass whose name spells the whole path.
- Core ML: output names of operations -> paths, as JSON among the model's user-defined metadata.

An operation of no submodule has the empty path.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

COREML_KEY, COREML_WEIGHTS_KEY = "com.pocketface.modules", "com.pocketface.weights"
"""Of the user-defined metadata of a Core ML model; the second holds those operations whose weights belong to another
module than their output: a convolution with the batch norm fused into it."""

# A path stands between these in a TFLite name. No attribute name holds them, nor do regular expressions or the
# separators of MLIR's own names (slash, semicolon).
_OPEN, _CLOSE = "<", ">"
_MARKED = re.compile(rf"{_OPEN}([^{_OPEN}{_CLOSE}]*){_CLOSE}")


def onnx_name(path: str, operation: str) -> str:
    """Name of a node: ``features.0.1/Conv``, or ``Add`` outside every module."""
    return f"{path}/{operation}" if path else operation


def onnx_path(name: str) -> str:
    """Module path of a node, from its name; empty for a name of another origin."""
    return name.rpartition("/")[0]


@contextlib.contextmanager
def spelled_classes(net: nn.Module) -> Iterator[None]:
    """For the length of the block, the class of every module of a network is a subclass whose name spells its path.

    A wrapper around each module would break ``isinstance``; a module that is used under two paths has the first.
    """
    originals = [(module, type(module)) for module in net.modules()]
    try:
        for path, module in net.named_modules():
            kind = type(module)
            name = f"{_OPEN}{path}{_CLOSE}"
            module.__class__ = type(name, (kind,), {"__module__": kind.__name__, "__qualname__": name})
        yield
    finally:
        for module, kind in originals:
            module.__class__ = kind


def tflite_path(name: str) -> str:
    """Module path of an operation, from its output's name; empty for one of no module, or of a foreign file.

    A name lists what became one operation, the last part first, with semicolons between. The output is the last part's.
    """
    found = _MARKED.findall(name.split(";", 1)[0])
    return found[-1] if found else ""


def tflite_weight_path(name: str) -> str:
    """Module path of the first part of an operation, which is the one with weights: a convolution, where
    ``tflite_path`` gives the activation that was fused into it.
    """
    found = _MARKED.findall(name)
    return found[-1] if found else ""


def tflite_pattern(path: str) -> str:
    """A regular expression for names whose ``tflite_weight_path`` is this module or lies below it."""
    return rf"{_OPEN}{re.escape(path)}(?:\.[^{_OPEN}{_CLOSE}]*)?{_CLOSE}[^{_OPEN}{_CLOSE}]*$"


def coreml_paths(metadata: Mapping[str, str]) -> dict[str, str]:
    """Output name of an operation -> module path, from the model's user-defined metadata; empty if it has none."""
    return _mapping(metadata.get(COREML_KEY, "{}"))


def coreml_weight_paths(metadata: Mapping[str, str]) -> dict[str, str]:
    """Output name of an operation -> path of the module that its weights belong to."""
    return coreml_paths(metadata) | _mapping(metadata.get(COREML_WEIGHTS_KEY, "{}"))


def _mapping(text: str) -> dict[str, str]:
    try:
        found = json.loads(text)
    except json.JSONDecodeError:
        return {}
    return {str(name): str(path) for name, path in found.items()} if isinstance(found, dict) else {}
