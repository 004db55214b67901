"""Readers of checkpoint files, by suffix. The packages that define networks add theirs through entry points, so that
nothing here needs to know a network's code.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pocketface.sdk.errors import WeightsError
from pocketface.sdk.registry import Registry

if TYPE_CHECKING:
    from torch import nn

CHECKPOINTS = Registry("checkpoint", {}, extra="compress")
"""``"safetensors"`` -> a function of a path that gives a network in evaluation mode, on the CPU."""


def load_network(path: Path) -> nn.Module:
    """The network of a checkpoint, in evaluation mode.

    Args:
        path: a file that says itself which network it holds.

    Raises:
        WeightsError: no such file, or it does not hold what it says.
        UnknownNameError: no reader for its suffix.
        MissingExtraError: torch is not installed.
    """
    if not path.is_file():
        raise WeightsError(f"{path}: no such checkpoint", next="Give the .safetensors file that a run left behind")
    net: nn.Module = CHECKPOINTS[path.suffix.removeprefix(".") or path.name](path)
    return net
