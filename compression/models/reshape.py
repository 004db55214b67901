"""Layers with fewer channels than their network was built with: how a pruned network is put together again.

A checkpoint of a pruned network names the network that it was cut from; the shapes of its tensors say the rest.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from pocketface.sdk.errors import WeightsError


def is_pruned(net: nn.Module) -> bool:
    """Whether a network has fewer channels than it was built with."""
    return bool(getattr(net, "pruned", False))


def mark_pruned(net: nn.Module) -> None:
    """Let a network say that it has fewer channels than it was built with: its checkpoint tells so, too."""
    net.pruned = True  # type: ignore[assignment]


def fit_to_tensors(net: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Give every convolution, batch norm and linear layer the channels that its tensors have, in place; see also
    `mark_pruned`, which this does.

    The values stay undefined: load the tensors afterwards. Connections are not checked, the first forward pass does.

    Args:
        net: as it was built.
        tensors: of the pruned network, by the same names.

    Raises:
        WeightsError: a tensor is missing, of another rank, has more channels than the layer, or belongs to a layer
            that cannot be cut: a grouped convolution that is not depthwise.
    """
    mark_pruned(net)
    for path, module in net.named_modules():
        weight = getattr(module, "weight", None)
        if not isinstance(weight, nn.Parameter) or not isinstance(module, nn.Conv2d | nn.BatchNorm2d | nn.Linear):
            continue
        found = tensors.get(f"{path}.weight")
        if found is None:
            raise WeightsError(f"{path}.weight is missing", next="Take the checkpoint of this network")
        if found.shape == weight.shape:
            continue
        shape, whole = tuple(found.shape), tuple(weight.shape)
        if len(shape) != len(whole) or any(few > many or few < 1 for few, many in zip(shape, whole, strict=True)):
            raise WeightsError(f"{path}.weight has shape {shape}", expected=f"at most {whole}, as the network has")
        _resize(module, path, shape)


def _resize(module: nn.Conv2d | nn.BatchNorm2d | nn.Linear, path: str, shape: tuple[int, ...]) -> None:
    if isinstance(module, nn.BatchNorm2d):
        (module.num_features,) = shape
        for name in ("running_mean", "running_var"):
            setattr(module, name, torch.empty(shape))
    elif isinstance(module, nn.Linear):
        module.out_features, module.in_features = shape
    elif module.groups == 1:
        module.out_channels, module.in_channels = shape[:2]
    elif module.groups == module.in_channels == module.out_channels:
        module.groups = module.in_channels = module.out_channels = shape[0]
    else:
        raise WeightsError(
            f"{path}: a convolution of {module.groups} groups was cut", expected="one group, or as many as channels"
        )
    module.weight = nn.Parameter(torch.empty(shape))
    if module.bias is not None:
        module.bias = nn.Parameter(torch.empty(shape[:1]))
